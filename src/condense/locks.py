"""Locks between processes: one head a folder, one maker a file. The kernel frees them when a process dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system that knows none
_log = logging.getLogger(__name__)


class FolderTaken(Exception):
    """Another head works in the folder, or none knows whether it still does."""


@contextmanager
def only_head(path: Path) -> Iterator[bool]:
    """Inside, this is the only head of a folder whose lock file is `path`; yields whether a head before it left without a word.

    Raises FolderTaken if another head holds the lock, and if one on another machine held it and did not end as it should:
    some file systems do not show a lock to other machines, so that it may still be at work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        free = _locked(handle)
        before = _holder(handle)
        if not free:
            raise FolderTaken(
                f"another head works in this folder ({_told(before)}); let it finish, or stop it with Ctrl-C or `kill` and start again"
            )
        if before and before[1] != platform.node():
            raise FolderTaken(
                f"the last head of this folder ({_told(before)}) did not end as it should, and from {platform.node()} nobody can tell"
                f" whether it is still at work; make sure that it is not, delete {path}, run `snakemake --unlock`, and start again"
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
    """Inside, no other process makes `output`. One that does, such as a job whose head was killed, is asked to stop.

    It is sent SIGTERM, leaves a checkpoint, and this process goes on from it. On another machine it cannot be asked: this waits.
    """
    path = output.with_name(f".{output.name}.lock")
    handle, asked = _open_lock(path), False
    try:
        while not _locked(handle) or not _same(handle, path):
            holder = _holder(handle)
            if holder and not asked and _same(handle, path):
                _log.info("%s: is being made by another job (%s); going on from where it stops", output, _told(holder))
                asked = True
                if holder[1] == platform.node():
                    _ask(int(holder[0]))
            time.sleep(poll)
            os.close(handle)
            handle = _open_lock(path)
        _sign(handle)
        yield
    finally:
        if _same(handle, path) and (_holder(handle) or ("",))[0] == str(os.getpid()):
            path.unlink(missing_ok=True)
        os.close(handle)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _locked(handle: int) -> bool:
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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # the lock holds without a name; the job will say it
            raise


def _holder(handle: int) -> list[str]:
    """Process, machine and time that the last holder wrote; empty if it gave the lock back, or is just about to write."""
    words = os.pread(handle, 1000, 0).decode(errors="replace").split("\n")
    return words[:3] if len(words) == 4 and words[0].isdecimal() else []


def _told(holder: list[str]) -> str:
    return f"process {holder[0]} on {holder[1]} since {holder[2]}" if holder else "unknown"


def _ask(process: int) -> None:
    try:
        os.kill(process, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        pass  # gone already, or another user's: then it is waited for
