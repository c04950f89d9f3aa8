"""The accuracy of networks over the steps of class-incremental learning, trained on what the memory holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

from condense.config import UserError
from condense.machine import seeds
from condense.specs.common import at_least
from condense.specs.tasks.base import ClassSteps, Task
from condense.specs.tasks.metrics import ACCURACY, Metric, OnBoard


@dataclass(frozen=True, kw_only=True)
class Continual(Task):
    """Test accuracy, on the classes seen, of networks trained from scratch on the images of these classes,
    after every step in which new classes come.

    The classes come in `steps` equal steps; where they do not come out even, the first steps have one more.
    `order`: in which order, numpy's legacy permutation of the classes after this seed.
    """

    folder: ClassVar[str] = "continual"
    title: ClassVar[str] = "test accuracy on the classes seen, as classes come step by step"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(
            ACCURACY.title, ACCURACY.unit, least=0.0, most=100.0, published=("final_accuracy",)
        )
    }
    numerics: ClassVar[int | None] = 1
    over_steps: ClassVar[bool] = True
    steps_are: ClassVar[Literal["steps", "classes", "grid"]] = "classes"
    last_counts: ClassVar[bool] = True
    of_a_set: ClassVar[str] = "synthetic set, the memory"
    answers: ClassVar[tuple[str, ...] | None] = ("continual",)
    unobserved: ClassVar[str] = "they know classes that have not come"
    variants: ClassVar[int] = 5  # the class orders of the papers

    steps: int
    order: int = 0
    kind: Literal["continual"] = "continual"

    def __post_init__(self) -> None:
        at_least({"steps": self.steps}, 2, 100_000)
        at_least({"order": self.order}, 0, (1 << 32) - 1)

    @property
    def board(self) -> Mapping[str, OnBoard]:
        meaning = (
            f"accuracy in % on all classes, which came in {self.steps} steps, mean over networks and class "
            "orders; learned by the protocol in 'judge' and the architecture in 'network'"
        )
        return {f"continual_{self.steps}": OnBoard("accuracy", meaning)}

    def variant(self, number: int) -> Continual:
        """The same with the class order of this number."""
        return replace(self, order=number)

    def fitted(self, classes: int) -> Continual:
        """With at most so many steps that two classes come in each: one alone is nothing to be told apart."""
        return replace(self, steps=min(self.steps, max(2, classes // 2)))

    def class_steps(self, classes: int) -> ClassSteps:
        """The classes of each step, as they come. Raises UserError for more steps than classes."""
        if self.steps > classes:
            raise UserError(
                f"steps: {self.steps} steps need a class each, and there are {classes} classes; ask for fewer"
            )
        order = seeds.numpy_permutation(self.order, classes)
        ends = [0]
        for step in range(self.steps):
            ends.append(ends[-1] + classes // self.steps + (step < classes % self.steps))
        return tuple(tuple(order[start:end]) for start, end in pairwise(ends))

    def sets_in(self, snapshots: int) -> float:
        # The memory grows by equal parts: 1/n, 2/n, ..., all of it
        return (self.steps + 1) / 2
