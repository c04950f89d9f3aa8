"""The engine `whole`: the whole training set, which is evaluated but not condensed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class WholeRecipe(Recipe):
    """Stands for the whole training set: the upper bound that tables show."""

    NUMBER: ClassVar[int] = 1
    makes_set: ClassVar[bool] = False
    condenses: ClassVar[bool] = False

    engine: Literal["whole"]
