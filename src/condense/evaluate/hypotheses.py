"""How far the networks that a set gives are from those that the real images give.

Source: discrepancy, eq. (GD) and the definitions of VD and PD in the same section. There the generalisation
discrepancy is the difference of expected losses, here the mean cross-entropy in nats over real training
images. The value discrepancy is the largest distance of values over all inputs, which two networks that
disagree on a single image reach in full; here it is the root of the mean squared distance of the
probabilities over the same images, from 0 to the root of 2. The parameter discrepancy is the distance of the
parameters, here, as MTT has it, in lengths of the way that the network of the real images went from the first
draw that both have.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector

from condense import models
from condense.evaluate.protocols import resumed
from condense.evaluate.starting import Started
from condense.evaluate.trained import TrainedNetworks
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.files.artifacts import read_header
from condense.machine import seeds
from condense.machine.fitting import test_batch
from condense.machine.runtime import note
from condense.networks.finished import NetworkBank
from condense.specs.parent import others
from condense.specs.tasks.hypotheses import Hypotheses
from condense.training.sets import TrainingSet


def hypotheses(task: Hypotheses, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """The discrepancies of each of the trainer's networks from that of the bank which began as it did.

    Raises UserError for a bank of other networks or images, or of fewer networks than the task asks for.
    """
    # A bank names the images that it was trained on, which the test images are none of
    real = replace(trainer.test, data_sha256=str(sets.judged.header["data_sha256"]))
    bank = NetworkBank(sets.parents["bank"], real, arch=trainer.arch, options=trainer.options).ends()
    bank.require(task.count)
    for line in others("the task", task.networks, bank.path, read_header(bank.path)):
        note(f"{line}; the metrics say which file it was")
    images = _some_of_each_class(sets.training_images(), task.real, trainer.seed)
    checkpoint, made = trainer.checkpoint, {0: sets.judged.by_step[0]}
    values, done = resumed(checkpoint, trainer.metrics, len(trainer.networks))
    for number in trainer.networks[done:]:
        # Each from its own streams, beside the first draw that it has from the bank
        part, paired = checkpoint.part(f"network{number}"), number % task.count
        found = replace(trainer, networks=[number], checkpoint=part).measured(
            made, partial(compared, images, bank, paired), partial(_begun, bank, paired), at_once=1
        )
        part.remove()
        for name in values:
            values[name] += found[name][0]
        done += 1
        if checkpoint.due() and done < len(trainer.networks):
            checkpoint.save({}, {"values": values})
    return {name: {0: values[name]} for name in trainer.metrics}


def compared(
    images: TrainingSet, bank: NetworkBank, number: int, networks: TrainedNetworks
) -> dict[str, list[float]]:
    """The discrepancies on `images` of a trained `Started` network from number `number` of the bank. Raises
    TypeError for another network."""
    one = networks.network
    if not isinstance(one, Started):
        raise TypeError(f"a network that was begun as one of a bank is needed, found {type(one).__name__}")
    other = copy.deepcopy(one)
    other.reset_parameters()
    first = parameters_to_vector(other.parameters()).detach()
    other.network.load_state_dict(bank.network(number))
    loss, real_loss, squared = means_over(images, networks, TrainedNetworks(other, networks.dtype))
    made, end = (parameters_to_vector(network.parameters()).detach() for network in (one, other))
    return {
        "generalisation": [abs(loss - real_loss)],
        "value": [squared**0.5],
        "parameter": [((made - end).norm() / (first - end).norm()).item()],
    }


@torch.inference_mode()
def means_over(images: TrainingSet, one: TrainedNetworks, other: TrainedNetworks) -> list[float]:
    """Means over `images` in eval mode: the cross-entropies of one network and of the other, and the squared
    distance of their probabilities."""
    sums = torch.zeros(3, dtype=torch.float64)
    for networks in (one, other):
        networks.network.eval()
    for places in torch.arange(len(images)).split(test_batch(images.labels.device.type, 2)):
        pixels, labels = images.fetch(places), images.labels[places.to(images.labels.device)]
        logs = [F.log_softmax(networks.logits(pixels)[0].double(), 1) for networks in (one, other)]
        losses = [F.nll_loss(log, labels, reduction="sum") for log in logs]
        sums += torch.stack([*losses, (logs[0].exp() - logs[1].exp()).square().sum()]).cpu()
    return (sums / len(images)).tolist()


def _begun(bank: NetworkBank, number: int, network: nn.Module) -> Started:
    """`network`, whose first draw is that of number `number` of the bank."""
    models.reinitialise(network, seeds.stream(bank.seed, "trained", number))
    return Started(network)


def _some_of_each_class(real: TrainingSet, most: int, seed: int) -> TrainingSet:
    """At most so many images of every class, drawn, in the order in which they lie."""
    rows = []
    for label in real.labels.unique().tolist():
        of_class = (real.labels == label).nonzero()[:, 0]
        order = torch.randperm(len(of_class), generator=seeds.generator(seed, "hypotheses", label))[:most]
        rows.append(of_class[order.to(of_class.device)])
    return real.part(torch.cat(rows).sort().values)
