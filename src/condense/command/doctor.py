"""What `condense doctor` says of the machine: every probe has a time limit, changes nothing, and needs no
program of the workflow."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from condense.command import services
from condense.command.findings import GOOD, NOTE, PROBLEM, Finding, Probe, called
from condense.data.spec import data_folder
from condense.machine import gpus, runtime
from condense.machine.checkout import checkout

LIMIT = 8.0  # seconds for all probes, which run side by side
LITTLE_DISK, LITTLE_MEMORY = 10 << 30, 4 << 30  # bytes, below which it is mentioned
NO_DISK = 1 << 30
OUTLOOK = """
import json, torch
from condense.kernels import library, precision
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "usable": torch.cuda.is_available(),
    "bfloat16": precision.processor_has_bfloat16(), "kernels": library.outlook()}))
"""  # in a process of its own: a damaged library ends that process, not this one


def examine(limit: float = LIMIT) -> list[Finding]:
    """What all probes found, in their order; one that fails or takes longer than `limit` seconds is a finding
    itself."""
    results: list[list[Finding]] = [[] for _ in PROBES]
    threads = []
    for result, (subject, probe) in zip(results, PROBES.items(), strict=True):
        thread = threading.Thread(target=_run, args=(subject, probe, result), daemon=True)
        thread.start()
        threads.append(thread)
    clock = threading.Event()
    threading.Timer(limit, clock.set).start() if limit else clock.set()
    findings = []
    for subject, thread, result in zip(PROBES, threads, results, strict=True):
        while thread.is_alive() and not clock.is_set():
            thread.join(0.05)
        findings += list(result)
        if thread.is_alive():
            findings.append(
                Finding(
                    PROBLEM,
                    subject,
                    f"did not answer within {limit:g} s; see whether its programs or file systems hang",
                )
            )
    return findings


def _run(subject: str, probe: Probe, findings: list[Finding]) -> None:
    try:
        for finding in probe():
            findings.append(finding)
    except Exception as error:  # whatever the machine is like, the other lines are of use
        findings.append(Finding(PROBLEM, subject, f"cannot be looked at: {type(error).__name__}: {error}"))


def _python() -> Iterator[Finding]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    advice = "" if fits else "; the project is for 3.11 to 3.13: `make env` takes one of them"
    yield Finding(GOOD if fits else NOTE, "python", f"{platform.python_version()} ({sys.executable}){advice}")
    home = checkout()
    yield Finding(
        GOOD,
        "condense",
        f"{runtime.code_version()}, {f'from the checkout {home}' if home else 'installed by itself'}",
    )


def _torch() -> Iterator[Finding]:
    """torch, GPUs, kernels, bfloat16: what a fresh process that loads torch says."""
    signs = gpus.signs()
    try:
        done = called(sys.executable, "-c", OUTLOOK, patience=LIMIT - 1)
    except subprocess.TimeoutExpired:
        yield Finding(
            NOTE,
            "torch",
            f"takes more than {LIMIT - 1:.0f} s to load: a busy machine, or a slow disk; try again",
        )
        why = gpus.why_none()
        yield Finding(
            PROBLEM if signs and why else GOOD,
            "gpu",
            f"{why}; {gpus.way_out()}" if signs and why else why or gpus.state(),
        )
        return
    try:
        facts = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        yield Finding(
            PROBLEM, "torch", f"cannot be loaded: {reason}; delete .venv and make it anew with `make env`"
        )
        return
    cuda = facts["cuda"]
    yield Finding(GOOD, "torch", facts["torch"] + (f", for CUDA {cuda}" if cuda else ", without CUDA"))
    yield from _gpu(facts["usable"], signs)
    compiled = facts["kernels"].startswith("compiled")
    advice = (
        ""
        if compiled
        else "; slower on CPUs, same mathematics: install a C++ compiler (g++) where none is found"
    )
    yield Finding(GOOD if compiled else NOTE, "kernels", facts["kernels"] + advice)
    yield Finding(
        GOOD,
        "bfloat16",
        "the CPU has units for it" if facts["bfloat16"] else "the CPU has no units for it; float32 is used",
    )


def _gpu(usable: bool, signs: list[str]) -> Iterator[Finding]:
    if usable:
        for gpu in gpus.visible_gpus():
            memory = f", {_size(gpu.free)} of {_size(gpu.memory)} free" if gpu.memory else ""
            yield Finding(GOOD, "gpu", f"{gpu.name}{memory}")
        yield Finding(GOOD, "driver", gpus.state())
    elif signs:
        seen = (
            f"torch cannot use the GPU that seems to be here ({', '.join(signs)}): "
            f"{gpus.why_none() or gpus.state()}"
        )
        yield Finding(PROBLEM, "gpu", f"{seen}. To mend it, {gpus.way_out()}; or give --device cpu")
    else:
        withheld = gpus.withheld()
        text = (
            "SLURM gave this job none"
            if withheld
            else "none is hidden"
            if gpus.why_none() == ""
            else gpus.why_none()
        )
        yield Finding(NOTE if withheld or gpus.hidden() else GOOD, "gpu", f"{text}; jobs run on the CPU")


def _cores() -> Iterator[Finding]:
    here, may = os.cpu_count() or 1, runtime.cores()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    text = f"{may} of {here} may be used" + (f", OMP_NUM_THREADS={threads}" if threads else "")
    bad = bool(threads) and not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", threads)
    yield Finding(
        PROBLEM if bad else GOOD,
        "cores",
        text + (": set it to a number from 1 on, or unset it" if bad else ""),
    )


def _memory() -> Iterator[Finding]:
    lines = (
        Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/meminfo").exists()
        else []
    )
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if len(line.split()) > 1}
    if "MemAvailable" not in sizes:
        yield Finding(NOTE, "memory", "this system does not tell")
        return
    free, most = sizes["MemAvailable"], sizes["MemTotal"]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = Path(name).read_text(encoding="utf-8").strip() if Path(name).exists() else ""
        if limit.isdecimal() and int(limit) < most:
            most, free = int(limit), min(free, int(limit))
    little = free < LITTLE_MEMORY
    advice = "; close other programs, or choose fewer --cores" if little else ""
    yield Finding(NOTE if little else GOOD, "memory", f"{_size(free)} of {_size(most)} free{advice}")


def _disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    if not os.access(here, os.W_OK):
        yield Finding(PROBLEM, "disk", f"{here} cannot be written; work in a folder of your own")
    mark = PROBLEM if free < NO_DISK else NOTE if free < LITTLE_DISK else GOOD
    yield Finding(
        mark,
        "disk",
        f"{_size(free)} free in {here}" + ("" if mark == GOOD else "; free some space, results need it"),
    )


def _data() -> Iterator[Finding]:
    folder = data_folder()
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        yield Finding(PROBLEM, "data", f"{folder} is no folder that can be read; set CONDENSE_DATA to one")
    elif folder.is_dir():
        names = sorted(entry.name for entry in folder.iterdir())[:8]
        yield Finding(GOOD, "data", f"{folder.absolute()}: {', '.join(names) or 'empty'}")
    elif os.environ.get("CONDENSE_DATA"):
        yield Finding(NOTE, "data", f"CONDENSE_DATA={folder} is not there yet; data sets are fetched into it")
    else:
        yield Finding(
            GOOD,
            "data",
            f"{folder.absolute()} is made when a data set is fetched; CONDENSE_DATA names another folder",
        )


def _terminal() -> Iterator[Finding]:
    encoding = str(getattr(sys.stdout, "encoding", None) or "ascii")
    whole = encoding.lower().replace("-", "").startswith("utf")
    advice = "" if whole else ": other signs are written as codes; LC_ALL=C.UTF-8 shows them"
    yield Finding(GOOD if whole else NOTE, "terminal", encoding + advice)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


PROBES: dict[str, Probe] = {
    "python": _python,
    "torch": _torch,
    "cores": _cores,
    "memory": _memory,
    "disk": _disk,
    "data": _data,
    "workflow": services.workflow,
    "remote": services.remote,
    "slurm": services.slurm,
    "terminal": _terminal,
}
