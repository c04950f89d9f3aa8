"""Where the numbers of a report come from: code, libraries, devices, jobs and synthetic sets; and what was
not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense import plan
from condense.files import facts_of, number_in, read_facts, read_rows
from condense.files.facts import Facts
from condense.plan.tables import Plan
from condense.report import names
from condense.report.measured import read_metrics


@dataclass(frozen=True)
class Origin:
    """Distinct values over all runs of the scale, sorted."""

    versions: list[str]
    devices: list[str]
    threads: list[str]
    code: list[str]
    dates: list[str]  # first and last
    seconds: float


@dataclass(frozen=True)
class Stage:
    """All recorded jobs of a stage; `memory` is the largest resident memory in MB, '' if none was
    recorded."""

    name: str
    jobs: int
    seconds: float
    memory: str


def origin(scale: Plan) -> Origin:
    """What the runs behind the metrics and the synthetic sets say about themselves."""
    runs = [facts_of(read_metrics(cell)["run"], Path(cell.path)) for cell in scale.metrics.values()]
    runs += [
        run for run in (run_of(cell) for cell in scale.synthetic.values() if not cell.data.is_part) if run
    ]
    dates = sorted(run.date for run in runs if run.date)
    versions = {f"{library} {version}" for run in runs for library, version in run.versions.items()}
    return Origin(
        sorted(versions),
        sorted({run.device for run in runs if run.device}),
        sorted({str(run.threads) for run in runs if run.threads is not None}),
        sorted({run.code_version for run in runs if run.code_version}),
        list(dict.fromkeys([*dates[:1], *dates[-1:]])),
        sum(run.seconds or 0 for run in runs),
    )


def cost(scale: Plan, name: str) -> str:
    """What the numbers of a table took to compute, as its jobs recorded it: the sets, each once, and the
    networks that judge them; '' where nothing is recorded. What other tables show too counts for each."""
    cells = scale.metrics_of(name)
    judged = [facts_of(read_metrics(cell)["run"], Path(cell.path)).seconds for cell in cells]
    shown = {one.key: one for cell in cells for one in cell.all_sets if one.recipe.makes_set}
    runs = [run for run in map(run_of, shown.values()) if run]
    made = [run.seconds for run in runs]
    parts = {f"{len(shown)} sets": made, f"{len(cells)} evaluations of them": judged}
    told = [
        f"{what}, {duration(sum(seconds))}"
        for what, recorded in parts.items()
        if (seconds := [entry for entry in recorded if entry is not None])
    ]
    shared = " Of a job that made several sets at once each counts with an equal part."
    return f"Computing took: {'; '.join(told)}.{shared * any(run.shared_by for run in runs)}" if told else ""


def seconds_of_runs(runs: Sequence[Facts]) -> tuple[float | None, int | None]:
    """The mean of the seconds of runs, None where none is recorded; and how many sets a job made at once,
    which share its seconds equally, None where each had its own."""
    shared = [run.shared_by for run in runs if run.shared_by and run.seconds is not None]
    seconds = [run.seconds for run in runs if run.seconds is not None]
    return sum(seconds) / len(seconds) if seconds else None, max(shared, default=None)


def run_of(cell: plan.SyntheticCell) -> Facts | None:
    """The run record of a synthetic set, None where only its metrics were fetched. Raises UserError if it is
    damaged."""
    path = Path(cell.folder) / "run.json"
    return facts_of(read_facts(path), path) if path.is_file() else None


def stages(folder: Path) -> list[Stage]:
    """Job counts and times from Snakemake's benchmark files `{folder}/{stage}/**/*.tsv`."""
    measured = []
    for stage in sorted(path for path in Path(folder).glob("*") if path.is_dir()):
        rows = [row for path in sorted(stage.rglob("*.tsv")) for row in _benchmark(path)]
        memory = [most for _, most in rows if most is not None]
        measured += (
            [
                Stage(
                    stage.name,
                    len(rows),
                    sum(seconds for seconds, _ in rows),
                    f"{max(memory):.0f}" if memory else "",
                )
            ]
            if rows
            else []
        )
    return measured


def _benchmark(path: Path) -> list[tuple[float, float | None]]:
    """Seconds and largest resident memory in MB, None where none was recorded, of every job in a file of
    Snakemake's."""
    rows = read_rows(path, ("s", "max_rss"), delimiter="\t")
    memory = [
        None if row["max_rss"] in ("-", "NA", "") else number_in(path, row, "max_rss", 0, 1e10)
        for row in rows
    ]
    return list(zip([number_in(path, row, "s", 0, 1e10) for row in rows], memory, strict=True))


def sets(scale: Plan) -> list[dict[str, str]]:
    """One row for each synthetic set: what it is, its key, time and, where it was its own, memory."""
    rows = []
    for cell in scale.synthetic.values():
        if cell.data.is_part:  # it is counted with the set that it became a part of
            continue
        run = run_of(cell) or Facts()
        row = {
            "dataset": names.dataset(cell.data.name),
            "method": names.method(cell.recipe.name),
            "arch": names.architecture(cell.arch),
        }
        row |= {"ipc": str(cell.ipc), "seed": str(cell.seed), "key": cell.key, "device": run.device or "–"}
        part, peak = names.part_of_job(run.shared_by), run.own_peak_memory_bytes
        row["seconds"] = f"{run.seconds:.1f}{part}" if run.seconds is not None else "–"
        row["memory"] = f"{peak / 2**20:.0f}" if peak else "–"
        rows.append(row)
    return rows


def not_run(scale: Plan) -> list[dict[str, Any]]:
    """For every table and figure: how many published rows it has, how many were measured here, and why the
    others are empty."""
    coverages = []
    for name in names.in_order(scale.tables):
        rows = scale.tables[name]
        reasons: dict[str, list[str]] = {}
        for row in rows:
            if row.reason:
                reasons.setdefault(row.reason, []).append(names.method_of_row(row.published))
        coverages.append(_coverage(name, len(rows), sum(bool(row.runs) for row in rows), reasons))
    for name in names.in_order(scale.figures):
        figure = scale.figures[name]
        if figure.spec.computed:
            continue
        reasons = {}
        for method, reason in figure.missing.items():
            reasons.setdefault(reason, []).append(names.method(method))
        if figure.cut:
            reasons.setdefault(f"not run at {scale.scale.name}", []).extend(figure.cut)
        run = {(curve.method, curve.setting) for curve in figure.curves}
        unit = "points" if figure.spec.points else "methods"
        coverages.append(_coverage(name, len(figure.spec.lines), len(run), reasons, unit))
    return coverages


def _coverage(
    name: str, total: int, run: int, reasons: dict[str, list[str]], unit: str = "rows"
) -> dict[str, Any]:
    texts = [f"{reason}: {', '.join(dict.fromkeys(methods))}" for reason, methods in reasons.items()]
    return {"name": name, "unit": unit, "total": total, "run": run, "reasons": texts}


def duration(seconds: float) -> str:
    """'4.2 s', '3 min 5 s', '2 h 10 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
