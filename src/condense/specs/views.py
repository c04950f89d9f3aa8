"""What is done to each image of a batch by itself before networks are trained on it, beside the siamese
augmentation: crops of any size, policies of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condense.config import UserError
from condense.specs.common import at_least


@dataclass(frozen=True)
class ResizedCrop:
    """A box of each image, resized to the size of the whole: its share of the area is uniform in [`area`,
    1], its width over its height log-uniform in [3/4, 4/3]. Source: Szegedy et al. 2015, as in
    torchvision."""

    name: Literal["resized_crop"]
    area: float = 0.08  # the least share of the area

    def __post_init__(self) -> None:
        if not 0 < self.area < 1:
            raise UserError(
                f"views: resized_crop: area: must lie between 0 and 1, found {self.area:g}; leave the view "
                "out for whole images"
            )


@dataclass(frozen=True)
class RandAugment:
    """So many `operations` of torchvision's RandAugment, one after the other, on pixels of 8 bits. Source:
    Cubuk et al. 2020."""

    name: Literal["randaugment"]
    operations: int = 2
    magnitude: int = 9  # how strong they are, of 0 to 30

    def __post_init__(self) -> None:
        at_least({"views: randaugment: operations": self.operations}, 1, 100)
        at_least({"views: randaugment: magnitude": self.magnitude}, 0, 30)


@dataclass(frozen=True)
class ShuffledPatches:
    """The rows of `factor` x `factor` patches of each image change places, and so do the columns. Source: Sun
    et al. 2024 (RDED), whose images are put together of so many."""

    name: Literal["shuffled_patches"]
    factor: int = 2

    def __post_init__(self) -> None:
        at_least({"views: shuffled_patches: factor": self.factor}, 2, 16)


AnyView = ResizedCrop | RandAugment | ShuffledPatches
