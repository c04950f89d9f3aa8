"""Joining the parts of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.files import read_part
from condense.files.artifacts import write_json
from condense.jobs.facts import cost_facts, joined_facts
from condense.jobs.judging import metrics_from
from condense.machine import locks
from condense.machine.drafts import require_place


def join_parts(out: Path, parts: Sequence[Path]) -> None:
    """Joins the parts of one evaluation into its metrics `out`: those of all networks in one job, but for
    what the run cost.

    Raises UserError if a file is no part, if the parts are of different evaluations, or if they do not hold
    every network once.
    """
    require_place(out)
    shares = sorted((_read_part(path) for path in parts), key=lambda share: share.networks[0])
    first = shares[0]
    for share in shares:
        differing = [
            name
            for name in sorted({*first.about, *share.about})
            if first.about.get(name) != share.about.get(name)
        ]
        if differing or _steps(share) != _steps(first):
            name = differing[0] if differing else "steps"
            raise UserError(
                f"{share.path}: is a part of another evaluation than {first.path}: they differ in '{name}'"
            )
    numbers = [number for share in shares for number in share.networks]
    if len(numbers) != first.about["n_networks"] or numbers != list(range(len(numbers))):
        raise UserError(
            f"{out}: the parts hold the networks {numbers} instead of each of {first.about['n_networks']} "
            "once"
        )
    results = {
        name: {step: [value for share in shares for value in share.results[name][step]] for step in by_step}
        for name, by_step in first.results.items()
    }
    with locks.only_maker(out):
        write_json(
            out,
            metrics_from(first.about | {"kind": "metrics"}, results)
            | {"run": joined_facts([share.run for share in shares])},
        )


def leave_out_part(out: Path) -> None:
    """Writes a file in place of a part that nobody needs, since its metrics are there."""
    write_json(out, {"kind": "part that was not needed"})


@dataclass(frozen=True)
class _Part:
    path: Path
    networks: range
    about: dict[str, Any]
    results: dict[str, dict[int, list[float]]]  # values by metric and step
    run: dict[str, Any]


def _steps(share: _Part) -> dict[str, list[int]]:
    return {name: list(by_step) for name, by_step in share.results.items()}


def _read_part(path: Path) -> _Part:
    known, value = read_part(path)
    about = {
        name: entry
        for name, entry in value.items()
        if name not in ("networks", "accuracies", "metrics", "run")
    }
    return _Part(path, known.numbers, about, known.results, cost_facts(known.run, path))
