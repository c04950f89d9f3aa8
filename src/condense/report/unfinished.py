"""The report of a scale that is not finished: all that can be shown of what is made."""

from __future__ import annotations

from pathlib import Path

from condense.config import UserError
from condense.files import artifacts
from condense.machine.terminal import tell
from condense.plan import RESULTS
from condense.plan.so_far import so_far
from condense.plan.tables import Plan
from condense.report.beside_published import beside_published
from condense.report.figures import make_figure
from condense.report.html import make_report
from condense.report.tables import make_table


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
    drawn = dict(made.figures)
    for name in made.figures:
        try:
            make_figure(made, name, folder / "figures" / f"{name}.png")
        except UserError as error:
            tell(f"{name}: left out, since it cannot be drawn of what there is: {error}")
            del drawn[name]
    made = made.with_targets(made.tables, drawn)
    count = sum(Path(path).is_file() for path in scale.metrics)
    evaluated = f"{count} of {len(scale.metrics)} evaluations are made"
    shown = f"{len(made.targets)} of {len(scale.targets)} tables and figures have something to show"
    unfinished = count < len(scale.metrics)
    make_report(made, out, folder=folder, so_far=f"{evaluated}; {shown}." if unfinished else "")
    with artifacts.whole(folder / "measured.md") as draft:
        draft.write_text(beside_published(made), encoding="utf-8")
    tell(f"{evaluated}; {shown}: {out}")
