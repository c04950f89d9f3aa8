"""The machine a job runs on: its device, its threads, its allocator, and what is recorded of them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from condense.config import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3) in glibc
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
_MOST_THREADS = 1024  # torch takes any number and crashes beyond what the system gives


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory instead of returning it; True if it did.

    The activations of every step are large, and fetching fresh pages from the kernel for each of them halves the speed
    on CPUs. Set CONDENSE_RETURN_MEMORY=1 to leave the allocator as it is. Elsewhere than on glibc nothing happens.
    """
    if os.environ.get("CONDENSE_RETURN_MEMORY") == "1" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


@contextmanager
def device(wanted: str = "auto") -> Iterator[Any]:
    """The `torch.device` for a job: the CPU, or a GPU that no other job on this machine holds until this one ends.

    `wanted`: 'auto' (a GPU where there is one), 'cpu', 'cuda' (any GPU) or 'cuda:1'. Waits if every GPU is taken.
    Raises UserError if a GPU is asked for and there is none.
    """
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        yield torch.device("cpu")
        return
    if not (wanted in ("auto", "cuda") or (wanted.startswith("cuda:") and wanted[5:].isdecimal() and wanted.isascii())):
        raise UserError(f"--device: 'auto', 'cpu', 'cuda' or 'cuda:N' is needed, found '{wanted}'")
    if not torch.cuda.is_available():
        raise UserError(f"--device {wanted}: this machine shows no GPU to torch; use --device cpu")
    count = torch.cuda.device_count()
    numbers = [int(wanted[5:])] if ":" in wanted else list(range(count))
    if numbers[-1] >= count:
        raise UserError(f"--device {wanted}: there are {count} GPUs, numbered from 0")
    names = [str(torch.cuda.get_device_properties(number).uuid) for number in numbers]
    with claim(names) as place:
        torch.cuda.set_device(numbers[place])
        yield torch.device("cuda", numbers[place])


@contextmanager
def claim(names: Sequence[str], folder: Path | None = None, poll: float = 0.5) -> Iterator[int]:
    """The place in `names` of the first device that is free, held until the block ends.

    One lock file a device, named after its identity and not its number, which differs between jobs. The kernel frees
    the lock when the process dies, however it dies.
    """
    folder = folder or Path(tempfile.gettempdir()) / "condense-devices"
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)  # the users of a machine share its devices
    told = False
    while True:
        for place, name in enumerate(names):
            handle = _lock_file(folder / f"{name.replace('/', '_')}.lock")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                continue
            try:
                yield place
            finally:
                os.close(handle)
            return
        if not told:
            print(f"every device is taken ({', '.join(names)}); waiting for one", file=sys.stderr, flush=True)
            told = True
        time.sleep(poll)


def _lock_file(path: Path) -> int:
    """A handle on a lock file, which reading suffices to lock: it may be another user's, and then may not be opened to create it."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def set_threads(threads: int | None) -> int:
    """Limits torch to `threads` (None: all cores) and returns their number. Raises UserError if it is not positive."""
    import torch

    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise UserError(f"--threads: a number from 1 to {_MOST_THREADS} is needed, found {threads}")
    torch.set_num_threads(threads or _cores())
    return torch.get_num_threads()


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def code_version() -> str:
    """The version of this code: that of git where it runs from a checkout, with '+' for uncommitted changes, else the package's."""
    folder = Path(__file__).resolve().parents[2]
    if (folder / ".git").exists() and shutil.which("git"):
        git = ["git", "-C", str(folder)]
        found = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "params", "workflow", "Snakefile"], check=False)
        if found.returncode == 0:
            return found.stdout.strip() + ("+" if changed.returncode else "")
    return metadata.version("condense")


class Clock:
    """What a job cost: `facts` gives the run part of an artifact's provenance."""

    def __init__(self, place: Any, threads: int):
        self.began, self.place, self.threads = time.monotonic(), place, threads
        if place.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(place)

    def facts(self, shared_by: int = 1) -> dict[str, Any]:
        """Seconds since the start, date, device, threads, peak memory (of the GPU if there is one), versions.

        Where one job makes several artifacts, each gets an equal part of the seconds and says by how many they were shared.
        """
        import torch

        on_gpu = self.place.type == "cuda"
        name = torch.cuda.get_device_name(self.place) if on_gpu else cpu_name()
        peak = torch.cuda.max_memory_allocated(self.place) if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        return {
            "seconds": round((time.monotonic() - self.began) / shared_by, 3),
            **({"shared_by": shared_by} if shared_by > 1 else {}),
            "date": datetime.now(UTC).date().isoformat(),
            "device": name,
            "threads": self.threads,
            "peak_memory_bytes": int(peak),
            "code_version": code_version(),
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": metadata.version("numpy")},
        }


@cache
def cpu_name() -> str:
    """What the system calls this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU: {names[0] if names else platform.processor() or platform.machine()}"
