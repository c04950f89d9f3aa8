"""The network of every step of matching: put into one module, whose parameters are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from condense import models, seeds
from condense.config import UserError
from condense.data.dataset import Images
from condense.networks.bank import open_queue_bank
from condense.networks.queue import QueueStream, queue_stream
from condense.specs import Networks, QueueNetworks


class Source(Protocol):
    """`accuracy`: running training accuracy, in percent, of the network put in last; None where networks are not trained."""

    accuracy: float | None

    def at(self, step: int) -> None:
        """Puts in the network of a step."""


class RandomNetworks:
    """A freshly drawn network for every step."""

    accuracy = None

    def __init__(self, network: nn.Module, seed: int):
        self.network, self.seed = network, seed

    def at(self, step: int) -> None:
        models.reinitialise(self.network, seeds.stream(self.seed, "network", step))


class QueuedNetworks:
    """The network that a queue samples at every step, in eval mode."""

    def __init__(self, network: nn.Module, stream: QueueStream):
        self.network, self.stream, self.accuracy = network.eval(), stream, 0.0

    def at(self, step: int) -> None:
        sampled = self.stream.at(step)
        self.network.load_state_dict(sampled.network.state_dict())
        self.accuracy = sampled.accuracy


def network_source(
    settings: Networks | QueueNetworks,
    network: nn.Module,
    data: Images,
    *,
    arch: str,
    options: Mapping[str, Any],
    seed: int,
    bank: Path | None = None,
) -> Source:
    """Where `network` gets the parameters of every step from. A queue comes from `bank`, or is trained as it goes on all of `data`.

    Raises UserError if a bank is given to networks that are drawn at random, and if it is not the bank of this queue.
    """
    if isinstance(settings, Networks):
        if bank is not None:
            raise UserError(f"{bank}: the recipe draws its networks at random, so it takes no bank: leave out --bank")
        return RandomNetworks(network, seed)
    names = {"arch": arch, "options": options, "seed": seed, "device": next(network.parameters()).device}
    stream = open_queue_bank(bank, data, settings, **names) if bank else queue_stream(settings, data, **names)
    return QueuedNetworks(network, stream)
