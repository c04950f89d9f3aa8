"""Whose labels networks learn from, where these are not the set's own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least
from condense.specs.parent import P, Parent, PlannedData, Planning, TeacherNeed

_MOST = 50  # observers
_HALF = 2  # bytes of a number in half precision, or of that of a class


STORED = "labels"  # the name by which an evaluation is given labels that its observers gave beforehand


@dataclass(frozen=True)
class StoredNeed:
    """Labels of every epoch of the very set that is judged, in place of the observers."""

    made_as: ClassVar[str] = "stored_labels"
    needed: ClassVar[bool] = True
    what: ClassVar[str] = "the stored labels of the set"
    making: ClassVar[str] = "`condense relabel --help` says how"

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """None: they are of one set, which a plan adds; see `plan.Maker.metrics`."""
        return None


@dataclass(frozen=True)
class ObserverLabels:
    """The mean of the logits that `observers`, classifiers trained on all real images, give every batch as
    the network sees it: augmented and mixed. Source: the students of SRe2L on CIFAR-100, RDED and EDC.

    An observer without `arch` is of the architecture that judges. With `stored` the observers label a set
    once, every image in every epoch, and all networks learn from these labels under the same batches; `top`
    of the largest logits of an image are stored (None: all). Source: fast knowledge distillation (Shen and
    Xing 2022), as SRe2L stores the labels of ImageNet and EDC those of ImageNet-1K; RDED stores none.
    """

    LATER: ClassVar[tuple[str, ...]] = ("stored", "top")

    name: Literal["observers"]
    observers: tuple[TeacherNeed, ...]
    stored: bool = False
    top: int | None = None

    def __post_init__(self) -> None:
        if self.top is not None and not self.stored:
            raise UserError(
                "labels: top: is of stored labels; write `stored: true` beside it, or leave it out"
            )
        if self.top is not None:
            at_least({"labels: top": self.top}, 1)
        if not 1 <= len(self.observers) <= _MOST:
            raise UserError(
                f"labels: observers: 1 to {_MOST} are needed, each with the protocol that trains it, found "
                f"{len(self.observers)}"
            )
        if len(set(self.observers)) < len(self.observers):
            raise UserError("labels: observers: two of them are the same network; leave one of them out")

    @property
    def named(self) -> dict[str, TeacherNeed]:
        """The observers by the names that evaluations are given them by: 'observer' where there is one, else
        'observer1', 'observer2' and so on."""
        if len(self.observers) == 1:
            return {"observer": self.observers[0]}
        return {f"observer{number}": one for number, one in enumerate(self.observers, 1)}

    @property
    def told(self) -> str:
        """Who gives the labels, and whether beforehand."""
        if not self.stored:
            return "observers"
        return "observers, stored" if self.top is None else f"observers, {self.top} largest stored"

    def asked(self, given: Collection[str]) -> dict[str, Parent]:
        """What an evaluation needs that is given files of these names: the observers, or what these gave
        beforehand."""
        return {STORED: StoredNeed()} if self.stored or STORED in given else dict(self.named)

    def stored_bytes(self, epochs: int, images: int, classes: int) -> int:
        """What the labels take that networks learn from, or those of one network would take if they were
        stored: logits in half precision for every image and epoch, as SRe2L stores them; crops, flips and
        boxes are not counted."""
        if self.top is None or self.top >= classes:
            return epochs * images * classes * _HALF
        # The largest with the numbers of their classes, and what is left of the probability
        return epochs * images * (2 * self.top + 1) * _HALF


AnyLabels = ObserverLabels
