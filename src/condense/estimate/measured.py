"""Measured seconds per step and epoch of a reference device, where there are some, and what follows for other
jobs."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from condense.config import UserError
from condense.estimate.rates import REFERENCE, REFERENCE_NAME, Rates, cost
from condense.estimate.work import gather_work, group_work, join_work, networks_in, steps_work, work_of
from condense.plan import Maker, MetricsCell, ParentCell, SyntheticCell, data_cell
from condense.plan.parent import with_their_own
from condense.plan.ranges import Share
from condense.specs import DEFAULT_PROTOCOL, DEFAULT_TASK, catalogue, number_of_epochs
from condense.specs.common import Ipc
from condense.specs.costs.work import Work

# `stage` is synthesize (seconds a step), teach or evaluate (seconds an epoch of one network); `method` of a
# teacher is its protocol.
COLUMNS = ["device", "stage", "dataset", "method", "arch", "ipc", "classes", "seconds", "date", "note"]


@dataclass(frozen=True)
class Measured:
    """A row of `params/measured/rates/*.csv`: seconds a step (or an epoch of one network) took on a
    device."""

    device: str
    stage: str
    dataset: str
    method: str
    arch: str
    ipc: str
    classes: str
    seconds: float
    date: str
    note: str

    @property
    def key(self) -> tuple[str, ...]:
        return self.stage, self.dataset, self.method, self.arch, self.ipc, self.classes


def measured_rows(folder: Path | None = None) -> list[Measured]:
    """The rows of all files, of the reference device alone. Raises UserError naming file and line of a row
    that cannot be used."""
    rows = []
    for path in sorted((folder or catalogue.params_folder() / "measured" / "rates").glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != COLUMNS:
                raise UserError(f"{path}: its columns have to be {','.join(COLUMNS)}")
            for values in reader:
                rows.append(_row(values, f"{path}:{reader.line_num}"))
    return rows


def _row(values: dict[str, str], where: str) -> Measured:
    if values["device"] != REFERENCE_NAME:
        raise UserError(
            f"{where}: device '{values['device']}': the scale is reckoned for one device, '{REFERENCE_NAME}'"
        )
    if values["stage"] not in ("synthesize", "teach", "evaluate"):
        raise UserError(f"{where}: stage '{values['stage']}': synthesize, teach or evaluate is needed")
    try:
        seconds = float(values["seconds"])
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(f"{where}: seconds '{values['seconds']}': a number above 0 is needed")
    return Measured(seconds=seconds, **{name: text for name, text in values.items() if name != "seconds"})


class JobCost(NamedTuple):
    """What a job takes on the reference device, `gpu_bytes` of its memory and `host_bytes` of that of the
    machine around it."""

    seconds: float
    bytes_out: int  # that stay
    gpu_bytes: int
    host_bytes: int


class Pace:
    """Seconds of jobs on the reference device: its constants, corrected by the rows that were measured.

    A job of a measured kind takes the measured seconds a step; others of its stage the reckoned ones times
    the geometric mean of measured over reckoned. Raises UserError for a row of a job that the scale cannot
    have.
    """

    def __init__(self, maker: Maker, rows: Sequence[Measured] = (), rates: Rates = REFERENCE):
        self.rates, self.rows = rates, {row.key: row.seconds for row in rows}
        self._jobs: dict[tuple[Any, ...], JobCost] = {}
        ratios: dict[str, list[float]] = {}
        for row in rows:
            ratios.setdefault(row.stage, []).append(row.seconds / self._reckoned(maker, row))
        self.factors = {
            stage: math.exp(math.fsum(map(math.log, values)) / len(values))
            for stage, values in ratios.items()
        }

    def job(self, stage: str, cell: Any, count: int | Share | None = None) -> JobCost:
        """What the job takes that makes `cell`, or that share or the part of so many networks of it."""
        name = (stage, cell and (cell.path if isinstance(cell, MetricsCell) else cell.key), count)
        if name not in self._jobs:
            work = _work(stage, cell, count)
            # Shards and parts are temporary: what they take is gone once the set or the metrics are whole.
            temporary = stage == "synthesize" or (
                stage == "evaluate" and count not in (None, cell.n_networks)
            )
            library = self.rates.light_memory if work.light else self.rates.memory
            held = (0, work.peak_bytes) if work.light else (work.peak_bytes, work.host_bytes)
            cost = JobCost(
                self._seconds(stage, cell, work, count),
                0 if temporary else work.bytes_out,
                held[0],
                held[1] + library,
            )
            self._jobs[name] = cost
        return self._jobs[name]

    def group(self, cells: Sequence[SyntheticCell], share: Share | int) -> JobCost:
        """What the job takes that condenses a share of sets which have the real side in common.

        Seconds are reckoned, and corrected as those of the sets alone are on average.
        """
        name = ("group", *(cell.key for cell in cells), share)
        if name not in self._jobs:
            self._jobs[name] = self._group(cells, share)
        return self._jobs[name]

    def _group(self, cells: Sequence[SyntheticCell], share: int | Share) -> JobCost:
        alone, work = (
            [self.job("synthesize", cell, share) for cell in cells],
            group_work(cells, share, on_gpu=True),
        )
        reckoned = [cost(work_of(cell, share, on_gpu=True), self.rates) for cell in cells]
        start = self.rates.start
        factor = sum(job.seconds - start for job in alone) / sum(seconds - start for seconds in reckoned)
        seconds = start + (cost(work, self.rates) - start) * factor
        return JobCost(seconds, 0, work.peak_bytes, work.host_bytes + self.rates.memory)

    def steps(self, cell: SyntheticCell) -> JobCost:
        """What the job takes that makes all that a set is put together of: one start, and the rest of
        each."""
        parents = with_their_own(parent for part in cell.joins for parent in part.parents.values())
        alone = [self.job("teach", parent) for parent in parents]
        alone += [self.job("synthesize", part) for part in cell.joins]
        work, start = steps_work(cell, on_gpu=True), self.rates.start
        seconds = start + sum(job.seconds - start for job in alone)
        return JobCost(seconds, work.bytes_out, work.peak_bytes, work.host_bytes + self.rates.memory)

    def together(self, cells: Sequence[MetricsCell]) -> JobCost:
        """What the job takes that makes several evaluations: one start, and the rest of each."""
        alone, start = [self.job("evaluate", cell) for cell in cells], self.rates.start
        seconds = start + sum(job.seconds - start for job in alone)
        return JobCost(seconds, 0, max(job.gpu_bytes for job in alone), max(job.host_bytes for job in alone))

    def _seconds(self, stage: str, cell: Any, work: Work, count: int | Share | None) -> float:
        start = self.rates.light_start if work.light else self.rates.start
        steps = _steps(stage, cell, count)
        seconds_a_step = self.rows.get(_row_key(stage, cell, count)) if steps else None
        if seconds_a_step is not None:
            return start + steps * seconds_a_step
        return start + (cost(work, self.rates) - start) * self.factors.get(stage, 1.0)

    def _reckoned(self, maker: Maker, row: Measured) -> float:
        data = data_cell(row.dataset)
        ipc: Ipc = "full" if row.ipc == "full" else int(row.ipc or 1)
        cell: Any = maker.teacher(data, row.arch, row.method) if row.stage == "teach" else None
        if row.stage != "teach":
            cell = maker.synthetic(
                data, row.method, row.arch if row.stage == "synthesize" else "convnet", ipc, 0
            )
        if row.stage == "evaluate":
            cell = maker.metrics(cell, row.arch, DEFAULT_PROTOCOL)
        work = _work(
            row.stage,
            cell,
            Share("classes", f"0-{int(row.classes) - 1}") if row.stage == "synthesize" else None,
        )
        steps = _steps(row.stage, cell, None)
        if not steps:
            raise UserError(
                f"rates: {row.method} is condensed in no steps; only methods of the matching engine have a "
                "pace"
            )
        return (cost(work, self.rates) - self.rates.start) / steps


def _work(stage: str, cell: Any, count: int | Share | None) -> Work:
    if cell is None:
        return Work(light=True)  # only reads results
    if stage == "gather":
        return gather_work(cell)
    return join_work(cell) if stage == "join" else work_of(cell, count, on_gpu=True)


def _steps(stage: str, cell: Any, count: int | Share | None) -> int:
    """Steps of a set, epochs of all networks of an evaluation or a part, what a parent says of itself; 0 for
    what has none."""
    if stage == "synthesize":
        return cell.recipe.number_of_steps
    if isinstance(cell, ParentCell):
        return cell.pace
    if (
        stage == "evaluate"
        and cell.task.reads == DEFAULT_TASK.reads
        and cell.task.passes == DEFAULT_TASK.passes
        and cell.task.test_passes == DEFAULT_TASK.test_passes
        and cell.task.trained_on == DEFAULT_TASK.trained_on
    ):
        synthetic, whole = cell.synthetic, cell.synthetic.ipc == "full"
        trained = networks_in(cell, count) * cell.task.trainings(whole) * cell.task.sets_in(0)
        epochs = number_of_epochs(cell.protocol, synthetic.images_trained)
        return math.ceil(trained * epochs)
    return 0


def _row_key(stage: str, cell: Any, count: int | Share | None) -> tuple[str, ...]:
    if isinstance(cell, ParentCell):
        return stage, cell.data.name, cell.made_by, cell.arch, "", ""
    if isinstance(cell, MetricsCell):
        synthetic = cell.synthetic
        return stage, synthetic.data.name, synthetic.recipe.name, cell.eval_arch, str(synthetic.ipc), ""
    classes, ipc = cell.size_of(count)
    return stage, cell.data.name, cell.recipe.name, cell.arch, str(ipc), str(classes)
