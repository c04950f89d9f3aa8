PLACE = "{dataset}/{method}/{arch}/ipc{ipc}/seed{seed}-{key}/{eval_arch}-{protocol}-{ekey}"


def evaluated(w):
    return cell_of(LATER, (w.task, w.ekey))


def trained_and_tested_on(cell):
    train_on = [] if cell.synthetic.recipe.engine == "whole" else [one.path for one in cell.sets]
    return [*train_on, cell.synthetic.data.train, cell.synthetic.data.test]


def evaluate_command(w, threads):
    """`condense evaluate` for the networks of a cell: on its set, as it is or drifted, on its snapshots, or on the whole training set."""
    cell, train_on = evaluated(w), []
    synthetic = cell.synthetic
    if synthetic.recipe.engine != "whole":
        train_on = ["--synthetic", synthetic.snapshots if cell.task == "snapshots" else synthetic.path]
    if cell.drift:
        train_on += ["--style", cell.drift.style.path, "--ratio", cell.drift.ratio, "--stage", cell.drift.stage]
    words = ["condense", "evaluate", *train_on, "--task", cell.task, "--data", synthetic.data.folder, "--method", synthetic.recipe.name]
    words += ["--arch", cell.eval_arch, "--options", cell.options, "--protocol", cell.settings]
    words += ["--strategy", synthetic.data.spec.strategy, "--networks", cell.n_networks, "--seed", synthetic.seed, "--key", cell.key]
    return shlex.join(map(str, [*words, "--device", "auto", "--threads", threads]))


rule evaluate:
    """Networks of one architecture trained on one set and tested: every accuracy is kept."""
    input:
        lambda w: unless_made(evaluated(w).path, trained_and_tested_on(evaluated(w))),
    output:
        f"results/metrics/{{task}}/{PLACE}.json",
    params:
        command=lambda w, threads: evaluate_command(w, threads),
    log: f"results/logs/evaluate/{{task}}/{PLACE.replace('/', '-')}.log",
    benchmark: f"results/benchmarks/evaluate/{{task}}/{PLACE.replace('/', '-')}.tsv"
    threads: need("evaluate", "threads")
    resources:
        gpu=need("evaluate", "gpu"),
        mem_mb=need("evaluate", "mem_mb"),
        runtime=need("evaluate", "runtime"),
    shell:
        "{params.command} --out {output:q} > {log:q} 2>&1"


rule evaluate_part:
    """Some networks of a cell whose networks the scale splits into several jobs."""
    input:
        lambda w: unless_made(evaluated(w).part_path(w.part), trained_and_tested_on(evaluated(w))),
    output:
        temp(f"results/parts/{{task}}/{PLACE}/networks{{part}}.json"),
    params:
        command=lambda w, threads: evaluate_command(w, threads),
    log: f"results/logs/evaluate_part/{{task}}/{PLACE.replace('/', '-')}-{{part}}.log",
    benchmark: f"results/benchmarks/evaluate_part/{{task}}/{PLACE.replace('/', '-')}-{{part}}.tsv"
    threads: need("evaluate", "threads")
    resources:
        gpu=need("evaluate", "gpu"),
        mem_mb=need("evaluate", "mem_mb"),
        runtime=need("evaluate", "runtime"),
    shell:
        "{params.command} --part {wildcards.part} --out {output:q} > {log:q} 2>&1"


def parts_of(w):
    cell = evaluated(w)
    return unless_made(cell.path, [cell.part_path(part) for part in PLAN.parts(cell)])


rule join:
    """The metrics of a cell from its parts."""
    wildcard_constraints:
        ekey="|".join(sorted({cell.key for cell in METRICS.values() if len(PLAN.parts(cell)) > 1})) or "none",
    input:
        parts_of,
    output:
        f"results/metrics/{{task}}/{PLACE}.json",
    log: f"results/logs/join/{{task}}/{PLACE.replace('/', '-')}.log",
    benchmark: f"results/benchmarks/join/{{task}}/{PLACE.replace('/', '-')}.tsv"
    threads: 1
    resources:
        mem_mb=need("report", "mem_mb"),
        runtime=need("report", "runtime"),
    shell:
        "condense join --parts {input:q} --out {output:q} > {log:q} 2>&1"


rule take_metrics:
    """Metrics that were kept earlier, taken over after their check."""
    wildcard_constraints:
        ekey=keys_kept(METRICS.values()),
    input:
        lambda w: kept(evaluated(w).path),
    output:
        f"results/metrics/{{task}}/{PLACE}.json",
    log: f"results/logs/take/{{task}}/{PLACE.replace('/', '-')}.log",
    threads: 1
    shell:
        "condense take {output:q} > {log:q} 2>&1"


ruleorder: take_metrics > join > evaluate
