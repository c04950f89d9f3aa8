"""What several kinds of settings share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condense.config import UserError, unknown

AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


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


def at_least(numbers: dict[str, int | None], least: int) -> None:
    """Raises UserError for the first of `numbers`, by name, that is below `least`; None is none."""
    for name, value in numbers.items():
        if value is not None and value < least:
            raise UserError(f"{name}: must be at least {least}, found {value}")


@dataclass(frozen=True)
class Source:
    """Where a method, protocol or number comes from."""

    paper: str
    equation: str = ""
    note: str = ""


@dataclass(frozen=True)
class Plateau:
    """The rate is multiplied by `factor` where the loss has not become less, by a part in 10,000, for more than `patience` steps."""

    factor: float = 0.5
    patience: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1 or self.patience < 0:
            raise UserError("plateau: factor must lie between 0 and 1, patience not be negative")


@dataclass(frozen=True)
class Optimizer:
    """`lr` is per step; for images in units of what is optimised, normalised values or pixels.

    `weight_decay` is the L2 penalty added to the gradient of sgd, and the part of adamw by which values shrink at every step.
    `class_turns`: steps for one class after the other while the momentum of all moves on, as code does that steps inside its loop
    over classes. `plateau` lowers the rate where the loss of all classes stalls.
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
        if not all(0 <= beta < 1 for beta in (self.beta1, self.beta2)):
            raise UserError("optimizer: beta1 and beta2 must lie in [0, 1)")
        if self.class_turns and self.name == "sgd" and self.weight_decay:
            raise UserError("optimizer: class_turns: not with a weight_decay of sgd")
