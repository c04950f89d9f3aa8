"""Prepared images as tensors, mapped from the file: processes on one machine share its pages, and nothing is
copied until used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from condense.config import UserError
from condense.data.mapped import map_tensors
from condense.files import check_dataset, dataset_header
from condense.files.artifacts import damaged


def normalise(pixels: Tensor, mean: Iterable[float], std: Iterable[float]) -> Tensor:
    """Pixels (..., C, H, W), uint8 0..255 or floating [0, 1], as (pixel - mean) / std per channel.

    `mean` and `std` are in units of the pixel range [0, 1]. uint8 becomes torch's default type (float32); a
    floating type is kept.
    """
    if pixels.is_floating_point():
        return (pixels - _per_channel(mean, pixels)) / _per_channel(std, pixels)
    # In place from here on: pixels without a gradient
    values = pixels.to(torch.get_default_dtype()).div_(255)
    return values.sub_(_per_channel(mean, values)).div_(_per_channel(std, values))


def denormalise(values: Tensor, mean: Iterable[float], std: Iterable[float]) -> Tensor:
    """The inverse of `normalise`: normalised values (..., C, H, W) as pixels in units of [0, 1], not
    clipped."""
    return values * _per_channel(std, values) + _per_channel(mean, values)


def _per_channel(constants: Iterable[float], like: Tensor) -> Tensor:
    make = _on_gpu if like.is_cuda else _made
    return make(tuple(constants), like.dtype, like.device)[:, None, None]


def _made(constants: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # so that it may be used with and without gradients
        return torch.tensor(constants, dtype=dtype, device=device)


_on_gpu = cache(_made)  # sent once: every copy from the host waits for all that the GPU still has to do


@dataclass(frozen=True)
class Images:
    """Images of a split, or of some of its classes, class-major.

    `images` uint8 (N, C, size, size) and `labels` int64 (N,) keep the dataset's numbering of classes;
    `classes` are the class numbers present here, in the order in which they lie, and `class_names` and
    `counts` belong to them one by one. `data_sha256` is the checksum of the whole split.
    """

    dataset: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    size: int
    data_sha256: str

    def __len__(self) -> int:
        return len(self.labels)

    def class_slice(self, label: int) -> slice:
        """Where the images of class `label` lie. Raises UserError if the class is not here."""
        if label not in self.classes:
            raise UserError(
                f"{self.dataset}: class {label} is not among the classes loaded ({_brief(self.classes)})"
            )
        index = self.classes.index(label)
        start = sum(self.counts[:index])
        return slice(start, start + self.counts[index])

    def of_class(self, label: int, indices: Tensor | list[int] | slice | None = None) -> Tensor:
        """Images of class `label`, all or those at `indices` within the class, float32 (n, C, size, size),
        normalised."""
        images = self.images[self.class_slice(label)]
        return self.normalise(images if indices is None else images[indices])

    def normalise(self, pixels: Tensor) -> Tensor:
        """`normalise` with this dataset's constants."""
        return normalise(pixels, self.mean, self.std)

    def denormalise(self, values: Tensor) -> Tensor:
        """`denormalise` with this dataset's constants."""
        return denormalise(values, self.mean, self.std)


def load(path: str | Path, classes: Iterable[int] | None = None, *, verify: bool = True) -> Images:
    """A prepared split, or some of its classes in the order given.

    The tensors stay in the mapped file, except that classes which are no ascending run of neighbours are
    copied together. `verify` reads the whole file once to compare its checksum; its header and length are
    always checked.
    Raises UserError if the file is absent, damaged or of another kind, and for a class it does not have.
    """
    path = Path(path)
    tensors, header = map_tensors(path, "dataset", verify=verify)
    if not {"images", "labels"} <= tensors.keys():
        raise damaged(path, "it has no images or no labels")
    shape, kind = tensors["images"].shape, str(tensors["images"].dtype).removeprefix("torch.")
    check_dataset(path, dataset_header(header, path), shape, kind, tensors["labels"].numpy())
    images, labels, counts = tensors["images"], tensors["labels"], header["counts"]
    if len(counts) < 2:
        raise UserError(f"{path}: has {len(counts)} class; at least 2 are needed")
    chosen = tuple(range(len(counts))) if classes is None else _checked(path, classes, len(counts))
    images, labels = _only(chosen, counts, images), _only(chosen, counts, labels)
    return Images(
        dataset=header["dataset"],
        split=header["split"],
        images=images,
        labels=labels,
        classes=chosen,
        class_names=tuple(header["class_names"][label] for label in chosen),
        counts=tuple(counts[label] for label in chosen),
        mean=tuple(header["mean"]),
        std=tuple(header["std"]),
        channels=header["channels"],
        size=header["size"],
        data_sha256=header["data_sha256"],
    )


def _checked(path: Path, classes: Iterable[int], known: int) -> tuple[int, ...]:
    chosen = tuple(int(label) for label in classes)
    outside = [label for label in chosen if not 0 <= label < known]
    if not chosen or outside or len(set(chosen)) < len(chosen):
        reason = (
            f"class {outside[0]} does not exist (0..{known - 1})"
            if outside
            else "classes must be given, each once"
        )
        raise UserError(f"{path}: {reason}; found {_brief(chosen)}")
    return chosen


def _brief(classes: tuple[int, ...]) -> str:
    text = ", ".join(map(str, classes[:12]))
    return text + (", ..." if len(classes) > 12 else "") or "none"


def _only(chosen: tuple[int, ...], counts: list[int], tensor: Tensor) -> Tensor:
    starts = [sum(counts[:label]) for label in range(len(counts) + 1)]
    if chosen == tuple(range(chosen[0], chosen[-1] + 1)):
        return tensor[starts[chosen[0]] : starts[chosen[-1] + 1]]
    return torch.cat([tensor[starts[label] : starts[label + 1]] for label in chosen])
