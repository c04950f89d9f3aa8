"""What several kinds of settings share."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal

from condense.config import UserError, unknown

Ipc = int | Literal["full"]  # synthetic images of a class; 'full': the whole training set
AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
MANY = 10**8  # the most steps, epochs, images: more than any machine does, and few enough to count with
LARGEST = 1e9  # of weights, rates and the like: beyond it float32 overflows within some steps
REPEATS = 10_000  # the most sets, or networks, of one kind: each of them becomes a job or a part of one


def groups_of(strategy: str) -> list[str]:
    """The operation groups of a siamese strategy: 'color_crop' -> ['color', 'crop']; 'none' and '' -> []."""
    return [] if strategy in ("none", "") else strategy.split("_")


def check_groups(strategy: str, where: str) -> None:
    """Raises UserError for a group of operations that is unknown."""
    for group in groups_of(strategy):
        if group not in AUGMENTATIONS:
            raise unknown("operation", group, AUGMENTATIONS, where)


def cut_to(strategy: str, allowed: str) -> str:
    """The groups of `strategy` that `allowed` has too, joined again; 'none' if it has none of them."""
    return "_".join(group for group in groups_of(strategy) if group in groups_of(allowed)) or "none"


def condition_holds(condition: str, ipc: int, where: str) -> bool:
    """Whether `ipc` images a class are those that a condition such as 'all' or 'ipc>=100' speaks of. Raises
    UserError, beginning with `where`, for any other."""
    if condition == "all":
        return True
    match = re.fullmatch(r"ipc(>=|<=|==|>|<)(\d+)", condition.replace(" ", ""))
    if not match:
        raise UserError(f"{where}: '{condition}' is not a condition; write 'all' or for example 'ipc>=100'")
    bound = int(match[2])
    return {">=": ipc >= bound, "<=": ipc <= bound, "==": ipc == bound, ">": ipc > bound, "<": ipc < bound}[
        match[1]
    ]


def check_name(setting: str, name: str) -> None:
    """Raises UserError for a name that could not stand in a path as it is."""
    if not re.fullmatch(r"[a-z0-9_]{1,80}", name):
        raise UserError(
            f"{setting}: a name of lower-case letters, digits and '_' is needed, found {name[:80]!r}"
        )


def check_names(names: Mapping[str, str | None | Iterable[str]]) -> None:
    """`check_name` for one name or several, by what they name; None is none."""
    for setting, given in names.items():
        for name in [given] if isinstance(given, str) else given or ():
            check_name(setting, name)


def at_least(numbers: Mapping[str, int | None], least: int, most: int = MANY) -> None:
    """Raises UserError for the first of `numbers`, by name, that is below `least` or above `most`; None is
    none."""
    for name, value in numbers.items():
        if value is not None and value < least:
            raise UserError(f"{name}: must be at least {least}, found {value}")
        if value is not None and value > most:
            raise UserError(f"{name}: must be at most {most:,}, found {value}")


def not_above(numbers: Mapping[str, float | None], most: float = LARGEST) -> None:
    """Raises UserError for the first of `numbers`, by name, whose size is above `most`; None is none."""
    for name, value in numbers.items():
        if value is not None and abs(value) > most:
            raise UserError(f"{name}: must be at most {most:g}, found {value:g}")


def unused(settings: Any, names: Iterable[str], why: str, where: str = "") -> None:
    """Raises UserError for the first of the settings called `names` that is not at its default, since nothing
    reads it, and says why.

    `where`: what the message begins with.
    """
    for entry in fields(settings):
        if entry.name in names and getattr(settings, entry.name) != _default(entry):
            default = _default(entry)
            plain = (
                f", or at {json.dumps(default)}"
                if isinstance(default, (bool, int, float, str)) and default != ""
                else ""
            )
            raise UserError(f"{where + ': ' if where else ''}{entry.name}: {why}; leave it out{plain}")


def not_by_default(value: Any) -> Any:
    """Settings as plain values, without those that have their default."""
    if is_dataclass(value):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        return {
            field.name: not_by_default(given[field.name])
            for field in fields(value)
            if given[field.name] != _default(field)
        }
    if isinstance(value, (list, tuple)):
        return [not_by_default(entry) for entry in value]
    return {key: not_by_default(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def _default(field: Field) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


@dataclass(frozen=True)
class Source:
    """Where a method, protocol or number comes from."""

    paper: str
    equation: str = ""
    note: str = ""


@dataclass(frozen=True)
class Plateau:
    """The rate is multiplied by `factor` where the loss has not become less, by a part in 10,000, for more
    than `patience` steps."""

    factor: float = 0.5
    patience: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1 or self.patience < 0:
            raise UserError("plateau: factor must lie between 0 and 1, patience not be negative")
        at_least({"plateau: patience": self.patience}, 0)


@dataclass(frozen=True)
class Optimizer:
    """`lr` is per step; for images in units of what is optimised, normalised values or pixels.

    `weight_decay` is the L2 penalty added to the gradient of sgd, and the part of adamw by which values
    shrink at every step. `class_turns`: steps for one class after the other while the momentum of all moves
    on, as code does that steps inside its loop over classes. `plateau` lowers the rate where the loss of all
    classes stalls.
    """

    lr: float
    name: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.5
    weight_decay: float = 0.0
    beta1: float = 0.9  # of adamw, as beta2
    beta2: float = 0.999
    class_turns: bool = False
    plateau: Plateau | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0 or not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise UserError("optimizer: lr must be above 0, momentum in [0, 1), weight_decay not negative")
        # What is merely too large ends at the step whose loss is no number, with a word on the rate; beyond
        # this the step itself fails.
        not_above({"optimizer: lr": self.lr, "optimizer: weight_decay": self.weight_decay}, 1e30)
        if not all(0 <= beta < 1 for beta in (self.beta1, self.beta2)):
            raise UserError("optimizer: beta1 and beta2 must lie in [0, 1)")
        unused(
            self,
            ("momentum",) if self.name == "adamw" else ("beta1", "beta2"),
            f"{self.name} does not use it",
            "optimizer",
        )
        if self.class_turns and self.name == "sgd" and self.weight_decay:
            raise UserError("optimizer: class_turns: not with a weight_decay of sgd")


def convnet_depth(size: int) -> int:
    """Blocks of the ConvNet of the literature for square images of `size` pixels: three at 32, one more for
    every doubling, from 1 to 6."""
    return min(max(round(math.log2(size)) - 2, 1), 6)
