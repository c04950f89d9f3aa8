"""Bringing a store up to date with the finished files.

A run is known by the tag `source`, and by `source.digest`, a digest of the files it came from, which is set
last of all: a run without it was interrupted and is replaced, and so is one whose files have changed since
(MLflow keeps the old one as deleted). A file lock lets one ingestion at a time into a local store. A server
is reached from many machines, which share no lock: there everybody deletes, at the end, all but the first of
the runs of one digest, so that whoever ends last leaves one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.machine import locks
from condense.tracking import stores
from condense.tracking.runs import DIGEST, GROUP, PARENT, SOURCE, experiment, known_runs, page_of, write
from condense.tracking.sources import Source, Use, is_run_folder, sources

_FEW_GROUPS = 20  # up to here the runs of each set are asked for by themselves
_log = logging.getLogger(__name__)


@dataclass
class Summary:
    """Sources by what became of them, and the digests of all runs that are in the store now."""

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def text(self) -> str:
        return f"{len(self.added)} runs added, {len(self.replaced)} replaced, {len(self.unchanged)} unchanged"


def ingest(
    results: Path, store: str, artifacts_folder: Path | None = None, scale: str | None = None
) -> Summary:
    """Brings the MLflow `store` up to date with the sets and metrics under `results`, or with those of a
    scale.

    `store` is a database (sqlite:///mlflow.db), whose artifacts go to `artifacts_folder` (default:
    `mlartifacts` beside it), or a tracking server (http://host:port), which takes the artifacts too. Safe to
    repeat, to interrupt and to start twice at once: every file has one run. A run deleted in MLflow comes
    back, one whose files are gone stays.
    Raises UserError if MLflow is not installed or the store cannot be used, and, after all the others, if a
    file is damaged.
    """
    return Ingestion(results, store, artifacts_folder, scale).bring()


def uses_of(scale: str) -> dict[str, Use]:
    """Source -> the tables and figures of a scale that it is for, with the settings they ask for."""
    from condense.plan.cells import MetricsCell
    from condense.plan.datasets import RESULTS
    from condense.plan.tables import Plan

    plan = Plan(scale)
    uses: dict[str, tuple[dict[str, None], dict[str, None]]] = {}

    def note(cell: Any, table: str, setting: str) -> None:
        name = cell.path.removeprefix(f"{RESULTS}/")
        tables, settings = uses.setdefault(name, ({}, {}))
        tables[table] = None
        if setting:
            settings[setting] = None
        for synthetic in cell.all_sets if isinstance(cell, MetricsCell) else ():
            note(synthetic, table, setting)

    for table, rows in plan.tables.items():
        for row in rows:
            for cell in (cell for run in row.runs for cell in run.cells):
                note(cell, table, row.published["setting"])
    for table, figure in plan.figures.items():
        for curve in figure.curves:
            for drawn in (*curve.cells, *curve.shown):
                note(drawn, table, curve.setting)
    return {name: Use(tuple(tables), tuple(settings)) for name, (tables, settings) in uses.items()}


class Ingestion:
    """One results folder and the store it goes to. What has been brought in is remembered, so that later
    passes read only what changed."""

    def __init__(self, results: Path, store: str, artifacts: Path | None = None, scale: str | None = None):
        self.results, self.store, self.scale = Path(results), store, scale
        self.artifacts = stores.artifacts_beside(store) if artifacts is None else Path(artifacts)
        # Further metrics of a span of time
        self.timed: Callable[[int, int], list[tuple[str, float, int]]] | None = None
        self.page = ""  # where the runs are shown, once there are any
        self._uses: dict[str, Use] | None = None
        self._done: dict[str, tuple[Any, str]] = {}  # source -> signature, digest
        self._before: dict[str, Any] = {}  # source -> signature at the last look
        self._damaged: dict[str, Any] = {}  # source -> signature
        self._asked_all = False

    def bring(self, settled: bool = False) -> Summary:
        """Brings in what is new or changed; with `settled` only what has stayed the same since the last look.
        Raises as `ingest` does."""
        signatures = {source.name: (source, source.signature()) for source in self._sources()}
        changed = [
            source for source, now in signatures.values() if self._done.get(source.name, (None,))[0] != now
        ]
        if settled:
            changed = [
                source for source in changed if self._before.get(source.name) == signatures[source.name][1]
            ]
            changed = [
                source for source in changed if self._damaged.get(source.name) != signatures[source.name][1]
            ]
        self._before = {name: now for name, (_, now) in signatures.items()}
        summary = Summary()
        if not changed and (settled or self._done):
            return summary
        with self._alone(), stores.explained(self.store):
            faults = self._brought(changed, {name: now for name, (_, now) in signatures.items()}, summary)
        if faults:
            more = f" ({len(faults) - 1} more files are damaged)" if len(faults) > 1 else ""
            raise UserError(f"{faults[0]}{more}; all others are in the MLflow store {self.store}")
        return summary

    def _sources(self) -> list[Source]:
        if self.scale and self._uses is None and not is_run_folder(self.results):
            self._uses = uses_of(self.scale)
        return list(sources(self.results, self._uses, self.scale))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the lock of the artifacts, or of results for a server: a second ingestion waits, and finds
        the first one's runs."""
        folder = self.artifacts or (self.results / "tracking")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = locks.open_plain(folder / ".lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written: {error.strerror}; MLflow's artifacts go there"
            ) from None
        try:
            if not locks.locked(handle):
                _log.info("%s: another process brings it up to date; waiting for it", folder)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @property
    def experiment(self) -> str:
        """The name of the experiment: each scale has its own, `condense run` has one, and so has what
        belongs to no scale."""
        if is_run_folder(self.results):
            return "condense-run"
        return f"condense-{self.scale}" if self.scale else "condense"

    def _brought(
        self, changed: list[Source], signatures: dict[str, Any], summary: Summary
    ) -> list[UserError]:
        client = stores.connect(self.store)
        groups = {source.group for source in changed}
        few = self._asked_all and len(groups) <= _FEW_GROUPS and not any("'" in group for group in groups)
        runs = known_runs(client, groups if few else None)
        self._asked_all = True
        location = None if stores.is_server(self.store) else self.artifacts
        into = experiment(client, self.experiment, self.store, location)
        self.page = page_of(self.store, into)
        known = _by_source(runs, None if self.scale is None else into)
        faults: list[UserError] = []
        for source in changed:
            try:
                self._bring_one(client, into, source, known, summary)
                self._done[source.name] = (signatures[source.name], summary.digests[-1])
            except UserError as error:
                self._damaged[source.name] = signatures[source.name]
                faults.append(error)
        if summary.added or summary.replaced:
            here = known_runs(client, groups if few else None)
            _drop_doubles(client, [run for run in here if run.info.experiment_id == into])
        self._attach(client, into, groups, few)
        return faults

    def _bring_one(
        self, client: Any, into: str, source: Source, known: dict[str, list[Any]], summary: Summary
    ) -> None:
        total, build = source.read()
        before = known.get(source.name, [])
        if [run.data.tags.get(DIGEST) for run in before] == [total]:
            summary.unchanged.append(source.name)
        else:
            record = build()
            for run in before:
                client.delete_run(run.info.run_id)
            end = record.start + round(1000 * record.seconds)
            timed = self.timed(record.start, end) if self.timed else []
            run_id = write(client, into, record, {SOURCE: source.name, GROUP: source.group}, timed)
            client.set_tag(run_id, DIGEST, total)
            (summary.replaced if before else summary.added).append(source.name)
        summary.digests.append(total)

    def _attach(self, client: Any, into: str, groups: set[str], few: bool) -> None:
        """Lays the evaluations of these sets beneath the set's run, and their accuracies beside its
        recipe."""
        by_group: dict[str, list[Any]] = {}
        for run in known_runs(client, groups if few else None):
            if (
                run.info.experiment_id == into
                and DIGEST in run.data.tags
                and run.data.tags.get(GROUP) in groups
            ):
                by_group.setdefault(run.data.tags[GROUP], []).append(run)
        for group, runs in by_group.items():
            parents = [run for run in runs if run.data.tags[SOURCE] == group]
            if not parents:
                continue
            children = [run for run in runs if run.data.tags[SOURCE] != group]
            _log_accuracies(
                client, parents[0], [run for run in children if run.data.tags.get("task") == "evaluate"]
            )
            for run in children:
                if run.data.tags.get(PARENT) != parents[0].info.run_id:
                    client.set_tag(run.info.run_id, PARENT, parents[0].info.run_id)


def _by_source(runs: list[Any], into: str | None) -> dict[str, list[Any]]:
    """Source -> its runs in the experiment `into` (None: in any) and those of the older form, which had no
    sets."""
    known: dict[str, list[Any]] = {}
    for run in runs:
        if into is None or run.info.experiment_id == into or GROUP not in run.data.tags:
            known.setdefault(run.data.tags[SOURCE], []).append(run)
    return known


def _log_accuracies(client: Any, parent: Any, evaluations: list[Any]) -> None:
    """The accuracies of a set in its own run: `accuracy` is that by the network it was condensed with, or by
    the first one."""
    from mlflow.entities import Metric

    arch = parent.data.params.get("arch")
    ranked = sorted(
        evaluations, key=lambda run: (run.data.params["eval_arch"] != arch, run.data.tags["source"])
    )
    wanted: dict[str, float] = {}
    for run in ranked:
        for name in ("accuracy", "accuracy_std"):
            if (value := run.data.metrics.get(name)) is None:  # the deviation of a single value
                continue
            wanted.setdefault(name, value)
            wanted.setdefault(f"{name}/{run.data.params['eval_arch']}-{run.data.tags['protocol']}", value)
    changed = {name: value for name, value in wanted.items() if parent.data.metrics.get(name) != value}
    if changed:
        now = round(1000 * time.time())  # of several values MLflow shows the last
        client.log_batch(
            parent.info.run_id, metrics=[Metric(name, value, now, 0) for name, value in changed.items()]
        )


def _drop_doubles(client: Any, runs: list[Any]) -> None:
    """Deletes all but the first of several finished runs of one file. Two who do this at once choose the same
    one."""
    by_digest: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if DIGEST in run.data.tags:
            by_digest.setdefault((run.data.tags[SOURCE], run.data.tags[DIGEST]), []).append(run.info.run_id)
    for ids in by_digest.values():
        for run_id in sorted(ids)[1:]:
            client.delete_run(run_id)
