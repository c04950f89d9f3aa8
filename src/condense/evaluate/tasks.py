"""What each task computes, by its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args

from condense.config import told_apart, unknown, without_function
from condense.evaluate.accuracy import accuracy
from condense.evaluate.calibration import calibration
from condense.evaluate.continual import continual
from condense.evaluate.discrepancies import discrepancies
from condense.evaluate.drift import drift
from condense.evaluate.followed import followed
from condense.evaluate.gradient_similarity import gradient_similarity
from condense.evaluate.hypotheses import hypotheses
from condense.evaluate.landscape import landscape
from condense.evaluate.search import search
from condense.evaluate.sharpness import sharpness
from condense.evaluate.slimming import slimming
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.specs import AnyTask, Drift, Task
from condense.specs.tasks import (
    Continual,
    Discrepancies,
    Followed,
    GradientSimilarity,
    Hypotheses,
    Landscape,
    Search,
    Sharpness,
    Slimming,
)
from condense.specs.tasks.calibration import Calibration
from condense.training.sets import TrainingSet

# The task, its sets, the test images, and who trains networks on the sets -> what is measured of each
# network.
TaskFunction = Callable[[Task, TaskSets, TrainingSet, Trainer], Results]

Kind = TypeVar("Kind", bound=Task)


def of_tasks(
    kind: type[Kind], measured: Callable[[Kind, TaskSets, TrainingSet, Trainer], Results]
) -> TaskFunction:
    """A function of any task, made from one of those of the class `kind`; others are a TypeError."""

    def run(task: Task, sets: TaskSets, test: TrainingSet, trainer: Trainer) -> Results:
        if not isinstance(task, kind):
            raise TypeError(
                f"a task of the class {kind.__name__} is needed, found one of {type(task).__name__}"
            )
        return measured(task, sets, test, trainer)

    return run


TASKS: dict[str, TaskFunction] = {
    "accuracy": accuracy,
    "snapshots": accuracy,  # of the set at every step of its condensation that was kept
    "drift": of_tasks(Drift, drift),
    "followed": of_tasks(Followed, followed),
    "calibration": of_tasks(Calibration, calibration),
    "sharpness": of_tasks(Sharpness, sharpness),
    "hypotheses": of_tasks(Hypotheses, hypotheses),
    "landscape": of_tasks(Landscape, landscape),
    "gradient_similarity": of_tasks(GradientSimilarity, gradient_similarity),
    "continual": of_tasks(Continual, continual),
    "discrepancies": of_tasks(Discrepancies, discrepancies),
    "search": of_tasks(Search, search),
    "slimming": of_tasks(Slimming, slimming),
}


def task_function(kind: str) -> TaskFunction:
    """What computes tasks of a kind. Raises UserError for a kind that is none, or whose function is missing
    here."""
    if kind not in TASKS and kind in told_apart(get_args(AnyTask), "kind"):
        raise without_function("task", kind, "condense.evaluate.tasks.TASKS", "a class in AnyTask")
    if kind not in TASKS:
        raise unknown("task", kind, TASKS)
    return TASKS[kind]
