"""How well a set ranks the networks of a space, against their true accuracies.

Source: the search among 720 ConvNets of DC, which ddm repeats (section F, Table 7), and that among networks
of NAS-Bench-201 of DC-Bench, which cpdm repeats (section 6.5, Table 7). Both train each network on the set
and compare the ranking by accuracy with that of training on all images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from condense.config import UserError
from condense.evaluate.joint import agreement
from condense.evaluate.trained import TrainedNetworks, measured_accuracy
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.files import read_truth
from condense.machine import seeds
from condense.specs.spaces import Space, space_of
from condense.specs.tasks.search import Search
from condense.training.sets import TrainingSet

_OF_EACH = ("candidate_accuracy", "candidate_seconds")  # what is measured of each network that is trained
_MINUTE = 60.0


class Stopwatch:
    """Measures each network: its accuracy, and the seconds since the one before it was measured.

    Those of a training that went on from a checkpoint are the seconds since then.
    """

    def __init__(self, tested: TrainingSet):
        self.tested, self.last = tested, time.monotonic()

    def __call__(self, networks: TrainedNetworks) -> dict[str, list[float]]:
        """Percentage and seconds of each; of several that were trained at once each has its share."""
        seconds = (time.monotonic() - self.last) / networks.count
        (accuracies,) = measured_accuracy(self.tested, networks).values()
        self.last = time.monotonic()
        return {"candidate_accuracy": accuracies, "candidate_seconds": [seconds] * networks.count}


def trained_candidates(
    trainer: Trainer,
    space: Space,
    candidates: Sequence[int],
    images: Callable[[], TrainingSet],
    tested: TrainingSet,
) -> Results:
    """By the metrics of `_OF_EACH` and candidate, what is measured of each of the trainer's networks of it,
    trained on `images` and tested on `tested`."""
    own = replace(trainer, metrics={name: Search.metrics[name] for name in _OF_EACH})
    return own.measured(
        dict.fromkeys(candidates, images),
        Stopwatch(tested),
        options={candidate: space.options(candidate) for candidate in candidates},
    )


def search(task: Search, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """Networks of the space are trained on the set and ranked by their accuracy on held-out training images,
    or on `tested`.

    Raises UserError for an architecture that is no space, for more networks than it has, for true accuracies
    that are not those that the task asks for, and where no image is left to train on.
    """
    space = space_of(trainer.arch)
    candidates = space.sample(task.candidates, task.draw)
    truth, networks = _truth(task, sets, space, candidates), len(trainer.networks)
    images, ranking = _images(task, sets, tested)
    trained, whole = task.trains_whole, sets.judged.path is None
    own = replace(trainer, options={**trainer.options, **task.options})
    if whole and not trained:
        measured = _from_truth(truth, candidates, networks)
    else:
        measured = trained_candidates(own, space, candidates, images, ranking)
    if whole:
        stored = len(sets.training_images())
    else:
        stored = len(trainer.test.counts) * int(sets.judged.header["ipc"])
    return _compared(task, truth, candidates, measured, stored, networks)


def _images(
    task: Search, sets: TaskSets, tested: TrainingSet
) -> tuple[Callable[[], TrainingSet], TrainingSet]:
    """What gives the images that networks are trained on, and those that rank them: of the whole training set
    the one are those that are not the other."""
    if not task.held_out:
        return sets.judged.by_step[0], tested
    everything = sets.training_images()
    if task.held_out >= len(everything):
        raise UserError(
            f"held_out: {task.held_out} training images are to be held out of {len(everything)}; take fewer"
        )
    order = torch.randperm(len(everything), generator=seeds.generator(task.draw, "held-out"))
    ranking, others = everything.part(order[: task.held_out]), order[task.held_out :].sort().values
    whole = sets.judged.path is None
    return (partial(everything.part, others) if whole else sets.judged.by_step[0]), ranking


@dataclass(frozen=True)
class _Truth:
    """The true accuracy of each candidate, and the seconds that it took to find it; None for published
    ones."""

    path: Path
    accuracies: np.ndarray
    seconds: np.ndarray | None


def _truth(task: Search, sets: TaskSets, space: Space, candidates: Sequence[int]) -> _Truth:
    """The true accuracies of the candidates, checked against what the task asks for."""
    path = sets.parents["truth"]
    tensors, known, _ = read_truth(path)
    asked = {
        "space": (known.space, space.name),
        "networks": (tensors["candidates"].tolist(), list(candidates)),
        "images": (known.data_sha256, sets.judged.header["data_sha256"]),
    }
    if not known.benchmark:
        asked["protocol"] = (str(known.protocol.get("name")), task.truth_protocol)
        asked["number of networks of each"] = (tensors["accuracies"].shape[1], task.truth_networks)
        asked["number of images"] = (known.images, task.truth_images)
    for name, (given, wanted) in asked.items():
        if given != wanted:
            shown = [text if len(text := str(value)) < 60 else f"{text[:57]}..." for value in (given, wanted)]
            raise UserError(
                f"{path}: holds true accuracies of another {name}, {shown[0]}, than the task asks for, "
                f"{shown[1]}; give those of this task"
            )
    seconds = tensors.get("seconds")
    return _Truth(path, tensors["accuracies"].mean(1), None if seconds is None else seconds.mean(1))


def _from_truth(truth: _Truth, candidates: Sequence[int], networks: int) -> Results:
    """What the true accuracies themselves say of each candidate, in the form of `trained_candidates`. Raises
    UserError for published ones, whose training took nobody knows how long here."""
    if truth.seconds is None:
        raise UserError(
            f"{truth.path}: published accuracies do not say how long networks were trained; give the task "
            "`trains_whole: true`, so that networks are trained on the whole training set, too"
        )
    rows = {"candidate_accuracy": truth.accuracies, "candidate_seconds": truth.seconds}
    return {
        name: {k: [float(value)] * networks for k, value in zip(candidates, values, strict=True)}
        for name, values in rows.items()
    }


def _compared(
    task: Search,
    truth: _Truth,
    candidates: Sequence[int],
    measured: Results,
    stored: int,
    networks: int,
) -> Results:
    """All metrics of the task, from what was measured of each candidate: every repetition ranks by itself."""
    true = truth.accuracies.tolist()
    of_all: dict[str, list[float]] = {name: [] for name in Search.metrics if not Search.is_curve(name)}
    for network in range(networks):
        scores, seconds = ([measured[name][k][network] for k in candidates] for name in _OF_EACH)
        found = agreement(task, scores, true) | {
            "time_cost": sum(seconds) / _MINUTE,
            "storage": float(stored),
        }
        for name, value in found.items():
            of_all[name].append(value)
    told = {k: [value] * networks for k, value in zip(candidates, true, strict=True)}
    return {name: {0: values} for name, values in of_all.items()} | measured | {"candidate_truth": told}
