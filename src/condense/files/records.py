"""Reading metrics and parts of evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from condense.config import UserError
from condense.files.artifacts import SCHEMA, damaged, read_json
from condense.files.facts import ascending, facts_of
from condense.files.headers import header_as
from condense.specs.common import at_least
from condense.specs.tasks import ACCURACY, Metric, Task, task_class

PART = "evaluation part"
_ENTRIES = "its entries"


@dataclass(frozen=True)
class JudgedBy:
    """What an evaluation says of the protocol that its networks were trained by."""

    name: str
    epochs: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        at_least({"epochs": self.epochs, "batch": self.batch}, 1, 1 << 62)


@dataclass(frozen=True)
class Judged:
    """What was judged, and how; `n_networks` is the number of all networks of the evaluation."""

    task: str  # the folder of the task
    n_networks: int
    key: str
    dataset: str = ""
    method: str = ""
    arch: str = ""
    eval_arch: str = ""
    ipc: int | Literal["full"] = "full"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    synthetic_key: str | None = None
    data_sha256: str = ""
    test_sha256: str = ""
    synthetic_sha256: str = ""
    # Of a set with soft labels, or of networks that observers taught: which labels these learned from
    labels: Literal["hard", "soft"] = "hard"
    observers: dict[str, dict[str, str]] = field(default_factory=dict)  # who gave the labels, by name
    unit: Literal["%"] = "%"

    @property
    def kind(self) -> type[Task]:
        """The class of its task. Raises UserError for a task that there is not."""
        return task_class(self.task)

    def __post_init__(self) -> None:
        task_class(self.task)
        at_least({"n_networks": self.n_networks}, 1)
        at_least({"ipc": self.ipc if isinstance(self.ipc, int) else None}, 1)
        at_least({"seed": self.seed}, 0, 1 << 62)


@dataclass(frozen=True)
class Values:
    """The values of a metric, one a network, or one list a step; `mean` and `std` are those of each list."""

    values: list[float] | list[list[float]]
    mean: float | list[float]
    std: float | list[float]
    unit: str = "%"

    def check(self, name: str, metric: Metric, networks: int, steps: int | None) -> None:
        """Raises UserError unless they are possible values of `metric`, one for each network, at every one of
        so many steps."""
        nested = steps is not None
        if not self.values or any(isinstance(entry, list) != nested for entry in self.values):
            raise UserError(f"{name}: are not those of its task")
        rows: list[Any] = self.values if nested else [self.values]
        for row in rows:
            metric.check(name, row, networks)
        if nested and len(rows) != steps:
            raise UserError("steps: are not ascending ones, one for each list of values")
        for index, (statistic, given) in enumerate({"mean": self.mean, "std": self.std}.items()):
            stated = given if isinstance(given, list) else [given]
            wanted = [spread(row)[index] for row in rows]
            fits = isinstance(given, list) == nested and len(stated) == len(wanted)
            if not fits or not all(
                math.isclose(*pair, rel_tol=1e-6, abs_tol=1e-6) for pair in zip(stated, wanted, strict=True)
            ):
                raise UserError(f"{statistic}: is not that of its {name}")
        if self.unit != metric.unit:
            raise UserError(f"unit: is not that of its {name}")


@dataclass(frozen=True)
class Metrics(Judged):
    """What an evaluation gave. Where the task gives nothing but accuracies, in percent, they stand by
    themselves; else its metrics by name.

    `steps` are of a task that gives curves.
    """

    accuracies: list[float] | list[list[float]] = field(default_factory=list)
    mean: float | list[float] = 0.0
    std: float | list[float] = 0.0
    run: dict[str, Any] = field(default_factory=dict)
    steps: list[int] | None = None
    metrics: dict[str, Values] = field(default_factory=dict)
    # Of a recipe that did not run for want of memory: the bytes that it needed, in place of metrics
    out_of_memory: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out_of_memory is not None:
            at_least({"out_of_memory": self.out_of_memory}, 1, 1 << 62)
            if self.kind.reads != "recipe" or self.metrics or self.accuracies:
                raise UserError("out_of_memory: is only of a recipe that did not run, which has no metrics")
            return
        plain, known = self.kind.is_plain(), self.kind.metrics
        if plain != bool(self.accuracies) or plain == bool(self.metrics):
            raise UserError(f"{'metrics' if plain else 'accuracies'}: are not what its task gives")
        if not plain and set(self.metrics) != set(known):
            raise UserError(f"metrics: are {', '.join(self.metrics)} instead of {', '.join(known)}")
        if not self.kind.over_steps and self.steps is not None:
            raise UserError("steps: are only of a task that gives curves over them")
        if self.kind.over_steps and not (self.steps and ascending(self.steps)):
            raise UserError("steps: are not ascending ones, one for each list of values")
        given = {"accuracy": Values(self.accuracies, self.mean, self.std)} if plain else self.metrics
        for name, values in given.items():
            steps = len(self.steps or ()) if self.kind.is_curve(name) else None
            values.check("accuracies" if plain else name, known[name], self.n_networks, steps)


@dataclass(frozen=True)
class EvaluationPart(Judged):
    """Some networks of an evaluation, the first and the last by number, and (step, values of the networks) by
    step (0 of a set).

    The values stand by themselves where they are accuracies alone, else by metric, as in `Metrics`.
    """

    networks: list[int] = field(default_factory=list)
    accuracies: list[list[int | list[float]]] = field(default_factory=list)
    metrics: dict[str, list[list[int | list[float]]]] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def numbers(self) -> range:
        """The numbers of its networks."""
        return range(self.networks[0], self.networks[1] + 1)

    @property
    def results(self) -> dict[str, dict[int, list[float]]]:
        """The values of its networks by metric and step."""
        return {
            # All, as checked below
            name: {
                step: values for step, values in rows if isinstance(step, int) and isinstance(values, list)
            }
            for name, rows in self._rows.items()
        }

    @property
    def _rows(self) -> dict[str, list[list[int | list[float]]]]:
        return {"accuracy": self.accuracies} if self.kind.is_plain() else self.metrics

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.networks) != 2 or not 0 <= self.networks[0] <= self.networks[1] < self.n_networks:
            raise UserError(
                f"networks: are not the first and the last of some of {self.n_networks}, numbered from 0"
            )
        known, plain = self.kind.metrics, self.kind.is_plain()
        if set(self._rows) != set(known) or (self.metrics if plain else self.accuracies):
            raise UserError(f"metrics: are {', '.join(self.metrics) or 'none'} instead of {', '.join(known)}")
        for metric, rows in self._rows.items():
            name = "accuracies" if plain else metric
            for entry in rows:
                if len(entry) != 2 or not isinstance(entry[0], int) or not isinstance(entry[1], list):
                    raise UserError(f"{name}: are not a step and the values at it")
                known[metric].check(name, entry[1], len(self.numbers))
            steps = [entry[0] for entry in rows]
            single = not self.kind.is_curve(metric)
            if not steps or not ascending(steps) or (single and steps != [0]):
                raise UserError(f"{name}: are not of ascending steps, or of one set")
            if not single and steps != [entry[0] for entry in self._rows[self.kind.curve()]]:
                raise UserError(f"{name}: are at other steps than those of '{self.kind.curve()}'")


def metrics_in(value: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of metrics as `read_metrics` gives them: by name the `values`, `mean`, `std` and `unit` of each metric;
    of none where the memory did not suffice."""
    if "out_of_memory" in value:
        return {}
    if "metrics" in value:
        return value["metrics"]
    return {
        "accuracy": {
            "values": value["accuracies"],
            "mean": value["mean"],
            "std": value["std"],
            "unit": ACCURACY.unit,
        }
    }


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def check_accuracies(row: Sequence[float], networks: int | None = None) -> None:
    """Raises UserError unless `row` has a percentage for each of the `networks`, or for some where that is
    None."""
    ACCURACY.check("accuracies", row, networks)


