"""What a probe of the doctor says, and how it calls programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple

ANSWER = 5.0  # seconds for one program or address
GOOD, NOTE, PROBLEM = "OK", "note", "PROBLEM"


class Finding(NamedTuple):
    """One line: how it is, what it is about, what is here, and what to do where something is amiss."""

    mark: str
    subject: str
    text: str

    def line(self) -> str:
        """The finding as `condense doctor` prints it."""
        return f"{self.mark:8}{self.subject:10}{self.text}"


Probe = Callable[[], Iterator[Finding]]


def called(*command: str, patience: float = ANSWER) -> subprocess.CompletedProcess[str]:
    """The end of a program, with what it printed. Raises subprocess.TimeoutExpired after `patience` seconds,
    and OSError where it cannot be started."""
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=patience, stdin=subprocess.DEVNULL
    )
