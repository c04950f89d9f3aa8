# Everything that a scale asks for, derived from the table specs in params/tables. Settings
# (src/condense/specs/workflow.py):
#   --config scale=quick|laptop|paper      which amount of work (default: quick)
#   --config device=cpu                    jobs that ask for a GPU run on the CPU
#   --config mlflow=http://HOST:PORT|off   where runs are tracked (default: mlflow.db)
from snakemake.utils import min_version

min_version("9.0")


# `resources: gpu` in a profile counts the GPUs of one machine, not those of a cluster.
resource_scopes:
    gpu="local",


include: "workflow/rules/common.smk"
include: "workflow/rules/heads.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/condense.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/tracking.smk"


rule all:
    default_target: True
    input:
        sorted(METRICS),
        [cell.path for cell in SETS.values() if not cell.data.is_part],
        TABLES,
        FIGURES,
        "results/report.html",
        "results/leaderboard.html",
        "results/summary/accuracy.json",
        TRACKED,
