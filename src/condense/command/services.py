"""What `condense doctor` says of the workflow's programs, of SLURM and of DVC's remote."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from condense.command.findings import ANSWER, GOOD, NOTE, PROBLEM, Finding, called
from condense.machine.checkout import checkout

SLURM_CONF = Path("/etc/slurm/slurm.conf")


def workflow() -> Iterator[Finding]:
    """The packages of the workflow, and whether what MLflow is to write into is a database."""
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


def slurm() -> Iterator[Finding]:
    """Whether SLURM's commands are here, its controller answers, and which partitions are open."""
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
        done = called("sinfo", "--noheader", "--format=%P %a %l %G")
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


def remote() -> Iterator[Finding]:
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


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
