"""Preparation: a source becomes two files of class-sorted uint8 tensors with statistics, names, counts and checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from condense.artifacts import content_sha256, write_json, write_tensors
from condense.config import UserError
from condense.data.fetch import progress
from condense.data.sources import Opened, Split, open_source
from condense.data.spec import DatasetSpec, held_out_places

Tensors = dict[str, np.ndarray]


def prepare(spec: DatasetSpec, out_dir: str | Path) -> None:
    """Writes train.safetensors, test.safetensors and, last, dataset.json into `out_dir`. Equal sources give equal bytes.

    Tensors: `images` uint8 (N, C, size, size) and `labels` int64 (N,), class-major, within a class in the order of the source.
    Raises UserError if the source cannot be had or is damaged, or if its classes, counts or sizes differ from those of `spec`.
    """
    out_dir = Path(out_dir)
    opened = open_source(spec)
    names = _class_names(spec, opened)
    parts = _collected(spec, opened, len(names))
    mean, std = (spec.mean, spec.std) if spec.mean is not None else statistics(parts["train"]["images"])
    shared = {
        "kind": "dataset",
        "dataset": spec.name,
        "title": spec.title,
        "class_names": names,
        "channels": spec.channels,
        "size": spec.size,
        "mean": mean,
        "std": std,
        "source": opened.checksums,
    }
    splits: dict[str, Any] = {}
    for split, tensors in parts.items():
        own = {
            "counts": np.bincount(tensors["labels"], minlength=len(names)).tolist(),
            "data_sha256": content_sha256(tensors),
        }
        write_tensors(out_dir / f"{split}.safetensors", tensors, {**shared, **own, "split": split})
        splits[split] = {"file": f"{split}.safetensors", "images": len(tensors["labels"]), **own}
    write_json(out_dir / "dataset.json", {**shared, "note": spec.note, "splits": splits})


def statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (of the population) per channel of uint8 images (N, C, H, W), in units of the pixel range [0, 1].

    Counted by pixel value, so exact and independent of order, threads and library.
    Raises UserError if a channel is constant, which nothing can normalise.
    """
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = sum(np.bincount(chunk.reshape(-1), minlength=256) for chunk in _chunks(images[:, channel]))
        share = counts / counts.sum()
        centre = float(share @ levels)
        spread = float(np.sqrt(share @ (levels - centre) ** 2))
        if spread == 0:
            raise UserError(f"all pixels of channel {channel} of the training images are equal: they cannot be normalised")
        mean.append(centre)
        std.append(spread)
    return mean, std


def _chunks(pixels: np.ndarray, images: int = 4096) -> list[np.ndarray]:
    """`pixels` in pieces, since bincount makes an int64 copy of what it counts."""
    return [pixels[start : start + images] for start in range(0, len(pixels), images)]


def _class_names(spec: DatasetSpec, opened: Opened) -> list[str]:
    names = spec.class_names or opened.class_names or [str(label) for label in range(spec.classes)]
    if len(names) != spec.classes:
        raise _differs(spec, "classes", len(names), spec.classes)
    if opened.class_names not in (None, names):
        here, there = next(pair for pair in zip(opened.class_names + [""], names + [""], strict=False) if pair[0] != pair[1])
        raise UserError(f"{spec.name}: the source names a class '{here}' where '{there}' is expected")
    return names


def _differs(spec: DatasetSpec, what: str, found: int, expected: int) -> UserError:
    return UserError(
        f"{spec.name}: {found:,} {what} found, but its description says {expected:,}: either the data or the description is wrong"
    )


def _collected(spec: DatasetSpec, opened: Opened, classes: int) -> dict[str, Tensors]:
    """Both splits decoded; their counts are compared with `spec` first, since decoding may take long."""
    if spec.holdout is None:
        rows = {"train": _sorted_rows(opened.train), "test": _sorted_rows(opened.test)}
    else:
        held = _held_out(opened.train.labels, spec.holdout)
        rows = {"train": _sorted_rows(opened.train, ~held), "test": _sorted_rows(opened.train, held)}
    for part, split in (("train", opened.train), ("test", opened.test or opened.train)):
        labels = split.labels[rows[part]]
        _check_labels(spec, part, labels, classes)
    if spec.holdout is None:
        return {
            "train": _decoded(spec, opened.train, [rows["train"]], "train")[0],
            "test": _decoded(spec, opened.test, [rows["test"]], "test")[0],
        }
    return dict(zip(rows, _decoded(spec, opened.train, list(rows.values()), "all"), strict=True))


def _held_out(labels: np.ndarray, fraction: float) -> np.ndarray:
    """Which images of the source are held out for testing, bool (N,)."""
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        held[members[held_out_places(label, len(members), fraction)]] = True
    return held


def _sorted_rows(split: Split, chosen: np.ndarray | None = None) -> np.ndarray:
    """The rows of the source, or those `chosen`, in class-major order."""
    rows = np.arange(len(split.labels)) if chosen is None else np.flatnonzero(chosen)
    return rows[np.argsort(split.labels[rows], kind="stable")]


def _check_labels(spec: DatasetSpec, part: str, labels: np.ndarray, classes: int) -> None:
    if len(labels) and not (0 <= labels.min() and labels.max() < classes):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{spec.name}: the {part} split has the label {wrong}, outside 0..{classes - 1}")
    expected = getattr(spec, part)
    if len(labels) != expected:
        raise _differs(spec, f"{part} images", len(labels), expected)
    if part == "train":
        smallest = int(np.bincount(labels, minlength=classes).min())
        if smallest != spec.smallest_class:
            raise _differs(spec, "images in the smallest training class", smallest, spec.smallest_class)


def _decoded(spec: DatasetSpec, split: Split, parts: list[np.ndarray], text: str) -> list[Tensors]:
    """The rows of each part, decoded in the order of the source and put where they belong."""
    images = [np.empty((len(rows), spec.channels, spec.size, spec.size), np.uint8) for rows in parts]
    part_of = np.empty(len(split.labels), np.int64)
    place_of = np.empty(len(split.labels), np.int64)
    for number, rows in enumerate(parts):
        part_of[rows] = number
        place_of[rows] = np.arange(len(rows))
    steps = progress(f"{spec.name}: decoding {text}", len(split.labels), "img", split.images)
    for number, place, image in zip(part_of, place_of, steps, strict=True):
        images[number][place] = image
    return [{"images": pixels, "labels": split.labels[rows]} for pixels, rows in zip(images, parts, strict=True)]
