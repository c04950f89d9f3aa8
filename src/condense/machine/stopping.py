"""Stopping a job where everything is saved, when the user or the scheduler asks for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class _Stop:
    """Whether the user or the scheduler asked the process to stop, and whether there is a job that can stop
    at a checkpoint."""

    asked = False
    held = False


@contextmanager
def graceful_stop() -> Iterator[None]:
    """Inside, the first Ctrl-C or SIGTERM lets the job reach its next checkpoint; a second one stops it at
    once.

    Before there is a job with checkpoints (a download, the wait for a GPU) the first one stops it at once.
    """

    def ask(number: int, frame: object) -> None:
        if _Stop.asked or not _Stop.held:
            raise KeyboardInterrupt
        _Stop.asked = True
        # Print is not for signal handlers
        os.write(2, b"\ncondense: stopping at the next checkpoint; once more to stop at once\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    _Stop.asked = _Stop.held = False
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked() -> bool:
    """Whether a stop was asked for."""
    return _Stop.asked


def stop_if_asked() -> None:
    """To be called where everything is saved: raises KeyboardInterrupt if a stop was asked for."""
    if _Stop.asked:
        raise KeyboardInterrupt


def hold() -> None:
    """There is a job now that can stop at a checkpoint."""
    _Stop.held = True
