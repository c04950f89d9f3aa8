"""What recipes share whose engine moves images step by step: where these start, in which units they move, how
a step moves them, and, where they follow real images, which of these they see and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from condense.config import UserError
from condense.specs.common import Optimizer, at_least, check_groups, cut_to, groups_of, unused
from condense.specs.recipe import Recipe

SMALLEST_CELL = 12  # pixels a side: a formation of smaller ones loses more of an image than it gains
MOSAICS = ("mosaic", "mosaic_nearest")  # starts that lay a small real image into every cell of a formation


@dataclass(frozen=True)
class Decode:
    """How a stored image becomes several of full size: `factor` x `factor` cells, each enlarged.

    `order`: cells by rows or by columns.
    """

    factor: int = 2
    order: Literal["rows", "columns"] = "rows"

    def __post_init__(self) -> None:
        at_least({"factor": self.factor}, 1, 64)
        if self.factor == 1:
            unused(self, ("order",), "a single cell has no order", "decode")


@dataclass(frozen=True)
class Augment:
    """`siamese`: operation groups of the differentiable siamese augmentation, joined by '_', or 'none'.

    `mode`: every draw takes one of them, or `all` in IDC's way: flip and color, one of those that move the
    image, and cutout.
    """

    siamese: str = "color_crop_cutout_flip_scale_rotate"
    mode: Literal["one", "all"] = "one"

    def __post_init__(self) -> None:
        check_groups(self.siamese, "augment: siamese")
        if not groups_of(self.siamese):
            unused(
                self,
                ("mode",),
                "without operations (`siamese: none`) there is nothing to take one or all of",
                "augment",
            )

    def within(self, strategy: str) -> dict[str, Any]:
        """The change that leaves of the operations those that `strategy` has, too."""
        left = cut_to(self.siamese, strategy)
        # `mode` then means nothing
        return {"siamese": left} if groups_of(left) else {"siamese": left, "mode": "one"}


@dataclass(frozen=True, kw_only=True)
class MovedRecipe(Recipe):
    """A recipe whose engine takes steps along gradients of the images."""

    init: Literal["real", "noise", "mosaic", "mosaic_nearest"] = "real"
    decode: Decode | None = None
    optimised: Literal["normalised", "pixels"] = "normalised"  # what the optimiser moves
    clip: bool = False  # pixels are brought back into [0, 1] at the start of every step
    optimizer: Optimizer = Optimizer(lr=1.0)
    steps: int = 20000
    # eta of the polynomial-decay mean of the images over the steps (None: the last images)
    averaging: int | None = None
    labels: Literal["hard"] = "hard"
    mirrored: bool = False  # the images are matched together with their mirror images, left for right
    snapshots: int = 0  # also keep the set every so many steps, for curves over the steps; 0 keeps none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.starts_as_mosaic and self.decode is None:
            raise UserError("init: a mosaic has the cells of `decode`, which is not given")
        at_least({"steps": self.steps}, 1)
        at_least({"snapshots": self.snapshots, "averaging": self.averaging}, 0)
        if self.snapshots > self.number_of_steps:
            told = (
                f"the set is never kept in {self.number_of_steps} steps if it is kept every {self.snapshots}"
            )
            raise UserError(f"snapshots: {told}; give at most {self.number_of_steps}, or leave it out")

    @property
    def starts_as_mosaic(self) -> bool:
        """Whether an image starts from several real ones."""
        return self.init in MOSAICS

    @property
    def images_a_stored(self) -> int:
        return self.decode.factor**2 if self.decode else 1

    @property
    def images_matched(self) -> int:
        """How many images of full size a step matches for a stored one."""
        return self.images_a_stored * (2 if self.mirrored else 1)

    @property
    def number_of_steps(self) -> int:
        return self.steps

    @property
    def number_of_snapshots(self) -> int:
        return self.number_of_steps // self.snapshots if self.snapshots else 0

    def suits(self, ipc: int, smallest_class: int, size: int) -> bool:
        large = self.decode is None or size // self.decode.factor >= SMALLEST_CELL
        return large and super().suits(ipc, smallest_class, size)

    def images_needed(self, ipc: int) -> int:
        return ipc * (self.images_a_stored if self.starts_as_mosaic else 1)


@dataclass(frozen=True, kw_only=True)
class ImageRecipe(MovedRecipe):
    """A recipe whose images follow batches of real ones, under an augmentation that both share."""

    trials: ClassVar[tuple[Mapping[str, Any], ...]] = ({"steps": 4, "batch_real": 16},)

    augment: Augment = Augment()
    batch_real: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"batch_real": self.batch_real}, 1)

    @property
    def classes_apart(self) -> bool:
        """Whether the images of a class become what they would without the other classes, a plateau and batch
        norm aside."""
        return False

    def splits_by(self, ties_batch: bool) -> Literal["classes", "images"] | None:
        # A plateau looks at the loss of all classes.
        return "classes" if self.classes_apart and self.optimizer.plateau is None and not ties_batch else None

    def within(self, strategy: str) -> dict[str, Any]:
        return {"augment": self.augment.within(strategy)}
