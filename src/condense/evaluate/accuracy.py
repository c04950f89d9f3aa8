"""The test accuracy of networks trained on a set, on its snapshots, or on the whole training set."""

from __future__ import annotations

from functools import partial

from condense.evaluate.trained import measured_accuracy
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.specs import Task
from condense.training.sets import TrainingSet


def accuracy(task: Task, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """Networks are trained on the set, at every step that was read of it, and tested on `tested`. The source
    is that of `protocols`."""
    return trainer.measured(sets.judged.by_step, partial(measured_accuracy, tested))
