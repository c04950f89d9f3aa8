"""What `condense doctor` says of the machine: every probe has a time limit, changes nothing, and needs no
program of the workflow."""

from __future__ import annotations

import configparser
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from condense.data.spec import data_folder
from condense.machine import gpus, runtime
from condense.machine.checkout import checkout

LIMIT = 8.0  # seconds for all probes, which run side by side
ANSWER = 5.0  # seconds for one program or address
LITTLE_DISK, LITTLE_MEMORY = 10 << 30, 4 << 30  # bytes, below which it is mentioned
NO_DISK = 1 << 30
SLURM_CONF = Path("/etc/slurm/slurm.conf")
GOOD, NOTE, PROBLEM = "OK", "note", "PROBLEM"
_OUTLOOK = """
import json, torch
from condense import precision
from condense.kernels import library
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "usable": torch.cuda.is_available(),
    "bfloat16": precision.processor_has_bfloat16(), "kernels": library.outlook()}))
"""  # in a process of its own: a damaged library ends that process, not this one


class Finding(NamedTuple):
    """One line: how it is, what it is about, what is here, and what to do where something is amiss."""

    mark: str
    subject: str
    text: str

    def line(self) -> str:
        return f"{self.mark:8}{self.subject:10}{self.text}"


Probe = Callable[[], Iterator[Finding]]


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
        done = _called(sys.executable, "-c", _OUTLOOK, patience=LIMIT - 1)
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


def _workflow() -> Iterator[Finding]:
    for name in ("snakemake", "snakemake-executor-plugin-slurm", "mlflow", "dvc"):
        version = _version(name)
        text = version or "not installed: only the workflow needs it, and `make env` installs it"
        yield Finding(
            GOOD if version else NOTE,
            "slurm" if name.endswith("slurm") else name,
            (f"plugin {text}" if "-" in name else text),
        )
    store = Path("mlflow.db")
    if store.exists() and (
        not store.is_file() or (store.stat().st_size and store.read_bytes()[:15] != b"SQLite format 3")
    ):
        yield Finding(
            PROBLEM,
            "mlflow",
            f"{store.absolute()} is no database of MLflow; move it away, the next run makes it anew",
        )


def _slurm() -> Iterator[Finding]:
    commands = ("sbatch", "squeue", "scancel", "sinfo")
    missing = [name for name in commands if shutil.which(name) is None]
    if len(missing) == len(commands):
        yield Finding(GOOD, "slurm", "not on this machine")
        return
    if missing:
        yield Finding(
            PROBLEM,
            "slurm",
            f"{', '.join(missing)} not found in PATH; load the module of SLURM, or work on a login node",
        )
        return
    try:
        done = _called("sinfo", "--noheader", "--format=%P %a %l %G")
    except subprocess.TimeoutExpired:
        yield Finding(
            PROBLEM,
            "slurm",
            f"the controller does not answer within {ANSWER:.0f} s; `scontrol ping` tells when it does",
        )
        return
    if done.returncode and not (
        os.environ.get("SLURM_CONF") or os.environ.get("SLURM_JOB_ID") or SLURM_CONF.exists()
    ):
        yield Finding(
            NOTE,
            "slurm",
            "its programs are here, but no cluster is set up for them (SLURM_CONF names another slurm.conf)",
        )
        return
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        yield Finding(
            PROBLEM, "slurm", f"the controller does not answer: {reason}; `scontrol ping` tells when it does"
        )
        return
    rows = [row for row in map(str.split, done.stdout.splitlines()) if len(row) == 4]
    kinds = dict.fromkeys(
        f"{name} ({state}, at most {most}{'' if gres == '(null)' else f', {gres}'})"
        for name, state, most, gres in rows
    )
    mark, text = (
        (GOOD, f"partitions {', '.join(kinds)}")
        if kinds
        else (PROBLEM, "no partition is open to you; ask who runs the cluster")
    )
    yield Finding(mark, "slurm", text)


def _remote() -> Iterator[Finding]:
    """Whether the default remote of DVC is there: a folder, or a host that takes a connection."""
    home = (checkout() or Path.cwd()) / ".dvc"
    config = configparser.ConfigParser(interpolation=None)
    config.read([home / "config", home / "config.local"], encoding="utf-8")
    name = config.get("core", "remote", fallback="")
    section = next(
        (
            title
            for title in config.sections()
            if name and re.fullmatch(rf"'?remote \"{re.escape(name)}\"'?", title)
        ),
        None,
    )
    if section is None:
        yield Finding(NOTE, "remote", "DVC has no default remote here")
        return
    url = config.get(section, "endpointurl", fallback="") or config.get(section, "url", fallback="")
    parts = urllib.parse.urlsplit(url)
    if not parts.scheme or parts.scheme == "file":
        folder = home / (parts.path if parts.scheme else url)
        there = folder.is_dir()
        absent = "" if there else " is not there; `dvc remote list` names it"
        yield Finding(GOOD if there else PROBLEM, "remote", f"{name}: {url}{absent}")
        return
    port = parts.port or {"http": 80, "https": 443, "ssh": 22}.get(parts.scheme)
    if port is None or not parts.hostname:
        yield Finding(
            NOTE, "remote", f"{name}: {parts.scheme} is not tried here; `dvc status --cloud` asks it"
        )
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=ANSWER).close()
    except OSError as error:
        yield Finding(
            PROBLEM, "remote", f"{name}: {parts.hostname} does not answer ({error}); see docs/remotes.md"
        )
        return
    yield Finding(GOOD, "remote", f"{name}: {parts.hostname} answers")


def _called(*command: str, patience: float = ANSWER) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=patience, stdin=subprocess.DEVNULL
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


PROBES: dict[str, Probe] = {
    "python": _python,
    "torch": _torch,
    "cores": _cores,
    "memory": _memory,
    "disk": _disk,
    "data": _data,
    "workflow": _workflow,
    "remote": _remote,
    "slurm": _slurm,
    "terminal": _terminal,
}
