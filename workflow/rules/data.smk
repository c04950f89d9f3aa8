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


CLASSES = {cell.key: cell for cell in PLAN.data.values() if cell.is_part}


def picked(w):
    return cell_of(CLASSES, w.key)


def classes_words(cell):
    return ["--data", cell.whole.folder, "--name", cell.name, "--choose", *cell.chosen, "--out", cell.folder]


rule classes:
    """Some classes of a dataset as one of their own, for what must not have seen the others."""
    wildcard_constraints:
        key="|".join(CLASSES) or "none",
    input:
        lambda w: [picked(w).whole.train, picked(w).whole.test],
    output:
        train=update("results/data/{dataset}/{key}/train.safetensors"),
        test=update("results/data/{dataset}/{key}/test.safetensors"),
        summary=update("results/data/{dataset}/{key}/dataset.json"),
    params:
        keep=KEEP,
        options=lambda w: options(*classes_words(picked(w))),
    log: "results/logs/classes/{dataset}-{key}.log",
    benchmark: "results/benchmarks/classes/{dataset}-{key}.tsv"
    threads: 1
    resources:
        **asks(copy_needs),
    shell:
        "condense --log {log:q} classes {params.options} {params.keep}"


ruleorder: classes > data
