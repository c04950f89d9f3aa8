"""What each task computes, by its kind."""

from __future__ import annotations

from collections.abc import Callable

from condense.config import unknown
from condense.evaluate.accuracy import accuracy
from condense.evaluate.calibration import calibration
from condense.evaluate.drift import drift
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.specs import Task
from condense.training.loop import TrainingSet

# The task, its sets, the test images, and who trains networks on the sets -> what is measured of each network.
TaskFunction = Callable[[Task, TaskSets, TrainingSet, Trainer], Results]

TASKS: dict[str, TaskFunction] = {
    "accuracy": accuracy,
    "snapshots": accuracy,  # of the set at every step of its condensation that was kept
    "drift": drift,
    "calibration": calibration,
}


def task_function(kind: str) -> TaskFunction:
    """What computes tasks of a kind. Raises UserError for a kind that nothing computes."""
    if kind not in TASKS:
        raise unknown("task", kind, TASKS)
    return TASKS[kind]
