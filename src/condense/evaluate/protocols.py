"""The evaluation of a synthetic set: n networks trained on it from scratch, each measured once, at the end.

Source: DC protocol (Zhao et al. 2021), as DM, DSA and DC-Bench use it.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from condense import models
from condense.config import UserError
from condense.data.dataset import Images
from condense.evaluate.following import Following
from condense.evaluate.trained import Measure, TrainedNetworks, measured_accuracy
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.machine.graphs import ROUNDING
from condense.machine.progress import Progress
from condense.machine.runtime import note
from condense.models import Network
from condense.specs import DEFAULT_TASK, Metric, Protocol
from condense.training.loop import layer_type, number_of_epochs, train
from condense.training.memory import release
from condense.training.observers import Labeller
from condense.training.sets import TrainingSet, pixel_set
from condense.training.stacked import Stacked, can_be_batched, differs, fitting
from condense.training.together import train_together

_log = logging.getLogger(__name__)
_SHOWN = 3  # metrics beside the progress
_COMPARED = 8  # images on which networks at once are compared with each alone, before they are trained


class FewerAtOnce(Exception):
    """So many networks cannot be trained at once; with the number to try, and the reason."""

    def __init__(self, networks: int, why: str):
        super().__init__(why)
        self.networks = networks


@dataclass(frozen=True)
class _Seen:
    """What the checkpoint of an evaluation has seen: by metric the values of its first networks."""

    values: dict[str, list[float]]


@dataclass(frozen=True)
class Evaluation:
    """The `networks` of an evaluation, by their numbers, how they are trained, and what is measured of each.

    `test`: images whose form and classes the networks are built for; `strategy`: the augmentation of the
    protocol; `metrics`: those that have to be measured; `labeller`: as in `train`, where the protocol takes
    its labels from elsewhere than the set.
    """

    test: Images
    protocol: Protocol
    arch: str
    options: dict[str, Any]
    strategy: str
    networks: Sequence[int]
    seed: int
    metrics: Mapping[str, Metric]
    device: torch.device
    labeller: Labeller | None = None

    def built(self) -> Network:
        """A network like those that are trained."""
        test = self.test
        network = models.build(
            self.arch, channels=test.channels, size=test.size, classes=len(test.counts), **self.options
        )
        return network.to(self.device)

    def training(self) -> dict[str, Any]:
        """What `train` and `train_together` take beside networks, images and checkpoint."""
        settings = {"protocol": self.protocol, "seed": self.seed, "strategy": self.strategy}
        return settings | ({} if self.labeller is None else {"labeller": self.labeller})


def train_and_measure(
    evaluation: Evaluation,
    train_on: TrainingSet,
    measure: Measure,
    checkpoint: Checkpoint,
    *,
    at_once: int | None = None,
    changed: Callable[[nn.Module], nn.Module] | None = None,
    following: Following | None = None,
) -> dict[str, list[float]]:
    """By metric what `measure` gives of the networks of `evaluation`, trained on `train_on`.

    Network k draws from its own streams, so its values do not depend on which others are trained, but for the
    order of sums and for dropout masks where several are trained at once. How many are (`at_once`) the device
    decides if it is not given: one on CPUs, as many as its memory takes on GPUs. Networks that cannot be
    batched are trained one after another whatever is given. `changed` makes of a network as it is built the
    one that is trained.
    """
    protocol, networks, metrics = evaluation.protocol, evaluation.networks, evaluation.metrics
    built = evaluation.built()
    network: nn.Module = built if changed is None else changed(built)
    at_once = (
        (at_once or _at_once(network, train_on, protocol, evaluation.device))
        if can_be_batched(network) and protocol.trains_together
        else 1
    )
    values, done = resumed(checkpoint, metrics, len(networks))
    epochs = number_of_epochs(protocol, len(train_on))
    title = f"{len(networks)} x {evaluation.arch} tested on {evaluation.test.dataset}"
    bar = Progress(title, len(networks) * epochs, "epoch", start=done * epochs)
    while done < len(networks):
        group = networks[done : done + at_once]
        before, inner = done, checkpoint.part("network" + "-".join(map(str, sorted({group[0], group[-1]}))))
        settings = evaluation.training() | {
            "checkpoint": inner,
            "progress": partial(_advance, bar, before * epochs, len(group)),
        }
        try:
            measured = _train_and_measure(network, train_on, measure, group, following, settings)
        except FewerAtOnce as error:
            note(
                f"{len(group)} networks of an evaluation are not trained at once, but {error.networks}: "
                f"{error}"
            )
            at_once, measured = error.networks, None
        inner.remove()
        if measured is None:
            release()
            continue
        check_measured(measured, metrics, len(group))
        for name in metrics:
            values[name] += measured[name]
        done += len(group)
        bar.update(done * epochs, {name: values[name][-1] for name in list(metrics)[:_SHOWN]})
        if checkpoint.due() and done < len(networks):
            checkpoint.save({}, {"values": values})
    bar.close()
    return values


def evaluate(
    train_on: TrainingSet,
    test: Images,
    protocol: Protocol,
    *,
    device: torch.device,
    checkpoint: Checkpoint,
    at_once: int | None = None,
    **settings: Any,
) -> list[float]:
    """Test accuracies in percent of networks trained on `train_on`; `settings` are those of an
    `Evaluation`."""
    evaluation = Evaluation(test, protocol, metrics=DEFAULT_TASK.metrics, device=device, **settings)
    measure = partial(measured_accuracy, pixel_set(test, device))
    return train_and_measure(evaluation, train_on, measure, checkpoint, at_once=at_once)["accuracy"]


def resumed(
    checkpoint: Checkpoint, metrics: Mapping[str, Metric], networks: int
) -> tuple[dict[str, list[float]], int]:
    """What the last checkpoint has seen, by metric, and of how many networks. Raises UserError if it is
    damaged."""
    loaded = checkpoint.load(_Seen)
    if loaded is None:
        return {name: [] for name in metrics}, 0
    values = loaded[1].values
    checkpoint.check(
        set(values) == set(metrics),
        f"it holds {', '.join(values) or 'nothing'} instead of {', '.join(metrics)}",
    )
    done = len(next(iter(values.values())))
    checkpoint.check(0 < done < networks, f"it holds the values of {done} networks of {networks}")
    for name, metric in metrics.items():
        check_seen(checkpoint, metric, name, values[name], done)
    _log.info("resumed from %d of %d networks", done, networks)
    return {name: list(values[name]) for name in metrics}, done


def check_seen(
    checkpoint: Checkpoint, metric: Metric, name: str, values: Sequence[float], networks: int
) -> None:
    """Raises UserError, naming the checkpoint, unless it holds possible values of the metric `name` of so
    many networks."""
    try:
        metric.check(name, values, networks)
    except UserError as error:
        checkpoint.check(False, str(error))


def check_measured(
    measured: Mapping[str, Sequence[float]], metrics: Mapping[str, Metric], networks: int
) -> None:
    """Raises ValueError for a measure that does not give what its task says."""
    if set(measured) != set(metrics):
        raise ValueError(
            f"a task says that it gives {', '.join(metrics)}, but {', '.join(measured)} was measured"
        )
    for name, metric in metrics.items():
        strange = next((value for value in measured[name] if not isinstance(value, (int, float))), None)
        if strange is not None:
            raise ValueError(
                f"{name}: a task gives plain numbers, one for each network, found a {type(strange).__name__}"
            )
        if not all(math.isfinite(value) for value in measured[name]):
            raise UserError(
                f"{name}: is no finite number for a trained network; a lower learning rate in the protocol "
                "may help"
            )
        try:
            metric.check(name, measured[name], networks)
        except UserError as error:
            raise ValueError(str(error)) from None


def _at_once(network: nn.Module, train_on: TrainingSet, protocol: Protocol, device: torch.device) -> int:
    """How many networks the device trains at once: one on a CPU, what its memory takes on a GPU.

    All of the memory counts, not what happens to be free: the same GPU makes the same groups, and with them
    the same sums.
    """
    if device.type != "cuda":
        return 1
    memory = torch.cuda.get_device_properties(device).total_memory
    return fitting(
        network,
        train_on.fetch(torch.tensor([0]))[0],
        min(protocol.batch, len(train_on)),
        memory,
        protocol.copies_held,
    )


def _train_and_measure(
    network: nn.Module,
    train_on: TrainingSet,
    measure: Measure,
    group: Sequence[int],
    following: Following | None,
    settings: dict[str, Any],
) -> dict[str, list[float]]:
    """What `measure` gives of the networks of `group`: drawn anew, trained on `train_on`, at once where there
    are several.

    Raises FewerAtOnce if so many cannot be trained at once: for want of memory, or because they would be
    other networks than alone.
    """
    names, device = [("evaluation", number) for number in group], train_on.labels.device
    protocol, seed = settings["protocol"], settings["seed"]

    def trained(network: nn.Module, run: Callable[..., None]) -> dict[str, list[float]]:
        networks = TrainedNetworks(network, layer_type(network, protocol, device))
        if following is None:
            run()
            return measure(networks)
        epochs = number_of_epochs(protocol, len(train_on))
        return following.measured(networks, measure, epochs, lambda follower: run(follower=follower))

    if len(group) == 1:
        models.reinitialise(network, seeds.stream(seed, *names[0]))
        return trained(network, partial(train, network, train_on, name=names[0], **settings))
    try:
        drawn = []
        for name in names:
            models.reinitialise(network, seeds.stream(seed, *name))
            drawn.append(copy.deepcopy(network))
        stacked = Stacked(drawn)
        why = _difference(stacked, drawn, train_on)
        if why:
            raise FewerAtOnce(1, why)
        return trained(stacked, partial(train_together, stacked, train_on, names=names, **settings))
    except torch.OutOfMemoryError:
        raise FewerAtOnce(len(group) // 2, "the memory of the device does not suffice") from None


def _difference(stacked: Stacked, drawn: Sequence[nn.Module], train_on: TrainingSet) -> str:
    """How networks at once would differ from each alone on some images; '' if they do not."""
    places = torch.arange(min(len(train_on), _COMPARED))
    device = train_on.labels.device
    return differs(
        stacked,
        drawn,
        train_on.fetch(places.to(device)),
        train_on.labels[places.to(device)],
        ROUNDING[torch.float32],
    )


def _advance(bar: Progress, before: int, networks: int, epochs: int) -> None:
    bar.update(before + networks * epochs)
