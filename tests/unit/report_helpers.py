"""What the tests of figures and of the report page share."""

import csv
import os
from pathlib import Path

from condense.files import artifacts
from condense.jobs.judging import metrics_from
from condense.plan.tables import Plan

RUN = {
    "seconds": 2.5, "device": "cpu "
    "<&>", "threads": 1, "peak_memory_bytes": 3 << 20, "code_version": "abc", "versions": {"torch": "9.9"},
    "date": "2026-01-02",
}  # fmt: skip


def made_up_metrics(folder):
    """Writes metrics of everything at scale quick into the results of `folder`."""
    before = Path.cwd()
    os.chdir(folder)
    for path, cell in Plan("quick").metrics.items():
        accuracies = [60.0 + network for network in range(3)]
        if "ratio" in cell.task.settings:
            accuracies = [60.0 + network - 10 * cell.task.ratio for network in range(3)]
        results = {0: accuracies}
        if cell.task.over_steps:
            results = {0: [50.0, 52.0], 40: [60.0, 62.0], 80: [70.0, 72.0]}
        if cell.task.over_steps and cell.task.steps_are == "grid":
            results = {number: [50.0 + number % 7, 60.0] for number in range(len(cell.task.grid) ** 2)}
        by_metric = {name: made_up(name, metric, results) for name, metric in cell.task.metrics.items()}
        artifacts.write_json(Path(path), metrics_of(cell, results, by_metric) | {"run": RUN})
    os.chdir(before)


def made_up(name, metric, results):
    """Of a metric these results, if it is the accuracy, else others at the same steps, or once."""
    if name == "accuracy":
        return results
    if metric.once:
        results = {0: next(iter(results.values()))}
    return {step: [value / 100 for value in values] for step, values in results.items()}


def metrics_of(cell, results, by_metric=None):
    """The metrics of a cell with made-up accuracies, by step (0 of a set), or all of them `by_metric`, as an
    evaluation writes them, but for its run."""
    networks = len(next(iter(results.values())))
    about = {
        "schema": artifacts.SCHEMA,
        "kind": "metrics",
        "task": cell.task.folder,
        "key": cell.key,
        "n_networks": networks,
    }
    return metrics_from(about, by_metric or {"accuracy": results})


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
