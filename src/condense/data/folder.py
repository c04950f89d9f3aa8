"""Images in a folder of class folders: the sorted folder names are the classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from condense.artifacts import canonical, file_sha256
from condense.config import UserError

_LITTER = {"thumbs.db", "desktop.ini"}  # files that systems leave behind unasked


@dataclass(frozen=True)
class Listing:
    """The images of a folder: class names, and for each image its file and its label, sorted by class and name."""

    root: Path
    class_names: list[str]
    files: list[Path]
    labels: list[int]


def list_images(root: Path) -> Listing:
    """The images in the class folders of `root`; hidden files are passed over.

    Raises UserError for a folder that is absent or empty, for fewer than two classes, and for a class folder that is empty or nested.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; a folder with one folder of images a class is needed")
    classes = [entry for entry in _visible(root) if entry.is_dir()]
    if not classes:
        raise UserError(f"{root}: holds no class folders; a folder with one folder of images a class is needed")
    files, labels = [], []
    for label, folder in enumerate(classes):
        images = _visible(folder)
        nested = [entry for entry in images if entry.is_dir()]
        if nested:
            raise UserError(f"{nested[0]}: a folder inside a class folder; give the folder that holds the class folders ({folder}?)")
        if not images:
            raise UserError(f"{folder}: the class '{folder.name}' has no images")
        files += images
        labels += [label] * len(images)
    if len(classes) < 2:
        raise UserError(f"{root}: holds one class only ({classes[0].name}); at least 2 class folders are needed")
    return Listing(root, [folder.name for folder in classes], files, labels)


def _visible(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in _LITTER]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None
    return sorted(entries, key=lambda entry: entry.name)


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
    for path in listing.files:
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
        for path, label in zip(listing.files, listing.labels, strict=True):
            yield f"{split}/{listing.class_names[label]}", path
