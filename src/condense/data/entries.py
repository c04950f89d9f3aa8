"""The entries of a folder that are the user's own: neither hidden nor left behind by a system."""

from __future__ import annotations

import os
from pathlib import Path

from condense.config import UserError

# What systems, cloud drives and storage boxes leave behind unasked.
_LITTER = {
    *(
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "@eadir",
    ),
    *(
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "#recycle",
        "@recycle",
        "#snapshot",
        "@tmp",
        "__pycache__",
    ),
    *(
        "network trash folder",
        "temporary items",
        "@recently-snapshot",
        "@sharebin",
        "zbthumbnail.info",
        "found.000",
        "_gsdata_",
    ),
}


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name is the user's: neither hidden nor left behind by a system."""
    return not name.startswith(".") and name.lower() not in _LITTER


def visible(folder: Path) -> list[tuple[str, bool]]:
    """The visible entries of `folder`, sorted: their names, and whether they are folders.

    Raises UserError if it cannot be read, and for a link that leads nowhere: what it led to would be missing
    without a word.
    """
    try:
        with os.scandir(folder) as entries:
            pairs = sorted(
                ((entry.name, entry) for entry in entries if is_visible(entry.name)), key=lambda pair: pair[0]
            )
            return [(name, _is_folder(entry)) for name, entry in pairs]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None


def _is_folder(entry: os.DirEntry) -> bool:
    if entry.is_dir():
        return True
    if not entry.is_file():
        if entry.is_symlink():
            raise UserError(
                f"{entry.path}: a link to {os.readlink(entry.path)}, which is not there: mend or remove it"
            )
        raise UserError(f"{entry.path}: neither a file nor a folder: remove it")
    return False


def holds_folders(path: Path) -> bool:
    """Whether there is a visible folder in the folder `path`."""
    return any(is_folder for _, is_folder in visible(path))
