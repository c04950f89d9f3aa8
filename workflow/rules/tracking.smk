# MLflow is told by one process beside the workflow, the follower, which reads finished files; jobs know
# nothing of it. It starts with the head and ends with it, however that ends, and one failed job stops
# nothing. The rule `track` looks once more when all is made.
# Setting: --config mlflow=http://HOST:PORT, or mlflow=off (default: $MLFLOW_TRACKING_URI, or
# sqlite:///mlflow.db)
from condense.files.artifacts import digest
from condense.tracking import follower, stores

try:
    STORE = stores.named_store(SETTINGS.store if "mlflow" in config else "on")
except UserError as error:
    raise WorkflowError(str(error)) from None

# A stamp and not the database, which Snakemake would delete before every run; every other store has its own.
STAMP = "ingested.json" if STORE == stores.DEFAULT_STORE else f"{digest(STORE)}/ingested.json"
TRACKED = [f"results/tracking/{STAMP}"] if STORE else []
FOLLOWER = (
    follower.Follower(STORE, Path("results"), Path("results/logs/tracking.log"), SCALE) if STORE else None
)


def stop_following():
    """Waits until the last runs are in MLflow; says so in one line if they are not. To be called when the
    workflow ends."""
    if FOLLOWER and (fault := FOLLOWER.stop()):
        print(fault, file=sys.stderr, flush=True)


onstart:
    if FOLLOWER:
        FOLLOWER.start()


if STORE:

    rule track:
        """Runs, metrics and artifacts into MLflow. Nothing depends on it: tracking can neither lose nor slow
        a result."""
        input:
            sorted(METRICS),
            [cell.path for cell in SETS.values() if not cell.data.is_part],
        output:
            TRACKED,
        params:
            store=STORE,
            scale=SCALE,
        retries: 0  # a store that is out of reach comes back with the next run
        localrule: True  # where the head is, the database lies and the server is reached
        log: "results/logs/track.log",
        benchmark: "results/benchmarks/track.tsv"
        threads: 1
        resources:
            **asks(page_needs),
        shell:
            "condense --log {log:q} track --results results --scale {params.scale:q} --store {params.store:q}"
            " --out {output:q}"


SUMMED = [f"results/tables/{name}.csv" for name in PLAN.accuracy_tables]


rule summary:
    """The measured accuracies of all tables in one small file, which DVC shows and compares and git keeps."""
    input:
        SUMMED,
    output:
        json=update("results/summary/accuracy.json"),
        csv=update("results/summary/accuracy.csv"),
        manifest=update("results/summary/tables.json"),
    params:
        made_from=manifest_digest({"tables": SUMMED}),
    log: "results/logs/summary.log",
    threads: 1
    shell:
        "condense --log {log:q} summary --tables {input:q} --out {output.json:q}"
