"""The engines by name: a recipe is of the class that its `engine` names. A new engine is added here and in
`condense.engines.ENGINES`."""

from __future__ import annotations

from typing import get_args

from condense.config import by_name
from condense.specs.gradient import GradientRecipe
from condense.specs.matching import MatchingRecipe
from condense.specs.patches import PatchesRecipe
from condense.specs.recipe import Recipe
from condense.specs.selection import SelectionRecipe
from condense.specs.statistics import StatisticsRecipe
from condense.specs.whole import WholeRecipe

AnyRecipe = MatchingRecipe | GradientRecipe | StatisticsRecipe | SelectionRecipe | PatchesRecipe | WholeRecipe


def engines_of(kinds: tuple) -> dict[str, type[Recipe]]:
    """The classes of recipes by the name of their engine. Raises TypeError for one without a name or
    `NUMBER`, or with the name of another."""
    for kind in kinds:
        if not isinstance(getattr(kind, "NUMBER", None), int):
            raise TypeError(
                f"{kind.__name__}: has no number; it needs NUMBER: ClassVar[int] = 1, which is raised when a "
                "change of the engine alters results"
            )
    return by_name(kinds, "engine")


ENGINES: dict[str, type[Recipe]] = engines_of(get_args(AnyRecipe))
