"""Where a command speaks: to the terminal, or to a log with a few sentences for the terminal too.

Floor 0.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condense.config import UserError

_PLAIN = {"±": "+-", "×": "x", "–": "-", "→": "->"}  # how text of ASCII only says it


class _Terminal:
    """The handle of the terminal while a command writes to a log."""

    handle: int | None = None


@contextmanager
def speaking_to(log: Path | None) -> Iterator[None]:
    """Inside, all that this process and its children print goes to the file `log`, which is begun anew; None
    changes nothing.

    Raises UserError if the log cannot be written.
    """
    if log is None:
        yield
        return
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        # A pipe that nobody reads is refused instead of waited for.
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NONBLOCK, 0o666)
        os.set_blocking(file, True)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise UserError(
                f"--log {log}: cannot be written: it is a pipe that nobody reads, or a socket"
            ) from None
        raise UserError(f"--log {log}: cannot be written: {error.strerror}") from None
    _flush()
    streams = [os.dup(1), os.dup(2)]
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    _Terminal.handle = streams[1]
    try:
        yield
    finally:
        _flush()
        _Terminal.handle = None
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
            os.close(stream)


def replace_unprintable() -> None:
    """Lets stdout and stderr print what their encoding lacks as plain signs or as codes, instead of ending
    the work with an error.

    Such are signs on a terminal or in a log that takes ASCII only, and names of files in another encoding
    than the system's.
    """
    codecs.register_error("condense", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="condense")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(
        _PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs
    ), error.end


def in_bytes(count: float) -> str:
    """A size in the unit that suits it: '1.2 GB', '24.0 MB', '3 kB'."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def deviating(mean: str, std: str, values: int) -> str:
    """'91.0 ± 0.5' of so many values; of one, which has no deviation, the value alone."""
    return f"{mean} ± {std}" if values > 1 else mean


def several(number: object, noun: str) -> str:
    """So many of something in words: '1 network', '3 networks'."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


def tell(sentence: str) -> None:
    """Says `sentence` where the command speaks and, if that is a log, on the terminal too."""
    print(sentence, file=sys.stderr, flush=True)
    if _Terminal.handle is not None:
        os.write(_Terminal.handle, f"{sentence}\n".encode(errors="backslashreplace"))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
