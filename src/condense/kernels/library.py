"""Kernels written in C++, compiled where they run when first needed, and kept for the next process.

Without a compiler, or with CONDENSE_KERNELS=off, everything is done by torch's own operations: slower, same
mathematics. `state()` says which it is; jobs record it.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from condense.config import UserError
from condense.kernels import keeping
from condense.machine.drafts import scratch
from condense.machine.stopping import stop_if_asked

_SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
_HEADERS = sorted(Path(__file__).parent.glob("*.h"))
# The last two let comparisons become vector instructions; no option here changes the result of an operation.
_FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fopenmp",
    "-shared",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
)
_COMPILERS = ("c++", "g++", "clang++")
LANES = 16  # channels of a map come in multiples of so many where products of matrices are done here
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_log = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none: switched off, no compiler, or not Linux."""
    return _found()[0]


def call(kernel: str, like: torch.Tensor, *arguments: torch.Tensor | int | float) -> None:
    """Calls `kernel` for the type of `like`: tensors by their address, then numbers, then the number of
    threads.

    Raises ValueError for a type that there is no kernel for, or without kernels.
    """
    kernels = library()
    if like.dtype not in TYPES or kernels is None:
        raise ValueError(f"no kernel '{kernel}' for {like.dtype}: {state()}")
    given = [_argument(argument) for argument in arguments]
    getattr(kernels, f"{TYPES[like.dtype]}_{kernel}")(*given, ctypes.c_int(torch.get_num_threads()))


def panel(channels: int) -> int:
    """How many of `channels` columns a product of the kernels takes at once: matrices are given to them in
    panels of so many.

    Raises ValueError without kernels.
    """
    kernels = library()
    if kernels is None:
        raise ValueError(f"no kernel 'panel': {state()}")
    kernels.panel.restype = ctypes.c_int64
    return kernels.panel(ctypes.c_int64(channels))


def _argument(value: torch.Tensor | int | float) -> ctypes._SimpleCData:
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_float(value)


@cache
def state() -> str:
    """What does the work: 'compiled', or 'torch (REASON)'."""
    return _found()[1]


def outlook() -> str:
    """What would do the work in a new process: as `state`, but nothing is compiled to find out."""
    reason, compiler = _hindrance_or_compiler()
    if compiler is None:
        return reason
    name = f"{_name(compiler)}.so"
    kept = [keeping.kept(folder / name) for folder in keeping.private_folders([])]
    if any(content is not None for content, _ in kept):
        return f"{state()} ({compiler})"
    if not kept:
        return "torch (no folder that only this user can write to)"
    damaged = "those that are kept are damaged; " if any(amiss for _, amiss in kept) else ""
    return f"compiled when first needed ({damaged}{compiler})"


def done_by(device: torch.device) -> str:
    """What does on a device what there are kernels for, to record: `state` on a CPU, for which they are;
    elsewhere torch's operations."""
    return state() if device.type == "cpu" else used_on(device)


def used_on(device: torch.device) -> str:
    """What computes on a device, as far as it decides the bytes of a result: `checkpoints` are bound to
    it."""
    if device.type != "cpu":
        return f"torch on {device.type}"
    return "compiled kernels" if library() is not None else "torch's operations"


@cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    reason, compiler = _hindrance_or_compiler()
    if compiler is None:
        return None, reason
    try:
        return _loaded(*_content(compiler)), "compiled"
    except _NoKernels as error:
        _log.warning("kernels: %s; torch's own operations are used, which are slower", error)
        return None, f"torch ({error.brief})"


def _hindrance_or_compiler() -> tuple[str, str | None]:
    """Why nothing is compiled here, as `state` says it, or the compiler."""
    if os.environ.get("CONDENSE_KERNELS") == "off":
        return "torch (kernels switched off)", None
    if platform.system() != "Linux":
        # Two OpenMP libraries in one process do not get on elsewhere
        return f"torch (no kernels on {platform.system()})", None
    compiler = next(
        filter(None, map(shutil.which, [os.environ["CXX"]] if "CXX" in os.environ else _COMPILERS)), None
    )
    return ("torch (no C++ compiler)", None) if compiler is None else ("", compiler)


