"""The loops that turn a recipe and a dataset into a synthetic set, by the name that a recipe gives its engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from condense.config import unknown
from condense.engines.gradient import match_gradients
from condense.engines.matching import match
from condense.engines.orders import Order, Outcome, Site
from condense.engines.selection import select

Engine = Callable[[Site, Sequence[Order]], list[Outcome]]

# Each makes the sets that it is ordered together, all at one site. Their recipes are of the class that `specs.ENGINES` has by this name.
ENGINES: dict[str, Engine] = {"matching": match, "gradient": match_gradients, "select": select}


def engine(name: str) -> Engine:
    """The engine called `name`. Raises UserError for a name that is none."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    return ENGINES[name]
