"""Whether this machine has GPUs and a driver that the installed torch can use, told without loading torch.

Floor 0: the head of the workflow asks before its first job. What torch itself finds decides in a job
(`runtime.device`).
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import NamedTuple

PATIENCE = 5.0  # seconds for nvidia-smi, which hangs where the driver does
DRIVER, DEVICES, BUS = Path("/proc/driver/nvidia/version"), Path("/dev"), Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"  # the maker's number on the PCI bus
_QUERY = ("--query-gpu=name,uuid,memory.total,memory.free", "--format=csv,noheader,nounits")
# Set in jobs of SLURM that asked for GPUs
_GIVEN = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")
# Which build of torch a driver runs, by the newest CUDA that the driver knows. Builds of before CUDA 12.6 end
# before torch 2.11.
_BUILDS = {(13, 0): "cu130", (12, 8): "cu128", (12, 0): "cu126"}


class Gpu(NamedTuple):
    """A GPU, its memory in bytes; 0 where nobody tells."""

    name: str
    uuid: str = ""
    memory: int = 0
    free: int = 0


def hidden(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves no GPU to this process: empty, -1, or SLURM's word for a job
    without any."""
    value = variables.get("CUDA_VISIBLE_DEVICES")
    return value is not None and value.strip() in ("", "-1", "NoDevFiles")


def signs(variables: Mapping[str, str] = os.environ) -> list[str]:
    """What speaks for a GPU that this process is meant to use, in words; nothing where GPUs are hidden from
    it.

    A job of SLURM that asked for no GPU may run on a machine that has some: they are not for it.
    """
    if hidden(variables):
        return []
    given = [f"{name}={variables[name]}" for name in ("CUDA_VISIBLE_DEVICES", *_GIVEN) if variables.get(name)]
    given = [sign for sign in given if sign != "SLURM_GPUS_ON_NODE=0"]
    if given or "SLURM_JOB_ID" in variables:
        return given
    traces = [str(path) for path in _device_files()[:1]]
    traces += [str(DRIVER)] if DRIVER.exists() else []
    return traces or (["nvidia-smi"] if shutil.which("nvidia-smi") and (_on_bus() or _listed()) else [])


def withheld(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a job of SLURM that asked for no GPU on a machine that has some."""
    return (
        "SLURM_JOB_ID" in variables
        and not signs(variables)
        and not hidden(variables)
        and bool(_device_files())
    )


def visible_gpus(variables: Mapping[str, str] = os.environ) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process, by nvidia-smi, else by their device
    files."""
    gpus = _listed() or [Gpu(str(path)) for path in _device_files()]
    value = variables.get("CUDA_VISIBLE_DEVICES")
    if value is None or not gpus:
        return gpus
    chosen = []
    for word in map(str.strip, value.split(",")):
        if word.isascii() and word.isdecimal() and int(word) < len(gpus):
            chosen.append(gpus[int(word)])
        elif word.startswith("GPU-") and (named := [gpu for gpu in gpus if gpu.uuid.startswith(word)]):
            chosen.append(named[0])
        elif word.startswith("MIG-"):
            chosen.append(Gpu(f"a part of a GPU, {word}", word))
        else:
            break  # as CUDA does: what stands behind a number that is not there is not looked at
    return chosen


def driver_version() -> str:
    """The version of NVIDIA's driver, as 535.161.08; '' if none is loaded."""
    try:
        match = re.search(
            r"Kernel Module.*?\s(\d+\.[\d.]+)", DRIVER.read_text(encoding="utf-8", errors="replace")
        )
    except OSError:
        return ""
    return match[1] if match else ""


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver's library runs, packages for compatibility heeded; None without such a
    library."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed or not version.value else (version.value // 1000, version.value % 1000 // 10)


def torch_cuda() -> tuple[int, int] | None:
    """The CUDA that the installed torch was built for, read without loading it; None if it is built without,
    or not installed."""
    spec = util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"^cuda\b[^=]*= *['\"](\d+)\.(\d+)", text, flags=re.MULTILINE)
    return (int(version[1]), int(version[2])) if version else None


