"""What a recipe asks for beforehand, what it may ask of the plan for that, and where a file is something
else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from condense.specs.common import check_names
from condense.specs.costs.work import Sizes


class PlannedData(Protocol):
    """A prepared dataset in a plan; its `plan.DataCell`."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> Sizes: ...


class PlannedParent(Protocol):
    """Something in a plan that is made before a set; its `plan.parents.ParentCell`."""

    @property
    def arch(self) -> str: ...


P = TypeVar("P", bound=PlannedParent)
P_co = TypeVar("P_co", bound=PlannedParent, covariant=True)


class PlannedScale(Protocol):
    """The scale of a plan; its `specs.Scale`."""

    @property
    def bank_mb(self) -> int: ...


class Planning(Protocol[P_co]):
    """What plans cells as a scale wants them; `plan.Maker`."""

    @property
    def scale(self) -> PlannedScale: ...

    def protocol(self, name: str) -> Any:
        """The training protocol `name`, a `specs.Protocol`, as the scale changes it."""

    def parent(self, kind: str, data: Any, arch: str, seed: int = 0, **settings: Any) -> P_co:
        """The cell of a kind of `plan.PARENTS` for the `PlannedData` that it gave, with that kind's own
        settings."""


class Parent(Protocol):
    """Something that a recipe needs to have been made before its sets, as it asks for it: `what`, and
    `making`, how to make it by hand.

    `made_as`: the kind of its cell in `plan.PARENTS`. `needed`: a set cannot be made without it; else it only
    saves time.
    """

    made_as: ClassVar[str]
    needed: ClassVar[bool]
    what: ClassVar[str]
    making: ClassVar[str]

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """The cell that makes it, for sets of `data` condensed with `arch` in so many steps; None if the
        scale makes none."""


@dataclass(frozen=True)
class TeacherNeed:
    """The pretrained classifier a recipe uses: its training protocol, and its architecture if not the
    condensing one."""

    made_as: ClassVar[str] = "teacher"
    needed: ClassVar[bool] = True
    what: ClassVar[str] = "a pretrained classifier"
    making: ClassVar[str] = "`condense teach --help` says how"

    protocol: str
    arch: str | None = None

    def __post_init__(self) -> None:
        check_names({"teacher: protocol": self.protocol, "teacher: arch": self.arch})

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """The teacher; one serves the sets of all seeds."""
        settings: dict[str, Any] = {"protocol": plan.protocol(self.protocol), "strategy": data.spec.strategy}
        return plan.parent(self.made_as, data, self.arch or arch, **settings)


_OTHERS = {
    "protocol": "was trained by the protocol '{given}', where {asker} names '{asked}'",
    "arch": "is a {given}, where {asker} names {asked}",
}


def others(asker: str, need: object, path: Path, header: Mapping[str, Any]) -> Iterator[str]:
    """A line for each setting, protocol or architecture, in which a file with this header is not what the
    `asker` needs."""
    for setting, text in _OTHERS.items():
        asked, given = getattr(need, setting, None), header.get(setting)
        if asked and given and given != asked:
            yield f"{path}: {text.format(asker=asker, given=given, asked=asked)}"
