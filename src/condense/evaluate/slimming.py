"""Network slimming with a synthetic set in place of the real images: networks are trained on it, lose the
channels of the smallest scales, and are trained on it again.

Source: Liu et al. 2017 (Network Slimming), sections 3 and 4: a subgradient of the L1 norm of the scales of
all batch norms is added to the gradient in the first training, channels are ranked over all layers, and the
network is tuned afterwards. edc's Figure 4 (left) shows it on ImageNet-1K with a VGG-11 with batch norm
and says no more of it: what was read is told in the notes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from condense.evaluate.protocols import resumed
from condense.evaluate.starting import Started, State, state_of
from condense.evaluate.trained import TrainedNetworks, measured_accuracy
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.models import slimmed
from condense.models.base import Network, count_parameters
from condense.specs import Protocol
from condense.specs.tasks.slimming import Slimming
from condense.training.sets import TrainingSet

# By which the seed of the second training differs, so that its batches come in another order
_SECOND = 1000


class Slimmed(Started):
    """A network that has lost channels, with what it has `lost` in percent, by metric."""

    def __init__(self, network: Network, lost: dict[str, float]) -> None:
        super().__init__(network)
        self.lost = lost


@dataclass(frozen=True)
class _First:
    """What the checkpoint of a network behind its first training says: its number."""

    network: int


def slimming(task: Slimming, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """By how many percent of the channels are taken out, the metrics of every network.

    Raises UserError, before anything is trained, where torch-pruning is not installed, for networks without
    batch norm or with too few channels, and otherwise as training does.
    """
    slimmed.slim(trainer.built(), image_for(trainer), task.percents[-1])
    tuned_by(task, trainer.protocol)
    made, checkpoint = sets.judged.by_step[0](), trainer.checkpoint
    metrics = {
        f"{name}{percent}": metric for name, metric in task.metrics.items() for percent in task.percents
    }
    values, done = resumed(checkpoint, metrics, len(trainer.networks))
    for number in trainer.networks[done:]:
        part = checkpoint.part(f"network{number}")
        found = slimmed_one(task, made, tested, replace(trainer, networks=[number], checkpoint=part))
        part.remove()
        for name, by_percent in found.items():
            for percent, value in by_percent.items():
                values[f"{name}{percent}"] += value
        done += 1
        if checkpoint.due() and done < len(trainer.networks):
            checkpoint.save({}, {"values": values})
    return {name: {percent: values[f"{name}{percent}"] for percent in task.percents} for name in task.metrics}


def slimmed_one(task: Slimming, made: TrainingSet, tested: TrainingSet, one: Trainer) -> Results:
    """The metrics of the only network of `one`, by how many percent of the channels are taken out."""
    state = first_training(task, made, one)
    return replace(one, protocol=tuned_by(task, one.protocol), seed=one.seed + _SECOND).measured(
        dict.fromkeys(task.percents, lambda: made),
        partial(measured_slimmed, tested),
        changed={percent: partial(without, state, image_for(one), percent) for percent in task.percents},
        at_once=1,
    )


def tuned_by(task: Slimming, protocol: Protocol) -> Protocol:
    """The protocol of the second training, with as large a share of its epochs, and of its least updates.
    Raises UserError where it would have fewer epochs than its schedule needs."""
    return replace(
        protocol,
        epochs=max(1, round(task.tuning * protocol.epochs)),
        least_updates=round(task.tuning * protocol.least_updates),
    )


def first_training(task: Slimming, made: TrainingSet, one: Trainer) -> State:
    """Weights and running statistics of the only network of `one`, trained on the set with the penalty;
    from a checkpoint, where it was trained before. Raises UserError if that is damaged."""
    kept, (number,) = one.checkpoint.part("trained"), one.networks
    loaded = kept.load(_First)
    if loaded is not None:
        tensors, known = loaded
        like = one.built().state_dict()
        kept.check_shapes(tensors, like)
        kept.check(known.network == number, f"it holds network {known.network} instead of {number}")
        return {name: torch.from_numpy(tensors[name]).reshape(value.shape) for name, value in like.items()}
    state: State = {}

    def keep(networks: TrainedNetworks) -> dict[str, list[float]]:
        state.update(state_of(networks.network))
        return {}

    replace(one, metrics={}, checkpoint=one.checkpoint.part("first")).measured(
        {0: lambda: made}, keep, changed=partial(penalised, task.penalty), at_once=1
    )
    if kept.due():
        kept.save({name: value.numpy() for name, value in state.items()}, {"network": number})
    return state


def penalised(penalty: float, network: nn.Module) -> nn.Module:
    """`network`, to the gradients of whose scales of batch norms a subgradient of their L1 norm is added, so
    many times."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            module.weight.register_hook(partial(_towards_zero, penalty, module.weight))
    return network


def _towards_zero(penalty: float, weight: Tensor, gradient: Tensor) -> Tensor:
    return gradient + penalty * weight.detach().sign()


def without(state: State, image: Tensor, percent: int, network: Network) -> Slimmed:
    """`network` in that `state`, without so many percent of its channels; `image` (1, C, H, W) is one that it
    takes."""
    network.load_state_dict(state)
    parameters = count_parameters(network)
    channels, of = slimmed.slim(network, image, percent)
    lost = {
        "removed_parameters": 100 * (parameters - count_parameters(network)) / parameters,
        "removed_channels": 100 * channels / of,
    }
    return Slimmed(network, lost)


def measured_slimmed(tested: TrainingSet, networks: TrainedNetworks) -> dict[str, list[float]]:
    """The accuracies on `tested` of a trained `Slimmed` network, and as it came, and what it has lost. Raises
    TypeError for another network."""
    if not isinstance(networks.network, Slimmed):
        raise TypeError(
            f"a network that has lost channels is needed, found {type(networks.network).__name__}"
        )
    before = copy.deepcopy(networks.network)
    before.reset_parameters()
    (after,) = measured_accuracy(tested, networks).values()
    (pruned,) = measured_accuracy(tested, TrainedNetworks(before, networks.dtype)).values()
    lost = {name: [value] for name, value in networks.network.lost.items()}
    return {"accuracy": after, "pruned_accuracy": pruned, **lost}


def image_for(trainer: Trainer) -> Tensor:
    """An image (1, C, H, W) that networks take, empty, where they are trained."""
    test = trainer.test
    return torch.zeros(1, test.channels, test.size, test.size, device=trainer.device)
