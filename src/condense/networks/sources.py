"""The network of every step of matching: put into one module, whose parameters are replaced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from condense import models, seeds
from condense.config import UserError
from condense.data.dataset import Images
from condense.networks.bank import NetworkBank, open_queue_bank
from condense.networks.queue import QueueStream, queue_stream
from condense.specs import AnyNetworks, Networks, TrainedNetworks


class Source(Protocol):
    """`accuracy`: running training accuracy, in percent, of the network put in last; None where networks are not trained.

    `trained`: a finished network that stands beside the one put in last, in eval mode; None where there is none.
    """

    accuracy: float | None
    trained: nn.Module | None

    def at(self, step: int) -> None:
        """Puts in the network of a step."""


class RandomNetworks:
    """A freshly drawn network for every step."""

    accuracy = trained = None

    def __init__(self, network: nn.Module, seed: int):
        self.network, self.seed = network, seed

    def at(self, step: int) -> None:
        models.reinitialise(self.network, seeds.stream(self.seed, "network", step))


class QueuedNetworks:
    """The network that a queue samples at every step, in eval mode."""

    trained = None

    def __init__(self, network: nn.Module, stream: QueueStream):
        self.network, self.stream, self.accuracy = network.eval(), stream, 0.0

    def at(self, step: int) -> None:
        sampled = self.stream.at(step)
        self.network.load_state_dict(sampled.network.state_dict())
        self.accuracy = sampled.accuracy


class FinishedNetworks:
    """One of the networks of a bank at every step, `mixed` with its first draw or as it is; in eval mode.

    Network k of the bank was first drawn from the stream ("trained", k); what is mixed are the parameters, not running statistics.
    """

    accuracy = None

    def __init__(self, network: nn.Module, bank: NetworkBank, settings: TrainedNetworks, seed: int):
        if len(bank) < settings.count:
            raise UserError(f"{bank.path}: has {len(bank)} networks, but the recipe asks for {settings.count}: make the bank anew")
        self.network, self.bank, self.settings, self.seed = network.eval(), bank, settings, seed
        self.trained = copy.deepcopy(network).requires_grad_(False)

    def at(self, step: int) -> None:
        number = seeds.stream(self.seed, "network", step) % self.settings.count
        self.trained.load_state_dict(self.bank.network(number))
        if not self.settings.mixed:
            self.network.load_state_dict(self.trained.state_dict())
            return
        models.reinitialise(self.network, seeds.stream(self.bank.seed, "trained", number))
        share = torch.rand((), generator=seeds.generator(self.seed, "network", step)).item()
        with torch.no_grad():
            for own, end in zip(self.network.parameters(), self.trained.parameters(), strict=True):
                own.lerp_(end, 1 - share)
            for own, end in zip(self.network.buffers(), self.trained.buffers(), strict=True):
                own.copy_(end)


def network_source(
    settings: AnyNetworks,
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
    if isinstance(settings, TrainedNetworks):
        if bank is None:
            raise UserError("the recipe uses trained networks; make them with `condense bank` and give them as --bank")
        return FinishedNetworks(network, NetworkBank(bank, data, arch=arch, options=options), settings, seed)
    names = {"arch": arch, "options": options, "seed": seed, "device": next(network.parameters()).device}
    stream = open_queue_bank(bank, data, settings, **names) if bank else queue_stream(settings, data, **names)
    return QueuedNetworks(network, stream)
