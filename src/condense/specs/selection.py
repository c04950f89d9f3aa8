"""The engine `select`: the synthetic set consists of chosen real images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least, unused
from condense.specs.costs.work import FLOAT, Shard, Work, pixels_of
from condense.specs.parent import Parent, PlannedParent, TeacherNeed
from condense.specs.recipe import Recipe


@dataclass(frozen=True)
class Choosing:
    """What a selection uses: a trained classifier, its embeddings of all images, and the recipe's settings of
    this name."""

    classifier: bool = False
    embeds: bool = False
    settings: str | None = None


SELECTIONS = {
    "random": Choosing(),
    "herding": Choosing(classifier=True, embeds=True),
    "k_center": Choosing(classifier=True, embeds=True),
    "k_means": Choosing(classifier=True, embeds=True),
    "forgetting": Choosing(classifier=True),
    "minimum_covering": Choosing(classifier=True, embeds=True, settings="covering"),
}
SelectionName = Literal["random", "herding", "k_center", "k_means", "forgetting", "minimum_covering"]


@dataclass(frozen=True)
class Covering:
    """How `minimum_covering` chooses centres: among `candidates` images of a class, or among `all`, which
    gives the best of all.

    `all` is refused for a class of more than `largest` images, whose programme might not end. `nodes` limits
    every programme.
    """

    candidates: int | Literal["all"] = "all"
    largest: int = 500
    nodes: int = 100_000

    def __post_init__(self) -> None:
        at_least({"candidates": self.candidates if isinstance(self.candidates, int) else None}, 1)
        at_least({"largest": self.largest, "nodes": self.nodes}, 1)
        if self.candidates != "all":
            unused(self, ("largest",), "it limits `candidates: all` alone", "covering")


@dataclass(frozen=True, kw_only=True)
class SelectionRecipe(Recipe):
    """How real images are chosen. `covering` holds the settings of the selection of that kind."""

    NUMBER: ClassVar[int] = 1
    condenses: ClassVar[bool] = False

    engine: Literal["select"]
    selection: SelectionName
    covering: Covering | None = None
    teacher: TeacherNeed | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in {choosing.settings for choosing in SELECTIONS.values() if choosing.settings}:
            if (name == self.choosing.settings) != (getattr(self, name) is not None):
                asking = [
                    selection for selection, choosing in SELECTIONS.items() if choosing.settings == name
                ]
                raise UserError(f"{name}: to be given exactly for 'selection: {' or '.join(asking)}'")
        if self.choosing.classifier != (self.teacher is not None):
            needed = self.choosing.classifier
            raise UserError(
                f"teacher: {'is needed by its selection' if needed else 'nothing in this recipe uses it'}"
            )

    @property
    def choosing(self) -> Choosing:
        """What its selection uses."""
        return SELECTIONS[self.selection]

    def parents(self) -> dict[str, Parent]:
        return {"teacher": self.teacher} if self.teacher else {}

    def splits_by(self, ties_batch: bool) -> Literal["classes", "images"] | None:
        return "classes"  # each is chosen from its own real images

    def arch_with(self, arch: str, parents: Mapping[str, PlannedParent]) -> str:
        # A selection does not condense with a network: its only one is the teacher's.
        return parents["teacher"].arch if "teacher" in parents else "none"

    def work(self, shard: Shard) -> Work:
        data, held = shard.data, 2 * shard.data.train * pixels_of(shard.data)
        if not self.choosing.embeds:
            return Work(peak_bytes=held, host_bytes=held)
        network, calls = shard.parents["teacher"], math.ceil(data.train / 256)
        peak = 3 * 256 * network.largest + data.train // data.classes * (
            2 * network.features + 2 * pixels_of(data)
        )
        return Work(
            flops_forward=data.train * network.embed,
            calls_forward=calls * network.layers,
            peak_bytes=held + peak * FLOAT,
            host_bytes=held,
        )
