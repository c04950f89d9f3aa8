"""What `make bench` measured on this machine, for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.files import artifacts, check_accuracies, header_as

_UNITS = {"_gflops": ", GFLOP/s", "_gb_s": ", GB/s"}


@dataclass(frozen=True)
class Line:
    """One comparison: milliseconds of the plain loop and of the engine, their ratio with its range, memory,
    and the gradient's error."""

    comparison: str
    plain: str
    ours: str
    ratio: str
    settled: str
    asked: str
    gradient: str
    memory: str


@dataclass(frozen=True)
class Speed:
    """The benchmark of one machine. `accuracies` are rows (run, seconds, steps, accuracies), `limits` what it
    can do at most."""

    device: str
    about: str
    lines: list[Line]
    limits: list[tuple[str, str]]
    accuracies: list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class _Row:
    """A comparison as it is written."""

    row: str
    reference_s: float
    ours_s: float
    ratio: float
    ratio_range: list[float]
    ratio_settled: float
    least: float
    aim: float
    peak_memory_bytes: int
    memory_growth_bytes: int
    in_ms: bool = False
    gradient: dict[str, float] | None = None

    def __post_init__(self) -> None:
        times = (self.reference_s, self.ours_s, self.ratio, self.ratio_settled, *self.ratio_range)
        if len(self.ratio_range) != 2 or not all(value > 0 for value in times) or self.peak_memory_bytes < 0:
            raise UserError(f"{self.row}: seconds and ratios must be above 0, and 'ratio_range' two of them")
        if self.gradient is not None and not {"relative", "cosine"} <= self.gradient.keys():
            raise UserError(f"{self.row}: its 'gradient' lacks 'relative' or 'cosine'")


@dataclass(frozen=True)
class _Judged:
    """A run whose accuracies, in percent, were measured."""

    run: str
    seconds: float
    steps: int
    accuracies: list[float]

    def __post_init__(self) -> None:
        check_accuracies(self.accuracies)


@dataclass(frozen=True)
class _Benchmark:
    """A benchmark as it is written."""

    device: str
    date: str
    threads: int
    torch: str
    kernels: str
    images: str
    rows: list[dict[str, Any]]
    limits: dict[str, float]
    accuracy: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        runs = self.accuracy.get("runs", [])
        if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
            raise UserError("accuracy: 'runs' are no list of runs")
        for name in self.limits:
            if not name.endswith(tuple(_UNITS)):
                raise UserError(f"limits: '{name}' has none of the units {', '.join(_UNITS)}")


def speeds(folder: Path) -> list[Speed]:
    """All benchmarks of the engine in `folder`, by file name. Raises UserError for a file that is none."""
    return [read_speed(path) for path in sorted(folder.glob("engine*.json"))]


def read_speed(path: Path) -> Speed:
    """A benchmark of the engine. Raises UserError for a file that is none."""
    facts = artifacts.read_json(path)
    if not isinstance(facts, dict) or facts.get("kind") != "benchmark" or facts.get("schema") != 1:
        raise UserError(
            f"{path}: is no benchmark that this version reads; delete it, or measure again with `make bench`"
        )
    return _speed(header_as(_Benchmark, facts, path, "its entries"), path)


def _speed(facts: _Benchmark, path: Path) -> Speed:
    about = [
        facts.date,
        f"{facts.threads} threads",
        f"torch {facts.torch}",
        f"kernels: {facts.kernels}",
        f"images: {facts.images}",
    ]
    runs = [header_as(_Judged, run, path, "its accuracies") for run in facts.accuracy.get("runs", [])]
    accuracies = [(run.run, f"{run.seconds:g}", f"{run.steps:,}", _mean(run.accuracies)) for run in runs]
    lines = [_line(header_as(_Row, row, path, "its rows")) for row in facts.rows]
    return Speed(facts.device, ", ".join(about), lines, _limits(facts.limits), accuracies)


def _line(row: _Row) -> Line:
    low, high = row.ratio_range
    error = row.gradient
    return Line(
        row.row,
        _milliseconds(row.reference_s),
        _milliseconds(row.ours_s),
        f"{row.ratio:.1f}× ({low:.1f}–{high:.1f})",
        f"{row.ratio_settled:.1f}×",
        f"{row.least:g} / {row.aim:g} ms" if row.in_ms else f"{row.least:g}× / {row.aim:g}×",
        f"{100 * error['relative']:.2f} %, cosine {error['cosine']:.4f}" if error else "–",
        f"{row.peak_memory_bytes / 2**20:,.0f} (+{row.memory_growth_bytes / 2**20:.0f})",
    )


def _milliseconds(seconds: float) -> str:
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"


def _limits(limits: dict[str, float]) -> list[tuple[str, str]]:
    rows = []
    for name, value in limits.items():
        unit = next(end for end in _UNITS if name.endswith(end))
        rows.append((name.removesuffix(unit).replace("_", " ") + _UNITS[unit], f"{value:,.0f}"))
    return rows


def _mean(accuracies: list[float]) -> str:
    mean = sum(accuracies) / len(accuracies)
    return f"{mean:.1f} ({', '.join(f'{value:.1f}' for value in accuracies)})"
