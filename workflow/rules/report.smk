def report_inputs(w):
    """What a table or figure is made from."""
    name = f"{w.paper}/{w.name}"
    if name not in PLAN.targets:
        raise WorkflowError(
            f"scale '{SCALE}' makes no table or figure {name}; `condense list tables` names all of them"
        )
    return report_files(PLAN, name)


def made_from(w):
    """A digest of that list and of what else is shown: it stands beside a table, which is made again where
    another one is wanted."""
    return manifest_digest(manifest(PLAN, f"{w.paper}/{w.name}"))


rule table:
    """One table of a paper: published numbers beside measured ones."""
    input:
        report_inputs,
    output:
        csv=update("results/tables/{paper}/{name}.csv"),
        markdown=update("results/tables/{paper}/{name}.md"),
        latex=update("results/tables/{paper}/{name}.tex"),
        manifest=update("results/tables/{paper}/{name}.json"),
    params:
        scale=SCALE,
        made_from=made_from,
    log: "results/logs/table/{paper}-{name}.log",
    benchmark: "results/benchmarks/table/{paper}-{name}.tsv"
    wildcard_constraints:
        name="table[a-z0-9_]+",
    threads: 1
    resources:
        **asks(page_needs),
    shell:
        "condense --log {log:q} table --name {wildcards.paper:q}/{wildcards.name:q} --scale {params.scale:q}"
        " --out {output.csv:q}"


rule figure:
    """One figure of a paper."""
    input:
        report_inputs,
    output:
        png=report(
            update("results/figures/{paper}/{name}.png"), caption="../report/figure.rst", category="Figures"
        ),
        svg=update("results/figures/{paper}/{name}.svg"),
        manifest=update("results/figures/{paper}/{name}.json"),
    params:
        scale=SCALE,
        made_from=made_from,
    log: "results/logs/figure/{paper}-{name}.log",
    benchmark: "results/benchmarks/figure/{paper}-{name}.tsv"
    wildcard_constraints:
        name="figure[a-z0-9_]+",
    threads: 1
    resources:
        **asks(page_needs),
    shell:
        "condense --log {log:q} figure --name {wildcards.paper:q}/{wildcards.name:q} --scale {params.scale:q}"
        " --out {output.png:q}"


rule report:
    """Every table, figure and grid of the scale in one page that opens offline."""
    input:
        TABLES,
        FIGURES,
        [cell.path for cell in SETS.values() if not cell.data.is_part],
    output:
        page=update("results/report.html"),
        manifest=update("results/report.json"),
    params:
        scale=SCALE,
        made_from=manifest_digest(page_manifest(PLAN, "report")),
    log: "results/logs/report.log",
    benchmark: "results/benchmarks/report.tsv"
    threads: 1
    resources:
        **asks(page_needs),
    shell:
        "condense --log {log:q} report --scale {params.scale:q} --out {output.page:q}"


rule leaderboard:
    """Every method by every judge, as a file for programs and as a page that sorts and filters offline."""
    input:
        TABLES,
        sorted(METRICS),
        [cell.path for cell in SETS.values() if not cell.data.is_part],
    output:
        parquet=update("results/leaderboard.parquet"),
        page=update("results/leaderboard.html"),
        manifest=update("results/leaderboard.json"),
    params:
        scale=SCALE,
        made_from=manifest_digest(page_manifest(PLAN, "leaderboard")),
    log: "results/logs/leaderboard.log",
    benchmark: "results/benchmarks/leaderboard.tsv"
    threads: 1
    resources:
        **asks(page_needs),
    shell:
        "condense --log {log:q} leaderboard --scale {params.scale:q} --write {output.parquet:q}"
        " --page {output.page:q}"
