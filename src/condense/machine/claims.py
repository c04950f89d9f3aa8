"""Which job uses a device: a lock for each, which the jobs of a machine take in turn."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from condense.config import UserError
from condense.machine import locks


@contextmanager
def claim(names: Sequence[str], folder: Path | None = None, poll: float = 0.5) -> Iterator[int]:
    """The index in `names` of the first device that is free, held until the block ends.

    One lock file a device, named after its identity and not its number, which differs between jobs. The
    kernel frees the lock when the process dies, however it dies. Raises UserError naming a folder or a file
    that is not one of ours.
    """
    folder = folder or Path(tempfile.gettempdir()) / "condense-devices"
    _shared_folder(folder)
    told = False
    while True:
        for index, name in enumerate(names):
            handle = _lock_file(folder / f"{name.replace('/', '_')}.lock")
            try:
                if not locks.locked(handle):
                    continue
                yield index
            finally:
                os.close(handle)
            return
        if not told:
            print(f"every device is taken ({', '.join(names)}); waiting for one", file=sys.stderr, flush=True)
            told = True
        time.sleep(poll)


def _shared_folder(folder: Path) -> None:
    """Makes the folder of the locks that the users of a machine share. Raises UserError if another user made
    one to their own liking."""
    if not os.path.lexists(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    about = os.lstat(folder)
    fault = (
        "it is no folder"
        if not stat.S_ISDIR(about.st_mode)
        else ""
        if about.st_mode & stat.S_ISVTX
        else "it is not sticky"
    )
    if fault and (about.st_uid not in (0, os.geteuid()) or not stat.S_ISDIR(about.st_mode)):
        raise UserError(
            f"{folder}: the locks of this machine's devices lie there, but {fault} and belongs to "
            f"{locks.owner_of(about)}, who could change them; let its owner or root remove it, or use "
            "--device cpu"
        )


def _lock_file(path: Path) -> int:
    """A handle on a lock file, which reading suffices to lock: it may be another user's, and then may not be
    opened to create it."""
    try:
        return locks.open_plain(path, os.O_RDONLY)
    except FileNotFoundError:
        return locks.open_plain(path, os.O_RDONLY | os.O_CREAT)
