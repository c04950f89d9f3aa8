"""Images in a folder of class folders: the sorted folder names are the classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from condense.artifacts import canonical, file_sha256
from condense.config import UserError

_LITTER = {"thumbs.db", "desktop.ini"}  # files that systems leave behind unasked


@dataclass(frozen=True)
class Listing:
    """The images of a folder: class names, and for each image its label and its path within `root`."""

    root: Path
    class_names: list[str]
    files: list[str]
    labels: list[int]


def list_images(root: Path, only: Iterable[str] = ()) -> Listing:
    """The images in the class folders of `root`, or in those whose names are in `only`, sorted by class and name.

    Hidden files are passed over. Raises UserError for a folder that is absent or empty, for fewer than two classes, for a class
    folder that is empty or nested, and naming one of `only` that is absent.
    """
    root, only = Path(root), set(only)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; a folder with one folder of images a class is needed")
    classes = [name for name, is_folder in _visible(root) if is_folder and (not only or name in only)]
    if only - set(classes):
        raise UserError(f"{root}: has no folder for the class '{min(only - set(classes))}', which the description asks for")
    if not classes:
        raise UserError(f"{root}: holds no class folders; a folder with one folder of images a class is needed")
    files, labels = [], []
    for label, name in enumerate(classes):
        images = _visible(root / name)
        nested = [image for image, is_folder in images if is_folder]
        if nested:
            place = root / name
            raise UserError(f"{place / nested[0]}: a folder inside a class folder; give the folder that holds the class folders ({place}?)")
        if not images:
            raise UserError(f"{root / name}: the class '{name}' has no images")
        files += [f"{name}/{image}" for image, _ in images]  # as text: a million paths would fill a memory
        labels += [label] * len(images)
    if len(classes) < 2:
        raise UserError(f"{root}: holds one class only ({classes[0]}); at least 2 class folders are needed")
    return Listing(root, classes, files, labels)


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is the user's: neither hidden nor left behind by a system."""
    return not name.startswith(".") and name.lower() not in _LITTER


def _visible(folder: Path) -> list[tuple[str, bool]]:
    """The visible entries of `folder`, sorted: their names, and whether they are folders."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir()) for entry in entries if is_visible(entry.name))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None


def require_same_classes(listings: list[Listing]) -> None:
    """Raises UserError naming a class that only one of the folders has."""
    first = listings[0]
    for other in listings[1:]:
        lone = sorted(set(first.class_names) ^ set(other.class_names))
        if lone:
            holder, lacker = (first, other) if lone[0] in first.class_names else (other, first)
            raise UserError(f"{lacker.root}: has no folder for the class '{lone[0]}' of {holder.root}: both need the same classes")


def encoded(listing: Listing) -> Iterator[tuple[str, bytes]]:
    """Each image's place, for messages, and its bytes. Raises UserError naming a file that cannot be read."""
    for name in listing.files:
        path = listing.root / name
        try:
            yield str(path), path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over the bytes of files, in this order, each with its role (such as its split and class); where they lie does not count.

    Raises UserError naming a file that cannot be read.
    """
    total = hashlib.sha256()
    for role, path in files:
        try:
            total.update(canonical([role, file_sha256(path)]).encode())
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return total.hexdigest()


def listing_roles(listings: list[Listing]) -> Iterator[tuple[str, Path]]:
    """The files of a training folder and perhaps a test folder with the roles that `fingerprint` wants."""
    for split, listing in zip(("train", "test"), listings, strict=False):
        for name, label in zip(listing.files, listing.labels, strict=True):
            yield f"{split}/{listing.class_names[label]}", listing.root / name
