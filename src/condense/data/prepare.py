"""Preparation: a source becomes two files of class-sorted uint8 tensors with statistics, names, counts and
checksums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from condense.config import UserError
from condense.data.classes import alike
from condense.data.fetch import progress
from condense.data.filling import UNKNOWN_NUMBER, UNKNOWN_SHA256, Filling, filling
from condense.data.sources import Opened, Split, open_source
from condense.data.spec import DatasetSpec, held_out_places
from condense.files.artifacts import write_json
from condense.machine.drafts import require_place
from condense.machine.terminal import tell


def prepare(spec: DatasetSpec, out_dir: str | Path) -> None:
    """Writes train.safetensors, test.safetensors and, last, dataset.json into `out_dir`. Equal sources give
    equal bytes.

    Tensors: `images` uint8 (N, C, size, size) and `labels` int64 (N,), class-major, within a class in the
    order of the source. Images go to the disk as they are decoded, so the memory it takes does not depend on
    their number, but for a number for each test image.
    Raises UserError if the source cannot be had or is damaged, or if its classes, counts or sizes differ from
    those of `spec`.
    """
    out_dir = Path(out_dir)
    opened = open_source(spec)
    names = _class_names(spec, opened)
    rows = _rows(spec, opened, len(names))
    shared = {
        "kind": "dataset",
        "dataset": spec.name,
        "title": spec.title,
        "class_names": names,
        "channels": spec.channels,
        "size": spec.size,
        "mean": spec.mean or [UNKNOWN_NUMBER] * spec.channels,
        "std": spec.std or [UNKNOWN_NUMBER] * spec.channels,
        "source": opened.checksums,
    }
    labels = {role: _source(opened, role).labels[places] for role, places in rows.items()}
    splits: dict[str, dict[str, Any]] = {}
    for role, values in labels.items():
        splits[role] = {
            "file": f"{role}.safetensors",
            "images": len(values),
            "counts": np.bincount(values, minlength=len(names)).tolist(),
            "data_sha256": UNKNOWN_SHA256,
        }
    with _no_folder_left(out_dir), ExitStack() as stack:
        require_place(out_dir / "dataset.json")
        files: dict[str, Filling] = {}
        for role, values in labels.items():
            shapes = {
                "images": ("uint8", (len(values), spec.channels, spec.size, spec.size)),
                "labels": ("int64", (len(values),)),
            }
            files[role] = stack.enter_context(
                filling(out_dir / splits[role]["file"], shapes, _header(shared, splits, role))
            )
            files[role].put("labels", 0, values)
        _decode(spec, opened, rows, files)
        _tell_of_shared(spec, files)
        if spec.mean is None:
            shared["mean"], shared["std"] = statistics(files["train"].pieces("images"))
        for role, file in files.items():
            splits[role]["data_sha256"] = file.content_sha256(f"{spec.name}: checksum of {role}")
            file.seal(_header(shared, splits, role), splits[role]["data_sha256"])
    write_json(out_dir / "dataset.json", {**shared, "note": spec.note, "splits": splits})


def _tell_of_shared(spec: DatasetSpec, files: dict[str, Filling]) -> None:
    """Says how many test images are training images, pixel by pixel, unless the description has said so."""
    if set(files) != {"train", "test"}:
        return
    # Those of the test images are held: there are few of them beside the training images
    tested = Counter(_hashes(files["test"]))
    hashes = progress(f"{spec.name}: looking for test images", spec.train, "img", _hashes(files["train"]))
    found = {one for one in hashes if one in tested}
    shared = sum(tested[one] for one in found)
    told = f"{shared} of the {tested.total()} test images are training images, too"
    if shared and told not in spec.note:
        tell(f"{spec.name}: {told}: accuracies will be too high")


def _hashes(file: Filling) -> Iterator[int]:
    return (hash(image.tobytes()) for piece in file.pieces("images") for image in piece)


def _header(shared: dict[str, Any], splits: dict[str, dict[str, Any]], role: str) -> dict[str, Any]:
    return {
        **shared,
        "counts": splits[role]["counts"],
        "data_sha256": splits[role]["data_sha256"],
        "split": role,
    }


@contextmanager
def _no_folder_left(path: Path) -> Iterator[None]:
    """Removes the folder `path` on an error if it was not there before and is empty."""
    there = path.exists()
    try:
        yield
    except BaseException:
        if not there and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        raise


def statistics(images: Iterable[np.ndarray]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (of the population) per channel, in units of the pixel range [0, 1].

    `images` are uint8, one by one (C, H, W) or some at a time (N, C, H, W).
    Counted by pixel value, so exact and independent of order, threads and library.
    Raises UserError if a channel is constant, which nothing can normalise.
    """
    # bincount makes an int64 copy of what it counts: `images` in small pieces keep that small.
    counted = (
        np.stack([np.bincount(channel.reshape(-1), minlength=256) for channel in np.moveaxis(piece, -3, 0)])
        for piece in images
    )
    counts: np.ndarray = reduce(np.add, counted)
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel, histogram in enumerate(counts):  # (channels, 256)
        share = histogram / histogram.sum()
        centre = float(share @ levels)
        spread = float(np.sqrt(share @ (levels - centre) ** 2))
        if spread == 0:
            instead = (
                "give images that differ"
                if len(counts) == 1
                else "convert the images to grey, or fill that channel otherwise"
            )
            raise UserError(
                f"all pixels of channel {channel} of the training images are equal: they cannot be "
                f"normalised; {instead}"
            )
        mean.append(centre)
        std.append(spread)
    return mean, std


