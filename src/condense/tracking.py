"""What MLflow is told: every condensation and evaluation becomes a run.

Jobs only write files; `ingest` reads them in one process, since writers on one SQLite file queue behind each other.
A run is known by the tag `source.digest`, a digest of the files it came from, which is set last of all: a run without
it was interrupted and is replaced, and so is one whose files have changed since (MLflow keeps the old one as deleted).
A file lock lets one ingestion at a time into a local store. A server is reached from many machines, which share no lock:
there everybody deletes, at the end, all but the first of the runs of one digest, so that whoever ends last leaves one.
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

from condense import locks
from condense.artifacts import canonical, damaged, digest, file_sha256, read_header, read_json, read_lines
from condense.config import UserError, labels_of

_log = logging.getLogger(__name__)
SOURCE, DIGEST = "source", "source.digest"
MOST_POINTS = 1000  # of one curve: a longer history is thinned evenly, and lies whole among the artifacts
_METRICS_A_CALL, _PARAMS_A_CALL = 1000, 100  # MLflow's limits
_LONGEST_PARAM = 500  # characters; MLflow allows more, its tables do not show them
# MLflow asks a silent server again for many minutes. The files stay and can be ingested at any time, so this gives up soon.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
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
    """Brings the MLflow `store` up to date with the sets and metrics under `results`.

    `store` is a database (sqlite:///mlflow.db), whose artifacts go to `artifacts_folder`, or a tracking server
    (http://host:port), which takes the artifacts too. Safe to repeat, to interrupt and to start twice at once: every file
    has one run. A run deleted in MLflow comes back, one whose files are gone stays.
    Raises UserError if MLflow is not installed, the store cannot be used or a file is damaged.
    """
    with _alone(Path(artifacts_folder)), _explained(store):
        client = _client(store)
        location = None if _is_server(store) else Path(artifacts_folder)
        summary = _brought_in(client, Path(results), location)
        if summary.added or summary.replaced:
            _drop_doubles(client, set(summary.digests))
    return summary


def _brought_in(client: Any, results: Path, location: Path | None) -> Summary:
    summary, experiments, known = Summary(), {}, _known(client)
    for source, total, build in _sources(results):
        summary.digests.append(total)
        runs = known.get(source, [])
        if [kept for _, kept in runs] == [total]:
            summary.unchanged.append(source)
            continue
        for run_id, _ in runs:
            client.delete_run(run_id)
        record = build()
        if record.experiment not in experiments:
            experiments[record.experiment] = _experiment(client, record.experiment, location)
        _write(client, experiments[record.experiment], record, source, total)
        (summary.replaced if runs else summary.added).append(source)
    return summary


def _drop_doubles(client: Any, digests: set[str]) -> None:
    """Deletes all but the first of several finished runs of one file. Two who do this at once choose the same one."""
    for runs in _known(client).values():
        for total in digests & {kept for _, kept in runs}:
            for run_id in sorted(run_id for run_id, kept in runs if kept == total)[1:]:
                client.delete_run(run_id)


def _is_server(store: str) -> bool:
    return store.startswith(("http://", "https://"))


@contextmanager
def _explained(store: str) -> Iterator[None]:
    """Turns what MLflow and the connection to its server raise into one message; the files are only read, so nothing is lost."""
    try:
        yield
    except Exception as error:
        # MLflow may be absent, and importing it to name its errors takes seconds.
        if not any(kind.__module__.partition(".")[0] in ("mlflow", "requests") for kind in type(error).__mro__):
            raise
        told = " ".join(str(error).split())[:300]
        raise UserError(
            f"MLflow store {store}: {told}; the results are unharmed: run the same command again when the store can be used"
        ) from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`: a second ingestion waits, and then finds the first one's runs."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = locks.open_plain(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        if not locks.locked(handle):
            _log.info("%s: another process brings it up to date; waiting for it", folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _client(store: str) -> Any:
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")  # read when MLflow is imported
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise UserError("MLflow is not installed: run 'make env', or install the extra 'workflow' of condense") from None
    for name, level in (("mlflow.store.db.utils", logging.WARNING), ("alembic", logging.WARNING), ("urllib3", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
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


def _experiment(client: Any, name: str, location: Path | None) -> str:
    """The id of the experiment, made if need be with its artifacts under `location`; None leaves their place to the server."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=(location.absolute() / name).as_uri() if location else None)
        except MlflowException as error:
            found = client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise  # else another machine made it just now
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
        labels = labels_of([entry["name"] for entry in value])
        value = {label: {name: part for name, part in entry.items() if name != "name"} for label, entry in zip(labels, value, strict=True)}
    if isinstance(value, dict):
        return {name: text for key, part in value.items() for name, text in flat(part, f"{prefix}{key}.").items()}
    if value is None or value == "" or value == []:
        return {}
    text = value if isinstance(value, str) else canonical(value)
    return {prefix.removesuffix("."): text[:_LONGEST_PARAM]}
