"""The loops that turn a recipe and a dataset into a synthetic set, by the name that a recipe gives its
engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from condense import specs
from condense.config import unknown, without_function
from condense.engines.gradient import match_gradients
from condense.engines.matching import match
from condense.engines.orders import Order, Outcome, Site
from condense.engines.patches import stitch_patches
from condense.engines.selection import select
from condense.engines.statistics import match_statistics
from condense.specs import (
    GradientRecipe,
    MatchingRecipe,
    PatchesRecipe,
    Recipe,
    SelectionRecipe,
    StatisticsRecipe,
)

Engine = Callable[[Site, Sequence[Order[Recipe]]], list[Outcome]]
Kind = TypeVar("Kind", bound=Recipe)


def of_recipes(kind: type[Kind], make: Callable[[Site, Sequence[Order[Kind]]], list[Outcome]]) -> Engine:
    """An engine that takes orders of any recipes, made from one that takes those of the class `kind`; others
    are a TypeError."""

    def run(site: Site, orders: Sequence[Order[Recipe]]) -> list[Outcome]:
        return make(site, [order.of(kind) for order in orders])

    return run


# Each makes the sets that it is ordered together, all at one site. Their recipes are of the class that
# `specs.ENGINES` has by this name.
ENGINES: dict[str, Engine] = {
    "matching": of_recipes(MatchingRecipe, match),
    "gradient": of_recipes(GradientRecipe, match_gradients),
    "statistics": of_recipes(StatisticsRecipe, match_statistics),
    "select": of_recipes(SelectionRecipe, select),
    "patches": of_recipes(PatchesRecipe, stitch_patches),
}


def engine(name: str) -> Engine:
    """The engine called `name`. Raises UserError for a name that is none, or whose function is missing
    here."""
    if name not in ENGINES and name in specs.ENGINES and specs.ENGINES[name].makes_set:
        raise without_function("engine", name, "condense.engines.ENGINES", "a recipe class")
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    return ENGINES[name]
