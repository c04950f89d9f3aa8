"""The test accuracy of networks trained on a set, at the end, and the best of several test passes over the
training.

Source: codes that quote the best of their test evaluations (IDM, IDC, M3D, NCFM); here the last one counts.
"""

from __future__ import annotations

from functools import partial

from condense.evaluate.following import Following
from condense.evaluate.trained import measured_accuracy
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.specs.tasks import Followed
from condense.training.sets import TrainingSet


def followed(task: Followed, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """Networks are trained as for the accuracy alone, to the same bits, and tested on `tested` in between."""
    following = Following(task.tests, "accuracy", task.best)
    return trainer.measured(sets.judged.by_step, partial(measured_accuracy, tested), following=following)
