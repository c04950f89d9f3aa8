"""Kernels written in C++, compiled where they run when first needed, and kept for the next process.

Without a compiler, or with CONDENSE_KERNELS=off, everything is done by torch's own operations: slower, same mathematics.
`state()` says which it is; jobs record it.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

_SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
_HEADERS = sorted(Path(__file__).parent.glob("*.h"))
# The last two let comparisons become vector instructions; no option here changes the result of an operation.
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_COMPILERS = ("c++", "g++", "clang++")
LANES = 16  # channels of a map come in multiples of so many where products of matrices are done here
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_log = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none: switched off, no compiler, or not Linux."""
    return _found()[0]


def call(what: str, like: torch.Tensor, *arguments: torch.Tensor | int | float) -> None:
    """Calls the kernel `what` for the type of `like`: tensors by their address, then numbers, then the number of threads.

    Raises ValueError for a type that there is no kernel for, or without kernels.
    """
    if like.dtype not in TYPES or library() is None:
        raise ValueError(f"no kernel '{what}' for {like.dtype}: {state()}")
    given = [_argument(argument) for argument in arguments]
    getattr(library(), f"{TYPES[like.dtype]}_{what}")(*given, ctypes.c_int(torch.get_num_threads()))


def panel(channels: int) -> int:
    """How many of `channels` columns a product of the kernels takes at once: matrices are given to them in panels of so many."""
    library().panel.restype = ctypes.c_int64
    return library().panel(ctypes.c_int64(channels))


def _argument(value: torch.Tensor | int | float) -> ctypes._SimpleCData:
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_float(value)


@cache
def state() -> str:
    """What does the work: 'compiled', or 'torch (REASON)'."""
    return _found()[1]


@cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("CONDENSE_KERNELS") == "off":
        return None, "torch (kernels switched off)"
    if platform.system() != "Linux":
        return None, f"torch (no kernels on {platform.system()})"  # two OpenMP libraries in one process do not get on elsewhere
    compiler = next(filter(None, map(shutil.which, [os.environ["CXX"]] if "CXX" in os.environ else _COMPILERS)), None)
    if compiler is None:
        return None, "torch (no C++ compiler)"
    path = _folder() / f"{_name(compiler)}.so"
    if not path.exists():
        fault = _compiled(compiler, path)
        if fault:
            _log.warning("kernels: %s could not compile them; torch's own operations are used, which are slower: %s", compiler, fault)
            return None, f"torch ({Path(compiler).name} could not compile the kernels)"
    return ctypes.CDLL(str(path)), "compiled"


def _folder() -> Path:
    """A folder that only this user writes to: what lies there is executed."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "condense" / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owned = folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
    except OSError:
        owned = False
    return folder if owned and os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="condense-kernels-"))


def _name(compiler: str) -> str:
    """Differs with the source, the options, the compiler and the processor: home folders are shared by different machines."""
    facts = _processor() + "\n".join((compiler, str(os.stat(compiler).st_mtime_ns), *_FLAGS))
    return hashlib.sha256(b"".join(path.read_bytes() for path in (*_SOURCES, *_HEADERS)) + facts.encode()).hexdigest()[:16]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    kept = {line for line in lines if line.split("\t")[0].split(":")[0].strip() in ("model name", "flags", "Features", "CPU part")}
    return "\n".join(sorted(kept))


def _compiled(compiler: str, path: Path) -> str:
    """Compiles to `path`, whole or not at all; what the compiler objects to, or ''."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    done = subprocess.run([compiler, *_FLAGS, *map(str, _SOURCES), "-o", str(draft)], capture_output=True, text=True, check=False)
    if done.returncode:
        draft.unlink(missing_ok=True)
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
    os.replace(draft, path)
    return ""
