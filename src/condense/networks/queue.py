"""A queue of networks trained on real images: the network of any step, trained only as far as that step needs
it.

The trainings of a network depend on its number and their count alone, not on the other networks, so each
network is brought to the asked state by itself: from where it stands, from the nearest kept state of a bank,
or from its first draw. Whatever way is taken, the state is the same bit for bit (for equal device, threads
and libraries), and the same as that of a queue trained step by step.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense import models
from condense.config import UserError
from condense.data.dataset import Images
from condense.machine import seeds
from condense.networks.schedule import Turn, turns
from condense.specs import QueueNetworks
from condense.training.optimizers import network_optimizer
from condense.training.sets import TrainingSet, pixel_set

_log = logging.getLogger(__name__)


class Trained:
    """A network, the momentum of its training, and how many trainings it has had."""

    def __init__(self, network: nn.Module, settings: QueueNetworks, age: int = 0):
        self.network, self.age = network, age
        self.optimizer = network_optimizer(network, settings.optimizer)

    def state(self, velocity: bool = True) -> dict[str, Tensor]:
        """Parameters and buffers as `network.*`, the momentum as `velocity.*`: views, not copies."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        return tensors | {
            f"velocity.{index}": value for index, value in enumerate(self.optimizer.velocity) if velocity
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up a `state`; where that has no momentum, the network is not to be trained on.

        Raises UserError if it is the state of another network.
        """
        for name, target in self.state(velocity="velocity.0" in tensors).items():
            if name not in tensors or tensors[name].numel() != target.numel():
                raise UserError(
                    f"a kept state does not fit its network: '{name}' is missing or of another shape; make "
                    "the bank anew"
                )
            target.copy_(tensors[name].reshape(target.shape))  # files hold no scalars, but lists of one


@contextmanager
def _repeatable() -> Iterator[None]:
    """Inside, convolutions on a GPU take algorithms that give the same sums every time."""
    backend = torch.backends.cudnn
    before = backend.deterministic, backend.benchmark
    backend.deterministic, backend.benchmark = True, False
    try:
        yield
    finally:
        backend.deterministic, backend.benchmark = before


def train_once(trained: Trained, images: TrainingSet, settings: QueueNetworks, seed: int, number: int) -> int:
    """One training of network `number`: `train_steps` steps, each on the first `batch` images of a fresh
    permutation of all.

    Returns how many of these images it classified rightly, each counted before the step that it was used for.
    Raises UserError if the loss is no number.
    """
    device, address = images.labels.device, (number, trained.age)
    generator = seeds.generator(seed, "queue", "batches", *address)
    # Layers that draw take no generator of their own
    torch.manual_seed(seeds.stream(seed, "queue", "dropout", *address))
    right = torch.zeros((), dtype=torch.int64, device=device)
    trained.network.train()
    with _repeatable():
        for _ in range(settings.train_steps):
            indices = torch.randperm(len(images), generator=generator)[: settings.batch]
            labels = images.labels[indices.to(device)]
            logits = trained.network(images.fetch(indices))
            loss = F.cross_entropy(logits, labels)
            trained.optimizer.zero_grad()
            loss.backward()
            trained.optimizer.step()
            right += (logits.detach().argmax(1) == labels).sum()
    trained.optimizer.zero_grad()  # a queue holds many networks, whose gradients nobody needs
    trained.age += 1
    if not torch.isfinite(loss):
        told = f"network {number} of the queue: the loss is {loss.item()} after {trained.age} trainings"
        raise UserError(f"{told}; lower its learning rate (networks: optimizer: lr)")
    return int(right)


class Store(Protocol):
    """States kept on disk."""

    def nearest(self, number: int, age: int) -> int | None:
        """The largest age, at most `age`, in which network `number` is kept; None if there is none."""

    def state(self, number: int, age: int) -> Mapping[str, Tensor]:
        """A kept state, as `Trained.state` gives it."""


@dataclass(frozen=True)
class Sampled:
    """The network for matching at a step, to be used before the next one is asked for; in train mode.

    `accuracy`: percentage of the images of its last trainings, since accuracies started anew, that it
    classified rightly; 0 before any.
    """

    number: int
    age: int
    network: nn.Module
    accuracy: float


@dataclass
class QueueStream:
    """The sampled network of every step, in any order; without a `store` every network is trained from its
    first draw.

    `right` says by network and training how many images were classified rightly, as far as it is known.
    `plan` are the steps of the queue, as far as they have been asked for; with a store those that it was made
    for, and others are refused.
    """

    settings: QueueNetworks
    data: Images
    template: nn.Module
    seed: int
    device: torch.device
    store: Store | None = None
    plan: list[Turn] = field(default_factory=list)
    right: dict[int, list[int]] = field(default_factory=dict)
    trainings: int = 0  # done so far

    def __post_init__(self) -> None:
        self.held: dict[int, Trained] = {}
        self.images = pixel_set(self.data, self.device)
        self.turns = turns(self.settings, self.seed)
        self.exact = True

    def turn(self, step: int) -> Turn:
        """A step of the queue. Raises UserError if it lies beyond what the bank was made for."""
        if step >= len(self.plan) and self.store is not None:
            held = f"the bank of networks holds {len(self.plan)} steps"
            raise UserError(f"{held}, but step {step + 1} is asked for: make one with more --steps")
        while step >= len(self.plan):
            self.plan.append(next(self.turns))
        return self.plan[step]

    def at(self, step: int) -> Sampled:
        """The network that is sampled at `step`, and its running accuracy."""
        turn = self.turn(step)
        for number in [number for number in self.held if number < turn.queue.start]:
            del self.held[number]  # taken out of the queue before
        trained = self._brought(turn.sampled, turn.age)
        counted = self.right[turn.sampled][turn.age - turn.counted : turn.age] if turn.counted else []
        seen = turn.counted * self.settings.train_steps * min(self.settings.batch, len(self.images))
        return Sampled(turn.sampled, turn.age, trained.network, 100.0 * sum(counted) / seen if seen else 0.0)

    def _brought(self, number: int, age: int) -> Trained:
        """Network `number` after `age` trainings."""
        trained = self.held.get(number)
        kept = self.store.nearest(number, age) if self.store else None
        if trained is None or trained.age > age or trained.age < (kept or 0):
            trained = self._known(number, kept)
        while trained.age < age:
            self._count(
                number, trained.age, train_once(trained, self.images, self.settings, self.seed, number)
            )
        self.held[number] = trained
        return trained

    def _known(self, number: int, age: int | None) -> Trained:
        """Network `number` as the store keeps it after `age` trainings, or as it is first drawn."""
        if age is not None and self.store is not None:
            return self.hold(number, age, self.store.state(number, age))
        network = copy.deepcopy(self.template)
        models.reinitialise(network, seeds.stream(self.seed, "queue", "network", number))
        return Trained(network.to(self.device), self.settings)

    def hold(self, number: int, age: int, state: Mapping[str, Tensor]) -> Trained:
        """Takes up network `number` as it was after `age` trainings."""
        trained = Trained(copy.deepcopy(self.template).to(self.device), self.settings, age)
        trained.load(state)
        self.held[number] = trained
        return trained

    def _count(self, number: int, age: int, right: int) -> None:
        self.trainings += 1
        known = self.right.setdefault(number, [])
        if age == len(known):
            known.append(right)
        elif known[age] != right and self.exact:
            self.exact = False
            _log.warning(
                "training %d of network %d classifies %d images rightly, where %d are on record: the bank "
                "was made with another device, number of threads or version, and what lies between its "
                "states is not repeated to the last bit",
                *(age + 1, number, right, known[age]),
            )


def queue_stream(
    settings: QueueNetworks,
    data: Images,
    *,
    arch: str,
    options: Mapping[str, Any],
    seed: int,
    device: torch.device,
    **more: Any,
) -> QueueStream:
    """A queue of networks `arch` on the images of all classes in `data`; `more` are further fields of
    `QueueStream`."""
    with torch.random.fork_rng(devices=[]):  # each network is drawn from its own stream
        template = models.build(
            arch, channels=data.channels, size=data.size, classes=len(data.counts), **options
        )
    return QueueStream(settings, data, template, seed, device, **more)
