"""Code that is younger than a result which is taken for finished: keys hold settings, and no code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any


def told_of_younger_code(made: Path, arch: str, terms: Sequence[Any] = ()) -> str:
    """Which code of `terms` of a recipe and of the network `arch` was changed after the file `made`, of a set
    or of metrics, was; '' where none was."""
    since = made.stat().st_mtime
    younger = {
        path: what for path, what in _sources(arch, terms) if path.exists() and path.stat().st_mtime > since
    }
    if not younger:
        return ""
    told = ", ".join(f"{path} ({what})" for path, what in younger.items())
    return (
        f"{made}: is older than {told}: if that computes something else now, raise its number (`revision` of "
        "the recipe, or of the architecture's options), and run it in another folder --out"
    )


def _sources(arch: str, terms: Sequence[Any]) -> Iterator[tuple[Path, str]]:
    """The files of the code of the terms and of the network, and what each is of."""
    from condense.engines.terms import objective
    from condense.models import ARCHITECTURES

    for term in terms:
        codes: list[Any] = [type(term), *_functions(objective(term.name).value)]
        for code in codes:
            yield Path(inspect.getfile(code)), f"the term '{term.name}'"
    if arch in ARCHITECTURES:
        make = ARCHITECTURES[arch].make
        yield Path(inspect.getfile(getattr(make, "func", make))), f"the network '{arch}'"


def _functions(value: Callable[..., Any]) -> list[Callable[..., Any]]:
    """What a term computes by: the functions that its own one was made of, else that one."""
    held = [entry.cell_contents for entry in getattr(value, "__closure__", None) or ()]
    return [entry for entry in held if inspect.isfunction(entry)] or [value]
