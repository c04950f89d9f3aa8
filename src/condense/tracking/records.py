"""The records of MLflow's runs, built from finished files. Imports no MLflow."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from condense.config import labels_of
from condense.files import (
    metrics_in,
    read_facts,
    read_history,
)
from condense.files.artifacts import canonical, damaged
from condense.specs import task_class

MOST_POINTS = 1000  # of one curve: a longer history is thinned evenly, and lies whole among the artifacts
_LONGEST_SETTING = 60  # characters of a name
_LONGEST_PARAM = 500  # characters; MLflow allows more, its tables do not show them
BESIDE = ("run.json", "history.jsonl", "grid.png")  # a synthetic set
_NOT_SHOWN = ("title", "source", "name", "overrides", "evaluation", "note")


@dataclass(frozen=True)
class Input:
    """Images that a run has read."""

    name: str
    sha256: str
    path: str
    context: str  # training or testing
    about: dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One run: `points` are (metric, value, step), `files` become its artifacts, and so does `linked`, which
    may be large."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    points: list[tuple[str, float, int]]
    files: list[Path]
    start: int  # milliseconds since 1970
    seconds: float
    inputs: list[Input] = field(default_factory=list)
    linked: Path | None = None


def condensation(path: Path, header: dict[str, Any], tags: dict[str, str]) -> Record:
    """The run of a synthetic set: its recipe, the terms of its objective over the steps, its cost."""
    facts, history, _ = beside = [path.with_name(name) for name in BESIDE]
    run = read_facts(facts) if facts.is_file() else {}
    rows = read_history(history) if history.is_file() else []
    last = rows[-1]["step"] if rows else 0
    if history.is_file() and header.get("steps") and last != header["steps"]:
        raise damaged(history, f"it ends at step {last} of {header['steps']}")
    rows = thinned(rows)
    points = [(name, row[name], int(row["step"])) for row in rows for name in row if name != "step"]
    recipe = {name: value for name, value in header["recipe"].items() if name not in _NOT_SHOWN}
    training = Input(
        header["dataset"], header["data_sha256"], f"{header['dataset']}: train", "training", _classes(header)
    )
    title = header["recipe"].get("title") or header["method"]
    note = f"{title}: a synthetic set for {header['dataset']}, {header['ipc']} images a class"
    return Record(
        name=f"{_setting(header, tags)} {str(header['key'])[:6]}",
        params={**_cell(header), **flat(recipe, "recipe.")},
        tags={**tags, **_tags(header, run, "synthesize", note), "task": "condense"},
        points=points + _cost(run),
        files=[file for file in beside if file.is_file()],
        start=start_of(run, facts if facts.is_file() else path),
        seconds=run.get("seconds") or 0,
        inputs=[training],
        linked=path,
    )


def evaluation(path: Path, values: dict[str, Any], tags: dict[str, str], results: Path) -> Record:
    """The run of an evaluation: its protocol, each metric (of the networks, their mean and spread, or of each
    step), its cost."""
    run, task = values["run"], task_class(values["task"])
    protocol = {name: value for name, value in values["protocol"].items() if name not in ("title", "source")}
    points = [
        point
        for name, metric in metrics_in(values).items()
        for point in _curve(name, metric, values.get("steps") if isinstance(metric["mean"], list) else None)
    ]
    params = {
        **_cell(values),
        "eval_arch": values["eval_arch"],
        "n_networks": str(values["n_networks"]),
        **flat(protocol, "protocol."),
    }
    settings = flat({task.folder: values.get(task.folder)})
    judged = _setting(values, tags)
    read = [
        Input(
            judged,
            str(values.get("synthetic_sha256", "")),
            path.relative_to(results).as_posix(),
            "training",
            {},
        ),
        Input(
            values["dataset"], str(values.get("test_sha256", "")), f"{values['dataset']}: test", "testing", {}
        ),
    ]
    told = [f"{name.rpartition('.')[2]} {text}" for name, text in settings.items() if name.count(".") == 1]
    kind = task.folder if task.remark is None else task.remark
    remark = "".join(f" {text}" for text in [kind, *told] if text)
    trained = {
        "set": f"trained on {judged} by the protocol {protocol.get('name')}",
        "real": f"trained on real images by the protocol {protocol.get('name')}, shown {judged}",
        "nothing": f"that are not trained, shown {judged}",
    }
    note = f"{values['n_networks']} networks ({values['eval_arch']}) {trained[task.trained_on]}"
    of_evaluation = {"eval_arch": values["eval_arch"], "protocol": str(protocol.get("name", ""))}
    return Record(
        name=f"{judged} by {values['eval_arch']} {protocol.get('name', '')}{remark} {str(values['key'])[:6]}",
        params=params | settings,
        tags={**tags, **_tags(values, run, "evaluate", note), "task": kind or "evaluate", **of_evaluation},
        points=points + _cost(run),
        files=[path],
        start=start_of(run, path),
        seconds=run.get("seconds") or 0,
        inputs=[images for images in read if images.sha256],
    )


def _curve(name: str, metric: dict[str, Any], steps: list[int] | None) -> list[tuple[str, float, int]]:
    """The points of a metric: at each step its mean and spread, or, where there are none, also the value of
    each network by number. A single value has no spread."""
    if steps is not None:
        points = [(name, mean, step) for step, mean in zip(steps, metric["mean"], strict=True)]
        spreads = [(f"{name}_std", std, step) for step, std in zip(steps, metric["std"], strict=True)]
        return points + spreads * any(len(values) > 1 for values in metric["values"])
    points = [(f"{name}_of_network", value, network) for network, value in enumerate(metric["values"])]
    points.append((name, metric["mean"], 0))
    return points + [(f"{name}_std", metric["std"], 0)] * (len(metric["values"]) > 1)


def start_of(run: dict[str, Any], path: Path) -> int:
    """When a job began, in milliseconds since 1970.

    Where the facts do not say it (they are older), the file tells when it ended, unless it is a copy: then
    the date is all there is.
    """
    if run.get("started"):
        return _milliseconds(datetime.fromisoformat(run["started"]))
    ended = path.stat().st_mtime
    if not run.get("date") or datetime.fromtimestamp(ended, UTC).date().isoformat() == run["date"]:
        return round(1000 * (ended - (run.get("seconds") or 0)))
    return _milliseconds(datetime.fromisoformat(run["date"]))


def _milliseconds(time: datetime) -> int:
    return round(1000 * (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _cell(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(values[name]) for name in ("dataset", "method", "arch", "ipc", "seed")}


def _setting(values: dict[str, Any], tags: dict[str, str]) -> str:
    text = tags.get("setting", "")  # all of it is a tag
    setting = (
        f" [{text if len(text) <= _LONGEST_SETTING else text[: _LONGEST_SETTING - 1] + '…'}]" if text else ""
    )
    return (
        f"{values['method']}{setting} {values['dataset']} ipc{values['ipc']} {values['arch']} "
        f"seed{values['seed']}"
    )


def _classes(header: dict[str, Any]) -> dict[str, Any]:
    return {"classes": len(header["class_names"])} if "class_names" in header else {}


def _tags(values: dict[str, Any], run: dict[str, Any], verb: str, note: str) -> dict[str, str]:
    names = "key synthetic_key dataset method arch ipc seed data_sha256 synthetic_sha256".split()
    tags = {name: values.get(name) for name in names}
    tags |= {name: run.get(name) for name in ("code_version", "device", "threads")}
    # What MLflow's own columns show.
    tags |= {"mlflow.source.name": f"condense {verb}", "mlflow.source.type": "LOCAL"}
    tags |= {"mlflow.user": _user(), "mlflow.note.content": note}
    if re.fullmatch(r"[0-9a-f]{7,40}\+?", str(run.get("code_version"))):
        tags["mlflow.source.git.commit"] = str(run["code_version"]).rstrip("+")
    return {name: str(value) for name, value in tags.items() if value is not None}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may know no name for its user
        return None


def _cost(run: dict[str, Any]) -> list[tuple[str, float, int]]:
    """The cost as metrics of the run and, under the names that MLflow's page for system metrics shows, of the
    machine. The memory is left out where it is that of a process which did other jobs before, or of a job
    that made other sets at once, whose seconds are an equal part (`shared_by`)."""
    others = run.get("after") or run.get("shared_by")
    costs = {
        "seconds": run.get("seconds"),
        "shared_by": run.get("shared_by"),
        "peak_memory_bytes": None if others else run.get("peak_memory_bytes"),
        "system/threads": run.get("threads"),
    }
    costs["system/seconds"] = costs["seconds"]
    costs["system/peak_memory_megabytes"] = (
        costs["peak_memory_bytes"] / 1e6 if costs["peak_memory_bytes"] is not None else None
    )
    return [(name, value, 0) for name, value in costs.items() if value is not None]


def thinned(rows: Sequence[Any], most: int = MOST_POINTS) -> list[Any]:
    """At most `most` of `rows`, evenly spaced, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (most - 1))] for index in range(most)]


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as one level of texts, no empty ones: {"terms": [{"name": "mean", "weight": 1}]} ->
    {"terms.mean.weight": "1"}."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(entry, dict) and "name" in entry for entry in value)
    ):
        labels = labels_of([entry["name"] for entry in value])
        value = {
            label: {name: setting for name, setting in entry.items() if name != "name"}
            for label, entry in zip(labels, value, strict=True)
        }
    if isinstance(value, dict):
        return {
            name: text
            for key, nested in value.items()
            for name, text in flat(nested, f"{prefix}{key}.").items()
        }
    if value is None or value == "" or value == []:
        return {}
    text = value if isinstance(value, str) else canonical(value)
    return {
        prefix.removesuffix("."): text if len(text) <= _LONGEST_PARAM else f"{text[: _LONGEST_PARAM - 1]}…"
    }
