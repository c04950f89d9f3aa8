"""What networks are trained on: images by index, with their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from condense.data.dataset import Images
from condense.training.views import Scaling

Fetch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Targets:
    """Soft labels (n, classes) of images: `probabilities`, whose rows sum to 1, or `logits`."""

    values: Tensor
    kind: Literal["probabilities", "logits"]

    def probabilities(self, temperature: float = 1.0) -> Tensor:
        """The softmax of the logits / `temperature`; the logarithms of probabilities are logits."""
        if self.kind == "logits":
            return torch.softmax(self.values / temperature, -1)
        return self.values if temperature == 1 else torch.softmax(self.values.log() / temperature, -1)


@dataclass(frozen=True)
class TrainingSet:
    """Images by index: `fetch(indices (b,))` gives normalised float32 (b, C, H, W) on the device; `labels`
    (n,) int64 on it too.

    `beside` gives an image more for each, which is augmented alike; the network that is trained takes both.
    `targets`: soft labels, on the device, for losses that compare with them. `name`: what messages call the
    set. `scaling`: how the images were normalised, for views that change pixels.
    """

    fetch: Fetch
    labels: Tensor
    size: int
    beside: Fetch | None = None
    targets: Targets | None = None
    name: str = "the set"
    scaling: Scaling | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: Tensor) -> TrainingSet:
        """The images at the places `chosen` (m,), in that order, with what belongs to them."""
        chosen = chosen.cpu()
        here = chosen.to(self.labels.device)

        def taken(fetch: Fetch) -> Fetch:
            return lambda indices: fetch(chosen[indices.cpu()])

        return replace(
            self,
            fetch=taken(self.fetch),
            labels=self.labels[here],
            beside=None if self.beside is None else taken(self.beside),
            targets=None if self.targets is None else replace(self.targets, values=self.targets.values[here]),
        )


def tensor_set(
    images: Tensor,
    labels: Tensor,
    targets: Targets | None = None,
    name: str = "the set",
    scaling: Scaling | None = None,
) -> TrainingSet:
    """A training set over normalised images (n, C, H, W) that fit on the device."""
    return TrainingSet(
        lambda indices: images[indices.to(images.device)],
        labels,
        images.shape[-1],
        targets=targets,
        name=name,
        scaling=scaling,
    )


def pixel_set(images: Images, device: torch.device) -> TrainingSet:
    """A training set over prepared 8-bit images, normalised on the fly; on a GPU the pixels are kept
    there."""
    pixels = images.images.to(device)

    def fetch(indices: Tensor) -> Tensor:
        return images.normalise(pixels[indices.to(device)])

    return TrainingSet(
        fetch,
        images.labels.to(device),
        images.size,
        name=f"the {images.dataset} images themselves",
        scaling=Scaling(tuple(images.mean), tuple(images.std)),
    )
