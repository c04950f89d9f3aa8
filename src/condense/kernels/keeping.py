"""Where compiled kernels are kept for the next process.

What lies there is executed. So it is read only from a folder to which no other user can write, nor to any
folder above it; it is opened once, what was opened is checked, and that is what is loaded (see `library`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from condense.machine.drafts import whole
from condense.machine.locks import owner_of

# Stands behind the library, before its checksum; loaders do not look at what stands there
_MARK = b"condense kernels "
_CACHED = "kernels"
_LARGEST = 64 << 20  # bytes


def private_folders(reasons: list[str]) -> Iterator[Path]:
    """The folders for compiled kernels, best first; why others are not used is added to `reasons`."""
    # What counts is where links lead to
    for candidate in dict.fromkeys(Path(os.path.realpath(candidate)) for candidate in _candidates()):
        try:
            fault = _unsafe(_lowest(candidate), whole_path=False)
            if not fault:
                for folder in reversed([candidate, *candidate.parents]):
                    with contextlib.suppress(FileExistsError):
                        folder.mkdir(mode=0o700)
                fault = _unsafe(candidate, whole_path=True)
            if not fault and not os.access(candidate, os.R_OK | os.X_OK):
                fault = f"{candidate} cannot be read"
        except OSError as error:
            fault = f"{candidate} cannot be made: {error.strerror}"
        if fault:
            reasons.append(fault)
            continue
        yield candidate
        if candidate.name != _CACHED:
            return  # one folder for what is passing is enough


def _candidates() -> Iterator[Path]:
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    home = Path(os.path.expanduser("~"))  # without a home it stays as it is
    if named.is_absolute() or home.is_dir():
        yield (named if named.is_absolute() else home / ".cache") / "condense" / _CACHED
    for folder in (tempfile.gettempdir(), "/tmp"):
        yield Path(folder) / f"condense-kernels-{os.geteuid()}"


def _lowest(path: Path) -> Path:
    """The lowest folder of a path that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _unsafe(path: Path, whole_path: bool) -> str:
    """Why another user could put something into the folder `path`; '' if none can. `whole_path`: nothing
    will be made below it."""
    # In a container files of the system may appear as those of nobody; whoever owns the root owns all.
    trusted = {0, os.geteuid(), os.stat("/").st_uid}
    for folder in (path, *path.parents):
        about = os.lstat(folder)
        if not stat.S_ISDIR(about.st_mode):
            return f"{folder} is no folder"
        if about.st_uid not in trusted:
            return f"{folder} belongs to {owner_of(about)}"
        # There nobody moves what is another's
        sticky = about.st_mode & stat.S_ISVTX and not (whole_path and folder == path)
        if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            return f"other users may write to {folder}: `chmod go-w` mends that"
    return ""


def kept(path: Path) -> tuple[bytes | None, str]:
    """The library in a file, opened once, without its checksum; or None and what is amiss with the file, ''
    if there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    try:
        fault = _fault(os.fstat(handle))
        if fault:
            return None, fault
        with open(handle, "rb", closefd=False) as file:
            data = file.read(_LARGEST + 1)
    finally:
        os.close(handle)
    end = _seal(b"")
    content, seal = data[: -len(end)], data[-len(end) :]
    return (content, "") if seal == _seal(content) else (None, "is damaged (its checksum differs)")


def _fault(about: os.stat_result) -> str:
    """Why a file cannot be the kept library; '' if nothing speaks against it."""
    if not stat.S_ISREG(about.st_mode):
        return "is no plain file"
    if about.st_uid not in (0, os.geteuid()):
        return f"belongs to {owner_of(about)}"
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "may be written by other users"
    return "" if 0 < about.st_size <= _LARGEST else f"is damaged (it has {about.st_size} bytes)"


def keep(path: Path, content: bytes) -> None:
    """Writes a library with its checksum behind it. Raises UserError if it cannot be written."""
    if path.is_symlink() or not path.is_file():
        path.unlink(missing_ok=True)  # a link or a pipe in a folder that is this user's alone
    with whole(path, mode=0o600) as draft:
        draft.write_bytes(content + _seal(content))


def _seal(content: bytes) -> bytes:
    return _MARK + hashlib.sha256(content).hexdigest().encode()