class _NoKernels(Exception):
    """Why there are none: the whole reason, and a brief one to record."""

    def __init__(self, brief: str, reason: str):
        super().__init__(f"{brief}: {reason}")
        self.brief = brief


def _content(compiler: str) -> tuple[bytes, Path]:
    """The bytes of the library, those that are kept or compiled now and kept, and a folder that is this
    user's alone."""
    name = f"{_name(compiler)}.so"
    reasons: list[str] = []
    folders: list[Path] = []
    for folder in keeping.private_folders(reasons):
        content, amiss = keeping.kept(folder / name)
        if amiss:
            _log.warning("kernels: %s %s; compiling anew", folder / name, amiss)
        folders.append(folder)
        if content is not None:
            break
    if not folders:
        raise _NoKernels("no folder that only this user can write to", "; ".join(reasons))
    if reasons:
        _log.warning("kernels: %s; they are kept in %s instead", reasons[0], folders[0])
    if content is None:
        # The last is for such things, and has room where a home may be full
        content = _compiled(compiler, folders[-1] / name)
        _keep(content, [folder / name for folder in folders])
    return content, folders[-1]


def _keep(content: bytes, paths: list[Path]) -> None:
    for path in paths:
        try:
            keeping.keep(path, content)
        except (UserError, OSError) as error:
            _log.warning("kernels: cannot be kept for the next process: %s", error)
        else:
            return


def _loaded(content: bytes, folder: Path) -> ctypes.CDLL:
    """The library of these very bytes: from memory, where no other file can take its place, or from a folder
    made for it."""
    try:
        handle = os.memfd_create("condense-kernels", os.MFD_CLOEXEC)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            return ctypes.CDLL(f"/proc/self/fd/{handle}")
    except OSError as error:
        reason = error
    try:
        with scratch(folder / "loaded") as temporary:
            (temporary / "kernels.so").write_bytes(content)
            return ctypes.CDLL(str(temporary / "kernels.so"))
    except (UserError, OSError):
        raise _NoKernels("the compiled kernels could not be loaded", str(reason)) from None


def _name(compiler: str) -> str:
    """Differs with the source, the options, the compiler and the processor: home folders are shared by
    different machines."""
    facts = _processor() + "\n".join(("sealed", compiler, str(os.stat(compiler).st_mtime_ns), *_FLAGS))
    return hashlib.sha256(
        b"".join(path.read_bytes() for path in (*_SOURCES, *_HEADERS)) + facts.encode()
    ).hexdigest()[:16]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    kept = {
        line
        for line in lines
        if line.split("\t")[0].split(":")[0].strip() in ("model name", "flags", "Features", "CPU part")
    }
    return "\n".join(sorted(kept))


def _compiled(compiler: str, path: Path) -> bytes:
    """The library, compiled in a folder of its own beside `path`. Raises _NoKernels with what the compiler
    objects to."""
    try:
        with scratch(path) as temporary:
            command = [compiler, *_FLAGS, *map(str, _SOURCES), "-o", str(temporary / "kernels.so")]
            _compile(command, os.environ | {"TMPDIR": str(temporary)})
            return (temporary / "kernels.so").read_bytes()
    except _NoKernels:
        # Who stops a job stops its compiler too; the next process is to compile them, and not to go on
        # without
        stop_if_asked()
        raise
    except (UserError, OSError) as error:
        raise _NoKernels(f"{Path(compiler).name} could not compile the kernels", str(error)) from None


def _compile(command: list[str], environment: Mapping[str, str]) -> None:
    # In a session of its own: Ctrl-C is for this process, which then ends the compiler with all that it
    # started.
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as compiler:
        try:
            told = compiler.communicate()[1].decode(errors="replace").strip().splitlines()
        except BaseException:
            os.killpg(compiler.pid, signal.SIGTERM)
            raise
    if compiler.returncode:
        reason = told[0] if told else f"status {compiler.returncode}"
        raise _NoKernels(f"{Path(command[0]).name} could not compile the kernels", reason)
