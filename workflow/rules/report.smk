def report_inputs(name):
    """The manifest of a table or figure (it changes with the scale and the list of its cells), then what it is made from."""
    curves = PLAN.figures[name].curves if name in PLAN.figures else []
    drawn = [path for curve in curves if curve.synthetic for path in (curve.synthetic.path, curve.synthetic.data.train)]
    teachers = [curve.teacher.path for curve in curves if curve.teacher]
    metrics = [cell.path for cell in PLAN.metrics_of(name)]
    return [f"results/plan/{name}.json", *sorted(set(metrics + drawn + teachers))]


rule table:
    """One table of a paper: published numbers beside measured ones."""
    input:
        lambda w: report_inputs(f"{w.paper}/{w.name}"),
    output:
        csv="results/tables/{paper}/{name}.csv",
        markdown="results/tables/{paper}/{name}.md",
        latex="results/tables/{paper}/{name}.tex",
        manifest="results/tables/{paper}/{name}.json",
    log: "results/logs/table/{paper}-{name}.log",
    benchmark: "results/benchmarks/table/{paper}-{name}.tsv"
    wildcard_constraints:
        name="table[0-9]+",
    threads: 1
    resources:
        mem_mb=need("report", "mem_mb"),
        runtime=need("report", "runtime"),
    shell:
        "condense table --name {wildcards.paper}/{wildcards.name} --scale {SCALE} --out {output.csv:q} > {log:q} 2>&1"


rule figure:
    """One figure of a paper."""
    input:
        lambda w: report_inputs(f"{w.paper}/{w.name}"),
    output:
        png=report("results/figures/{paper}/{name}.png", caption="../report/figure.rst", category="Figures"),
        svg="results/figures/{paper}/{name}.svg",
        manifest="results/figures/{paper}/{name}.json",
    log: "results/logs/figure/{paper}-{name}.log",
    benchmark: "results/benchmarks/figure/{paper}-{name}.tsv"
    wildcard_constraints:
        name="figure[0-9a-z]+",
    threads: 1
    resources:
        mem_mb=need("report", "mem_mb"),
        runtime=need("report", "runtime"),
    shell:
        "condense figure --name {wildcards.paper}/{wildcards.name} --scale {SCALE} --out {output.png:q} > {log:q} 2>&1"


rule report:
    """Every table, figure and grid of the scale in one page that opens offline."""
    input:
        TABLES,
        FIGURES,
        [cell.path for cell in SETS.values()],
    output:
        "results/report.html",
    log: "results/logs/report.log",
    benchmark: "results/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=need("report", "mem_mb"),
        runtime=need("report", "runtime"),
    shell:
        "condense report --scale {SCALE} --out {output:q} > {log:q} 2>&1"
