rule teach:
    """One classifier pretrained on the whole training set: a critic, or the features of a selection."""
    input:
        lambda w: unless_made(
            f"results/teachers/{w.dataset}/{w.arch}/{w.protocol}/seed{w.seed}-{w.key}/teacher.safetensors",
            cell_of(PLAN.teachers, w.key).data.train,
        ),
    output:
        "results/teachers/{dataset}/{arch}/{protocol}/seed{seed}-{key}/teacher.safetensors",
    params:
        cell=lambda w: cell_of(PLAN.teachers, w.key),
        data=lambda w: cell_of(PLAN.teachers, w.key).data.train,
        settings=lambda w: canonical(asdict(cell_of(PLAN.teachers, w.key).protocol)),
    log: "results/logs/teach/{dataset}-{arch}-{protocol}-seed{seed}-{key}.log",
    benchmark: "results/benchmarks/teach/{dataset}-{arch}-{protocol}-seed{seed}-{key}.tsv"
    threads: need("teach", "threads")
    resources:
        gpu=need("teach", "gpu"),
        mem_mb=need("teach", "mem_mb"),
        runtime=need("teach", "runtime"),
    shell:
        "condense teach --data {params.data:q} --arch {wildcards.arch} --options {params.cell.options:q}"
        " --protocol {params.settings:q} --strategy {params.cell.data.spec.strategy} --seed {wildcards.seed}"
        " --key {wildcards.key} --device auto --threads {threads} --out {output:q} > {log:q} 2>&1"


def bank_command(w, threads):
    """`condense bank` for a queue of networks, or for finished ones."""
    cell = cell_of(PLAN.banks, w.key)
    words = ["condense", "bank", "--data", cell.data.train, "--networks", canonical(asdict(cell.networks)), "--arch", cell.arch]
    words += ["--options", cell.options, "--seed", cell.seed, "--key", cell.key]
    if cell.protocol:
        words += ["--protocol", canonical(asdict(cell.protocol)), "--strategy", cell.data.spec.strategy]
    else:
        words += ["--steps", cell.steps, "--max-mb", cell.max_mb]
    return shlex.join(map(str, [*words, "--device", "auto", "--threads", threads]))


rule bank:
    """Networks trained on the real images before the condensation, for all classes, ipc and methods that use them."""
    input:
        lambda w: unless_made(cell_of(PLAN.banks, w.key).path, cell_of(PLAN.banks, w.key).data.train),
    output:
        # Its parts lie beside it in bank.safetensors.parts, with their checksums in it.
        "results/banks/{dataset}/{arch}/{kind}/seed{seed}-{key}/bank.safetensors",
    params:
        command=lambda w, threads: bank_command(w, threads),
    log: "results/logs/bank/{dataset}-{arch}-{kind}-seed{seed}-{key}.log",
    benchmark: "results/benchmarks/bank/{dataset}-{arch}-{kind}-seed{seed}-{key}.tsv"
    threads: need("teach", "threads")
    resources:
        gpu=need("teach", "gpu"),
        mem_mb=need("teach", "mem_mb"),
        runtime=need("teach", "runtime"),
    shell:
        "{params.command} --out {output:q} > {log:q} 2>&1"
