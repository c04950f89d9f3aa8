"""The evaluation of a synthetic set: n networks trained on it from scratch, each tested once, at the end.

Source: DC protocol (Zhao et al. 2021), as DM, DSA and DC-Bench use it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from condense import models, seeds
from condense.checkpoints import Checkpoint
from condense.data.dataset import Images
from condense.evaluate.drift import Drifting, StyleDrift
from condense.files import check_accuracies
from condense.fitting import can_train_together
from condense.graphs import ROUNDING
from condense.progress import Progress
from condense.runtime import note
from condense.specs import Protocol
from condense.training.loop import TrainingSet, accuracy, layer_type, number_of_epochs, pixel_set, train
from condense.training.memory import release
from condense.training.stacked import Stacked, accuracies_together, can_be_batched, differs, fitting
from condense.training.together import train_together

_log = logging.getLogger(__name__)
_COMPARED = 8  # images on which networks at once are compared with each alone, before they are trained


class FewerAtOnce(Exception):
    """So many networks cannot be trained at once; with the number to try, and the reason."""

    def __init__(self, networks: int, why: str):
        super().__init__(why)
        self.networks = networks


@dataclass(frozen=True)
class Tested:
    """The accuracies, in percent, of the networks that a checkpoint of an evaluation has seen."""

    accuracies: list[float]

    def __post_init__(self) -> None:
        check_accuracies(self.accuracies)


def evaluate(
    train_on: TrainingSet,
    test: Images,
    protocol: Protocol,
    *,
    arch: str,
    options: dict[str, Any],
    strategy: str,
    networks: Sequence[int],
    seed: int,
    checkpoint: Checkpoint,
    device: torch.device,
    at_once: int | None = None,
    drift: StyleDrift | None = None,
) -> list[float]:
    """Test accuracies in percent of the `networks`, by their numbers, trained on `train_on` by `protocol`.

    Network k draws from its own streams, so its accuracy does not depend on which others are trained, but for the order of sums and
    for dropout masks where several are trained at once. How many are (`at_once`) the device decides if it is not given: one on CPUs,
    as many as its memory takes on GPUs. Networks that cannot be batched are trained one after another whatever is given.
    With a `drift` the images of `train_on` come with partners towards whose style theirs is drifted; such networks are not batched.
    """
    judged = pixel_set(test, device)
    network = models.build(arch, channels=test.channels, size=test.size, classes=len(test.counts), **options).to(device)
    if drift is not None:
        network = Drifting(network, drift)
    at_once = (at_once or _at_once(network, train_on, protocol, device)) if can_be_batched(network) and can_train_together(protocol) else 1
    found = checkpoint.load(Tested)
    done: list[float] = list(found[1].accuracies) if found else []
    if found:
        checkpoint.check(len(done) < len(networks), f"it holds the accuracies of {len(done)} networks of {len(networks)}")
        _log.info("resumed from %d of %d networks", len(done), len(networks))
    epochs = number_of_epochs(protocol, len(train_on))
    bar = Progress(f"{arch} tested on {test.dataset}", len(networks) * epochs, "epoch", start=len(done) * epochs)
    while len(done) < len(networks):
        group = networks[len(done) : len(done) + at_once]
        before, inner = len(done), checkpoint.part("network" + "-".join(map(str, sorted({group[0], group[-1]}))))
        advance = partial(_advance, bar, before * epochs, len(group))
        settings = {"strategy": strategy, "checkpoint": inner, "progress": advance}
        try:
            done += _train_and_test(network, train_on, judged, protocol, group, seed, **settings)
        except FewerAtOnce as error:
            note(f"{len(group)} networks of an evaluation are not trained at once, but {error.networks}: {error}")
            at_once = error.networks
        inner.remove()
        if len(done) == before:
            release()
            continue
        bar.update(len(done) * epochs, {"accuracy": done[-1]})
        if checkpoint.due() and len(done) < len(networks):
            checkpoint.save({}, {"accuracies": done})
    bar.close()
    return done


def _at_once(network: nn.Module, train_on: TrainingSet, protocol: Protocol, device: torch.device) -> int:
    """How many networks the device trains at once: one on a CPU, what its memory takes on a GPU.

    All of the memory counts, not what happens to be free: the same GPU makes the same groups, and with them the same sums.
    """
    if device.type != "cuda":
        return 1
    memory = torch.cuda.get_device_properties(device).total_memory
    return fitting(network, train_on.fetch(torch.tensor([0]))[0], min(protocol.batch, len(train_on)), memory)


def _train_and_test(
    network: nn.Module,
    train_on: TrainingSet,
    judged: TrainingSet,
    protocol: Protocol,
    group: Sequence[int],
    seed: int,
    **settings: Any,
) -> list[float]:
    """Accuracies of the networks of `group`: drawn anew, trained on `train_on`, at once where there are several, tested on `judged`.

    Raises FewerAtOnce if so many cannot be trained at once: for want of memory, or because they would be other networks than alone.
    """
    names = [("evaluation", number) for number in group]
    dtype = layer_type(network, protocol, judged.labels.device)
    if len(group) == 1:
        models.reinitialise(network, seeds.stream(seed, *names[0]))
        train(network, train_on, protocol, seed=seed, name=names[0], **settings)
        return [accuracy(network, judged, dtype)]
    try:
        drawn = []
        for name in names:
            models.reinitialise(network, seeds.stream(seed, *name))
            drawn.append(copy.deepcopy(network))
        stacked = Stacked(drawn)
        why = _difference(stacked, drawn, train_on)
        if why:
            raise FewerAtOnce(1, why)
        train_together(stacked, train_on, protocol, seed=seed, names=names, **settings)
        return accuracies_together(stacked, judged, layer_type(stacked, protocol, judged.labels.device))
    except torch.OutOfMemoryError:
        raise FewerAtOnce(len(group) // 2, "the memory of the device does not suffice") from None


def _difference(stacked: Stacked, drawn: Sequence[nn.Module], train_on: TrainingSet) -> str:
    """How networks at once would differ from each alone on some images; '' if they do not."""
    places = torch.arange(min(len(train_on), _COMPARED))
    device = train_on.labels.device
    return differs(stacked, drawn, train_on.fetch(places.to(device)), train_on.labels[places.to(device)], ROUNDING[torch.float32])


def _advance(bar: Progress, before: int, networks: int, epochs: int) -> None:
    bar.update(before + networks * epochs)
