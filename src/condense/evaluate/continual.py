"""Class-incremental learning with a memory of synthetic images: after every step a network is trained from
scratch on all that the memory holds.

Source: GDumb (Prabhu et al. 2020) as DM uses it (Zhao and Bilen 2023, section 4.4), followed by cpdm, section
6.6, ddm, section 5, and idm, section 5.6. The memory holds the same number of images of every class that has
come; the network tells all classes of the dataset apart and is tested on the images of those that have come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from condense import models
from condense.config import UserError, convert
from condense.data.dataset import Images
from condense.evaluate.trained import measured_accuracy
from condense.evaluate.trainer import Results, TaskSet, TaskSets, Trainer
from condense.specs import AnyRecipe, Recipe
from condense.specs.tasks.base import ClassSteps
from condense.specs.tasks.continual import Continual
from condense.training.counting import ties_batch
from condense.training.sets import TrainingSet

# Seeds of networks of one order lie this far from those of the next, whose networks are others
_SEEDS_OF_AN_ORDER = 1000


def continual(task: Continual, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """By how many classes have come, the accuracy in percent on these classes of networks trained on their
    images in the set.

    Raises UserError for a set whose images of a class may depend on classes that come later, and for one that
    does not hold the same number of images of every class.
    """
    classes = len(trainer.test.counts)
    steps = task.class_steps(classes)
    check_came_apart(sets.judged, steps, trainer.test)
    memory = sets.judged.by_step[0]()
    check_balance(sets.judged, memory.labels, classes)
    seen = [sum(steps[: number + 1], ()) for number in range(len(steps))]
    return replace(trainer, seed=trainer.seed + _SEEDS_OF_AN_ORDER * task.order).measured(
        {len(known): partial(of_classes, memory, known) for known in seen},
        {len(known): partial(measured_accuracy, of_classes(tested, known)) for known in seen},
    )


def of_classes(images: TrainingSet, known: Sequence[int]) -> TrainingSet:
    """The images of the classes `known` alone, in their order, with the labels that they had."""
    chosen = torch.tensor(known, device=images.labels.device)
    return images.part(torch.isin(images.labels, chosen).nonzero()[:, 0])


def check_balance(judged: TaskSet, labels: Tensor, classes: int) -> None:
    """Raises UserError unless there are as many images of each class as of any other."""
    counts = torch.bincount(labels, minlength=classes)
    if int(counts.min()) < 1 or int(counts.min()) != int(counts.max()):
        raise UserError(
            f"{judged.path}: a memory holds the same number of images of every class, and this holds "
            f"{int(counts.min())} to {int(counts.max())}"
        )


def check_came_apart(judged: TaskSet, steps: ClassSteps, like: Images) -> None:
    """Raises UserError unless no image of the set was made with classes of a later step: it was put together
    of sets of these very steps, or by a method that makes every class from its own images alone."""
    came = judged.header.get("class_steps")
    if came is None and not _made_class_by_class(judged, like):
        raise UserError(
            f"{judged.path}: its images of a class may have been made with classes of a later step; put it "
            "together of sets of these steps (`condense assemble --help`)"
        )
    if came is not None and [sorted(step) for step in came] != [sorted(step) for step in steps]:
        raise UserError(
            f"{judged.path}: was put together of other steps than those asked for: its classes came as "
            f"{came}, and are to come as {[list(step) for step in steps]}"
        )


def _made_class_by_class(judged: TaskSet, like: Images) -> bool:
    """Whether every class of a set was made from its own images alone, as far as its header says how it was
    made."""
    made: Mapping[str, Any] = judged.header
    if not made.get("recipe"):
        return False
    recipe: Recipe = convert(AnyRecipe, made["recipe"], f"{judged.path}: recipe")
    shape = {"channels": like.channels, "size": like.size, "classes": len(like.counts)}
    with torch.device("meta"):  # only what it consists of is asked for
        tied = made["arch"] != "none" and ties_batch(
            models.build(made["arch"], **shape, **made.get("options", {}))
        )
    return recipe.class_by_class(tied)
