"""A user's own images, a folder of class folders or a parquet file, described as a dataset."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from condense.config import UserError
from condense.data import folder, parquet, pixels
from condense.data.fetch import progress
from condense.data.spec import DatasetSpec, Source, held_out_count

HOLDOUT = 0.2
SIDES = (32, 64, 96, 128, 224)  # what mixed images are scaled to
_STRATEGY = "color_crop_cutout_flip_scale_rotate"


@dataclass(frozen=True)
class _Found:
    """What one file or folder holds: images a class, and the size (width, height) and channels of each image."""

    counts: list[int]
    class_names: list[str]
    sizes: Counter[tuple[int, int]]
    channels: int


def spec_from_images(
    path: str | Path, *, test: str | Path | None = None, name: str | None = None, resize: int | None = None
) -> DatasetSpec:
    """The description of the images in `path`, found by looking at every image's header.

    Images of one square size keep it; others are scaled and cropped to the square in SIDES nearest to the median of their
    shorter sides, or to `resize`; the note says so. Without `test` a stratified 20 % is held out.
    Raises UserError naming the file, folder or row that cannot be used.
    """
    paths = [Path(entry).resolve() for entry in (path, test) if entry is not None]
    for entry in paths:
        if not entry.exists():
            raise UserError(
                f"{entry}: no such file or folder; give a folder of class folders, a parquet file, or a dataset of `condense list datasets`"
            )
    if len({entry.is_dir() for entry in paths}) > 1:
        raise UserError(f"{paths[0]}, {paths[1]}: give either two folders or two parquet files")
    found, source = _folders(paths) if paths[0].is_dir() else _parquets(paths)
    sizes = found[0].sizes + (found[1].sizes if test is not None else Counter())
    size, note = _side(sizes, resize)
    train_counts = found[0].counts
    if test is None:
        _require_two_each(found[0])
        train_counts = [count - held_out_count(count, HOLDOUT) for count in train_counts]
        note.append(f"A stratified {HOLDOUT:.0%} of the images is held out for testing.")
    return DatasetSpec(
        name=name or _name(paths[0]),
        title=name or paths[0].stem,
        channels=max(part.channels for part in found),
        size=size,
        classes=len(train_counts),
        train=sum(train_counts),
        test=sum(found[-1].counts) if test is not None else sum(found[0].counts) - sum(train_counts),
        smallest_class=min(train_counts),
        source=source,
        strategy=_STRATEGY,
        class_names=found[0].class_names,
        resize=None if set(sizes) == {(size, size)} else size,
        holdout=HOLDOUT if test is None else None,
        note=" ".join(note),
    )


def _name(path: Path) -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_-") or "images"


def _folders(paths: list[Path]) -> tuple[list[_Found], Source]:
    listings = [folder.list_images(path) for path in paths]
    folder.require_same_classes(listings)
    found = []
    for listing in listings:
        counts = Counter(listing.labels)
        sizes, channels = _headers(folder.encoded(listing), len(listing.files), listing.root)
        found.append(_Found([counts[label] for label in range(len(listing.class_names))], listing.class_names, sizes, channels))
    fingerprint = folder.fingerprint(folder.listing_roles(listings))
    return found, Source("image_folder", train=str(paths[0]), test=_second(paths), fingerprint=fingerprint)


def _parquets(paths: list[Path]) -> tuple[list[_Found], Source]:
    first = parquet.Table(paths[0])
    tables = [first, *(parquet.Table(path, first.image, first.label) for path in paths[1:])]
    found = []
    for table in tables:
        labels = table.labels()
        names = first.class_names or [str(label) for label in range(1 + max(labels, default=0))]
        outside = [label for label in set(labels.tolist()) if not 0 <= label < len(names)]
        if outside:
            raise UserError(f"{table.path}: the label {min(outside)} is outside 0..{len(names) - 1}")
        counts = Counter(labels.tolist())
        sizes, channels = _headers(table.encoded(), len(labels), table.path)
        found.append(_Found([counts[label] for label in range(len(names))], names, sizes, channels))
    empty = [name for name, count in zip(found[0].class_names, found[0].counts, strict=True) if count == 0]
    if empty:
        raise UserError(f"{paths[0]}: the class '{empty[0]}' has no images; number the labels 0, 1, ... without gaps")
    if len(found[0].counts) < 2:
        raise UserError(f"{paths[0]}: holds one class only; at least 2 are needed")
    source = Source(
        "parquet", train=str(paths[0]), test=_second(paths), image=first.image, label=first.label, fingerprint=parquet.fingerprint(tables)
    )
    return found, source


def _second(paths: list[Path]) -> str | None:
    return str(paths[1]) if len(paths) > 1 else None


def _headers(encoded: Iterable[tuple[str, bytes]], total: int, root: Path) -> tuple[Counter[tuple[int, int]], int]:
    sizes: Counter[tuple[int, int]] = Counter()
    channels = 1
    for where, data in progress(f"looking at {root}", total, "img", encoded):
        width, height, depth = pixels.header(data, where)
        sizes[width, height] += 1
        channels = max(channels, depth)
    return sizes, channels


def _side(sizes: Counter[tuple[int, int]], resize: int | None) -> tuple[int, list[str]]:
    """The side of the square images, and notes on what is done to the images for it."""
    if resize is not None and resize < 1:
        raise UserError(f"resize: a positive number of pixels is needed, found {resize}")
    if len(sizes) == 1:
        ((width, height),) = sizes
        if width == height == (resize or width):
            return width, []
    side = resize or min(SIDES, key=lambda known: abs(known - median(min(pair) for pair in sizes.elements())))
    (width, height), most = sizes.most_common(1)[0]
    note = f"Scaled to {side}x{side} from {len(sizes)} size(s), mostly {width}x{height} ({most} of {sizes.total()})."
    return side, [note] + (["The centre square is kept."] if any(w != h for w, h in sizes) else [])


def _require_two_each(found: _Found) -> None:
    for name, count in zip(found.class_names, found.counts, strict=True):
        if count < 2:
            raise UserError(f"the class '{name}' has {count} image: at least 2 are needed to hold one out; add images, or give a test set")
