"""Images that a Python program hands over, as arrays, tensors or a torch data set: described and prepared as
a dataset that has training images alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from condense.config import UserError
from condense.data import classes
from condense.data.classes import Labels, brief
from condense.data.coding import evident_coding, span
from condense.data.origin import Source
from condense.data.prepare import statistics
from condense.data.spec import OWN_STRATEGY, DatasetSpec
from condense.files.artifacts import content_sha256, write_tensors

_CODING = "Give bytes 0..255, or numbers in [0, 1]"
_PIECE = 512  # images looked at together


class Handed:
    """Images uint8 (N, C, size, size) and their labels, class by class, and what they are called.

    `images`: an array or a tensor (N, C, H, W), (N, H, W, C) or (N, H, W), of bytes or of numbers in [0, 1],
    which are rounded to 256 levels; or anything with a length whose items are pairs (image, label), as torch
    data sets are, and then no `labels`. `labels` (N,): whole numbers or texts. `class_names`: what the
    numbers 0, 1, ... stand for, or the order of the texts.
    Raises UserError for whatever leaves open what the images or the labels are.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        class_names: Sequence[str] | None = None,
        name: str = "images",
        strategy: str = OWN_STRATEGY,
    ):
        if labels is None:
            images, labels = _of_pairs(images)
        pixels, given = _pixels(_array(images, "images")), _array(labels, "labels")
        if given.ndim and len(pixels) != len(given):
            raise UserError(f"labels: {len(given):,} labels of {len(pixels):,} images")
        named = _labels(given, class_names)
        order = np.argsort(named.places, kind="stable")
        self.pixels, self.labels, self.names = pixels[order], named.places[order], named.names
        self.counts = named.counts
        checksum = content_sha256({"images": self.pixels, "labels": self.labels})
        self.spec = DatasetSpec(
            name=name,
            title=name,
            channels=self.pixels.shape[1],
            size=self.pixels.shape[2],
            classes=len(self.names),
            train=len(self.pixels),
            test=0,
            smallest_class=min(self.counts),
            source=Source("arrays", fingerprint=checksum),
            strategy=strategy,
            class_names=self.names,
        )

    def prepare(self, path: Path) -> None:
        """Writes the images to `path`, as `prepare` writes the training images of any dataset."""
        mean, std = statistics(_pieces(self.pixels))
        tensors = {"images": self.pixels, "labels": self.labels}
        header = {
            "kind": "dataset",
            "dataset": self.spec.name,
            "title": self.spec.title,
            "class_names": self.names,
            "channels": self.spec.channels,
            "size": self.spec.size,
            "mean": mean,
            "std": std,
            "source": {"arrays": self.spec.source.fingerprint},
            "counts": self.counts,
            "data_sha256": content_sha256(tensors),
            "split": "train",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, header)


def _of_pairs(pairs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a data set, which gives them as pairs."""
    if isinstance(pairs, np.ndarray) or hasattr(pairs, "detach") or not hasattr(pairs, "__getitem__"):
        raise UserError(
            "labels: are missing; give them beside the images, or a data set whose items are pairs (image, "
            "label)"
        )
    try:
        count = len(pairs)
    except TypeError:
        raise UserError(
            f"images: a {type(pairs).__name__} has no length; give a data set whose items have numbers, or "
            "the arrays themselves"
        ) from None
    images, labels = [], []
    for index in range(count):
        item = pairs[index]
        if not isinstance(item, Sequence) or len(item) != 2:
            raise UserError(f"images: item {index} of the data set is no pair (image, label)")
        images.append(_array(item[0], f"image {index}"))
        labels.append(_array(item[1], f"label {index}"))
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise UserError(
            f"images: of several shapes ({brief(shapes)}); bring them to one square size, for instance by "
            "the data set's own transform"
        )
    if not images:
        raise UserError("images: the data set is empty")
    return np.stack(images), np.stack(labels)


def _array(values: Any, what: str) -> np.ndarray:
    """An array of what holds numbers or texts: arrays, tensors on any device, pictures of Pillow, lists."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # numpy has no bfloat16
    try:
        array = np.asarray(values)
    except ValueError:
        raise UserError(
            f"{what}: are no single array; give images of one size and their labels, each as an array, a "
            "tensor or a list, or a data set of pairs (image, label) alone, without labels beside it"
        ) from None
    if array.dtype.kind not in "biufUST":
        raise UserError(f"{what}: numbers or texts are needed, found an array of {array.dtype}")
    return array


def _pixels(values: np.ndarray) -> np.ndarray:
    """Bytes (N, C, size, size). Raises UserError for another shape or another coding."""
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim == 4 and values.shape[1] not in (1, 3) and values.shape[3] in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    if values.ndim != 4 or values.shape[1] not in (1, 3):
        raise UserError(
            "images: (N, C, H, W), (N, H, W, C) or (N, H, W) with 1 or 3 channels are needed, found "
            f"{tuple(values.shape)}"
        )
    if not len(values):
        raise UserError("images: none are given")
    if values.shape[2] != values.shape[3]:
        height, width = values.shape[2:]
        raise UserError(f"images: {height} x {width} pixels: bring them to a square size before")
    return np.ascontiguousarray(_bytes(values))


def _bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise UserError(f"images: numbers are needed, found {values.dtype}")
    if not np.isfinite(values.min() + values.max()):
        raise UserError("images: hold values that are no numbers")
    coding = evident_coding(values, "images", _CODING)
    if coding is None:
        raise UserError(f"images: {span(values)}, which looks normalised or scaled. {_CODING}")
    scale = {"bytes": 1, "unit": 255}[coding]
    if values.dtype.kind in "iu":
        return values.astype(np.uint8)
    return np.concatenate([np.rint(piece * scale).astype(np.uint8) for piece in _pieces(values)])


def _pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[start : start + _PIECE] for start in range(0, len(values), _PIECE))


def _labels(values: np.ndarray, class_names: Sequence[str] | None) -> Labels:
    """The labels (N,) numbered by class. Raises UserError for labels that are no classes, and for a class
    without images."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise UserError(
            f"labels: one a image is needed, (N,), found {tuple(values.shape)}; of probabilities or one-hot "
            "rows give the largest place (`argmax(1)`)"
        )
    if values.dtype.kind == "f":
        if not (values % 1 == 0).all():
            raise UserError("labels: whole numbers or texts are needed, found numbers with fractions")
        values = values.astype(np.int64)
    if values.dtype.kind in "biu":
        labels = classes.of_numbers(values.astype(np.int64), "labels")
    else:
        names, places = np.unique(values.astype(str), return_inverse=True)
        labels = classes.of_names(names.tolist(), places, "labels", ordered=False)
    if class_names is not None:
        if isinstance(class_names, str) or not isinstance(class_names, Iterable):
            raise UserError(f"class_names: a list of names is needed, found {class_names!r}")
        labels = classes.in_order_of(labels, list(class_names), "class_names")
    empty = [name for name, count in zip(labels.names, labels.counts, strict=True) if not count]
    if empty:
        raise UserError(f"class_names: no images of {brief(empty)}; leave classes without images out")
    if len(labels.names) < 2:
        raise UserError(f"labels: one class only ({brief(labels.names)}); at least 2 are needed")
    return labels
