"""A user's own images, a folder of class folders or parquet files, described as a dataset."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from condense.config import UserError
from condense.data import classes, folder, parquet
from condense.data.classes import Labels, brief
from condense.data.layouts import Layout, layout_of
from condense.data.origin import WHITE, Source, ground_levels
from condense.data.spec import OWN_STRATEGY, DatasetSpec, held_out_count
from condense.data.survey import Headers, look_at, notes_on, side_of
from condense.specs.catalogue import names_in

HOLDOUT = 0.2
# How programs write that there is nothing
_SAY_MISSING = ("nan", "none", "null", "na", "n/a", "<na>", "nat", "?", "-")


def spec_from_images(
    path: str | Path,
    *,
    test: str | Path | None = None,
    name: str | None = None,
    resize: int | None = None,
    image: str | None = None,
    label: str | None = None,
    ground: str | None = None,
) -> DatasetSpec:
    """The description of the images in `path`, found by looking at every image's header.

    Images of one square size up to LARGEST_SIDE keep it; others are scaled and cropped to the square in SIDES
    nearest to the median of their shorter sides, or to `resize`; the note says so. Without test images a
    stratified 20 % is held out. `image` and `label` name the columns of parquet files, `ground` the colour
    that transparent images are laid on (default: white).
    Raises UserError naming the file, folder or row that cannot be used.
    """
    try:
        shown = ground_levels(ground or WHITE)
    except UserError as error:
        raise UserError(f"--ground: {error}") from None
    paths = _existing(path, test)
    layout = _layout(paths, test)
    locations = [location for location in (layout.train, layout.test) if location is not None]
    if layout.kind == "image_folder":
        if image or label:
            raise UserError(
                f"{paths[0]}: --{'image' if image else 'label'}-column: is for parquet files; here folders "
                "are the classes"
            )
        sets, headers, source, notes = _folders(locations, ground)
    else:
        sets, headers, source, notes = _parquets(locations, image, label, ground)
    size, scaled = side_of(headers, resize, paths[0])
    notes = [*layout.notes, *notes, *notes_on(headers, sets, ground), *scaled]
    counts = sets[0].counts
    train_counts = counts
    if len(sets) == 1:
        _require_two_each(sets[0])
        train_counts = [count - held_out_count(count, HOLDOUT) for count in counts]
        notes.append(f"A stratified {HOLDOUT:.0%} of the images is held out for testing.")
    coloured = headers.transparent and len(set(shown)) > 1
    return DatasetSpec(
        name=name or _name(paths[0]),
        title=name or paths[0].stem,
        channels=3 if coloured else headers.channels,
        size=size,
        classes=len(train_counts),
        train=sum(train_counts),
        test=len(sets[1].places) if len(sets) > 1 else sum(counts) - sum(train_counts),
        smallest_class=min(train_counts),
        source=source,
        strategy=OWN_STRATEGY,
        class_names=sets[0].names,
        resize=None if set(headers.sizes) == {(size, size)} else size,
        holdout=HOLDOUT if len(sets) == 1 else None,
        note=" ".join(notes),
    )


def require_outside(out: Path, images: Path, option: str) -> None:
    """Raises UserError if the folder `out` lies in the folder of `images`: what is written there would be
    read as an image."""
    out, images = Path(out).resolve(), Path(images).expanduser().resolve()
    if images.is_dir() and (out == images or images in out.parents):
        raise UserError(
            f"--out {out}: lies inside the images that {option} names ({images}); name a folder outside of "
            "them"
        )


def _name(path: Path) -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_-") or "images"


def _folders(
    locations: Sequence[Path], ground: str | None
) -> tuple[list[Labels], Headers, Source, list[str]]:
    listings = folder.aligned([folder.list_images(location) for location in locations])
    headers = Headers(Counter())
    for listing in listings:
        look_at(headers, folder.encoded(listing), len(listing.files), listing.root)
    passed_over = [name for listing in listings for name in listing.passed_over]
    notes = (
        [f"Passed over: {len(passed_over)} file(s) that are no images of a class ({brief(passed_over)})."]
        if passed_over
        else []
    )
    sets = [classes.of_names(listing.class_names, listing.labels, str(listing.root)) for listing in listings]
    fingerprint = folder.fingerprint(folder.listing_roles(listings))
    source = Source(
        "image_folder",
        train=str(locations[0]),
        test=_second(locations),
        fingerprint=fingerprint,
        ground=ground or WHITE,
    )
    return sets, headers, source, notes


def _parquets(
    locations: Sequence[Path], image: str | None, label: str | None, ground: str | None
) -> tuple[list[Labels], Headers, Source, list[str]]:
    first = parquet.Shards(parquet.files_of(locations[0]), image, label)
    splits = [
        first,
        *(parquet.Shards(parquet.files_of(location), first.image, first.label) for location in locations[1:]),
    ]
    notes = []
    if (first.image, first.label) != ("image", "label"):
        notes.append(f"Images are those of the column '{first.image}', labels those of '{first.label}'.")
    raw = [shards.labels() for shards in splits]
    unread = list(
        dict.fromkeys(name for shards in splits for table in shards.tables for name in table.unread)
    )
    notes += [f"Not read: the column{'s' * (len(unread) > 1)} {brief(unread)}."] if unread else []
    notes += [sentence] if (sentence := classes.pairing(raw)) else []
    sets = classes.paired(raw)
    train, unused = classes.without_unused(sets[0])
    sets = [train, *(classes.matched(labels, train) for labels in sets[1:])]
    if unused:
        named = len(unused) + len(train.names)
        notes.append(
            f"Left out, as they have no images: {brief(unused)} ({len(unused)} of {named} named classes)."
        )
    if train.numbered and train.names != [str(number) for number in range(len(train.names))]:
        notes.append(
            f"The labels are {brief(train.names)}, not 0, 1, ...: they are numbered anew in this order and "
            "keep their names."
        )
    blank = [name for name in train.names if name.lower() in _SAY_MISSING]
    notes += [f"The class '{name}' may be rows without a label." for name in blank]
    if len(train.names) < 2:
        raise UserError(
            f"{locations[0]}: holds one class only ({brief(train.names)}, column '{first.label}'); at least "
            "2 are needed"
        )
    for labels in sets[1:]:
        absent = [name for name, count in zip(labels.names, labels.counts, strict=True) if not count]
        notes += [f"No test images of: {brief(absent)}."] if absent else []
    headers = Headers(Counter())
    for shards, labels, location in zip(splits, sets, locations, strict=True):
        look_at(headers, shards.encoded(), len(labels.places), location)
    source = Source(
        "parquet",
        train=str(locations[0]),
        test=_second(locations),
        image=first.image,
        label=first.label,
        ground=ground or WHITE,
        fingerprint=parquet.fingerprint(splits),
    )
    return sets, headers, source, notes


def _second(paths: Sequence[Path]) -> str | None:
    return str(paths[1]) if len(paths) > 1 else None


def _existing(path: str | Path, test: str | Path | None) -> list[Path]:
    """The whole paths of the training images and, where they are given, of the test images. Raises UserError
    for one that is absent."""
    paths = [Path(entry).expanduser().resolve() for entry in (path, test) if entry is not None]
    for entry in paths:
        if not entry.exists():
            near = difflib.get_close_matches(entry.name, names_in("datasets"), 1)
            raise UserError(
                f"{entry}: no such file or folder; give a folder of class folders, a parquet file, or a "
                "dataset of `condense list datasets`" + (f"; did you mean '{near[0]}'?" if near else "")
            )
    return paths


def _layout(paths: list[Path], test: str | Path | None) -> Layout:
    """Where the images for training and testing lie. Raises UserError if both are the same."""
    layout = layout_of(paths[0], paths[1] if test is not None else None)
    if layout.test is not None and layout.test == layout.train:
        raise UserError(
            f"--test {test}: names the training images ({layout.train}); leave it away, and a fifth of them "
            "is held out"
        )
    return layout


def _require_two_each(labels: Labels) -> None:
    lacking = [(name, count) for name, count in zip(labels.names, labels.counts, strict=True) if count < 2]
    if lacking:
        (name, count), more = (
            lacking[0],
            f" (and {len(lacking) - 1} more classes of {len(labels.names)})" if len(lacking) > 1 else "",
        )
        raise UserError(
            f"{labels.where}: the class '{name[:80]}' has {count} image{more}: at least 2 are needed to hold "
            "one out; add images, or give a test set"
        )
