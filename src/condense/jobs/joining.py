"""Joining the parts of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense import locks
from condense.artifacts import damaged, read_json, write_json
from condense.config import UserError
from condense.drafts import require_place
from condense.jobs.facts import cost_facts, joined_facts
from condense.jobs.judging import PART, metrics_from


def join_parts(out: Path, parts: Sequence[Path]) -> None:
    """Joins the parts of one evaluation into its metrics `out`: those of all networks in one job, but for what the run cost.

    Raises UserError if a file is no part, if the parts are of different evaluations, or if they do not hold every network once.
    """
    require_place(out)
    found = sorted((_read_part(path) for path in parts), key=lambda part: part.networks[0])
    first = found[0]
    for part in found:
        differing = [name for name in sorted({*first.about, *part.about}) if first.about.get(name) != part.about.get(name)]
        if differing or list(part.results) != list(first.results):
            what = differing[0] if differing else "steps"
            raise UserError(f"{part.path}: is a part of another evaluation than {first.path}: they differ in '{what}'")
    numbers = [number for part in found for number in part.networks]
    if len(numbers) != first.about["n_networks"] or numbers != list(range(len(numbers))):
        raise UserError(f"{out}: the parts hold the networks {numbers} instead of each of {first.about['n_networks']} once")
    results = {step: [value for part in found for value in part.results[step]] for step in first.results}
    with locks.only_maker(out):
        write_json(out, metrics_from(first.about | {"kind": "metrics"}, results) | {"run": joined_facts([part.run for part in found])})


def leave_out_part(out: Path) -> None:
    """Writes a file in place of a part that nobody needs, since its metrics are there."""
    write_json(out, {"kind": "part that was not needed"})


@dataclass(frozen=True)
class _Part:
    path: Path
    networks: range
    about: dict[str, Any]
    results: dict[int, list[float]]  # accuracies by step
    run: dict[str, Any]


def _read_part(path: Path) -> _Part:
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != PART:
        held = value.get("kind") if isinstance(value, dict) else type(value).__name__
        raise UserError(f"{path}: holds '{held}', but a part of an evaluation is needed")
    about = {name: entry for name, entry in value.items() if name not in ("networks", "accuracies", "run")}
    try:
        first, last = value["networks"]
        networks, results = range(first, last + 1), {int(step): list(map(float, values)) for step, values in value["accuracies"]}
        whole = isinstance(about["n_networks"], int) and about["task"] in ("condense", "snapshots", "drift")
    except (KeyError, TypeError, ValueError):
        raise damaged(path, "its entries are not those of a part") from None
    if not whole or not networks or not results or any(len(values) != len(networks) for values in results.values()):
        raise damaged(path, "it does not hold one accuracy a network")
    if not all(0 <= value <= 100 for values in results.values() for value in values):
        raise damaged(path, "an accuracy is no percentage")
    if about["task"] != "snapshots" and list(results) != [0]:
        raise damaged(path, "it does not hold the accuracies of one set")
    return _Part(path, networks, about, results, cost_facts(value.get("run"), path))
