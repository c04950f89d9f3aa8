"""The machine a job runs on: its device, its threads, its allocator, and what is recorded of them."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.machine import gpus, spent
from condense.machine.checkout import checkout
from condense.machine.claims import claim

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3) in glibc
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
_log = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory instead of returning it; True if it did.

    The activations of every step are large, and fetching fresh pages from the kernel for each of them halves
    the speed on CPUs. Set CONDENSE_RETURN_MEMORY=1 to leave the allocator as it is. Elsewhere than on glibc
    nothing happens.
    """
    if os.environ.get("CONDENSE_RETURN_MEMORY") == "1" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


@contextmanager
def device(wanted: str = "auto") -> Iterator[Any]:
    """The `torch.device` for a job: the CPU, or a GPU that no other job on this machine holds until this one
    ends.

    `wanted`: 'auto' (a GPU where there is one, else the CPU), 'cpu', 'cuda' (any GPU) or 'cuda:1'. Waits if
    every GPU is taken.
    Raises UserError if a GPU is asked for and torch can use none, for 'auto' too where a GPU seems to be
    there: work of hours on a GPU would take weeks on the CPU.
    """
    import torch

    if not gpu_usable(wanted):
        yield torch.device("cpu")
        return
    count = torch.cuda.device_count()
    numbers = [int(wanted[5:])] if ":" in wanted else list(range(count))
    if numbers[-1] >= count:
        raise UserError(f"--device {wanted}: there are {count} GPUs, numbered from 0")
    try:
        known = [torch.cuda.get_device_properties(number) for number in numbers]
    except RuntimeError as error:  # torch may have counted them without the driver
        words = f"{_first_sentence(str(error))}; {gpus.state()}"
        raise UserError(
            f"--device {wanted}: torch cannot use the GPUs of this machine: {words}. To mend it, "
            f"{gpus.way_out()}"
        ) from None
    with claim([str(about.uuid) for about in known]) as index:
        _require_code_for(known[index], wanted)
        torch.cuda.set_device(numbers[index])
        yield torch.device("cuda", numbers[index])


def gpu_usable(wanted: str) -> bool:
    """Whether a job whose '--device' is `wanted` runs on a GPU. Raises UserError if it is meant to and torch
    cannot use one."""
    import torch

    if wanted == "cpu":
        return False
    if not (
        wanted in ("auto", "cuda")
        or (wanted.startswith("cuda:") and wanted[5:].isdecimal() and wanted.isascii())
    ):
        raise UserError(f"--device: 'auto', 'cpu', 'cuda' or 'cuda:N' is needed, found '{wanted}'")
    with warnings.catch_warnings(record=True) as said:  # what hinders torch is part of our own sentence
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return True
    signs = gpus.signs()
    if wanted == "auto" and not signs:
        if gpus.withheld():
            _say_once("this machine has GPUs, but SLURM gave this job none: it runs on the CPU")
        return False
    seen = (
        f"a GPU seems to be here ({', '.join(signs)}), but torch cannot use it"
        if signs
        else "this machine shows no GPU to torch"
    )
    hidden = f"; {gpus.why_none()}" if gpus.hidden() else ""
    words = f"{_hindrance([str(warning.message) for warning in said])}{hidden}; {gpus.state()}"
    raise UserError(f"--device {wanted}: {seen}: {words}. To mend it, {gpus.way_out()}; or use --device cpu")


def _hindrance(warned: Sequence[str]) -> str:
    """What torch says of why it finds no GPU: its first sentence."""
    import torch

    try:
        torch.cuda.init()
        text = warned[0] if warned else "it counts none"
    except (RuntimeError, AssertionError) as error:
        text = str(error)
    return _first_sentence(text)


def _first_sentence(text: str) -> str:
    return f'"{re.split(r"[.] |[.]$", " ".join(text.split()))[0]}"'


