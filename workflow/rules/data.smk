def data_needs(w, attempt):
    return ASKED.data(cell_of(PLAN.data, w.key), attempt)


rule data:
    """One dataset: fetched, checked, and prepared once into tensors with statistics, names, counts and
    checksum."""
    output:
        train=update("results/data/{dataset}/{key}/train.safetensors"),
        test=update("results/data/{dataset}/{key}/test.safetensors"),
        summary=update("results/data/{dataset}/{key}/dataset.json"),
    params:
        keep=KEEP,
        folder=lambda w: cell_of(PLAN.data, w.key).folder,
    log: "results/logs/data/{dataset}-{key}.log",
    benchmark: "results/benchmarks/data/{dataset}-{key}.tsv"
    threads: threads_of("data")
    resources:
        **asks(data_needs),
    shell:
        "condense --log {log:q} data --dataset {wildcards.dataset:q} --out {params.folder:q} {params.keep}"
