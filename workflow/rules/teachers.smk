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