def _class_names(spec: DatasetSpec, opened: Opened) -> list[str]:
    names = spec.class_names or opened.class_names or [str(label) for label in range(spec.classes)]
    if len(names) != spec.classes:
        raise _differs(spec, "classes", len(names), spec.classes)
    source_names = opened.class_names or names
    for here, there in zip([*source_names, ""], [*names, ""], strict=False):
        # The source may know 'n01440764' where the description says 'n01440764 tench'.
        if alike(here) not in (alike(there), alike(there.split(" ")[0])):
            raise UserError(f"{spec.name}: the source names a class '{here}' where '{there}' is expected")
    return names


def _differs(spec: DatasetSpec, noun: str, number: int, expected: int, least: bool = False) -> UserError:
    wanted = f"at least {expected:,}" if least else f"{expected:,}"
    return UserError(
        f"{spec.name}: {number:,} {noun} found, but its description says {wanted}: either the data or the "
        "description is wrong"
    )


def _source(opened: Opened, role: str) -> Split:
    """The split of the source from which that of `role` (train or test) is taken."""
    return opened.test if role == "test" and opened.test is not None else opened.train


def _rows(spec: DatasetSpec, opened: Opened, classes: int) -> dict[str, np.ndarray]:
    """The rows of the source that make up each split, class by class; their counts agree with `spec`."""
    if spec.holdout is None:
        if opened.test is None:
            raise UserError(
                f"{spec.name}: its source has no images for testing; give the fraction that is held out "
                "(`holdout`)"
            )
        rows = {"train": _sorted_rows(opened.train), "test": _sorted_rows(opened.test)}
    else:
        held = _held_out(opened.train.labels, spec.holdout)
        rows = {"train": _sorted_rows(opened.train, ~held), "test": _sorted_rows(opened.train, held)}
    for role, places in rows.items():
        _check_labels(spec, role, _source(opened, role).labels[places], classes)
    return rows


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


def _check_labels(spec: DatasetSpec, role: str, labels: np.ndarray, classes: int) -> None:
    if len(labels) and not (0 <= labels.min() and labels.max() < classes):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{spec.name}: the {role} split has the label {wrong}, outside 0..{classes - 1}")
    expected, least = getattr(spec, role), role == "train" and spec.counts == "at_least"
    if len(labels) < expected or (len(labels) > expected and not least):
        raise _differs(spec, f"{role} images", len(labels), expected, least)
    if role == "train":
        smallest = int(np.bincount(labels, minlength=classes).min())
        if smallest < spec.smallest_class or (smallest > spec.smallest_class and not least):
            raise _differs(
                spec, "images in the smallest training class", smallest, spec.smallest_class, least
            )


def _decode(
    spec: DatasetSpec, opened: Opened, rows: dict[str, np.ndarray], files: dict[str, Filling]
) -> None:
    """Decodes the images in the order of the source and puts each into the file and the place where it
    belongs."""
    if opened.test is None:
        _decode_split(spec, opened.train, rows, files, "all")
        return
    for role in rows:
        _decode_split(spec, _source(opened, role), {role: rows[role]}, files, role)


def _decode_split(
    spec: DatasetSpec, split: Split, rows: dict[str, np.ndarray], files: dict[str, Filling], text: str
) -> None:
    roles = list(rows)
    role_of = np.empty(len(split.labels), np.int64)
    row_of = np.empty(len(split.labels), np.int64)
    for number, role in enumerate(roles):
        role_of[rows[role]] = number
        row_of[rows[role]] = np.arange(len(rows[role]))
    steps = progress(f"{spec.name}: decoding {text}", len(split.labels), "img", split.images)
    for number, row, image in zip(role_of.tolist(), row_of.tolist(), steps, strict=True):
        files[roles[number]].put("images", row, image[None])
