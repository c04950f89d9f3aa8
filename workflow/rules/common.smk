# What all stages share: the plan of the scale, and how a rule finds the cell behind a path.
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

# Jobs call `condense` by name; it lies beside the interpreter that runs this file, activated or not.
os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from snakemake.exceptions import WorkflowError

from condense.artifacts import canonical
from condense.config import UserError
from condense import specs
from condense.groups import Group, groups
from condense.manifests import refresh_manifests
from condense.store import kept_path
from condense.tableplan import Plan

SCALE = config.get("scale", "quick")

try:
    PLAN = Plan(SCALE)
    TABLES = [f"results/tables/{name}.csv" for name in PLAN.tables]
    FIGURES = [f"results/figures/{name}.png" for name in PLAN.figures]
    METRICS = PLAN.metrics
    SETS = PLAN.synthetic
    refresh_manifests(PLAN)
except UserError as error:
    raise WorkflowError(str(error)) from None

LATER = {(cell.task, cell.key): cell for cell in METRICS.values()}


wildcard_constraints:
    key="[0-9a-f]{12}",
    ekey="[0-9a-f]{12}",
    dataset="[a-z0-9_-]+",
    method="[a-z0-9_]+",
    arch="[a-z0-9_]+",
    eval_arch="[a-z0-9_]+",
    protocol="[a-z0-9_]+",
    ipc="[0-9]+|full",
    seed="[0-9]+",
    shard="[0-9]+-[0-9]+",
    part="[0-9]+-[0-9]+",
    kind="[a-z]+",
    task="condense|snapshots|drift",
    paper="[a-z]+",
    name="[a-z0-9]+",


def cell_of(cells, key):
    """The cell with this key; a path from another scale, or made up, has none."""
    if key not in cells:
        raise WorkflowError(f"no cell of scale '{SCALE}' has the key {key}; `condense estimate --scale {SCALE}` lists what it makes")
    return cells[key]


def unless_made(output, inputs):
    """`inputs`, or none if the keyed `output` exists: its key already says that it was made from them."""
    return [] if Path(output).exists() else inputs


def kept(output):
    """The kept copy of a result (see `dvc pull`) as the input of the rule that takes it; none is needed once it is there."""
    return unless_made(output, kept_path(output))


def keys_kept(cells):
    """A pattern of the keys of those cells of which there is a kept copy. Snakemake then weighs the rule that takes it for these alone."""
    return "|".join(sorted({cell.key for cell in cells if Path(kept_path(cell.path)).exists()})) or "none"


def need(stage, name):
    """A resource of a stage as the scale states it; memory and run time grow with every attempt."""
    resources = PLAN.scale.resources.get(stage, specs.Resources())
    value = getattr(resources, name)
    if name in ("mem_mb", "runtime"):
        return lambda wildcards, attempt: value * attempt
    return value
