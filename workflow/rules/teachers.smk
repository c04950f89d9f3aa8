def teacher_options(w):
    cell = cell_of(PLAN.parents, w.key)
    words = ["--data", cell.data.train, "--arch", cell.arch, "--options", cell.options, "--seed", cell.seed, "--key", cell.key]
    return options(*words, "--protocol", canonical(asdict(cell.protocol)), "--strategy", cell.data.spec.strategy)


def teacher_needs(w, attempt):
    return ASKED.teach(cell_of(PLAN.parents, w.key), attempt)


rule teach:
    """One classifier pretrained on the whole training set: a critic, or the features of a selection."""
    input:
        lambda w: cell_of(PLAN.parents, w.key).data.train,
    output:
        update("results/teachers/{dataset}/{arch}/{protocol}/seed{seed}-{key}/teacher.safetensors"),
    params:
        keep=KEEP,
        options=teacher_options,
        device=device_of(teacher_needs),
    log: "results/logs/teach/{dataset}-{arch}-{protocol}-seed{seed}-{key}.log",
    benchmark: "results/benchmarks/teach/{dataset}-{arch}-{protocol}-seed{seed}-{key}.tsv"
    threads: threads_of("teach")
    resources:
        **asks(teacher_needs),
    shell:
        "condense --log {log:q} teach {params.options} --device {params.device:q} --threads {threads} --out {output:q} {params.keep}"


def bank_options(w):
    """Of `condense bank` for a queue of networks, or for finished ones."""
    cell = cell_of(PLAN.parents, w.key)
    words = ["--data", cell.data.train, "--networks", canonical(asdict(cell.networks)), "--arch", cell.arch]
    words += ["--options", cell.options, "--seed", cell.seed, "--key", cell.key]
    if cell.protocol:
        words += ["--protocol", canonical(asdict(cell.protocol)), "--strategy", cell.data.spec.strategy]
    else:
        words += ["--steps", cell.steps, "--max-mb", cell.max_mb]
    return options(*words)


def bank_needs(w, attempt):
    return ASKED.teach(cell_of(PLAN.parents, w.key), attempt)


rule bank:
    """Networks trained on the real images before the condensation, for all classes, ipc and methods that use them."""
    input:
        lambda w: cell_of(PLAN.parents, w.key).data.train,
    output:
        # Its parts lie beside it in bank.safetensors.parts, with their checksums in it.
        update("results/banks/{dataset}/{arch}/{kind}/seed{seed}-{key}/bank.safetensors"),
    params:
        keep=KEEP,
        options=bank_options,
        device=device_of(bank_needs),
    log: "results/logs/bank/{dataset}-{arch}-{kind}-seed{seed}-{key}.log",
    benchmark: "results/benchmarks/bank/{dataset}-{arch}-{kind}-seed{seed}-{key}.tsv"
    threads: threads_of("teach")
    resources:
        **asks(bank_needs),
    shell:
        "condense --log {log:q} bank {params.options} --device {params.device:q} --threads {threads} --out {output:q} {params.keep}"
