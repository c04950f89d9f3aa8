"""What the tests of faults look at: the results, what was left behind, and the processes of `condense` in a
project."""

import os
import re
import resource
import signal
import time
from pathlib import Path

from condense.files.artifacts import file_sha256, read_json
from hang_helpers import HUNG

TABLE = "results/tables/cpdm/table1.csv"
SEED = int(os.environ.get("CONDENSE_FAULT_SEED", "0"))
OFTEN = {"CONDENSE_CHECKPOINT_SECONDS": "0.1"}


def rounds(by_default):
    return range(int(os.environ.get("CONDENSE_FAULT_ROUNDS", by_default)))


def results_of(root):
    """What has to be the same, by path: sets and teachers to the byte, metrics without their run, the
    table."""
    results = root / "results"
    found = {
        path: file_sha256(path)
        for kind in ("data", "teachers", "synthetic")
        for path in results.glob(f"{kind}/**/*.safetensors")
    }
    found |= {path: path.read_text(encoding="utf-8") for path in results.glob("synthetic/**/history.jsonl")}
    for path in results.glob("metrics/**/*.json"):
        found[path] = {name: value for name, value in read_json(path).items() if name != "run"}
    found[root / TABLE] = file_sha256(root / TABLE)
    return {str(path.relative_to(root)): value for path, value in found.items()}


def leftovers(root):
    names = [
        path.relative_to(root)
        for path in (root / "results").rglob("*")
        if re.search(r"\.part$|\.resume|\.lock$", path.name)
    ]
    pieces = [
        path for kind in ("shards", "parts", "groups") for path in (root / "results" / kind).rglob("*.*")
    ]
    return names + pieces + list((root / ".snakemake" / "locks").glob("*"))


def jobs(root, verb="", *words):
    """The processes of `condense` that work in a project, those with the given words among their
    arguments."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            said = (
                (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if place.name.isdecimal()
                else []
            )
            verbs = said[4 if said[2:3] == ["--log"] else 2 :][:1]
            named = (
                len(said) > 2
                and said[1].endswith("/condense")
                and verbs[:1]
                and verbs[0].startswith(verb)
                and set(words) <= set(said)
            )
            if named and (place / "cwd").resolve() == root.resolve():
                found.append(int(place.name))
        except OSError:
            continue  # it has just ended
    return found


def at_work(root):
    """All processes whose working directory is that of a project."""
    return [
        int(place.parent.name)
        for place in Path("/proc").glob("[0-9]*/cwd")
        if os.path.realpath(place) == str(root.resolve())
    ]


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def limit(pid, kind, value):
    try:
        resource.prlimit(pid, kind, (value, value))
    except (ProcessLookupError, ValueError):
        pass


def out_of_memory(pid):
    """No page more than the job has now."""
    try:
        limit(
            pid,
            resource.RLIMIT_AS,
            int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize(),
        )
    except OSError:
        pass


def over_its_time(pid):
    """As a scheduler at the time limit, or when a node is drained: a request, and soon after it the end."""
    send(pid, signal.SIGTERM)
    time.sleep(0.3)
    send(pid, signal.SIGKILL)


def ended(running):
    """What the head of a project said, once it has ended."""
    running.wait(timeout=HUNG)
    return (running.root / "said.txt").read_text(encoding="utf-8")


def logs(root):
    return "\n".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in sorted((root / "results" / "logs").rglob("*.log"))
    )


def wait_for(root, condition, running, what):
    deadline = time.monotonic() + HUNG
    while not condition():
        assert running.poll() is None and time.monotonic() < deadline, (
            f"no {what}: {(root / 'said.txt').read_text()}"
        )
        time.sleep(0.02)
