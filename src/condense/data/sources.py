"""A dataset's source opened: labels at once, images one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from condense.config import UserError, unknown
from condense.data import classes, fetch, folder, formats, parquet, pixels, tarfolder
from condense.data.classes import Labels
from condense.data.spec import DatasetSpec, data_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Labels int64 (N,) and, in the same order, the images uint8 (C, size, size), decoded as they are asked
    for."""

    labels: np.ndarray
    images: Iterable[np.ndarray]


@dataclass(frozen=True)
class Opened:
    """A source: its splits (`test` is None where it has none), its own class names if it has any, and the
    checksums of what was read."""

    train: Split
    test: Split | None
    class_names: list[str] | None = None
    checksums: dict[str, str] = field(default_factory=dict)


def open_source(spec: DatasetSpec) -> Opened:
    """Finds or downloads, verifies and opens the source of `spec`. Raises UserError for whatever is absent,
    damaged or different."""
    if spec.source.layout not in OPENERS:
        raise unknown("layout of a source", spec.source.layout, OPENERS)
    return OPENERS[spec.source.layout](spec)


def _open_digits(spec: DatasetSpec) -> Opened:
    return Opened(_from_arrays(spec, formats.digits()), None)


def _obtained(spec: DatasetSpec) -> tuple[dict[str, Path], dict[str, str]]:
    """The files of the source, and their checksums."""
    return fetch.obtain(spec), {file.name: file.checksum for file in spec.source.files}


def _opened(
    spec: DatasetSpec, splits: Iterable[formats.Arrays], names: list[str] | None, checksums: dict[str, str]
) -> Opened:
    train, test = (_from_arrays(spec, arrays) for arrays in splits)
    return Opened(train, test, names, checksums)


def _open_idx(spec: DatasetSpec) -> Opened:
    files, checksums = _obtained(spec)
    return _opened(spec, formats.idx(files), None, checksums)


def _open_svhn(spec: DatasetSpec) -> Opened:
    files, checksums = _obtained(spec)
    return _opened(spec, formats.svhn(files), None, checksums)


def _open_cifar(spec: DatasetSpec) -> Opened:
    files, checksums = _obtained(spec)
    return _opened(spec, *formats.cifar(files, spec.source.layout), checksums)


def _from_arrays(spec: DatasetSpec, arrays: formats.Arrays) -> Split:
    images, labels = arrays
    if len(images) != len(labels):
        raise UserError(f"{spec.name}: the source has {len(images)} images but {len(labels)} labels")
    if images.shape[1] != spec.channels:
        raise UserError(
            f"{spec.name}: the images of the source have {images.shape[1]} channels instead of "
            f"{spec.channels}"
        )
    if images.shape[2:] == (spec.size, spec.size):
        return Split(labels, images)
    return Split(labels, (_refitted(spec, image, index) for index, image in enumerate(images)))


def _refitted(spec: DatasetSpec, image: np.ndarray, index: int) -> np.ndarray:
    picture = Image.fromarray(
        image[0] if spec.channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    )
    return pixels.fitted(picture, f"{spec.name}: image {index}", spec.size, spec.resize is not None)


def local_path(spec: DatasetSpec, name: str) -> Path:
    """Where the parquet file or the folder `name` of the source is: as it stands if absolute, else in the
    mirror or the data folder.

    Raises UserError naming every place looked at.
    """
    paths = [data_folder() / Path(name).expanduser()]
    if spec.source.mirror:
        paths.insert(0, Path(spec.source.mirror).expanduser() / name)
    for path in paths:
        if path.exists() or ("*" in path.name and any(path.parent.glob(path.name))):
            return path
    needed: str = spec.source.kind
    if spec.source.is_folder:
        needed = f"folder of {spec.classes} class folders of images"
    elsewhere = "or name another place in its YAML"
    if not Path(name).expanduser().is_absolute():
        elsewhere = f"or set CONDENSE_DATA to the folder that holds {name}"
    raise UserError(
        f"{spec.name}: {' and '.join(map(str, paths))} not found: put the {needed} there, {elsewhere}"
        f"{'. ' if spec.note else ''}{spec.note}"
    )


def _paths(spec: DatasetSpec) -> list[Path]:
    return [local_path(spec, name) for name in (spec.source.train, spec.source.test) if name is not None]


def _check_fingerprint(spec: DatasetSpec, fingerprint: str) -> dict[str, str]:
    if spec.source.fingerprint not in (None, fingerprint):
        raise UserError(
            f"{spec.name}: the images in {spec.source.train} have changed since they were looked at: start "
            "anew"
        )
    return {"fingerprint": f"sha256:{fingerprint}"}


def _described_before(spec: DatasetSpec) -> bool:
    """Whether the images are a user's own, of which the note has told what is special about them."""
    return spec.source.fingerprint is not None


def _decoder(spec: DatasetSpec) -> Callable[[Iterable[tuple[str, bytes]]], Iterator[np.ndarray]]:
    """What decodes the images of the splits, and says once if any of them is transparent or holds what is not
    read."""
    told: set[str] = set()

    def tell(feature: str, where: str, done: str) -> None:
        if feature and feature not in told and not _described_before(spec):
            log.info("%s: %s, such as %s, are %s", spec.name, feature, where, done)
            told.add(feature)

    def decoded(encoded: Iterable[tuple[str, bytes]]) -> Iterator[np.ndarray]:
        for where, data in encoded:
            image, transparent, left_out = pixels.shown(data, where, spec.channels, spec.source.ground)
            tell(
                "transparent images" if transparent else "",
                where,
                f"laid on {spec.source.ground} (`ground:` in the source)",
            )
            tell(left_out, where, "not read")
            yield pixels.fitted(image, where, spec.size, spec.resize is not None)

    return decoded


