"""Whose labels networks learn from, where these are not the set's own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.parent import P, Parent, PlannedData, Planning, TeacherNeed

_MOST = 50  # observers
_HALF = 2  # bytes of a number in half precision


STORED = "labels"  # the name by which an evaluation is given labels that its observers gave beforehand


@dataclass(frozen=True)
class StoredNeed:
    """Labels of every epoch of the very set that is judged, in place of the observers; only by hand."""

    made_as: ClassVar[str] = ""
    needed: ClassVar[bool] = True
    what: ClassVar[str] = "the stored labels of the set"
    making: ClassVar[str] = "`condense relabel --help` says how"

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """None: no workflow makes them, since they are of one set."""
        return None


@dataclass(frozen=True)
class ObserverLabels:
    """The mean of the logits that `observers`, classifiers trained on all real images, give every batch as
    the network sees it: augmented and mixed. Source: the students of SRe2L on CIFAR-100, RDED and EDC.

    An observer without `arch` is of the architecture that judges.
    """

    name: Literal["observers"]
    observers: tuple[TeacherNeed, ...]

    def __post_init__(self) -> None:
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

    def asked(self, given: Collection[str]) -> dict[str, Parent]:
        """What an evaluation needs that is given files of these names: the observers, or what these gave
        beforehand."""
        return {STORED: StoredNeed()} if STORED in given else dict(self.named)

    @staticmethod
    def stored_bytes(epochs: int, images: int, classes: int) -> int:
        """What the labels of one network would take if they were stored: logits in half precision for every
        image and epoch, as SRe2L stores them; crops, flips and boxes are not counted."""
        return epochs * images * classes * _HALF


AnyLabels = ObserverLabels
