"""Checkpoints of long jobs: under a name of their own beside the output, bound to the key of what is being made."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.artifacts import read_tensors, write_tensors
from condense.config import UserError

if TYPE_CHECKING:
    import numpy as np

INTERVAL = "CONDENSE_CHECKPOINT_SECONDS"  # environment variable


class _Stop:
    """Whether the user or the scheduler asked the process to stop, and whether there is a job that can stop at a checkpoint."""

    asked = False
    held = False


@contextmanager
def graceful_stop() -> Iterator[None]:
    """Inside, the first Ctrl-C or SIGTERM lets the job reach its next checkpoint; a second one stops it at once.

    Before there is a job with checkpoints (a download, the wait for a GPU) the first one stops it at once.
    """

    def ask(number: int, frame: object) -> None:
        if _Stop.asked or not _Stop.held:
            raise KeyboardInterrupt
        _Stop.asked = True
        os.write(2, b"\ncondense: stopping at the next checkpoint; once more to stop at once\n")  # print is not for signal handlers

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    _Stop.asked = _Stop.held = False
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_if_asked() -> None:
    """To be called where everything is saved: raises KeyboardInterrupt if a stop was asked for."""
    if _Stop.asked:
        raise KeyboardInterrupt


class Checkpoint:
    """Where a job was. A checkpoint of another key is left aside: it belongs to other settings.

    `path` None keeps nothing. Raises UserError if the interval in the environment is not a number.
    """

    def __init__(self, path: Path | None, key: str):
        self.path, self.key = path, key
        text = os.environ.get(INTERVAL, "60")
        try:
            self.seconds = float(text)
        except ValueError:
            raise UserError(f"environment variable {INTERVAL}: a number of seconds is needed, found '{text}'") from None
        self.last = time.monotonic()

    @classmethod
    def beside(cls, output: Path, key: str) -> Checkpoint:
        """The checkpoint of the job that makes `output`; from now on a request to stop waits for its next save."""
        _Stop.held = True
        return cls(Path(f"{output}.resume"), key)

    def part(self, name: str | int) -> Checkpoint:
        """The checkpoint of a part of this job."""
        return Checkpoint(self.path and self.path.with_name(f"{self.path.name}.{name}"), f"{self.key}-{name}")

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Tensors and state of the last `save` under the same key, or None. Raises UserError if the file is damaged."""
        if self.path is None or not self.path.exists():
            return None
        tensors, note = read_tensors(self.path, "checkpoint")
        return (tensors, note["state"]) if note["key"] == self.key else None

    def due(self) -> bool:
        """Whether it is time to save again."""
        return _Stop.asked or (self.path is not None and time.monotonic() - self.last >= self.seconds)

    def write(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint."""
        if self.path is not None:
            write_tensors(self.path, tensors, {"kind": "checkpoint", "key": self.key, "state": dict(state)})
            self.last = time.monotonic()

    def save(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint; raises KeyboardInterrupt after it if a stop was asked for."""
        self.write(tensors, state)
        stop_if_asked()

    def remove(self) -> None:
        """To be called once the output is whole."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
