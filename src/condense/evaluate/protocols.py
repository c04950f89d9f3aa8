"""The evaluation of a synthetic set: n networks trained on it from scratch, each tested once, at the end.

Source: DC protocol (Zhao et al. 2021), as DM, DSA and DC-Bench use it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from condense import models, seeds
from condense.checkpoints import Checkpoint
from condense.data.dataset import Images
from condense.progress import Progress
from condense.specs import Protocol
from condense.training.loop import TrainingSet, accuracy, layer_type, number_of_epochs, pixel_set, train

_log = logging.getLogger(__name__)


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
) -> list[float]:
    """Test accuracies in percent of the `networks`, by their numbers, trained on `train_on` by `protocol`.

    Network k draws from its own streams, so its accuracy does not depend on which others are trained.
    """
    judged = pixel_set(test, device)
    network = models.build(arch, channels=test.channels, size=test.size, classes=len(test.counts), **options).to(device)
    found = checkpoint.load()
    done: list[float] = found[1]["accuracies"] if found else []
    if found:
        _log.info("resumed from %d of %d networks", len(done), len(networks))
    epochs = number_of_epochs(protocol, len(train_on))
    bar = Progress(f"{arch} tested on {test.dataset}", len(networks) * epochs, "epoch", start=len(done) * epochs)
    for number in networks[len(done) :]:
        models.reinitialise(network, seeds.stream(seed, "evaluation", number))
        inner = checkpoint.part(f"network{number}")
        streams = {"strategy": strategy, "seed": seed, "name": ("evaluation", number)}
        train(network, train_on, protocol, **streams, checkpoint=inner, progress=partial(_advance, bar, len(done) * epochs))
        done.append(accuracy(network, judged, layer_type(network, protocol, device)))
        inner.remove()
        bar.update(len(done) * epochs, {"accuracy": done[-1]})
        if checkpoint.due() and len(done) < len(networks):
            checkpoint.save({}, {"accuracies": done})
    bar.close()
    return done


def _advance(bar: Progress, before: int, epochs: int) -> None:
    bar.update(before + epochs)
