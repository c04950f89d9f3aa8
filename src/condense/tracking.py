"""What MLflow is told: every condensation and evaluation becomes a run.

Jobs only write files; `ingest` reads them in one process, since writers on one SQLite file queue behind each other.
A run is known by the tag `source.digest`, a digest of the files it came from, which is set last of all: a run without
it was interrupted and is replaced, and so is one whose files have changed since (MLflow keeps the old one as deleted).
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from condense.artifacts import canonical, damaged, digest, file_sha256, read_header, read_json, read_lines
from condense.config import UserError

SOURCE, DIGEST = "source", "source.digest"
MOST_POINTS = 1000  # of one curve: a longer history is thinned evenly, and lies whole among the artifacts
_METRICS_A_CALL, _PARAMS_A_CALL = 1000, 100  # MLflow's limits
_LONGEST_PARAM = 500  # characters; MLflow allows more, its tables do not show them
_NOT_SHOWN = ("title", "source", "name", "overrides", "evaluation", "note")


@dataclass
class Summary:
    """Sources (paths under the results folder) by what became of them, and the digests of all runs that are in the store now."""

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """One run: `points` are (metric, value, step), `files` become its artifacts."""

    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    points: list[tuple[str, float, int]]
    files: list[Path]
    run: dict[str, Any]


def ingest(results: Path, store: str, artifacts_folder: Path) -> Summary:
    """Brings the MLflow `store` (such as sqlite:///mlflow.db) up to date with the sets and metrics under `results`.

    Safe to repeat, to interrupt and to start twice at once: every file has one run. A run deleted in MLflow comes back,
    one whose files are gone stays. Raises UserError if MLflow is not installed or a file is damaged.
    """
    summary = Summary()
    with _alone(Path(artifacts_folder)):
        client = _client(store)
        experiments: dict[str, str] = {}
        known = _known(client)
        for source, total, build in _sources(Path(results)):
            summary.digests.append(total)
            runs = known.get(source, [])
            if [kept for _, kept in runs] == [total]:
                summary.unchanged.append(source)
                continue
            for run_id, _ in runs:
                client.delete_run(run_id)
            record = build()
            if record.experiment not in experiments:
                experiments[record.experiment] = _experiment(client, record.experiment, Path(artifacts_folder))
            _write(client, experiments[record.experiment], record, source, total)
            (summary.replaced if runs else summary.added).append(source)
    return summary


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`: a second ingestion waits, and then finds the first one's runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _client(store: str) -> Any:
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")  # read when MLflow is imported
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise UserError("MLflow is not installed: run 'make env', or install the extra 'workflow' of condense") from None
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if store.startswith("sqlite:///"):
        Path(store.removeprefix("sqlite:///")).absolute().parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(store)


def _known(client: Any) -> dict[str, list[tuple[str, str | None]]]:
    """Source -> its runs as (run id, digest); the digest is None where a run was not finished."""
    experiments = [experiment.experiment_id for experiment in _pages(client.search_experiments)]
    known: dict[str, list[tuple[str, str | None]]] = {}
    for run in _pages(partial(client.search_runs, experiments)):
        if SOURCE in run.data.tags:
            known.setdefault(run.data.tags[SOURCE], []).append((run.info.run_id, run.data.tags.get(DIGEST)))
    return known


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _experiment(client: Any, name: str, folder: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=(folder.absolute() / name).as_uri())
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _write(client: Any, experiment: str, record: Record, source: str, total: str) -> None:
    from mlflow.entities import Metric, Param

    start = _milliseconds(record.run)
    length, last = round(1000 * record.run.get("seconds", 0)), max((step for *_, step in record.points), default=0) or 1
    run_id = client.create_run(experiment, start_time=start, tags={SOURCE: source, **record.tags}, run_name=record.name).info.run_id
    # Steps have no times of their own: spread evenly over the run, they draw the same curve over time as over steps.
    metrics = [Metric(name, value, start + length * step // last, step) for name, value, step in record.points]
    for part in _parts(metrics, _METRICS_A_CALL):
        client.log_batch(run_id, metrics=part)
    for part in _parts([Param(name, value) for name, value in record.params.items()], _PARAMS_A_CALL):
        client.log_batch(run_id, params=part)
    for file in record.files:
        client.log_artifact(run_id, str(file))
    client.set_terminated(run_id, "FINISHED", start + length)
    client.set_tag(run_id, DIGEST, total)


def _parts(rows: list[Any], length: int) -> list[list[Any]]:
    return [rows[first : first + length] for first in range(0, len(rows), length)]


def _milliseconds(run: dict[str, Any]) -> int:
    """The date of a run in milliseconds since 1970; 0 where it is not recorded."""
    if "date" not in run:
        return 0
    date = datetime.fromisoformat(run["date"])
    return round(1000 * (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())


def _sources(results: Path) -> Iterator[tuple[str, str, Callable[[], Record]]]:
    """(source, digest, how to build its record) of every finished set and every metrics file."""
    for path in sorted(results.glob("synthetic/*/*/*/*/*/synthetic.safetensors")):
        source = path.relative_to(results).as_posix()
        header = read_header(path, "synthetic")
        beside = [path.with_name(name) for name in ("run.json", "history.jsonl", "grid.png")]
        totals = [file_sha256(file) if file.is_file() else None for file in beside]
        yield source, digest([source, header["content_sha256"], *totals], 32), partial(_condensation, path, header, beside)
    for path in sorted(results.glob("metrics/*/*/*/*/*/*/*.json")):
        source = path.relative_to(results).as_posix()
        yield source, digest([source, file_sha256(path)], 32), partial(_evaluation, path)


def _condensation(path: Path, header: dict[str, Any], beside: list[Path]) -> Record:
    """The run of a synthetic set: its recipe, the terms of its objective over the steps, its cost."""
    facts, history, _ = beside
    run = read_json(facts) if facts.is_file() else {}
    points = (
        [(name, row[name], row["step"]) for row in thinned(read_lines(history)) for name in row if name != "step"]
        if history.is_file()
        else []
    )
    recipe = {name: value for name, value in header["recipe"].items() if name not in _NOT_SHOWN}
    params = {**_place(header), **flat(recipe, "recipe.")}
    return Record(
        "condense", _name(header), params, _tags(header, run), points + _cost(run), [file for file in beside if file.is_file()], run
    )


def _evaluation(path: Path) -> Record:
    """The run of an evaluation: its protocol, the accuracy (%) of each network or each snapshot, its cost."""
    values = read_json(path)
    try:
        run, protocol = values["run"], {name: value for name, value in values["protocol"].items() if name != "title" and name != "source"}
        if "steps" in values:
            rows = zip(values["steps"], values["mean"], values["std"], strict=True)
            points = [point for step, mean, std in rows for point in (("accuracy_mean", mean, step), ("accuracy_std", std, step))]
        else:
            points = [("accuracy", value, network) for network, value in enumerate(values["accuracies"])]
            points += [("accuracy_mean", values["mean"], 0), ("accuracy_std", values["std"], 0)]
        experiment = "evaluate" if values["task"] == "condense" else f"evaluate-{values['task']}"
        params = {
            **_place(values),
            "eval_arch": values["eval_arch"],
            "n_networks": str(values["n_networks"]),
            **flat(protocol, "protocol."),
        }
        name, tags = f"{_name(values)} by {values['eval_arch']}", _tags(values, run)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged(path, f"not a metrics file: {error!r}") from None
    return Record(experiment, name, params, tags, points + _cost(run), [path], run)


def _place(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(values[name]) for name in ("dataset", "method", "arch", "ipc", "seed")}


def _name(values: dict[str, Any]) -> str:
    return f"{values['method']} {values['dataset']} ipc{values['ipc']} {values['arch']} seed{values['seed']}"


def _tags(values: dict[str, Any], run: dict[str, Any]) -> dict[str, str]:
    named = {name: values.get(name) for name in ("key", "synthetic_key", "dataset", "method", "data_sha256", "synthetic_sha256")}
    named |= {name: run.get(name) for name in ("code_version", "device", "threads")}
    return {name: str(value) for name, value in named.items() if value is not None}


def _cost(run: dict[str, Any]) -> list[tuple[str, float, int]]:
    return [(name, run[name], 0) for name in ("seconds", "peak_memory_bytes") if run.get(name) is not None]


def thinned(rows: list[Any], most: int = MOST_POINTS) -> list[Any]:
    """At most `most` of `rows`, evenly spaced, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)]


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as one level of texts, no empty ones: {"terms": [{"name": "mean", "weight": 1}]} -> {"terms.mean.weight": "1"}."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) and "name" in entry for entry in value):
        value = {entry["name"]: {name: part for name, part in entry.items() if name != "name"} for entry in value}
    if isinstance(value, dict):
        return {name: text for key, part in value.items() for name, text in flat(part, f"{prefix}{key}.").items()}
    if value is None or value == "" or value == []:
        return {}
    text = value if isinstance(value, str) else canonical(value)
    return {prefix.removesuffix("."): text[:_LONGEST_PARAM]}
