"""What a table or figure is made from and shows, in a file beside it: whether it has to be made again.

Floor 0. The inputs are the results themselves: into how many jobs their making was split changes no table.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from condense import recipes
from condense.artifacts import digest, file_sha256, read_json, write_json
from condense.tableplan import Plan


def manifest(scale: Plan, name: str) -> dict[str, object]:
    """What a table or figure is made from at a scale; kept beside it, so that another scale's file is never taken for it."""
    paths = [cell.path for cell in scale.metrics_of(name)]
    if name in scale.figures:
        curves = scale.figures[name].curves
        paths += [curve.synthetic.path for curve in curves if curve.synthetic] + [curve.teacher.path for curve in curves if curve.teacher]
    return {"name": name, "scale": scale.scale.name, "inputs": paths, "shows": _shown(scale, name)}


def _shown(scale: Plan, name: str) -> str:
    """A digest of what a table or figure shows apart from its inputs: published numbers, those of other machines, reasons, words."""
    words = [asdict(scale.specs_by_path()[name]), scale.scale.title, scale.scale.note]
    if name in scale.figures:
        return digest([words, scale.figures[name].missing])
    elsewhere = [file_sha256(path) for path in sorted((recipes.params_folder() / "measured").glob("*.csv"))]
    return digest([words, [[row.published, row.reason] for row in scale.tables[name]], elsewhere])


def refresh_manifests(scale: Plan, folder: Path = Path("results/plan")) -> None:
    """Writes the manifest of every table and figure of `scale` where it changed, dated so that only what must is remade.

    The workflow makes a table again when its manifest is newer. If the table that lies in `results/` was made from the
    very same list (the manifest beside it says so), the manifest is dated before it, whatever scale was planned between.
    """
    for name in [*scale.tables, *scale.figures]:
        path, wanted = folder / f"{name}.json", manifest(scale, name)
        made = Path("results") / ("tables" if name in scale.tables else "figures") / f"{name}.json"
        if path.exists() and read_json(path) == wanted:
            continue
        write_json(path, wanted)
        if made.exists() and read_json(made) == wanted:
            before = made.stat().st_mtime - 60
            os.utime(path, (before, before))
