"""Images in class folders inside a gzipped tar archive, read one by one without unpacking it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from condense.config import UserError
from condense.data import fetch
from condense.data.entries import is_visible
from condense.data.folder import Listing

SPLITS = ("train", "val")


def list_images(path: Path) -> list[Listing]:
    """The images of `FOLDER/train/CLASS/` and of `FOLDER/val/CLASS/` in an archive, each in the order of the
    archive.

    The sorted names of the class folders are the classes. Files beside train/ and val/ and hidden ones are
    passed over.
    Raises UserError if the archive is damaged or has no images of a split, and for a member that is a link or
    lies elsewhere.
    """
    members: dict[str, list[str]] = {split: [] for split in SPLITS}
    for member, _ in fetch.tar_walk(path, lambda name: False):
        parts = PurePosixPath(member.name).parts
        if member.isdir() or len(parts) <= 2 or not all(map(is_visible, parts)):
            continue
        if not member.isfile():
            raise UserError(f"{path}: refused, since its member '{member.name}' is no plain file")
        if len(parts) != 4 or parts[1] not in SPLITS:
            raise UserError(
                f"{path}: its member '{member.name}' does not lie in FOLDER/train/CLASS or FOLDER/val/CLASS"
            )
        members[parts[1]].append(member.name)
    return [_listing(path, split, names) for split, names in members.items()]


def _listing(path: Path, split: str, names: list[str]) -> Listing:
    if not names:
        raise UserError(f"{path}: has no images in FOLDER/{split}/CLASS")
    folders = [PurePosixPath(name).parts[2] for name in names]
    classes = sorted(set(folders))
    label_of = {name: label for label, name in enumerate(classes)}
    return Listing(path / split, classes, names, [label_of[name] for name in folders])


def encoded(path: Path, listing: Listing) -> Iterator[tuple[str, bytes]]:
    """The place of each image of `listing`, for messages, and its bytes. Raises UserError if the archive is
    damaged."""
    wanted = set(listing.files)
    for member, content in fetch.tar_walk(path, wanted.__contains__):
        if content is not None:
            yield f"{path}: {member.name}", content
