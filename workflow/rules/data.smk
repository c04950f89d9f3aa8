rule data:
    """One dataset: fetched, checked, and prepared once into tensors with statistics, names, counts and checksum."""
    output:
        train=update("results/data/{dataset}/{key}/train.safetensors"),
        test=update("results/data/{dataset}/{key}/test.safetensors"),
        summary=update("results/data/{dataset}/{key}/dataset.json"),
    params:
        keep=KEEP,
        folder=lambda w: cell_of(PLAN.data, w.key).folder,
    log: "results/logs/data/{dataset}-{key}.log",
    benchmark: "results/benchmarks/data/{dataset}-{key}.tsv"
    threads: need("data", "threads")
    resources:
        mem_mb=need("data", "mem_mb"),
        runtime=need("data", "runtime"),
    shell:
        "condense --log {log:q} data --dataset {wildcards.dataset:q} --out {params.folder:q} {params.keep}"