def has_code_for(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Whether a GPU of this compute capability runs what torch is built for, as ['sm_75', 'sm_90a',
    'compute_90'].

    Code for sm_XY runs on GPUs of the same X and this Y or a later one; compute_XY is translated for any
    later one.
    """
    for kind, number, suffix in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(built)):
        major, minor = int(number[:-1]), int(number[-1])
        if (major, minor) == capability or (
            not suffix and capability >= (major, minor) and (kind == "compute" or major == capability[0])
        ):
            return True
    return False


def why_none(variables: Mapping[str, str] = os.environ) -> str:
    """Why torch can use no GPU here, as the end of a sentence that says so; '' if it can, as far as can be
    told without it."""
    if hidden(variables):
        return f"CUDA_VISIBLE_DEVICES='{variables['CUDA_VISIBLE_DEVICES']}' hides every GPU"
    wheel, driver = torch_cuda(), driver_cuda()
    if not _device_files() and not _listed():
        return (
            f"{_driver()} is here, but no GPU is open to this process"
            if DRIVER.exists()
            else "this machine has none"
        )
    if not visible_gpus(variables):
        return f"CUDA_VISIBLE_DEVICES='{variables['CUDA_VISIBLE_DEVICES']}' names none that this machine has"
    if wheel is None:
        return "the installed torch is built without CUDA"
    if driver is None:
        return "the driver's library libcuda.so.1 is not here"
    if driver[0] < wheel[0]:
        return f"{_driver()} runs CUDA up to {_dotted(driver)}, and torch is built for CUDA {_dotted(wheel)}"
    return ""


def way_out(variables: Mapping[str, str] = os.environ) -> str:
    """What to do where torch cannot use the GPU that seems to be here."""
    if hidden(variables):
        return "unset CUDA_VISIBLE_DEVICES"
    if _listed() and not visible_gpus(variables):
        return "set CUDA_VISIBLE_DEVICES to a GPU that this machine has"
    wheel, driver = torch_cuda(), driver_cuda()
    build = next((build for least, build in _BUILDS.items() if driver and driver >= least), None)
    if driver and (wheel is None or driver[0] < wheel[0]):
        if build:
            return f"install a torch for this driver with `make env CUDA={build}`, or update the driver"
        return "update the driver: torch of the version that is needed is not built for it"
    if driver is None:
        return (
            "see that NVIDIA's driver is installed and loaded (nvidia-smi tells), and that a container is "
            "given its GPUs"
        )
    return "see what nvidia-smi says of it"


def state() -> str:
    """Driver and torch in words: their versions, and the CUDA of each."""
    wheel, driver = torch_cuda(), driver_cuda()
    runs = f", which runs CUDA up to {_dotted(driver)}" if driver else ""
    return f"{_driver()}{runs}; torch is built {f'for CUDA {_dotted(wheel)}' if wheel else 'without CUDA'}"


def _driver() -> str:
    version = driver_version()
    return (
        f"the driver {version}"
        if version
        else "no driver is loaded"
        if driver_cuda() is None
        else "the driver"
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _device_files() -> list[Path]:
    try:
        return sorted(path for path in DEVICES.iterdir() if re.fullmatch(r"nvidia\d+", path.name))
    except OSError:
        return []


def _on_bus() -> bool:
    """Whether a graphics card of NVIDIA is in the machine, with a driver or without."""
    try:
        cards = [
            path for path in BUS.iterdir() if (path / "vendor").read_text(encoding="ascii").strip() == _NVIDIA
        ]
        return any((path / "class").read_text(encoding="ascii").startswith("0x03") for path in cards)
    except (OSError, UnicodeDecodeError):
        return False


def _listed() -> list[Gpu]:
    """What nvidia-smi lists; nothing where it is absent, fails, or does not answer in time."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, errors="replace", timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = (
        [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines()]
        if done.returncode == 0
        else []
    )
    return [
        Gpu(row[0], row[1], *(int(word) << 20 if word.isdecimal() else 0 for word in row[2:]))
        for row in rows
        if len(row) == 4
    ]
