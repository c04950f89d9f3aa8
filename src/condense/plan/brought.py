"""What recipes require (`requires`) and users bring along, as the weights of CLIP: whether it is here, and
which.

Floor 0. What a recipe may require stands in `specs.term.Required`; each name has an entry in `BROUGHT`, and
the engine that uses it a function, as `engines.matching.CRITICS` has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from condense.files.artifacts import digest
from condense.specs import Recipe
from condense.specs.terms.critics import CLIP_MODEL, CLIP_WEIGHTS


@dataclass(frozen=True)
class Brought:
    """`what` it is, `how` to bring it, and why rows of tables stay empty without it; `identity`: which one is
    here, for keys."""

    what: str
    how: str
    absent: str
    is_here: Callable[[], bool]
    identity: Callable[[], str]

    @property
    def told(self) -> str:
        """What lists say that a method needs."""
        return self.what if self.is_here() else f"{self.what}: absent here, {self.how}"


@cache
def clip_identity() -> str:
    """Which CLIP model is the critic: its name and configuration, and its weights, known by their size and
    their first MiB."""
    model, weights = os.environ.get(CLIP_MODEL, ""), Path(os.environ.get(CLIP_WEIGHTS, ""))
    configuration = Path(model).read_text(encoding="utf-8") if Path(model).is_file() else model
    if not weights.is_file():
        return digest([configuration, None])
    with open(weights, "rb") as file:
        start = hashlib.sha256(file.read(1 << 20)).hexdigest()
    return digest([configuration, weights.stat().st_size, start])


BROUGHT = {
    "clip": Brought(
        what="CLIP",
        how=f"set {CLIP_WEIGHTS} to the file with its weights",
        absent="needs the weights of a CLIP model (see README)",
        is_here=lambda: os.path.isfile(os.environ.get(CLIP_WEIGHTS, "")),
        identity=lambda: clip_identity(),
    )
}


def brought_for(recipe: Recipe) -> list[Brought]:
    """What a recipe requires to be brought along."""
    return [BROUGHT[recipe.requires]] if recipe.requires is not None else []


def lacks(recipe: Recipe) -> list[Brought]:
    """What of it is not here."""
    return [entry for entry in brought_for(recipe) if not entry.is_here()]
