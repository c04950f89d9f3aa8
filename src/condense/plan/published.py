"""The numbers that the papers print, and other names of theirs for our methods. Floor 0."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping

from condense.config import UserError
from condense.specs import DEFAULT_TASK, Task, catalogue


@catalogue.ByFolders
def published_rows() -> list[dict[str, str]]:
    """The rows of `params/published/results.csv`."""
    with open(catalogue.params_folder() / "published" / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@catalogue.ByFolders
def aliases() -> dict[tuple[str, str, str], str]:
    """(paper, table, method as the paper calls it) -> our method."""
    with open(catalogue.params_folder() / "published" / "aliases.csv", encoding="utf-8", newline="") as file:
        return {(row["paper"], row["table"], row["name"]): row["alias_of"] for row in csv.DictReader(file)}


@catalogue.ByFolders
def method_names() -> dict[str, str]:
    """What methods of the papers are called that have no recipe here."""
    with open(catalogue.params_folder() / "published" / "names.csv", encoding="utf-8", newline="") as file:
        return {row["method"]: row["label"] for row in csv.DictReader(file)}


def method_of(row: Mapping[str, str]) -> str:
    """Our name of the method of a published row."""
    return aliases().get((row["paper"], row["table"], row["method"]), row["method"])


def architectures(eval_arch: str) -> list[str]:
    """The architectures that a published row was judged by: 'mean(mlp,vit)' -> ['mlp', 'vit'], '' ->
    ['convnet']."""
    mean = re.fullmatch(r"mean\((.+)\)", eval_arch)
    return mean[1].split(",") if mean else [eval_arch or "convnet"]


def metric_named(name: str, task: Task = DEFAULT_TASK, called: Mapping[str, str] | None = None) -> str | None:
    """The metric of `task` that a published `metric` is called after, or that `called` says it is; None if it
    has none of that name."""
    if called and name in called:
        return called[name]
    return next(
        (metric for metric, about in task.numbers().items() if name == metric or name in about.published),
        None,
    )


def metric_of(row: dict[str, str], task: Task, called: Mapping[str, str] | None = None) -> str:
    """The metric of `task` that a published row is of; `called` as in `metric_named`. Raises UserError if the
    task does not give it, or gives it in another unit."""
    paper = f"{row['paper']} Table {row['table']}, {row['method']} on {row['dataset']} at ipc {row['ipc']}"
    metric, known = metric_named(row["metric"], task, called), ", ".join(task.numbers())
    remedy = "name the task that measures it (`task:`), or say under `not_measured:` why such rows stay empty"
    if metric is None:
        raise UserError(
            f"row {paper}: its metric '{row['metric']}' is none of the task '{task.kind}', which gives "
            f"{known}; {remedy}"
        )
    if task.answers is not None and row["task"] not in task.answers:
        measured = ", ".join(task.answers)
        raise UserError(
            f"row {paper}: its metric '{row['metric']}' is of the published task '{row['task']}', and the "
            f"task '{task.kind}', which gives {known}, measures those of {measured}; {remedy}"
        )
    if task.is_curve(metric) and not task.last_counts:
        raise UserError(
            f"row {paper}: its metric '{row['metric']}' is '{metric}' of the task '{task.kind}', which has a "
            "value at every step, for which a row has no place; name another one under `metrics:`"
        )
    if row["unit"] != task.numbers()[metric].unit:
        raise UserError(
            f"row {paper}: its metric '{row['metric']}' is in '{row['unit']}', and '{metric}' of the task "
            f"'{task.kind}' in '{task.numbers()[metric].unit}'; {remedy}"
        )
    return metric


def is_test_accuracy(row: dict[str, str]) -> bool:
    """Whether a published row is a test accuracy of networks trained on a set, as figures show it beside
    measured ones."""
    return metric_named(row["metric"]) is not None and row["task"] in (DEFAULT_TASK.answers or ())