def _open_parquet(spec: DatasetSpec) -> Opened:
    splits = [
        parquet.Shards(parquet.files_of(path), spec.source.image, spec.source.label) for path in _paths(spec)
    ]
    checksums = _check_fingerprint(spec, parquet.fingerprint(splits))
    labels, names = _as_described(spec, [shards.labels() for shards in splits])
    decoded = _decoder(spec)
    opened = [
        Split(entry.places, decoded(shards.encoded())) for entry, shards in zip(labels, splits, strict=True)
    ]
    return Opened(opened[0], opened[1] if len(opened) > 1 else None, names, checksums)


def _as_described(spec: DatasetSpec, sets: Sequence[Labels]) -> tuple[list[Labels], list[str] | None]:
    """Labels of the training and perhaps the test images in one numbering, and the names of the classes, None
    if they are 0, 1, ...

    Raises UserError if there are other classes than `spec` says.
    """
    sets = classes.paired(sets)
    if spec.class_names:
        return [classes.in_order_of(labels, spec.class_names, spec.name) for labels in sets], spec.class_names
    numbers = [str(number) for number in range(spec.classes)]
    if all(labels.numbered and set(labels.names) <= set(numbers) for labels in sets):
        return [classes.in_order_of(labels, numbers, spec.name) for labels in sets], None
    train = sets[0]
    unused: list[str] = []
    if len(train.names) != spec.classes:
        train, unused = classes.without_unused(train)
    if len(train.names) != spec.classes:
        raise UserError(
            f"{spec.name}: {len(train.names):,} classes found in {train.where} "
            f"({classes.brief(train.names)}), but its description says {spec.classes:,}: either the data or "
            "the description is wrong"
        )
    if unused:
        log.info("%s: classes without images are left out: %s", spec.name, classes.brief(unused))
    if train.numbered:
        log.info(
            "%s: the labels %s are numbered 0..%d in this order",
            spec.name,
            classes.brief(train.names),
            spec.classes - 1,
        )
    return [train, *(classes.matched(labels, train) for labels in sets[1:])], train.names


def _open_folder(spec: DatasetSpec) -> Opened:
    listings = folder.aligned([folder.list_images(path, spec.source.classes) for path in _paths(spec)])
    checksums = _check_fingerprint(spec, folder.fingerprint(folder.listing_roles(listings)))
    passed_over = [f"{listing.root}/{name}" for listing in listings for name in listing.passed_over]
    if passed_over and not _described_before(spec):
        log.info(
            "%s: passed over: %d file(s) that are no images of a class: %s",
            spec.name,
            len(passed_over),
            classes.brief(passed_over),
        )
    return _from_listings(spec, listings, folder.encoded, checksums)


def _from_listings(
    spec: DatasetSpec,
    listings: list[folder.Listing],
    encoded: Callable[[folder.Listing], Iterator[tuple[str, bytes]]],
    checksums: dict,
) -> Opened:
    decoded = _decoder(spec)
    splits = [
        Split(np.array(listing.labels, dtype=np.int64), decoded(encoded(listing))) for listing in listings
    ]
    return Opened(splits[0], splits[1] if len(splits) > 1 else None, listings[0].class_names, checksums)


def _open_class_folders(spec: DatasetSpec) -> Opened:
    files, checksums = _obtained(spec)
    """Train from train/, test from val/ of the archive's one folder."""
    (path,) = files.values()
    listings = folder.aligned(tarfolder.list_images(path))
    return _from_listings(spec, listings, lambda listing: tarfolder.encoded(path, listing), checksums)


def _open_tiny_imagenet(spec: DatasetSpec) -> Opened:
    """Train from train/<wnid>/images, test from val/ through val_annotations.txt; classes in the order of
    their wnids."""
    files, checksums = _obtained(spec)
    (path,) = files.values()
    archive = fetch.Zip(path)
    root = "tiny-imagenet-200"
    wnids = sorted(archive.lines(f"{root}/wnids.txt"))
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    words = dict(line.split("\t", 1) for line in archive.lines(f"{root}/words.txt"))
    train = sorted(
        (label_of[name.split("/")[2]], name)
        for name in archive.names
        if name.startswith(f"{root}/train/") and name.endswith(".JPEG")
    )
    rows = [line.split("\t") for line in archive.lines(f"{root}/val/val_annotations.txt")]
    test = [(label_of[row[1]], f"{root}/val/images/{row[0]}") for row in rows]
    decoded = _decoder(spec)
    splits = [
        Split(
            np.array([label for label, _ in members], dtype=np.int64),
            decoded(((f"{path}: {name}", archive.read(name)) for _, name in members)),
        )
        for members in (train, test)
    ]
    return Opened(
        splits[0], splits[1], [f"{wnid} {words.get(wnid, '')}".strip() for wnid in wnids], checksums
    )


# By the layout that a source names (`data.origin.Source.layout`).
OPENERS: dict[str, Callable[[DatasetSpec], Opened]] = {
    "sklearn_digits": _open_digits,
    "parquet": _open_parquet,
    "image_folder": _open_folder,
    "tiny_imagenet": _open_tiny_imagenet,
    "class_folders": _open_class_folders,
    "idx": _open_idx,
    "svhn": _open_svhn,
    "cifar10": _open_cifar,
    "cifar100": _open_cifar,
}
