"""Tasks: what networks trained on a synthetic set are asked for. One class a file, named in `AnyTask`.

What a task computes is a function in `evaluate/`, named in `evaluate.tasks.TASKS` under the same kind; a test
compares both lists.
"""

from __future__ import annotations

from typing import get_args

from condense.config import by_name, unknown
from condense.specs.tasks.accuracy import Accuracy
from condense.specs.tasks.base import ACCURACY, Metric, Task, tasks_of
from condense.specs.tasks.calibration import Calibration
from condense.specs.tasks.continual import Continual
from condense.specs.tasks.cost import Cost
from condense.specs.tasks.discrepancies import Discrepancies
from condense.specs.tasks.drift import Drift
from condense.specs.tasks.followed import Followed
from condense.specs.tasks.gradient_similarity import GradientSimilarity
from condense.specs.tasks.hypotheses import Hypotheses
from condense.specs.tasks.landscape import Landscape
from condense.specs.tasks.search import Search
from condense.specs.tasks.sharpness import Sharpness
from condense.specs.tasks.slimming import Slimming
from condense.specs.tasks.snapshots import Snapshots

AnyTask = (
    Accuracy
    | Snapshots
    | Drift
    | Calibration
    | Followed
    | GradientSimilarity
    | Hypotheses
    | Landscape
    | Continual
    | Sharpness
    | Discrepancies
    | Cost
    | Search
    | Slimming
)
DEFAULT_TASK = Accuracy()
tasks_of(get_args(AnyTask))  # a half or twice registered one is told when this is read


def task_class(folder: str) -> type[Task]:
    """The class of the task whose metrics lie in `folder`, as their files and paths name it. Raises UserError
    for another name."""
    classes = {task.folder: task for task in by_name(get_args(AnyTask), "kind").values()}
    if folder not in classes:
        raise unknown("task", folder, classes)
    return classes[folder]


__all__ = [
    "ACCURACY",
    "DEFAULT_TASK",
    "Accuracy",
    "AnyTask",
    "Continual",
    "Discrepancies",
    "Cost",
    "Drift",
    "Followed",
    "GradientSimilarity",
    "Hypotheses",
    "Landscape",
    "Metric",
    "Search",
    "Sharpness",
    "Slimming",
    "Snapshots",
    "Task",
    "task_class",
]
