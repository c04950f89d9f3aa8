"""What `make bench` measured on this machine, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense import artifacts
from condense.config import UserError


@dataclass(frozen=True)
class Line:
    """One comparison: milliseconds of the plain loop and of the engine, their ratio with its range, memory, and the gradient's error."""

    what: str
    plain: str
    ours: str
    ratio: str
    settled: str
    asked: str
    gradient: str
    memory: str


@dataclass(frozen=True)
class Speed:
    """The benchmark of one machine. `accuracies` are rows (run, seconds, steps, accuracies), `limits` what it can do at most."""

    device: str
    about: str
    lines: list[Line]
    limits: list[tuple[str, str]]
    accuracies: list[tuple[str, str, str, str]]


def speeds(folder: Path) -> list[Speed]:
    """All benchmarks of the engine in `folder`, by file name. Raises UserError for a file that is none."""
    found = []
    for path in sorted(folder.glob("engine*.json")):
        facts = artifacts.read_json(path)
        if not isinstance(facts, dict) or facts.get("kind") != "benchmark" or facts.get("schema") != 1:
            raise UserError(f"{path}: is no benchmark that this version reads; delete it, or measure again with `make bench`")
        found.append(_speed(facts))
    return found


def _speed(facts: dict[str, Any]) -> Speed:
    about = [facts["date"], f"{facts['threads']} threads", f"torch {facts['torch']}"]
    about += [f"kernels: {facts['kernels']}", f"images: {facts['images']}"]
    runs = facts.get("accuracy", {}).get("runs", [])
    accuracies = [(run["run"], f"{run['seconds']:g}", f"{run['steps']:,}", _mean(run["accuracies"])) for run in runs]
    return Speed(facts["device"], ", ".join(about), [_line(row) for row in facts["rows"]], _limits(facts["limits"]), accuracies)


def _line(row: dict[str, Any]) -> Line:
    low, high = row["ratio_range"]
    error = row.get("gradient")
    grown = row["memory_growth_bytes"] / 2**20
    return Line(
        row["row"],
        _milliseconds(row["reference_s"]),
        _milliseconds(row["ours_s"]),
        f"{row['ratio']:.1f}× ({low:.1f}–{high:.1f})",
        f"{row['ratio_settled']:.1f}×",
        f"{row['least']:g} / {row['aim']:g} ms" if row.get("in_ms") else f"{row['least']:g}× / {row['aim']:g}×",
        f"{100 * error['relative']:.2f} %, cosine {error['cosine']:.4f}" if error else "–",
        f"{row['peak_memory_bytes'] / 2**20:,.0f} (+{grown:.0f})",
    )


def _milliseconds(seconds: float) -> str:
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"


def _limits(limits: dict[str, float]) -> list[tuple[str, str]]:
    units = {"_gflops": ", GFLOP/s", "_gb_s": ", GB/s"}
    found = []
    for name, value in limits.items():
        unit = next(end for end in units if name.endswith(end))
        found.append((name.removesuffix(unit).replace("_", " ") + units[unit], f"{value:,.0f}"))
    return found


def _mean(accuracies: list[float]) -> str:
    mean = sum(accuracies) / len(accuracies)
    return f"{mean:.1f} ({', '.join(f'{value:.1f}' for value in accuracies)})"
