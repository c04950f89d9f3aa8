# What all stages share: the settings, the plan of the scale, and how a rule finds the cell behind a path.
#
# Inputs, params and commands of a rule follow from the plan alone, never from which files exist. Nothing is
# written here: a dry run, and every job of a cluster, reads these files anew.
import json
import os
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

# Jobs call `condense` by name; it lies beside the interpreter that runs this file, activated or not.
os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
# `workflow`, also where another workflow uses these rules as a module
HERE = Path(str(workflow.current_basedir)).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE)]

from snakemake.exceptions import WorkflowError

# The jobs run the code that the plan is made with, whatever is installed.
if (HERE.parent / "src" / "condense").is_dir():
    paths = [str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
if shutil.which("condense") is None:
    raise WorkflowError(
        f"the package itself is not installed beside {sys.executable}, so that no job would find `condense`;"
        f" run `{shlex.quote(sys.executable)} -m pip install --no-deps --no-build-isolation"
        f" -e {shlex.quote(str(HERE.parent))}`"
    )

from condense import specs
from condense.files.artifacts import canonical
from condense.config import UserError
from condense.machine.drafts import require_folders
from condense.estimate.asked import Asked, Limits
from condense.plan import parent_rooms
from condense.plan.checks import require_networks
from condense.plan.groups import groups
from condense.plan.parent import with_their_own
from condense.plan.manifests import manifest, manifest_digest, page_manifest, report_files
from condense.plan.ranges import number_in
from condense.files.store import kept_path, offered
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together
from condense.machine.terminal import replace_unprintable

replace_unprintable()

try:
    require_folders("results", "results/logs", "results/benchmarks")
    SETTINGS = specs.workflow_settings(config)
    PLAN = Plan(SETTINGS.scale)
    TABLES = [f"results/tables/{name}.csv" for name in [*PLAN.tables, *PLAN.settings]]
    FIGURES = [f"results/figures/{name}.png" for name in PLAN.figures]
    METRICS = PLAN.metrics
    SETS = PLAN.synthetic
    require_networks(PLAN, PLAN.targets)
except UserError as error:
    raise WorkflowError(str(error)) from None

SCALE = SETTINGS.scale
KEEP = "" if SETTINGS.anew else "--keep"
ASKED = Asked(PLAN.scale, Limits(SETTINGS.max_runtime, SETTINGS.max_mem_mb, gpus=SETTINGS.device != "cpu"))
LATER = {(cell.task.folder, cell.key): cell for cell in METRICS.values()}


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
    of="classes|images",
    shard="[0-9]+-[0-9]+",
    part="[0-9]+-[0-9]+",
    made_by="[a-z0-9_]+",
    file="[a-z0-9_]+",
    task="[a-z0-9_]+",
    paper="[a-z0-9_]+",
    name="[a-z0-9_]+",


def cell_of(cells, key):
    """The cell with this key; a path from another scale, or made up, has none."""
    if key not in cells:
        raise WorkflowError(
            f"no cell of scale '{SCALE}' has the key {key};"
            f" `snakemake -n --config scale={SCALE}` lists what it makes"
        )
    return cells[key]


def keys_kept(cells):
    """A pattern of the keys of those cells of which there is a kept copy to be taken; others are not taken
    but made."""
    return "|".join(sorted({cell.key for cell in cells if offered(cell.path)})) or "none"


def threads_of(stage):
    """The threads of the jobs of a stage, as the scale says."""
    return ASKED.most(stage).threads


def asks(reckon):
    """The resources of a rule: `reckon` says for wildcards and an attempt what a job is estimated to need,
    with a margin, within limits."""
    return {
        name: (lambda w, attempt, name=name: getattr(reckon(w, attempt), name))
        for name in ("gpu", "mem_mb", "runtime")
    }


def device_of(reckon):
    """The device of a job: a GPU where it asks for one; else, and with `--config device=...`, what that
    says."""
    return lambda w: SETTINGS.device_of(reckon(w, 1).gpu)


def copy_needs(w, attempt):
    return ASKED.copy(attempt)


def page_needs(w, attempt):
    return ASKED.page(attempt)


def options(*words):
    """Options of a `condense` command as text for the shell, every word quoted."""
    return shlex.join(str(word) for word in words)
