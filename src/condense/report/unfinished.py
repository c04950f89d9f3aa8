"""The report of a scale that is not finished: all that can be shown of what is made."""

from __future__ import annotations

from pathlib import Path

from condense.config import UserError
from condense.files import artifacts
from condense.machine.terminal import tell
from condense.plan import RESULTS
from condense.plan.so_far import evaluated, is_whole, so_far
from condense.plan.tables import Plan
from condense.report import names
from condense.report.beside_published import beside_published
from condense.report.figures import make_figure
from condense.report.html import make_report
from condense.report.tables import make_table

_SUFFIXES = (".csv", ".md", ".tex", ".png", ".svg", ".json")


def make_unfinished(scale: Plan, out: Path) -> None:
    """Writes the report of what is made of a scale, and beside it the tables, the figures and `measured.md`.

    A figure that cannot be drawn of what there is is left out and told. Raises UserError if no evaluation is
    made, for the folder of the workflow's own, and for what is damaged.
    """
    folder = Path(out).parent
    if folder.resolve() == Path(RESULTS).resolve():
        raise UserError(
            f"--out {out}: the workflow's own tables and figures lie there; name a folder for those so far, "
            f"such as {folder}/so-far/{Path(out).name}"
        )
    made = so_far(scale)
    for name in [*made.tables, *made.settings]:
        make_table(made, name, folder / "tables" / f"{name}.csv")
    drawn = {}
    for name, figure in made.figures.items():
        try:
            make_figure(made, name, folder / "figures" / f"{name}.png")
            drawn[name] = figure
        except UserError as error:
            tell(f"{name}: left out, since it cannot be drawn of what there is: {error}")
    made = made.with_targets(made.tables, drawn)
    _remove_others(folder, scale, made)
    counted = evaluated(scale)
    shown = f"{len(made.targets)} of {len(scale.targets)} tables and figures have something to show"
    absent = [name for name in names.in_order(set(scale.targets) - set(made.targets))]
    told = f"{counted}; {shown}." + (f" Not yet: {'; '.join(absent)}." if absent else "")
    make_report(made, out, folder=folder, so_far="" if is_whole(scale) and not absent else told)
    with artifacts.whole(folder / "measured.md") as draft:
        draft.write_text(beside_published(made, counted), encoding="utf-8")
    tell(f"{counted}; {shown}: {out}")


def _remove_others(folder: Path, scale: Plan, made: Plan) -> None:
    """Removes tables and figures of the scale that an earlier report left there and this one does not
    show."""
    for name in scale.specs_by_path():
        for path in (folder / "tables" / name, folder / "figures" / name):
            if name not in made.targets:
                for suffix in _SUFFIXES:
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
