"""What a task is given: its sets, and who trains networks on them and hands these to be measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from condense.evaluate.following import Following
from condense.evaluate.protocols import Evaluation, check_seen, train_and_measure
from condense.evaluate.trained import Measure
from condense.files.checkpoints import Checkpoint
from condense.training.sets import TrainingSet

_log = logging.getLogger(__name__)
# By metric and step (0 of the set itself) the value of each network
Results = dict[str, dict[int, list[float]]]
Change = Callable[[Any], nn.Module]  # of a network as it is built, into the one that is trained


@dataclass(frozen=True)
class TaskSet:
    """A set that was read: its file (None: all training images), what its header says, and by step what makes
    its images ready."""

    path: Path | None
    header: dict[str, Any]
    by_step: Mapping[int, Callable[[], TrainingSet]]


@dataclass(frozen=True)
class TaskSets:
    """The set that a task judges, by the names that the task gives them its further ones and the files of
    what was made beforehand, and what was condensed."""

    judged: TaskSet
    further: Mapping[str, TaskSet] = field(default_factory=dict)
    real: Callable[[], TrainingSet] | None = None  # makes all real training images ready
    parents: Mapping[str, Path] = field(default_factory=dict)

    def training_images(self) -> TrainingSet:
        """All real training images, which are read when they are asked for. Raises ValueError where the job
        gave none."""
        if self.real is None:
            raise ValueError("a task asked for the real training images, which its job did not give")
        return self.real()


@dataclass(frozen=True)
class _Seen:
    """What the checkpoint of a task has seen: by metric and step, as text, the values of the networks."""

    results: dict[str, dict[str, list[float]]]


@dataclass(frozen=True, kw_only=True)
class Trainer(Evaluation):
    """Trains the networks of an evaluation on a set at each of its steps, going on from a checkpoint."""

    checkpoint: Checkpoint

    def measured(
        self,
        by_step: Mapping[int, Callable[[], TrainingSet]],
        measure: Measure | Mapping[int, Measure],
        changed: Change | Mapping[int, Change] | None = None,
        following: Following | None = None,
        options: Mapping[int, Mapping[str, Any]] | None = None,
        at_once: int | None = None,
    ) -> Results:
        """What `measure`, or that of the step, gives of networks trained on the training set of every step.

        `options`: by step further options of the architecture, where they differ. `changed`, or that of the
        step, makes of a new network, before it is drawn, the one that is trained; `following` says whether
        networks are tested during their training, too, and `at_once` how many are trained side by side
        (None: as the device decides). Raises ValueError for other metrics than the task's.
        """
        results = self._resumed(list(by_step))
        for step in [step for step in by_step if step not in results]:
            inner = self.checkpoint.part(step)
            results[step] = train_and_measure(
                replace(self, options={**self.options, **(options or {}).get(step, {})}),
                by_step[step](),
                measure[step] if isinstance(measure, Mapping) else measure,
                inner,
                at_once=at_once,
                changed=changed[step] if isinstance(changed, Mapping) else changed,
                following=following,
            )
            inner.remove()
            if self.checkpoint.due() and len(results) < len(by_step):
                seen = {
                    name: {str(at): values[name] for at, values in results.items()} for name in self.metrics
                }
                self.checkpoint.save({}, {"results": seen})
        return {name: {step: results[step][name] for step in by_step} for name in self.metrics}

    def _resumed(self, steps: Sequence[int]) -> dict[int, dict[str, list[float]]]:
        """What the last checkpoint has seen, by step. Raises UserError if it is damaged."""
        loaded = self.checkpoint.load(_Seen)
        if loaded is None:
            return {}
        seen = loaded[1].results
        done = [step for step in steps if all(str(step) in rows for rows in seen.values())]
        fits = set(seen) == set(self.metrics) and all(len(rows) == len(done) for rows in seen.values())
        self.checkpoint.check(fits, f"it does not hold {', '.join(self.metrics)} at steps of the set")
        for name, rows in seen.items():
            for values in rows.values():
                check_seen(self.checkpoint, self.metrics[name], name, values, len(self.networks))
        _log.info("resumed from %d of %d sets", len(done), len(steps))
        return {step: {name: seen[name][str(step)] for name in self.metrics} for step in done}
