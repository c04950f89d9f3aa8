"""What an engine is given and what it gives: the orders of a job, and the outcome of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor

from condense.config import UserError
from condense.data.dataset import Images
from condense.files.checkpoints import Checkpoint
from condense.specs import Decode, Recipe

R = TypeVar("R", bound=Recipe, covariant=True)
Kind = TypeVar("Kind", bound=Recipe)


@dataclass(frozen=True)
class Site:
    """What all sets of a job share: the real images, the classes that are made, the network's architecture,
    the seed and the device."""

    data: Images
    classes: tuple[int, ...]
    arch: str
    options: Mapping[str, Any]
    seed: int
    device: torch.device


@dataclass(frozen=True)
class Order(Generic[R]):
    """One set of a job, or of each of its classes the images from number `first` on, `ipc` of them.

    `parents`: the files of what was made beforehand, by the names that the recipe gives them. What is drawn
    for an image depends on its number, not on how many are made with it. A recipe that does not say
    `splits_by` "images" is always asked for all, from 0 on.
    """

    recipe: R
    ipc: int
    parents: Mapping[str, Path]
    checkpoint: Checkpoint
    first: int = 0

    def of(self, kind: type[Kind]) -> Order[Kind]:
        """The order, known to be of a recipe of the class `kind`. Raises TypeError if it is of another."""
        if not isinstance(self.recipe, kind):
            raise TypeError(
                f"{self.recipe.name}: its recipe is a {type(self.recipe).__name__}, and its engine makes "
                f"those of {kind.__name__}"
            )
        return cast("Order[Kind]", self)


@dataclass
class Outcome:
    """Normalised images (C, ipc, channels, size, size), the history of the loss terms, and snapshots {step:
    images}.

    `tensors`: what else belongs to each image, by name, (C, ipc, ...); of these `soft_labels`
    (C, ipc, classes) are of the kind `label_kind`. `of_set`: what belongs to the set as a whole, such as a
    learned rate. `decode`: how an image becomes several of full size. `recorded`: whether steps were repeated
    as recorded, as CUDA graphs; `precision`: in which types it was computed.
    """

    images: Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    of_set: dict[str, Tensor] = field(default_factory=dict)
    label_kind: Literal["probabilities", "logits"] = "probabilities"
    decode: Decode | None = None
    recorded: bool = False
    precision: dict[str, str] = field(default_factory=dict)

    def check(self, site: Site, order: Order) -> None:
        """To be called before an outcome is written: raises ValueError, naming engine and tensor, for one
        that was not ordered so.

        A value that is no number raises UserError: settings may be at fault.
        """
        data, engine = site.data, f"engine '{order.recipe.engine}'"
        each = (len(site.classes), order.ipc)
        shape = (*each, data.channels, data.size, data.size)
        pictures = {
            "images": self.images,
            **{f"snapshot {step}": images for step, images in self.snapshots.items()},
        }
        for name, images in pictures.items():
            if tuple(images.shape) != shape:
                raise ValueError(
                    f"{engine}: '{name}' are {tuple(images.shape)}, not {shape}: classes, ipc, channels, "
                    "height, width"
                )
        for name, values in self.tensors.items():
            if tuple(values.shape[:2]) != each:
                raise ValueError(
                    f"{engine}: '{name}' are {tuple(values.shape)}, not {each} and what each image has"
                )
        for name, values in {**pictures, **self.tensors, **self.of_set}.items():
            if not re.fullmatch(r"snapshot \d+|[a-z0-9_]{1,80}", name):
                raise ValueError(
                    f"{engine}: a tensor needs a name of lower-case letters, digits and '_', not {name!r}"
                )
            if values.requires_grad:
                raise ValueError(f"{engine}: '{name}' still has a gradient")
            if not torch.isfinite(values).all():
                raise UserError(f"{order.recipe.name}: some values of '{name}' are no numbers")
