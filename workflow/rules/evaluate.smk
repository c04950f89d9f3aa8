PLACE = "{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/{eval_arch}-{protocol}-{ekey}"


def evaluation_inputs(w):
    cell = cell_of(LATER, (w.task, w.ekey))
    train_on = [] if cell.synthetic.recipe.engine == "whole" else [cell.synthetic.path]
    return unless_made(cell.path, [*train_on, cell.synthetic.data.train, cell.synthetic.data.test])


def set_option(w):
    """What is evaluated: the set, its snapshots, or nothing for the whole training set."""
    cell = cell_of(LATER, (w.task, w.ekey))
    if cell.synthetic.recipe.engine == "whole":
        return ""
    return f"--synthetic {cell.synthetic.path if w.task == 'condense' else cell.synthetic.snapshots}"


rule evaluate:
    """Networks of one architecture trained on one set and tested: every accuracy is kept."""
    input:
        evaluation_inputs,
    output:
        f"results/metrics/{{task}}/{PLACE}.json",
    params:
        cell=lambda w: cell_of(LATER, (w.task, w.ekey)),
        settings=lambda w: canonical(asdict(cell_of(LATER, (w.task, w.ekey)).protocol)),
        data=lambda w: cell_of(LATER, (w.task, w.ekey)).synthetic.data.folder,
        strategy=lambda w: cell_of(LATER, (w.task, w.ekey)).synthetic.data.spec.strategy,
        train_on=set_option,
    log: f"results/logs/evaluate/{{task}}/{PLACE.replace('/', '-')}.log",
    benchmark: f"results/benchmarks/evaluate/{{task}}/{PLACE.replace('/', '-')}.tsv"
    threads: need("evaluate", "threads")
    wildcard_constraints:
        task="condense|snapshots",
    resources:
        gpu=need("evaluate", "gpu"),
        mem_mb=need("evaluate", "mem_mb"),
        runtime=need("evaluate", "runtime"),
    shell:
        "condense evaluate {params.train_on} --task {wildcards.task} --data {params.data:q} --method {wildcards.method}"
        " --arch {wildcards.eval_arch} --options {params.cell.options:q} --protocol {params.settings:q}"
        " --strategy {params.strategy} --networks {params.cell.n_networks} --seed {wildcards.seed}"
        " --key {wildcards.ekey} --device auto --threads {threads} --out {output:q} > {log:q} 2>&1"


rule take_metrics:
    """Metrics that were kept earlier, taken over after their check."""
    input:
        lambda w: kept(cell_of(LATER, (w.task, w.ekey)).path),
    output:
        f"results/metrics/{{task}}/{PLACE}.json",
    log: f"results/logs/take/{{task}}/{PLACE.replace('/', '-')}.log",
    threads: 1
    shell:
        "condense take {output:q} > {log:q} 2>&1"


ruleorder: take_metrics > evaluate
