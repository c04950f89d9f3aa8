rule track:
    """Runs, metrics and artifacts into MLflow. Nothing depends on it: tracking can neither lose nor slow a result."""
    input:
        sorted(METRICS),
        [cell.path for cell in SETS.values()],
    output:
        # A stamp and not the database, which Snakemake would delete before every run.
        "results/tracking/ingested.json",
    params:
        store=SETTINGS.store,
    retries: 0  # a store that is out of reach comes back with the next run
    log: "results/logs/track.log",
    benchmark: "results/benchmarks/track.tsv"
    threads: 1
    resources:
        **asks(page_needs),
    shell:
        "condense --log {log:q} track --results results --store {params.store:q} --out {output:q}"


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
        "condense --log {log:q} summary --tables {input:q} --out {output.json:q}"
