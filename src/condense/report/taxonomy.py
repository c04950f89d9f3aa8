"""The taxonomy of methods by their discrepancy, with what was measured of those that are built, and what the
others need.

Source: discrepancy, Table 4; methods that it does not name stand below its own, by what their recipes say.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condense.report import names
from condense.specs import DEFAULT_PROTOCOL, catalogue

COLUMNS = ("paper", "table", "discrepancy", "description", "tricks", "reference", "method", "needs")
TITLES = {
    "generalization": "Generalization discrepancy",
    "value": "Value discrepancy",
    "parameter": "Parameter discrepancy",
    "distribution": "Distribution discrepancy",
    "selection": "Selections of real images",
    "none": "Of no single discrepancy",
}
_USUAL_IPC = "10"


@dataclass(frozen=True)
class Entry:
    """A line of the taxonomy, as text; `accuracy` with its deviation, `needs` where the method is not
    built."""

    description: str
    tricks: str
    reference: str
    method: str
    accuracy: str = ""
    seconds: str = ""
    memory: str = ""
    needs: str = ""


@catalogue.ByFolders
def published() -> list[dict[str, str]]:
    """The rows of `params/published/taxonomy.csv`."""
    path = catalogue.params_folder() / "published" / "taxonomy.csv"
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def taxonomy(board: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[Entry]], str]:
    """By the titles of the discrepancies the paper's lines, then those of methods here that it does not name;
    and what the measured columns are of.

    `board`: the rows of the leaderboard. Of several numbers of images a class 10 is shown, else the largest.
    """
    rows, about = _shown(board)
    found: dict[str, list[Entry]] = {title: [] for title in TITLES.values()}
    for line in published():
        entry = _entry(line["description"], line["tricks"], line["reference"], line["method"], rows)
        needs = line["needs"] if not line["method"] else ""
        found[TITLES[line["discrepancy"]]].append(
            Entry(**{**vars(entry), "needs": needs}) if needs else entry
        )
    named = {line["method"] for line in published()}
    for name in catalogue.names_in("methods"):
        recipe = catalogue.recipe(name)
        if name not in named and recipe.makes_set:
            entry = _entry(recipe.title, ", ".join(recipe.tricks), _source(recipe), name, rows)
            found[TITLES[recipe.discrepancy]].append(entry)
    return {title: entries for title, entries in found.items() if entries}, about


def _source(recipe: Any) -> str:
    paper = recipe.source.paper
    return paper if " " in paper else f"{paper} {recipe.source.equation}".strip()


def _shown(board: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Mapping[str, Any]], str]:
    """The row of each method, all of one dataset, judge, network and number of images a class, those of which
    most methods have one; and what they are."""
    places: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in board:
        if row["ipc"] != "full" and row["accuracy"] is not None:
            place = tuple(row[name] for name in ("dataset", "ipc", "judge", "eval_arch"))
            places.setdefault(place, {}).setdefault(row["method"], row)
    if not places:
        return {}, "nothing was measured"

    def weight(place: tuple[str, ...]) -> tuple[Any, ...]:
        return place[2] == DEFAULT_PROTOCOL, place[1] == _USUAL_IPC, len(places[place]), place

    best = max(places, key=weight)
    dataset, ipc, judge, arch = best
    network = names.architecture(arch)
    return places[best], f"{names.dataset(dataset)}, {ipc} images a class, judged by {judge} with {network}"


def _entry(
    description: str, tricks: str, reference: str, method: str, rows: Mapping[str, Mapping[str, Any]]
) -> Entry:
    row = rows.get(method)
    label = names.method(method) if method else ""
    if row is None:
        return Entry(description, tricks, reference, label, needs="not run at this scale" if method else "")
    return Entry(
        description,
        tricks,
        reference,
        label,
        names.with_spread(row["accuracy"], row["accuracy_std"]),
        "" if row["seconds"] is None else f"{row['seconds']:,.1f}{names.part_of_job(row['shared_by'])}",
        "" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e6:,.0f}",
    )
