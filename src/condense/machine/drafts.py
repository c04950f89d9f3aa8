"""Files that are whole or absent: each is written as a draft beside its place, and put there in one step.

The process that writes a draft holds a lock of the kernel on it, which goes with the process. So whoever
writes there next knows a draft that nobody will finish any more, and removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from condense.config import UserError

_DRAFT = re.compile(r"\.(?P<output>.+)\.[0-9a-f]{32}\.part")
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_DAY = 86400.0  # seconds; where the file system knows no locks, an older draft is taken to be nobody's
_REFUSED = (
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST),
    *(errno.EISDIR, errno.ENAMETOOLONG, errno.EFBIG, errno.ELOOP, errno.ENOENT),
)


@contextmanager
def whole(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yields a draft, an empty file beside `path`; on a clean exit the draft becomes `path`, on an error it
    is removed.

    Drafts of `path` that killed processes left are removed first. `mode` are the permissions, from which the
    umask takes some away.
    Raises UserError if the disk is full, if the folder may not be written, or if `path` is something else
    than a plain file.
    """
    path, draft, handle = Path(path), None, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_plain(path)
        remove_dead(path.parent, lambda output: output == path.name)
        draft, handle = _begun(path)
        yield draft
        with open(draft, "rb+") as file:
            os.fchmod(file.fileno(), mode & ~_umask())
            os.fsync(file.fileno())
        _require_plain(path)
        os.replace(draft, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        if draft is not None and draft.parent.is_dir():
            draft.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`; on a clean exit it becomes the folder `path`, on an error it is
    removed.

    Raises UserError as `whole` does, and if `path` exists.
    """
    require_place(path)
    with scratch(path, 0o777) as draft:
        yield draft
        os.rename(draft, path)


@contextmanager
def scratch(path: Path, mode: int = 0o700) -> Iterator[Path]:
    """Yields an empty folder beside `path`, a draft of it that is removed in the end; so are those that
    killed processes left.

    Raises UserError as `whole` does.
    """
    path, draft, handle = Path(path), None, None
    try:
        remove_dead(path.parent, lambda output: output == path.name)
        draft, handle = _begun(path, partial(_new_folder, mode=mode))
        yield draft
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        if draft is not None and draft.exists():
            shutil.rmtree(draft)
        if handle is not None:
            os.close(handle)


def require_place(path: Path) -> None:
    """Raises UserError if no file can be put at `path`: to be called before long work, not after it.

    Removes what killed processes left of drafts of `path` and of its checkpoints, so that they take no space
    from the work.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_plain(path)
        remove_dead(
            path.parent, lambda output: output == path.name or output.startswith(f"{path.name}.resume")
        )
        draft, handle = _begun(path)
        draft.unlink()
        os.close(handle)
    except OSError as error:
        raise _explained(error, path) from None


def require_folders(*paths: str) -> None:
    """Raises UserError for a path at which something lies that is neither a folder nor a link to one."""
    for path in map(Path, paths):
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path}: is a link to {os.readlink(path)}, which is not there; make that folder, or remove "
                "the link"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: a folder is needed here, but this is none; move it away")


def remove_dead(folder: Path, of: Callable[[str], bool] = lambda output: True) -> None:
    """Removes the drafts in `folder` that nobody writes any more; of those files for whose name `of` is
    true."""
    with os.scandir(folder) as entries:
        drafts = [Path(entry.path) for entry in entries if (output := draft_of(entry.name)) and of(output)]
    for draft in drafts:
        # Under its lock: who has just made it would else take the lock between the look and the removal.
        with _taken(draft) as dead:
            if dead and draft.is_dir() and not draft.is_symlink():
                shutil.rmtree(draft, ignore_errors=True)
            elif dead:
                draft.unlink(missing_ok=True)


def remove_dead_below(folder: Path) -> None:
    """As `remove_dead`, in `folder` and all folders below it; links are not followed."""
    for path, _, _ in os.walk(folder):
        remove_dead(Path(path))


def draft_of(name: str) -> str | None:
    """The name of the file of which a file of this name is a draft; None if it is none."""
    match = _DRAFT.fullmatch(name)
    return match["output"] if match else None


def is_dead(draft: Path) -> bool:
    """Whether no process writes a draft any more."""
    with _taken(draft) as dead:
        return dead


@contextmanager
def _taken(draft: Path) -> Iterator[bool]:
    """Whether no process writes a draft any more; if so nobody begins to, as long as this holds its lock."""
    try:
        # A folder is opened for reading only; a lock on a file of NFS takes leave to write.
        handle = os.open(
            draft,
            (os.O_RDONLY if draft.is_dir() else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        )
    except OSError:
        yield False  # gone, another user's, or no draft of ours
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dead = True
        except OSError as error:
            dead = error.errno not in _HELD and time.time() - os.fstat(handle).st_mtime > _DAY
        yield dead
    finally:
        os.close(handle)


def _draft(path: Path) -> Path:
    # In the same folder, since a rename cannot cross file systems; not mkstemp, whose files the team could
    # not read.
    if not path.name:
        raise UserError(f"{path}: is a folder; name a file in it")
    return path.with_name(f".{path.name}.{uuid4().hex}.part")


def _new_file(draft: Path) -> int | None:
    return os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _new_folder(draft: Path, mode: int) -> int | None:
    """The handle of a new folder; None if another process has removed it already."""
    draft.mkdir(mode=mode)
    try:
        return os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _begun(path: Path, make: Callable[[Path], int | None] = _new_file) -> tuple[Path, int]:
    """A new draft, and the handle with its lock."""
    while True:
        draft = _draft(path)
        handle = make(draft)
        if handle is None:
            continue
        if _locked(handle) and draft.exists():  # and was not taken for a dead one before it was locked
            return draft, handle
        os.close(handle)


def _locked(handle: int) -> bool:
    """Locks a draft; False if another process is about to remove it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD  # some file systems know no locks
    return True


def _require_plain(path: Path) -> None:
    """Raises UserError if a device, a pipe, a socket, a folder or a link lies at `path`: a rename would put a
    file in its place."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise UserError(
            f"{path}: is a link to {os.readlink(path)}, which would be lost; name that file itself, or "
            "remove the link"
        )
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: cannot be written: it is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        kinds = {
            stat.S_IFIFO: "pipe",
            stat.S_IFSOCK: "socket",
            stat.S_IFCHR: "device",
            stat.S_IFBLK: "device",
        }
        kind = kinds.get(stat.S_IFMT(mode), "special file")
        raise UserError(
            f"{path}: is a {kind}; results are put in their place in one step, as plain files: name a plain "
            "file"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{path}: the disk is full; nothing was damaged: free some space and run the same command again"
        )
    # Not of a file that was read meanwhile: that has its own name.
    of_output = (
        error.filename is None
        or Path(os.fsdecode(error.filename)).parent == path.parent
        or path.is_relative_to(error.filename)
    )
    if error.errno in _REFUSED and of_output:
        return UserError(f"{path}: cannot be written: {error.strerror}")
    return error
