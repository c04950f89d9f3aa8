"""The engines by name: a recipe is of the class that its `engine` names. A new engine is added here and in
`condense.engines.ENGINES`."""

from __future__ import annotations

from typing import get_args, get_type_hints

from condense.specs.gradient import GradientRecipe
from condense.specs.matching import MatchingRecipe
from condense.specs.recipe import Recipe
from condense.specs.selection import SelectionRecipe
from condense.specs.whole import WholeRecipe

AnyRecipe = MatchingRecipe | GradientRecipe | SelectionRecipe | WholeRecipe


def engine_of(kind: type[Recipe]) -> str:
    """The name of the engine whose recipes are of the class `kind`."""
    (name,) = get_args(get_type_hints(kind)["engine"])
    return name


ENGINES: dict[str, type[Recipe]] = {engine_of(kind): kind for kind in get_args(AnyRecipe)}
