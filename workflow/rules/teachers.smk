def parent_of(w):
    return cell_of(PLAN.parents, w.key)


def teach_words(cell):
    """Of `condense parent`: the kind of what is made, and all settings of that kind, as its cell says
    them."""
    words = [cell.kind, "--settings", cell.settings, "--data", cell.data.train, "--arch", cell.arch]
    words += [word for name, parent in cell.parents.items() for word in ("--with", f"{name}={parent.path}")]
    return [*words, "--options", cell.options, "--seed", cell.seed, "--key", cell.key]


def teach_options(w):
    return options(*teach_words(parent_of(w)))


def teach_needs(w, attempt):
    return ASKED.teach(parent_of(w), attempt)


rule teach:
    """What sets need beforehand: a classifier trained on the whole training set, a bank of networks, or
    another kind of `plan.PARENTS`."""
    wildcard_constraints:
        room="|".join(parent_rooms()),
    input:
        lambda w: parent_of(w).inputs,
    output:
        # The parts of a bank lie beside it in bank.safetensors.parts, with their checksums in it.
        update("results/{room}/{dataset}/{arch}/{made_by}/seed{seed}-{key}/{file}.safetensors"),
    params:
        keep=KEEP,
        options=teach_options,
        device=device_of(teach_needs),
    log: "results/logs/teach/{room}/{dataset}-{arch}-{made_by}-seed{seed}-{key}-{file}.log",
    benchmark: "results/benchmarks/teach/{room}/{dataset}-{arch}-{made_by}-seed{seed}-{key}-{file}.tsv"
    threads: threads_of("teach")
    resources:
        **asks(teach_needs),
    shell:
        "condense --log {log:q} parent {params.options} --device {params.device:q} --threads {threads}"
        " --out {output:q} {params.keep}"
