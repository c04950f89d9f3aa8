"""What a table or figure is made from and shows, in a file beside it: whether it has to be made again.

Floor 0. The inputs are the results themselves: into how many jobs their making was split changes no table.
"""

from __future__ import annotations

from dataclasses import asdict

from condense.files.artifacts import digest, file_sha256
from condense.plan.tables import Plan
from condense.specs import catalogue


def manifest(scale: Plan, name: str) -> dict[str, object]:
    """What a table or figure is made from at a scale; kept beside it, so that another scale's file is never
    taken for it."""
    paths = _measured(scale, name)
    if name in scale.figures:
        curves = scale.figures[name].curves
        paths += [cell.path for curve in curves for cell in curve.shown]
        paths += [parent.path for curve in curves for parent in curve.parents.values()]
    return {"name": name, "scale": scale.scale.name, "inputs": paths, "shows": _shown(scale, name)}


def _measured(scale: Plan, name: str) -> list[str]:
    """The metrics that a table or figure shows: its own, then the baselines beside them."""
    cells = [*scale.metrics_of(name), *scale.beside(name)]
    return list(dict.fromkeys(cell.path for cell in cells))


def _shown(scale: Plan, name: str) -> str:
    """A digest of what a table or figure shows apart from its inputs: published numbers, those of other
    machines, reasons, words."""
    words = [asdict(scale.specs_by_path()[name]), scale.scale.title, scale.scale.note]
    words += [scale.limits(name).note, scale.scale.remarks]
    if name in scale.figures:
        return digest([words, scale.figures[name].missing])
    if name in scale.settings:
        return digest([words, [[entry.row, entry.text, entry.reason] for entry in scale.settings[name]]])
    elsewhere = [file_sha256(path) for path in sorted((catalogue.params_folder() / "measured").glob("*.csv"))]
    return digest([words, [[row.published, row.reason] for row in scale.tables[name]], elsewhere])


def page_manifest(scale: Plan, name: str) -> dict[str, object]:
    """What a page on all of a scale, such as the report, was made of; kept beside it, so that the page of
    another scale, whose results are older, is never taken for it."""
    made = digest([sorted(scale.metrics), sorted(scale.synthetic)])
    return {"name": name, "scale": scale.scale.name, "targets": sorted(scale.targets), "results": made}


def manifest_digest(value: object) -> str:
    """What tells one manifest from another."""
    return digest(value)


def report_files(scale: Plan, name: str) -> list[str]:
    """The files that a table or figure is made from: metrics, and for figures that draw images sets, data and
    teachers too."""
    paths = _measured(scale, name)
    if name in scale.figures:
        for curve in scale.figures[name].curves:
            paths += [path for cell in curve.shown for path in (cell.path, cell.data.train)]
            paths += [parent.path for parent in curve.parents.values()]
    return sorted(set(paths))
