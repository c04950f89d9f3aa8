"""Ingestion beside work that goes on: a process of its own, which the head of a workflow or `condense run`
starts and ends.

It lowers its priority, reads finished files alone, and ends with a last pass, asked to or not: also when its
head was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.tracking.ingestion import Ingestion, Summary

_LOOK_EVERY = 5.0  # seconds; what has stayed the same between two looks is brought in
_LOOKS_SHARE = 20  # a look may take this part of the time between two of them
_TRY_AGAIN = 60.0  # seconds, after a store could not be used
_STARTED = "following"
_FIRST_WORD, _LAST_PASS = 20.0, 60.0  # seconds to wait for


def follow(ingestion: Ingestion, head: int, sampled: bool = False) -> Summary:
    """Brings in what is finished, again and again, until the process `head` ends or this one is asked to
    (SIGTERM), and then once more.

    With `sampled`, MLflow's system metrics are taken meanwhile and logged with the runs that were made on
    this machine.
    Returns what became of all files. Raises UserError if the last pass fails.
    """
    os.nice(10)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: asked.append(number))
    print(f"{_STARTED} {ingestion.results} for {ingestion.store}", flush=True)
    samples = Samples() if sampled else None
    ingestion.timed = samples.between if samples else None
    child, total, told, pause = os.getppid() == head, Summary(), "", _LOOK_EVERY
    while not asked and _alive(head, child):
        began = time.monotonic()
        try:
            _add(total, ingestion.bring(settled=True))
            pause = max(_LOOK_EVERY, _LOOKS_SHARE * (time.monotonic() - began))
        except UserError as error:
            pause = _TRY_AGAIN
            if str(error) != told:
                print(told := str(error), flush=True)
        _wait(min(pause, _TRY_AGAIN), lambda: bool(asked) or not _alive(head, child), samples)
    _add(total, ingestion.bring())
    return total


def _alive(head: int, child: bool) -> bool:
    if child:  # a process that was killed and not waited for still has its number
        return os.getppid() == head
    try:
        os.kill(head, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _wait(seconds: float, over: Callable[[], bool], samples: Samples | None) -> None:
    until = time.monotonic() + seconds
    while not over() and time.monotonic() < until:
        time.sleep(0.5)
        if samples:
            samples.take()


def _add(total: Summary, more: Summary) -> None:
    if more.added or more.replaced:
        print(more.text(), flush=True)
    total.added += more.added
    total.replaced += more.replaced
    total.unchanged += more.unchanged
    total.digests += more.digests


class Samples:
    """What MLflow's own monitors see of this machine every two seconds, for runs that were made on it."""

    def __init__(self, every: float = 2.0):
        self.every, self.last = every, 0.0
        self.rows: list[tuple[str, float, int]] = []
        self.monitors = _monitors()

    def take(self) -> None:
        """Takes a sample of every monitor, if the last one is old enough."""
        if time.monotonic() - self.last < self.every:
            return
        self.last, now = time.monotonic(), round(1000 * time.time())
        for monitor in self.monitors:
            monitor.collect_metrics()
            self.rows += [
                (f"system/{name}", value, now) for name, value in monitor.aggregate_metrics().items()
            ]
            monitor.clear_metrics()

    def between(self, start: int, end: int) -> list[tuple[str, float, int]]:
        """The samples (metric, value, time) of a span of time, in milliseconds since 1970."""
        return [row for row in self.rows if start <= row[2] <= end]


def _monitors() -> list[Any]:
    """MLflow's monitors of processor and memory, disk, network, and of the GPU where there is one; none
    without psutil."""
    try:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    except ImportError as error:
        print(f"no system metrics over time ({error}); what the runs say of themselves is logged", flush=True)
        return []
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        monitors.append(GPUMonitor())
    except Exception as error:  # without a GPU its library raises errors of its own
        print(f"no metrics of a GPU: {error}", flush=True)
    return monitors


class Follower:
    """The process that follows `results` for its head, this process. It writes to `log`."""

    def __init__(self, store: str, results: Path, log: Path, scale: str | None = None):
        self.log = Path(log)
        self.process: subprocess.Popen[bytes] | None = None
        scales = ["--scale", scale] if scale else []
        self.command = [
            sys.executable,
            "-m",
            "condense.command.cli",
            "track",
            "--follow",
            str(os.getpid()),
            "--store",
            store,
        ]
        self.command += ["--results", str(results), *scales]

    def start(self) -> None:
        """Starts the process; what an earlier one wrote to the log is replaced."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        package = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(self.log, "w", encoding="utf-8") as log:
            # In a session of its own: Ctrl-C is for the head, which then says when this is to end.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
            )

    def stop(self) -> str:
        """Asks for the last pass and waits for it; returns what went wrong in one sentence, or ''."""
        if self.process is None:
            return ""
        until = time.monotonic() + _FIRST_WORD
        while (
            self.process.poll() is None and not self._said().startswith(_STARTED) and time.monotonic() < until
        ):
            time.sleep(0.1)  # a signal before it listens would end it at once
        self.process.terminate()
        try:
            status = self.process.wait(_LAST_PASS)
        except subprocess.TimeoutExpired:
            return (
                f"the last runs are still on their way into the store (process {self.process.pid}, "
                f"{self.log})"
            )
        self.process = None
        if status == 0:
            return ""
        told = [
            line.removeprefix("condense: ")
            for line in self._said().splitlines()
            if line.startswith("condense: ")
        ]
        return (
            told[-1]
            if told
            else f"the process that follows the runs ended with status {status}; see {self.log}"
        )

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def following(store: str | None, results: Path) -> Iterator[None]:
    """Inside, the runs of a folder of `condense run` go into the store, if there is one. Raises UserError if,
    at the end, they did not."""
    if store is None:
        yield
        return
    follower = Follower(store, results, results / "mlflow.log")
    follower.start()
    try:
        yield
    except BaseException:
        follower.stop()
        raise
    if fault := follower.stop():
        raise UserError(f"everything is made, but is not all in MLflow: {fault}")
