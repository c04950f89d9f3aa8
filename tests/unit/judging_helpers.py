"""Evaluations of a plan as a short list, and the cells that such a list stands for."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from condense.config import convert
from condense.files.artifacts import canonical
from condense.plan import Maker
from condense.specs import AnyTask, catalogue, number_of_epochs

# The evaluations that the scale `paper` asked for on two days, without those of `cost`, which judge nothing
LISTS = Path(__file__).with_name("judged.csv")


class Judged(NamedTuple):
    """Evaluations that are alike: on sets of `ipc` images a class as they are stored, of which each holds
    `decoded`, with so many `snapshots`; `options` and `task` are JSON."""

    dataset: str
    ipc: str
    decoded: str
    snapshots: str
    arch: str
    options: str
    protocol: str
    epochs: str
    networks: str
    task: str


def judged_in(plan):
    """How many evaluations of each kind a plan has."""
    found = Counter()
    for cell in plan.metrics.values():
        recipe, task = cell.synthetic.recipe, {"kind": cell.task.kind, **cell.task.settings}
        task = {name: value for name, value in task.items() if name != "order"}
        kind = Judged(
            cell.synthetic.data.name,
            str(cell.synthetic.ipc),
            str(recipe.images_a_stored),
            str(recipe.number_of_snapshots if cell.task.reads == "snapshots" else 0),
            cell.eval_arch,
            cell.options,
            cell.protocol.name,
            str(number_of_epochs(cell.protocol, cell.synthetic.images_trained)),
            str(cell.n_networks),
            canonical(task),
        )
        found[kind] += not cell.reads_recipe
    return +found


def judged_on(day):
    """The same of a day that `LISTS` has."""
    with open(LISTS, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row[0] == day]
    return Counter({Judged(*row[1:-1]): int(row[-1]) for row in rows})


def write_lists(days):
    """Writes `LISTS` from what each day has of each kind."""
    with open(LISTS, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["day", *Judged._fields, "cells"])
        for day, found in days.items():
            writer.writerows([day, *kind, found[kind]] for kind in sorted(found))


def cell_of(kind, maker=None):
    """An evaluation of this kind, of a set that costs as much to judge as those it stands for."""
    maker = maker or Maker(replace(catalogue.scale("paper"), follow=0))
    method, change = ("whole" if kind.ipc == "full" else "random"), {}
    if kind.snapshots != "0":
        method, change = "dm", {"steps": 100 * int(kind.snapshots), "snapshots": 100}
    if kind.decoded != "1":
        change |= {"decode": {"factor": round(int(kind.decoded) ** 0.5)}}
        method = "dm"
    ipc = kind.ipc if kind.ipc == "full" else int(kind.ipc)
    synthetic = maker.synthetic(kind.dataset, method, "convnet", ipc, 0, change)
    task = convert(AnyTask, json.loads(kind.task), "task")
    further = {name: synthetic for name in task.further}
    cell = maker.metrics(synthetic, kind.arch, kind.protocol, int(kind.networks), task, further)
    return replace(cell, options=kind.options)
