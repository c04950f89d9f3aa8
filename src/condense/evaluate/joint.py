"""Numbers of all networks of an evaluation together, computed from its written metrics where they are shown.

Source: cpdm ranks networks of NAS-Bench-201 "according to their average accuracy" over five seeds (section
6.5); the code of DC-Bench, which it follows otherwise, ranks by each seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from condense.evaluate.correlation import (
    spearman,
    spearman_interval,
    spearman_of_best,
    truth_of_first,
)
from condense.specs import Task
from condense.specs.tasks.search import OF_MEANS, Search

Written = Mapping[str, Mapping[str, Any]]  # metrics as `files.metrics_in` gives them


def agreement(task: Search, scores: Sequence[float], true: Sequence[float]) -> dict[str, float]:
    """The metrics `OF_RANKING`: how far the ranking of networks by `scores` agrees with that by their true
    accuracies in percent."""
    low, high = spearman_interval(scores, true, task.resamples, task.draw)
    return {
        "spearman": spearman(scores, true),
        "spearman_low": low,
        "spearman_high": high,
        "spearman_best": spearman_of_best(scores, true, task.best_share, task.best_least),
        "top1_accuracy": truth_of_first(scores, true),
    }


def ranked_by_means(task: Search, written: Written) -> dict[str, float]:
    """The numbers of `Search.joint`: each network of the space has the mean of its accuracies over all
    repetitions, and these are ranked once."""
    rows = written["candidate_accuracy"]["values"]
    true = [values[0] for values in written["candidate_truth"]["values"]]
    found = agreement(task, [math.fsum(values) / len(values) for values in rows], true)
    return {f"{name}{OF_MEANS}": value for name, value in found.items()}


# By the kind of a task what computes the numbers of its `joint`
JOINT: dict[str, Callable[[Any, Written], dict[str, float]]] = {"search": ranked_by_means}


def joint_numbers(task: Task, written: Written) -> dict[str, float]:
    """By name the numbers of all networks together of an evaluation of a task that has such ones."""
    return JOINT[task.kind](task, written)
