"""The fault that a user can mend, and how an unknown name is answered: with the right one."""

from __future__ import annotations

import difflib
import reprlib
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_NEAR = 0.5  # of `difflib`'s likeness of two names, from which one may be meant


class UserError(Exception):
    """A fault the user can mend. The message says what is wrong, where, and what to do; no traceback is
    shown."""


def unknown(kind: str, name: object, known: typing.Iterable[str], where: str = "") -> UserError:
    """The error for a name that is not known: says where it stands, the nearest known name, and all of them
    if few."""
    known = sorted(str(entry) for entry in known)
    name = " ".join((name[:80] if isinstance(name, str) else reprlib.repr(name)).split())
    near = _nearest(name, known)
    hint = f"; did you mean '{near}'?" if near else ""
    if not near or len(known) <= 8:
        hint += f" (known: {', '.join(known) or 'none'})"
    return UserError(f"{where + ': ' if where else ''}unknown {kind} '{name}'{hint}")


def _nearest(name: str, known: Sequence[str]) -> str:
    """The known name that `name` was most likely meant to be, whatever its case; '' if none is near."""
    plain: dict[str, str] = {entry.lower(): entry for entry in reversed(known)}
    near = difflib.get_close_matches(name.lower(), plain, n=20, cutoff=_NEAR)
    # Of names as like, the one of about as many letters
    best = max(near, key=lambda entry: _likeness(name.lower(), entry), default="")
    return plain.get(best, "")


def _likeness(name: str, entry: str) -> float:
    begins = entry[:1] == name[:1]
    return (
        difflib.SequenceMatcher(None, entry, name).ratio() + 0.1 * begins - 0.05 * abs(len(entry) - len(name))
    )


def without_function(kind: str, name: str, registry: str, settings: str) -> UserError:
    """The error for a name of an engine, task or term that has its class of `settings`, and no function in
    `registry`."""
    return UserError(
        f"{kind} '{name}' has {settings} but no function in {registry}; add `\"{name}\": FUNCTION` there"
    )


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Inside, the message of a UserError that names no file of settings begins with `path`."""
    try:
        yield
    except UserError as error:
        if ".yaml" in str(error):
            raise
        raise UserError(f"{path}: {error}") from None
