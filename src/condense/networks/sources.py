"""The network of every step of matching: put into one module, whose parameters are replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from condense import models, specs
from condense.config import UserError, unknown
from condense.data.dataset import Images
from condense.machine import seeds
from condense.machine.transfer import AHEAD, Ahead
from condense.models import Network
from condense.networks import subspace
from condense.networks.bank import open_queue_bank
from condense.networks.finished import NetworkBank
from condense.networks.queue import QueueStream, queue_stream
from condense.specs import AnyNetworks, Networks, QueueNetworks, TrainedNetworks, TrajectoryNetworks


class Source(Protocol):
    """`accuracy`: running training accuracy, in percent, of the network put in last; None where networks are
    not trained.

    `trained`: a finished network that stands beside the one put in last, in eval mode; None where there is
    none.
    """

    @property
    def accuracy(self) -> float | None: ...

    @property
    def trained(self) -> Network | None: ...

    def at(self, step: int) -> None:
        """Puts in the network of a step."""

    def second(self, step: int) -> Network:
        """Another network for a step, from a stream of its own; it is to be used before the next one is asked
        for."""

    def close(self) -> None:
        """Ends what it does ahead of the steps."""


class RandomNetworks:
    """A freshly drawn network for every step."""

    accuracy = trained = None

    def __init__(self, network: Network, seed: int):
        self.network, self.seed = network, seed
        self._drawing = models.Drawing(network)
        self._drawn = Ahead(
            lambda step: self._drawing(seeds.stream(seed, "network", step)),
            AHEAD[next(network.parameters()).device.type],
        )

    def at(self, step: int) -> None:
        models.take(self.network, self._drawn.at(step))
        self.finish(self.network)

    def second(self, step: int) -> Network:
        models.take(self._other, self._drawing(seeds.stream(self.seed, "second network", step)))
        self.finish(self._other)
        return self._other

    def finish(self, network: Network) -> None:
        """Makes of freshly drawn parameters those that are used."""

    def close(self) -> None:
        self._drawn.close()

    @cached_property
    def _other(self) -> Network:
        return copy.deepcopy(self.network)


class SubspaceNetworks(RandomNetworks):
    """A freshly drawn network for every step, brought towards the span of finished networks of a bank and of
    their first draws.

    Source: discrepancy, section 5.2.2 (Ma et al. 2023).
    """

    def __init__(self, network: Network, bank: NetworkBank, settings: specs.SubspaceNetworks, seed: int):
        bank.require(settings.count)
        super().__init__(network, seed)
        self.threshold = settings.threshold
        self.basis = subspace.span(subspace.trajectories(network, bank, settings.count))

    def finish(self, network: Network) -> None:
        """Moves it towards the span."""
        subspace.put(network, subspace.towards_span(subspace.flat(network), self.basis, self.threshold))


class QueuedNetworks:
    """The network that a queue samples at every step, in eval mode. It gives no second one."""

    trained = None

    def __init__(self, network: Network, stream: QueueStream):
        self.network, self.stream, self.accuracy = network.eval(), stream, 0.0

    def at(self, step: int) -> None:
        sampled = self.stream.at(step)
        self.network.load_state_dict(sampled.network.state_dict())
        self.accuracy = sampled.accuracy

    def second(self, step: int) -> Network:
        raise ValueError("a queue gives one network a step")

    def close(self) -> None:
        """Nothing is done ahead."""


class FinishedNetworks:
    """One of the networks of a bank at every step, `mixed` with its first draw or as it is; in eval mode.

    Network k of the bank was first drawn from the stream ("trained", k); what is mixed are the parameters,
    not running statistics.
    """

    accuracy = None

    def __init__(self, network: Network, bank: NetworkBank, settings: TrainedNetworks, seed: int):
        bank.require(settings.count)
        self.network, self.bank, self.settings, self.seed = network.eval(), bank, settings, seed
        self.trained = copy.deepcopy(network).requires_grad_(False)
        self._drawing = models.Drawing(network)

    def at(self, step: int) -> None:
        number = seeds.stream(self.seed, "network", step) % self.settings.count
        self._put(self.network, self.trained, number, "network", step)

    def second(self, step: int) -> Network:
        """Any other of the bank."""
        first = seeds.stream(self.seed, "network", step) % self.settings.count
        number = seeds.stream(self.seed, "second network", step) % (self.settings.count - 1)
        self._put(*self._others, number + (number >= first), "second network", step)
        return self._others[0]

    @cached_property
    def _others(self) -> tuple[Network, Network]:
        return copy.deepcopy(self.network), copy.deepcopy(self.trained)

    def _put(self, network: Network, trained: Network, number: int, name: str, step: int) -> None:
        """Network `number` of the bank into `trained`, and into `network` what is made of it, with the draws
        of (name, step)."""
        trained.load_state_dict(self.bank.network(number))
        if not self.settings.mixed:
            network.load_state_dict(trained.state_dict())
            return
        models.take(network, self._drawing(seeds.stream(self.bank.seed, "trained", number)))
        share = torch.rand((), generator=seeds.generator(self.seed, name, step)).item()
        with torch.no_grad():
            for parameter, end in zip(network.parameters(), trained.parameters(), strict=True):
                parameter.lerp_(end, 1 - share)
            for buffer, last in zip(network.buffers(), trained.buffers(), strict=True):
                buffer.copy_(last)

    def close(self) -> None:
        """Nothing is done ahead."""


class NetworksOfEpochs:
    """The network after e epochs of one of the trainings of a bank at every step, and beside it, as the
    trained one, that after e' of them; both in eval mode. After 0 epochs it is the first draw, from the
    stream ("trained", number).

    Source: TGDD (AAAI 2026).
    """

    accuracy = None

    def __init__(self, network: Network, bank: NetworkBank, settings: TrajectoryNetworks, seed: int):
        self.epochs = bank.epochs or 0
        if not self.epochs:
            raise UserError(
                f"{bank.path}: has networks at the end of their training, but the recipe asks for those of "
                "all epochs: make the bank anew"
            )
        bank.require(settings.count * self.epochs)
        self.network, self.bank, self.settings, self.seed = network.eval(), bank, settings, seed
        self.trained = copy.deepcopy(network).requires_grad_(False)
        self._drawing = models.Drawing(network)

    def at(self, step: int) -> None:
        number, first, last = self.drawn(step)
        self._put(self.network, number, first)
        self._put(self.trained, number, last)

    def drawn(self, step: int) -> tuple[int, int, int]:
        """Which training a step has, and the numbers of epochs of the step's network and of the trained one
        beside it."""
        number = seeds.stream(self.seed, "network", step) % self.settings.count
        first = seeds.stream(self.seed, "epoch", step) % (self.epochs + 1)
        reach = min(self.settings.ahead, self.epochs - first)
        return number, first, first + seeds.stream(self.seed, "later epoch", step) % (reach + 1)

    def _put(self, network: Network, number: int, epoch: int) -> None:
        if epoch:
            network.load_state_dict(self.bank.network(number * self.epochs + epoch - 1))
        else:
            models.take(network, self._drawing(seeds.stream(self.bank.seed, "trained", number)))

    def second(self, step: int) -> Network:
        raise ValueError("a trajectory gives one network a step")

    def close(self) -> None:
        """Nothing is done ahead."""


def _random(
    settings: Networks, network: Network, data: Images, bank: Path | None, of: Mapping[str, Any]
) -> Source:
    if bank is not None:
        raise UserError(f"{bank}: the recipe draws its networks at random, so it takes no bank")
    return RandomNetworks(network, of["seed"])


def _queued(
    settings: QueueNetworks, network: Network, data: Images, bank: Path | None, of: Mapping[str, Any]
) -> Source:
    names = {**of, "device": next(network.parameters()).device}
    return QueuedNetworks(
        network,
        open_queue_bank(bank, data, settings, **names) if bank else queue_stream(settings, data, **names),
    )


def _finished(bank: Path | None, data: Images, of: Mapping[str, Any]) -> NetworkBank:
    if bank is None:
        making = "make them first (`condense bank --help` says how) and give them as --with bank=FILE"
        raise UserError(f"the recipe uses trained networks; {making}")
    return NetworkBank(bank, data, arch=of["arch"], options=of["options"])


def _trained(
    settings: TrainedNetworks, network: Network, data: Images, bank: Path | None, of: Mapping[str, Any]
) -> Source:
    return FinishedNetworks(network, _finished(bank, data, of).ends(), settings, of["seed"])


def _trajectory(
    settings: TrajectoryNetworks, network: Network, data: Images, bank: Path | None, of: Mapping[str, Any]
) -> Source:
    return NetworksOfEpochs(network, _finished(bank, data, of), settings, of["seed"])


def _subspace(
    settings: specs.SubspaceNetworks, network: Network, data: Images, bank: Path | None, of: Mapping[str, Any]
) -> Source:
    return SubspaceNetworks(network, _finished(bank, data, of).ends(), settings, of["seed"])


# By the kind that a recipe gives its networks; `of` says of which architecture, options and seed they are.
SOURCES: dict[str, Callable[..., Source]] = {
    "random": _random,
    "queue": _queued,
    "trained": _trained,
    "trajectory": _trajectory,
    "subspace": _subspace,
}


def network_source(
    settings: AnyNetworks,
    network: Network,
    data: Images,
    *,
    arch: str,
    options: Mapping[str, Any],
    seed: int,
    bank: Path | None = None,
) -> Source:
    """Where `network` gets the parameters of every step from. A queue comes from `bank`, or is trained as it
    goes on all of `data`.

    Raises UserError if a bank is given to networks that are drawn at random, and if it is not the bank of
    this queue.
    """
    if settings.kind not in SOURCES:
        raise unknown("kind of networks", settings.kind, SOURCES)
    return SOURCES[settings.kind](
        settings, network, data, bank, {"arch": arch, "options": options, "seed": seed}
    )
