"""The engine `patches`: the synthetic set consists of patches of real images, which a trained classifier
finds easiest, laid side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from condense.config import UserError, naming
from condense.specs.common import at_least
from condense.specs.costs.work import FLOAT, Shard, Sizes, Work, pixels_of
from condense.specs.parent import Parent, PlannedParent, TeacherNeed
from condense.specs.recipe import Recipe

BATCH = 256  # patches that the classifier sees at once


@dataclass(frozen=True)
class Patches:
    """Of `candidates` random images of a class the easiest of `crops` random square crops each, for a trained
    classifier; of these the easiest, `factor` x `factor` in an image.

    A class that has fewer images gives all of them.
    """

    candidates: int = 300
    crops: int = 5
    factor: int = 1  # patches along a side of an image; it has to divide its pixels
    least_area: float = 0.08  # of a crop, as a share of the image's; the greatest is 1

    def __post_init__(self) -> None:
        at_least({"candidates": self.candidates, "crops": self.crops}, 1)
        at_least({"factor": self.factor}, 1, 64)
        if not 0 < self.least_area <= 1:
            raise UserError(f"least_area: must lie in (0, 1], found {self.least_area:g}")
        if self.least_area == 1 and self.crops > 1:
            raise UserError("crops: with `least_area: 1` all crops of an image are the same; give 1")

    def images_needed(self, ipc: int) -> int:
        """How many real images of a class so many images are made from."""
        return ipc * self.factor**2

    def check_ipc(self, ipc: int) -> None:
        """Raises UserError if fewer images are looked at than so many images are made from."""
        if self.images_needed(ipc) > self.candidates:
            raise UserError(
                f"candidates: at ipc {ipc} a class is made from {self.images_needed(ipc)} images, and only "
                f"{self.candidates} are looked at; give at least {self.images_needed(ipc)}"
            )

    def looked_at(self, data: Sizes) -> int:
        """How many crops of a class the classifier sees."""
        return min(self.candidates, math.ceil(data.train / data.classes)) * self.crops

    def check_size(self, size: int, dataset: str) -> None:
        """Raises UserError if images of `size` pixels cannot be divided into its cells."""
        if size % self.factor:
            raise UserError(
                f"factor: {self.factor} patches do not divide the {size} pixels of {dataset}; give a number "
                "that does"
            )


@dataclass(frozen=True, kw_only=True)
class PatchesRecipe(Recipe):
    """A set of patches of real images that the classifier `teacher` finds easiest."""

    NUMBER: ClassVar[int] = 1
    # Patches of real images are chosen; nothing takes steps, and a job of its own would take longer to start
    condenses: ClassVar[bool] = False
    trials: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"patches": {"candidates": 12, "crops": 2, "factor": 2, "least_area": 0.5}},
        {"patches": {"candidates": 4, "crops": 3}, "eight_bit": True},
    )

    engine: Literal["patches"]
    teacher: TeacherNeed
    patches: Patches = Patches()
    # images are cut to the 256 levels of a file of 8 bits a channel, as RDED's code stores them
    eight_bit: bool = False

    def parents(self) -> dict[str, Parent]:
        return {"teacher": self.teacher}

    def splits_by(self, ties_batch: bool) -> Literal["classes", "images"] | None:
        return "classes"  # each is made from its own real images

    def arch_with(self, arch: str, parents: Mapping[str, PlannedParent]) -> str:
        # The only network that has a part in a set is the teacher.
        return parents["teacher"].arch

    def suits(self, ipc: int, smallest_class: int, size: int) -> bool:
        fits = size % self.patches.factor == 0 and self.images_needed(ipc) <= self.patches.candidates
        return fits and super().suits(ipc, smallest_class, size)

    def images_needed(self, ipc: int) -> int:
        return self.patches.images_needed(ipc)

    def check_ipc(self, ipc: int) -> None:
        super().check_ipc(ipc)
        with naming(self.name):
            self.patches.check_ipc(ipc)

    def work(self, shard: Shard) -> Work:
        data, network = shard.data, shard.parents["teacher"]
        looked_at = min(self.patches.candidates, math.ceil(data.train / data.classes))
        patches = shard.classes * self.patches.looked_at(data)
        held, made = 2 * data.train * pixels_of(data), shard.classes * shard.ipc * pixels_of(data)
        batch = min(BATCH, looked_at * self.patches.crops) * (3 * network.largest + 2 * pixels_of(data))
        return Work(
            flops_forward=patches * network.forward,
            calls_forward=math.ceil(patches / BATCH) * network.layers,
            images=patches,
            peak_bytes=held + (batch + 3 * looked_at * pixels_of(data) + made) * FLOAT,
            host_bytes=held + 2 * made * FLOAT,
        )