def _require_code_for(about: Any, wanted: str) -> None:
    """Raises UserError for a GPU that the installed torch has no code for: it is found, and then its first
    operation fails."""
    import torch

    built = torch.cuda.get_arch_list()
    if not hasattr(about, "major") or not built or gpus.has_code_for((about.major, about.minor), built):
        return
    mismatch = (
        f"the GPU {about.name} has the compute capability {about.major}.{about.minor}, and this torch is "
        f"built for {', '.join(built)}"
    )
    older = (
        "; `make env CUDA=cu126` installs one for GPUs from 5.0 to 9.0"
        if (about.major, about.minor) < (7, 5)
        else ""
    )
    raise UserError(f"--device {wanted}: {mismatch}{older}; or use --device cpu")


def set_threads(threads: int | None) -> int:
    """Limits torch to `threads` and returns their number. Raises UserError if it is not positive.

    More than the cores that this process may use only wait for each other: then it says so and takes the
    cores, as for None, where OMP_NUM_THREADS is heeded too.
    """
    import torch

    if threads is not None and threads < 1:
        raise UserError(f"--threads: a number from 1 on is needed, found {threads}")
    most = cores()
    if threads is not None and threads > most:
        _say_once(
            f"--threads {threads}: this process may use {most} core{'s' * (most > 1)}, so that many threads "
            "are used"
        )
    named = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    wanted = threads or (int(named) if named.isascii() and named.isdecimal() and int(named) else most)
    torch.set_num_threads(min(wanted, most))
    return torch.get_num_threads()


@cache
def _say_once(text: str) -> None:
    _log.warning("%s", text)


def cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer where its control group has less time
    than they would take."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *map(math.ceil, _quotas())]))


def _quotas(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[float]:
    """Processors whose time the control groups of this process may take together, of version 2 or 1, theirs
    and those around them."""
    for line in _text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers
        for folder in [(group := top / path.lstrip("/")), *group.parents]:
            if controllers:
                numbers = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
            else:
                numbers = _text(folder / "cpu.max").split()
            # 'max' and -1 are no limits
            if len(numbers) == 2 and all(number.isdecimal() for number in numbers) and int(numbers[1]):
                yield int(numbers[0]) / int(numbers[1])
            if folder == top:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


@cache
def code_version() -> str:
    """The version of this code: that of git where it runs from a checkout, with '+' for uncommitted changes,
    else the package's."""
    folder = checkout()
    if folder and (folder / ".git").exists() and shutil.which("git"):
        git = ["git", "-C", str(folder)]
        head = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False
        )
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", "src", "params", "workflow", "Snakefile"], check=False
        )
        if head.returncode == 0:
            return head.stdout.strip() + ("+" if changed.returncode else "")
    return metadata.version("condense")


_notes: list[str] = []  # of this process


def note(sentence: str) -> None:
    """Says once, in the log and in every `run.json` of this process, that something is done otherwise than it
    was asked for."""
    if sentence not in _notes:
        _notes.append(sentence)
        _log.warning("%s", sentence)


class Clock:
    """What a job cost: `facts` gives the run part of an artifact's provenance."""

    begun = 0  # in this process

    def __init__(self, device: Any, threads: int):
        self.spent, self.device, self.threads = spent.begin(), device, threads
        self.after, Clock.begun = Clock.begun, Clock.begun + 1
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)

    def facts(self, shared_by: int = 1) -> dict[str, Any]:
        """Seconds of all starts of the job, when the first was (UTC), how many there were if not one, date,
        device, threads, peak memory (of the GPU if there is one), versions.

        The peak on a CPU is that of the process: where it did other jobs before, `after` says how many.
        Where one job makes several artifacts, each gets an equal part of the seconds and says by how many
        they were shared.
        """
        import torch

        on_gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if on_gpu else cpu_name()
        peak = (
            torch.cuda.max_memory_allocated(self.device)
            if on_gpu
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        )
        return {
            "seconds": round(self.spent.seconds / shared_by, 3),
            **({"starts": self.spent.starts} if self.spent.starts > 1 else {}),
            **({"shared_by": shared_by} if shared_by > 1 else {}),
            **({"after": self.after} if self.after and not on_gpu else {}),
            **({"notes": list(_notes)} if _notes else {}),
            "started": self.spent.started,
            "date": datetime.now(UTC).date().isoformat(),
            "device": name,
            "threads": self.threads,
            "peak_memory_bytes": int(peak),
            "code_version": code_version(),
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": metadata.version("numpy"),
            },
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
