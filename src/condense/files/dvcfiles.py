"""Kept groups as DVC knows them: a `.dvc` file that lists what a folder holds, and a store of those files.
Floor 0, without DVC.

`dvc add` would refuse a folder that git tracks, and it writes no list into the `.dvc` file. With the list
there, whoever has the file knows every name and checksum: DVC, also when it opens the repository at a git
address, where it cannot reach the store, and `condense take` in an unpacked archive.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from condense.config import UserError, load_yaml
from condense.machine.drafts import whole

# DVC's cache and the default remote in one (.dvc/config), and part of git: what lies there needs no fetching.
STORE = PurePosixPath("dvcstore")
# That a `.dvc` file may have
_ENTRIES = {"outs", "deps", "meta", "md5", "desc", "wdir", "frozen", "locked", "always_changed"}


@dataclass(frozen=True)
class Listed:
    """A file of a group."""

    md5: str  # hex
    size: int  # bytes


def file_md5(path: Path) -> str:
    """MD5 of a file's bytes, as hex. It names the file for DVC and finds damage; it protects from nobody."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def pointer(group: PurePosixPath) -> PurePosixPath:
    """The `.dvc` file of a group."""
    return PurePosixPath(f"{group}.dvc")


def listing(group: PurePosixPath, root: Path) -> dict[str, Listed]:
    """Name inside the group -> what its `.dvc` file says of the file; empty where there is none.

    Raises UserError if the `.dvc` file is damaged, lists no files, or names one that does not lie in the
    group.
    """
    path = root / pointer(group)
    if not path.is_file():
        return {}
    values = load_yaml(path)
    strange = sorted(str(name) for name in values.keys() - _ENTRIES)
    if strange:
        raise _damaged(path, f"DVC knows no entry '{strange[0][:40]}'")
    outs = values.get("outs") or []
    if not outs:
        return {}
    try:
        (out,) = outs
        if out["path"] != group.name:
            raise ValueError
        files = {
            str(entry["relpath"]): Listed(str(entry["md5"]), int(entry["size"])) for entry in out["files"]
        }
        total = out.get("md5")  # DVC leaves it out where it writes the file anew
    # The last: a size without bounds
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        raise _damaged(path, "it does not list the files of the folder beside it") from None
    for name, entry in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not name:
            raise _damaged(path, f"it names {name[:80]!r}, which does not lie in the folder beside it")
        if not re.fullmatch("[0-9a-f]{32}", entry.md5):
            raise _damaged(path, f"{name}: '{entry.md5[:40]}' is no MD5")
        if entry.size < 0:
            raise _damaged(path, f"{name}: {entry.size} bytes are none that a file could have")
    if total is not None and total != _md5_of(files):
        raise _damaged(path, "its checksum is not that of the files that it lists")
    return files


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: damaged or not one of our files ({why}); take it from git again, as with 'git checkout -- "
        f"{path}'"
    )


def notes(group: PurePosixPath, root: Path) -> dict[str, Any]:
    """What the `.dvc` file of a group says besides its files (`meta`); empty where there is none. Raises
    UserError if it is damaged."""
    path = root / pointer(group)
    meta = load_yaml(path).get("meta") if path.is_file() else None
    if meta is None:
        return {}
    if not isinstance(meta, dict) or not all(isinstance(entry, dict) for entry in meta.values()):
        raise _damaged(path, "its 'meta' holds no notes")
    return meta


def write_pointer(
    group: PurePosixPath, files: Mapping[str, Listed], root: Path, meta: Mapping[str, Any] | None = None
) -> None:
    """Writes the `.dvc` file of a group, and into the store what DVC calls the folder; removes the file if
    there is nothing to say."""
    path = root / pointer(group)
    if not files and not meta:
        path.unlink(missing_ok=True)
        return
    value: dict[str, Any] = {"meta": dict(meta)} if meta else {}
    if files:
        folder = _folder(files)
        name = _md5_of(files)
        _write(root / stored(name), folder)
        listed = [
            {"relpath": name, "md5": files[name].md5, "size": files[name].size} for name in sorted(files)
        ]
        total = sum(entry.size for entry in files.values())
        value["outs"] = [
            {
                "md5": name,
                "size": total,
                "nfiles": len(files),
                "hash": "md5",
                "path": group.name,
                "files": listed,
            }
        ]
    _write(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000).encode())


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    with whole(path) as draft:
        draft.write_bytes(content)


def _folder(files: Mapping[str, Listed]) -> bytes:
    """A folder as DVC writes it; its MD5 is that of the folder."""
    return json.dumps(
        [{"md5": files[name].md5, "relpath": name} for name in sorted(files)], sort_keys=True
    ).encode()


def _md5_of(files: Mapping[str, Listed]) -> str:
    """What DVC calls a folder of these files."""
    return hashlib.md5(_folder(files), usedforsecurity=False).hexdigest() + ".dir"


def stored(md5: str) -> PurePosixPath:
    """Where the store holds what has this MD5."""
    return STORE / "files" / "md5" / md5[:2] / md5[2:]


def stored_of(files: Mapping[str, Listed]) -> set[PurePosixPath]:
    """Everything in the store that belongs to a group of these files."""
    if not files:
        return set()
    return {stored(_md5_of(files)), *(stored(entry.md5) for entry in files.values())}


def put(source: Path, md5: str, root: Path) -> None:
    """Copies a file into the store, unless it is there."""
    target = root / stored(md5)
    if not target.is_file():
        with whole(target) as draft:
            shutil.copyfile(source, draft)


def drop(objects: Iterable[PurePosixPath], root: Path) -> None:
    """Removes from the store what no group needs any more."""
    for path in sorted(objects):
        (root / path).unlink(missing_ok=True)
        folder = root / path.parent
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
