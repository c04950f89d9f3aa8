"""What the tests of figures and of the report page share."""

import csv
import os
from pathlib import Path

from condense import artifacts
from condense.tableplan import Plan

RUN = {
    "seconds": 2.5, "device": "cpu <&>", "threads": 1, "peak_memory_bytes": 3 << 20, "code_version": "abc", "versions": {"torch": "9.9"},
    "date": "2026-01-02",
}  # fmt: skip


def made_up_metrics(folder):
    """Writes metrics of everything at scale quick into the results of `folder`."""
    before = Path.cwd()
    os.chdir(folder)
    for path, cell in Plan("quick").metrics.items():
        values = {"schema": 1, "kind": "metrics", "task": cell.task, "run": RUN, "accuracies": [60.0 + network for network in range(3)]}
        if cell.drift:
            values["accuracies"] = [60.0 + network - 10 * cell.drift.ratio for network in range(3)]
        if cell.task == "snapshots":
            values |= {"steps": [0, 40, 80], "accuracies": [[50.0, 52.0], [60.0, 62.0], [70.0, 72.0]]}
        artifacts.write_json(Path(path), values)
    os.chdir(before)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
