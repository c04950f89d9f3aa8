"""The evaluation of a synthetic set: n networks trained on it from scratch, each tested once, at the end.

Source: DC protocol (Zhao et al. 2021), as DM, DSA and DC-Bench use it; standard deviations are population values.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from condense import models, seeds
from condense.checkpoints import Checkpoint
from condense.data.dataset import Images
from condense.progress import Progress
from condense.specs import Protocol
from condense.training.loop import TrainingSet, accuracy, number_of_epochs, pixel_set, train

_log = logging.getLogger(__name__)


def evaluate(
    train_on: TrainingSet,
    test: Images,
    protocol: Protocol,
    *,
    arch: str,
    options: dict[str, Any],
    strategy: str,
    n_networks: int,
    seed: int,
    checkpoint: Checkpoint,
    device: torch.device,
) -> list[float]:
    """Test accuracies in percent of `n_networks` networks trained on `train_on` by `protocol`.

    Network k draws from its own streams, so its accuracy does not depend on how many others are trained.
    """
    judged = pixel_set(test, device)
    network = models.build(arch, channels=test.channels, size=test.size, classes=len(test.counts), **options).to(device)
    found = checkpoint.load()
    done: list[float] = found[1]["accuracies"] if found else []
    if found:
        _log.info("resumed from %d of %d networks", len(done), n_networks)
    epochs = number_of_epochs(protocol, len(train_on))
    bar = Progress(f"{arch} tested on {test.dataset}", n_networks * epochs, "epoch", start=len(done) * epochs)
    for place in range(len(done), n_networks):
        models.reinitialise(network, seeds.stream(seed, "evaluation", place))
        inner = checkpoint.part(f"network{place}")
        streams = {"strategy": strategy, "seed": seed, "name": ("evaluation", place)}
        train(network, train_on, protocol, **streams, checkpoint=inner, progress=partial(_advance, bar, place * epochs))
        done.append(accuracy(network, judged))
        inner.remove()
        bar.update((place + 1) * epochs, {"accuracy": done[-1]})
        if checkpoint.due() and place + 1 < n_networks:
            checkpoint.save({}, {"accuracies": done})
    bar.close()
    return done


def _advance(bar: Progress, before: int, epochs: int) -> None:
    bar.update(before + epochs)


def spread(accuracies: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation."""
    mean = math.fsum(accuracies) / len(accuracies)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in accuracies) / len(accuracies))
