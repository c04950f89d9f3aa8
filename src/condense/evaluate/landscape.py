"""How the loss of networks trained on a set rises around their weights.

Source: Li et al. 2018 (Visualizing the Loss Landscape of Neural Nets), section 4: two directions are drawn
from a normal distribution, and each filter of them (here: each slice along the first axis of a tensor of
weights, as a row of a linear layer) is scaled to the length of the same filter of the network; biases, the
parameters of norms and scales of channels have none. edc's Figure 2b shows such a loss and does not say of
which network, images or directions. Read so: the networks are those that judge the set, in eval mode, with
the running statistics that they have; the loss on the set is that of the protocol, on images that are not
augmented, and the loss on test images the cross-entropy. All networks and sets of a seed share the two draws,
so that landscapes differ by their weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from condense.evaluate.trained import TrainedNetworks
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.machine import seeds
from condense.machine.fitting import test_batch
from condense.specs.tasks.landscape import CIRCLE, Landscape
from condense.training.losses import Loss
from condense.training.memory import in_smaller_batches
from condense.training.observers import compared_with
from condense.training.sets import TrainingSet
from condense.training.stacked import NORMS

Place = tuple[float, float]  # how far along the first and the second direction
_RISES = {"rise": "loss", "test_rise": "test_loss"}


def landscape(task: Landscape, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """Losses at every point of the square, numbered row by row, and their mean rises over the circle, of
    every network. Raises UserError if the protocol's loss needs soft labels that the set does not have."""
    made = sets.judged.by_step[0]()
    # At every point a metric of its own while it is measured, so that checkpoints hold them
    metrics = {
        f"{name}{number}": task.metrics[name] for name in _RISES.values() for number in range(task.points**2)
    }
    metrics = {name: task.metrics[name] for name in _RISES} | metrics
    losses = {
        "loss": partial(
            mean_loss, images=made, compared=compared_with(trainer.protocol, made, trainer.labeller)
        ),
        "test_loss": partial(mean_loss, images=tested, compared=(Loss(None), None)),
    }
    measured = replace(trainer, metrics=metrics).measured(
        {0: lambda: made}, partial(measured_landscape, task, losses, trainer.seed)
    )
    by_point = {
        name: {number: measured[f"{name}{number}"][0] for number in range(task.points**2)}
        for name in _RISES.values()
    }
    return {name: measured[name] for name in _RISES} | by_point


def measured_landscape(
    task: Landscape,
    losses: Mapping[str, Callable[[TrainedNetworks], Tensor]],
    seed: int,
    networks: TrainedNetworks,
) -> dict[str, list[float]]:
    """Of each network the mean rises of `losses`, which give one value (K,) for each of them, and by name and
    number those at the points of the square."""
    networks.network.eval()
    angles = [2 * math.pi * number / CIRCLE for number in range(CIRCLE)]
    square = [(first, second) for first in task.grid for second in task.grid]
    circle = [(task.radius * math.cos(angle), task.radius * math.sin(angle)) for angle in angles]
    weights = filters(networks.network)
    both = [
        directions(weights, networks.count, seeds.generator(seed, "landscape", "direction", axis))
        for axis in range(2)
    ]
    at_places: dict[str, list[Tensor]] = {name: [] for name in losses}
    for place in (*square, *circle):
        with moved(weights, both, place):
            for name, loss in losses.items():
                at_places[name].append(loss(networks))
    values = {}
    for rise, name in _RISES.items():
        rows = torch.stack(at_places[name])  # (places, K)
        values[rise] = (rows[len(square) :].mean(0) - rows[len(square) // 2]).tolist()
        values |= {f"{name}{number}": row.tolist() for number, row in enumerate(rows[: len(square)])}
    return values


def filters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of `network` that are moved: all but biases, those of norms, and scales of channels."""
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    still = {id(parameter) for norm in norms for parameter in norm.parameters()}
    return [
        parameter
        for name, parameter in network.named_parameters()
        if id(parameter) not in still
        and "bias" not in name.rpartition(".")[2]
        and parameter.dim() > 0
        and parameter[0].numel() > 1
    ]


@torch.no_grad()
def directions(weights: Sequence[Tensor], count: int, generator: torch.Generator) -> list[Tensor]:
    """A direction for each of the `filters` in `weights`, those of `count` networks joined along their first
    axis: normal draws, the same for each network, of which every filter has the length of that of the
    weights."""
    drawn = []
    for weight in weights:
        of_one = torch.randn(len(weight) // count, *weight.shape[1:], generator=generator)
        noise = of_one.to(weight).repeat(count, *[1] * (weight.dim() - 1))
        lengths = [
            tensor.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1)) for tensor in (noise, weight)
        ]
        drawn.append(noise * (lengths[1] / lengths[0]))
    return drawn


@contextmanager
def moved(weights: Sequence[Tensor], both: Sequence[Sequence[Tensor]], place: Place) -> Iterator[None]:
    """Inside, the weights are moved so far along both directions; afterwards they are bit by bit what they
    were."""
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, first, second in zip(weights, *both, strict=True):
            weight.add_(place[0] * first + place[1] * second)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)


def mean_loss(networks: TrainedNetworks, images: TrainingSet, compared: tuple[Loss, Tensor | None]) -> Tensor:
    """The mean loss (K,) of each network over `images`, in float64 on the CPU; `compared`: the loss, and what
    it compares each image with beside its class, as `compared_with` gives them."""
    batch = test_batch(images.labels.device.type, networks.count)
    return in_smaller_batches(partial(_mean_loss, networks, images, *compared), batch)


@torch.inference_mode()
def _mean_loss(
    networks: TrainedNetworks, images: TrainingSet, loss: Loss, wanted: Tensor | None, batch: int
) -> Tensor:
    total = torch.zeros(networks.count, dtype=torch.float64)
    for indices in torch.arange(len(images)).split(batch):
        rows, logits = indices.to(images.labels.device), networks.logits(images.fetch(indices))
        labels = images.labels[rows].expand(networks.count, -1)
        vectors = None if wanted is None else wanted[rows].expand(networks.count, -1, -1)
        total += len(indices) * loss.of_networks(logits.float(), labels, vectors).double().cpu()
    return total / len(images)