def read_metrics(path: Path, task: str | None = None, key: str | None = None) -> dict[str, Any]:
    """The metrics of an evaluation, of the task of that folder and under `key` where these are given; see
    `metrics_in`.

    Raises UserError if the file is absent, damaged, of another schema, task or key, or if its numbers do not
    fit.
    """
    value = read_json(path)
    if (
        not isinstance(value, dict)
        or value.get("kind") != "metrics"
        or not (value.get("accuracies") or value.get("metrics") or value.get("out_of_memory"))
    ):
        raise damaged(path, "it holds no accuracies, nor other metrics")
    check_schema(path, value)
    if task is not None and value.get("task") != task:
        raise damaged(path, f"it is of task '{value.get('task')}' instead of '{task}'")
    _need(path, value, ("mean", "std", "run") if value.get("accuracies") else ("run",))
    known = header_as(Metrics, value, path, _ENTRIES)
    facts_of(known.run, path)
    if known.protocol:
        header_as(JudgedBy, known.protocol, path, "its protocol")
    if key is not None and known.key != key:
        raise other_key(path, known.key, key)
    return value


def read_part(path: Path) -> tuple[EvaluationPart, dict[str, Any]]:
    """A part of an evaluation, and all that its file says. Raises UserError if the file is absent, damaged or
    something else."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != PART:
        held = value.get("kind") if isinstance(value, dict) else type(value).__name__
        raise UserError(f"{path}: holds '{held}', but a part of an evaluation is needed")
    check_schema(path, value)
    known = header_as(EvaluationPart, value, path, _ENTRIES)
    facts_of(known.run, path)
    return known, value


def check_schema(path: Path, value: Mapping[str, Any]) -> None:
    """Raises UserError for a file of another schema than this version's."""
    if value.get("schema") != SCHEMA:
        raise UserError(f"{path}: written with schema {value.get('schema')}; this version reads {SCHEMA}")


class OtherKey(UserError):
    """A file belongs to another key than the one it is asked for under."""


def other_key(path: Path, key: Any, wanted: str) -> OtherKey:
    """The error for such a file."""
    return OtherKey(
        f"{path}: belongs to the key {key}, not to {wanted}; delete it and run the same command again"
    )


def _need(path: Path, value: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name not in value:
            raise damaged(path, f"{_ENTRIES}: the key '{name}' is missing")
