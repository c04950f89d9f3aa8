"""MLflow's experiments and runs: which runs came from files, and how a record becomes a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from condense.files.artifacts import canonical
from condense.tracking.records import Record
from condense.tracking.stores import database_file, is_server, place_artifacts

SOURCE, DIGEST, GROUP, PARENT = "source", "source.digest", "set", "mlflow.parentRunId"
_METRICS_A_CALL, _PARAMS_A_CALL = 1000, 100  # MLflow's limits


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Everything that a search of MLflow finds, page by page."""
    token = None
    while True:
        page = search(max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def page_of(store: str, experiment_id: str) -> str:
    """Where MLflow shows an experiment, in its view for model training: the pages themselves open in the one
    for language models."""
    # That of `mlflow ui` and `make ui`
    server = store.rstrip("/") if is_server(store) else "http://127.0.0.1:5000"
    return f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def known_runs(client: Any, groups: Iterable[str] | None = None) -> list[Any]:
    """The runs that came from files; with `groups` only those of these sets."""
    experiments = [experiment.experiment_id for experiment in pages(client.search_experiments)]
    filters = [""] if groups is None else [f"tags.`{GROUP}` = '{group}'" for group in groups]
    runs = [run for text in filters for run in pages(partial(client.search_runs, experiments, text))]
    return [run for run in runs if SOURCE in run.data.tags]


def experiment(client: Any, name: str, store: str, location: Path | None) -> str:
    """The id of the experiment, made if need be with its artifacts under `location`; None leaves their place
    to the server."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            client.create_experiment(
                name, str((location / name).absolute()) if location else None, tags=_tags_of_experiment(name)
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise  # else another machine made it just now
        known = client.get_experiment_by_name(name)
    if known.lifecycle_stage == "deleted":
        client.restore_experiment(known.experiment_id)
    for tag, value in _tags_of_experiment(name).items():
        if tag not in known.tags:
            client.set_experiment_tag(known.experiment_id, tag, value)
    file = database_file(store)
    if location and file:
        location = location.absolute() if file.is_absolute() else location
        place_artifacts(file, known.experiment_id, known.artifact_location, str(location / name))
    return known.experiment_id


def _tags_of_experiment(name: str) -> dict[str, str]:
    return {
        # Heeded by releases whose pages are not chosen by a switch
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "accuracy",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        "mlflow.note.content": "Synthetic sets, and beneath each the evaluations that judge it. Accuracies "
        "are in per cent.",
    }


def write(
    client: Any,
    experiment_id: str,
    record: Record,
    tags: dict[str, str],
    timed: Sequence[tuple[str, float, int]] = (),
) -> str:
    """Writes a run; returns its id. `timed` are further metrics as (name, value, milliseconds since 1970)."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    length, last = round(1000 * record.seconds), max((step for *_, step in record.points), default=0) or 1
    run = client.create_run(
        experiment_id, start_time=record.start, tags={**record.tags, **tags}, run_name=record.name
    )
    run_id = run.info.run_id
    # Steps have no times of their own: spread evenly over the run, they draw the same curve over time as over
    # steps.
    metrics = [
        Metric(name, value, record.start + length * step // last, step) for name, value, step in record.points
    ]
    steps: dict[str, int] = {}
    for name, value, time in timed:
        metrics.append(Metric(name, value, time, steps.setdefault(name, 0)))
        steps[name] += 1
    params = [Param(name, value) for name, value in record.params.items()]
    client.log_batch(
        run_id, metrics=metrics[: _METRICS_A_CALL - _PARAMS_A_CALL], params=params[:_PARAMS_A_CALL]
    )
    for batch in _batches(metrics[_METRICS_A_CALL - _PARAMS_A_CALL :], _METRICS_A_CALL):
        client.log_batch(run_id, metrics=batch)
    for batch in _batches(params[_PARAMS_A_CALL:], _PARAMS_A_CALL):
        client.log_batch(run_id, params=batch)
    inputs = [
        DatasetInput(
            Dataset(
                entry.name,
                entry.sha256[:12],
                "local",
                canonical({"uri": entry.path}),
                profile=canonical(entry.about),
            ),
            [InputTag("mlflow.data.context", entry.context)],
        )
        for entry in record.inputs
    ]
    if inputs:
        client.log_inputs(run_id, inputs)
    for file in record.files:
        client.log_artifact(run_id, str(file))
    if record.linked:
        _add(client, run, record.linked)
    client.set_terminated(run_id, "FINISHED", record.start + length)
    return run_id


def _batches(rows: list[Any], length: int) -> list[list[Any]]:
    return [rows[first : first + length] for first in range(0, len(rows), length)]


def _add(client: Any, run: Any, file: Path) -> None:
    """Adds a file that nobody changes in place to the artifacts; on the same disk it takes no more room."""
    uri = run.info.artifact_uri
    folder = (
        Path(uri.removeprefix("file://"))
        if uri.startswith("file:///") or "://" not in uri and ":/" not in uri
        else None
    )
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, folder / file.name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, folder / file.name)
        return
    client.log_artifact(run.info.run_id, str(file))
