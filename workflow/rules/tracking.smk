rule track:
    """Runs, metrics and artifacts into MLflow. Nothing depends on it: tracking can neither lose nor slow a result."""
    input:
        sorted(METRICS),
        [cell.path for cell in SETS.values()],
    output:
        # A stamp and not the database, which Snakemake would delete before every run.
        "results/tracking/ingested.json",
    params:
        store=config.get("mlflow", "sqlite:///mlflow.db"),
    retries: 0  # a store that is out of reach comes back with the next run
    log: "results/logs/track.log",
    benchmark: "results/benchmarks/track.tsv"
    threads: 1
    resources:
        mem_mb=need("report", "mem_mb"),
        runtime=need("report", "runtime"),
    shell:
        "condense track --results results --store {params.store:q} --out {output:q} > {log:q} 2>&1"


rule summary:
    """The measured accuracies of all tables in one small file, which DVC shows and compares and git keeps."""
    input:
        TABLES,
    output:
        json="results/summary/accuracy.json",
        csv="results/summary/accuracy.csv",
    log: "results/logs/summary.log",
    threads: 1
    shell:
        "condense summary --tables {input:q} --out {output.json:q} > {log:q} 2>&1"
