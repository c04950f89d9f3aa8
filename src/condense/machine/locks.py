"""Locks between processes: one head a folder, one maker a file. The kernel frees them when a process dies,
however it dies."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import pwd
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from condense.config import UserError

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system that knows none
_NAMELESS = 2.0  # seconds
_log = logging.getLogger(__name__)


class FolderTaken(Exception):
    """Another head works in the folder, or none knows whether it still does."""


@contextmanager
def only_head(path: Path) -> Iterator[bool]:
    """Inside, this is the only head of a folder whose lock file is `path`; yields whether a head before it
    left without a word.

    Raises FolderTaken if another head holds the lock, and if one on another machine held it and did not end
    as it should: some file systems do not show a lock to other machines, so that it may still be at work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = open_plain(path, os.O_RDWR | os.O_CREAT)
    except UserError as error:
        raise FolderTaken(str(error)) from None
    try:
        free = locked(handle)
        before = _holder(handle)
        if not free:
            raise FolderTaken(
                f"another head works in this folder ({_told(before)}); let it finish, or stop it with Ctrl-C "
                "or `kill` and start again"
            )
        if before and before[1] != platform.node():
            raise FolderTaken(
                f"the last head of this folder ({_told(before)}) did not end as it should, and from "
                f"{platform.node()} nobody can tell whether it is still at work; make sure that it is not, "
                f"delete {path}, run `snakemake --unlock`, and start again"
            )
        _sign(handle)
        try:
            yield bool(before)
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


@contextmanager
def only_maker(output: Path, poll: float = 0.1) -> Iterator[None]:
    """Inside, no other process makes `output`. One that does, such as a job whose head was killed, is asked
    to stop.

    It is sent SIGTERM, leaves a checkpoint, and this process goes on from it. One on another machine, or of
    another user, cannot be asked: this says so and waits. Raises UserError if the lock is no plain file, or
    may not be opened.
    """
    path = output.with_name(f".{output.name}.lock")
    handle, told, began = open_plain(path, os.O_RDWR | os.O_CREAT), False, time.monotonic()
    try:
        while not locked(handle) or not _same(handle, path):
            holder = _holder(handle)
            # Who has just taken the lock is about to write its name; if none comes, its disk is full.
            if not told and _same(handle, path) and (holder or time.monotonic() - began > _NAMELESS):
                _log.info(
                    "%s: is being made by another job (%s); going on from where it stops",
                    output,
                    _told(holder),
                )
                told = True
                with _asking(path):
                    if _holder(handle) == holder:  # else it has just left, and may be at other work
                        _ask(holder, os.fstat(handle).st_uid)
            time.sleep(poll)
            again = open_plain(path, os.O_RDWR | os.O_CREAT)
            os.close(handle)
            handle = again
        _sign(handle)
        yield
    finally:
        if _same(handle, path) and (_holder(handle) or ("",))[0] == str(os.getpid()):
            os.ftruncate(handle, 0)  # nobody asks any more,
            with _asking(path):  # and who was about to ask has done so, while this process still listens
                path.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def _asking(path: Path) -> Iterator[None]:
    """Inside, nobody else asks the holder of the lock `path` to stop, nor does the holder leave.

    Best effort: after a second, or where no file can be made, it is not waited for; at worst a process that
    just left is asked.
    """
    asking, until = path.with_suffix(".ask"), time.monotonic() + 1.0
    try:
        handle = open_plain(asking, os.O_RDWR | os.O_CREAT)
        while not (mine := locked(handle) and _same(handle, asking)) and time.monotonic() < until:
            time.sleep(0.002)
            again = open_plain(asking, os.O_RDWR | os.O_CREAT)
            os.close(handle)
            handle = again
    except (OSError, UserError):
        yield
        return
    try:
        yield
    finally:
        if mine:
            asking.unlink(missing_ok=True)
        os.close(handle)


def open_plain(path: Path, flags: int) -> int:
    """A handle on a lock file, without following a link and without waiting for the other end of a pipe.

    Raises UserError naming the file and its owner if it is no plain file, or may not be opened.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EISDIR):
            raise
        raise _foreign(
            path, os.lstat(path) if os.path.lexists(path) else None, error.strerror or str(error)
        ) from None
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise _foreign(path, about, "no plain file")
    return handle


def _foreign(path: Path, about: os.stat_result | None, why: str) -> UserError:
    if about is None:
        return UserError(f"{path}: cannot be made, so nothing can be locked: {why}")
    if stat.S_ISREG(about.st_mode):
        return UserError(
            f"{path}: this lock of {owner_of(about)} cannot be opened ({why}); if nothing of theirs is at "
            "work, remove it"
        )
    kind = (
        "link"
        if stat.S_ISLNK(about.st_mode)
        else "folder"
        if stat.S_ISDIR(about.st_mode)
        else "pipe or device"
    )
    return UserError(
        f"{path}: a lock is a plain file, but this is a {kind} of {owner_of(about)}; remove it, or let its "
        "owner do so"
    )


def owner_of(about: os.stat_result) -> str:
    """The name of the user that a file belongs to, or the number of one without a name."""
    try:
        return pwd.getpwuid(about.st_uid).pw_name
    except KeyError:
        return f"user {about.st_uid}"


def locked(handle: int) -> bool:
    """Locks an open file if nobody else holds it; whether it did. Where the file system knows no locks,
    nobody holds any."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            return True
        if error.errno not in _HELD:
            raise
        return False
    return True


def _same(handle: int, path: Path) -> bool:
    """Whether `path` still is the file that was opened: who held the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    os.ftruncate(handle, 0)
    try:
        os.pwrite(handle, f"{os.getpid()}\n{platform.node()}\n{datetime.now():%Y-%m-%d %H:%M}\n".encode(), 0)
    except OSError as error:
        # The lock holds without a name; the job will say it
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise


def _holder(handle: int) -> list[str]:
    """Process, machine and time that the last holder wrote; empty if it gave the lock back, or is just about
    to write."""
    words = os.pread(handle, 1000, 0).decode(errors="replace").split("\n")
    return words[:3] if len(words) == 4 and words[0].isdecimal() else []


def _told(holder: list[str]) -> str:
    return f"process {holder[0]} on {holder[1]} since {holder[2]}" if holder else "unknown"


def _ask(holder: list[str], owner: int) -> None:
    """Sends SIGTERM to a holder on this machine; not on the word of another user, who may name any process of
    this one."""
    if (
        not holder
        or holder[1] != platform.node()
        or owner != os.geteuid()
        or int(holder[0]) in (0, 1, os.getpid())
    ):
        return
    try:
        os.kill(int(holder[0]), signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        pass  # gone already, or another user's: then it is waited for
