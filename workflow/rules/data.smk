rule data:
    """One dataset: fetched, checked, and prepared once into tensors with statistics, names, counts and checksum."""
    output:
        train="results/data/{dataset}/{key}/train.safetensors",
        test="results/data/{dataset}/{key}/test.safetensors",
        summary="results/data/{dataset}/{key}/dataset.json",
    params:
        folder=lambda w: cell_of(PLAN.data, w.key).folder,
    log: "results/logs/data/{dataset}-{key}.log",
    benchmark: "results/benchmarks/data/{dataset}-{key}.tsv"
    threads: need("data", "threads")
    resources:
        mem_mb=need("data", "mem_mb"),
        runtime=need("data", "runtime"),
    shell:
        "condense data --dataset {wildcards.dataset} --out {params.folder:q} > {log:q} 2>&1"
