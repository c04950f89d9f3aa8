"""Whether the classes of a set lie in the order that its labels say: asked of a small network trained on real
training images.

The check knows nothing of test images. It holds a part of the training images out to say how far its
network can be trusted, and looks which class it sees in the images of each label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense import models
from condense.data.dataset import Images
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.specs import Protocol
from condense.specs.common import Source, convnet_depth
from condense.specs.schedules import CosineSchedule
from condense.specs.training import NetworkSGD
from condense.training.loop import accuracy, train
from condense.training.sets import tensor_set

IMAGES, EPOCHS, WIDTH = 3000, 20, 32  # the budget: some 20 seconds on 2 cores for 32 pixels
_LEAST_A_CLASS = 20
_HELD = 5  # every fifth of them is held out
# Of the classes that move: shares that see the other class, and still the own one
_VOTES, _AGAINST = 0.8, 0.1
_SURE, _DOUBT = 0.01, 0.05  # probability that as many images would go with the other order by chance

RIGHT, DOUBTFUL, WRONG = "right", "doubtful", "wrong"


@dataclass(frozen=True)
class OrderCheck:
    """What the network sees. Percentages: `accuracy` on real training images held out, `agreement` of the
    set's images with their labels, `best_agreement` under the best assignment `assignment` (for every label
    a class)."""

    verdict: str
    accuracy: float
    agreement: float
    best_agreement: float
    assignment: list[int]

    def told(self) -> dict[str, Any]:
        """Its entries as plain values, as the origin of a set holds them."""
        return asdict(self)

    def sentence(self, names: Sequence[str]) -> str:
        """What is to be told of it; `names` are those of the classes."""
        seen = (
            f"a network of real training images (right on {self.accuracy:.0f} % of others) sees the class of "
            f"its label in {self.agreement:.0f} % of the images"
        )
        if self.verdict == RIGHT:
            return seen
        moved = [label for label, other in enumerate(self.assignment) if label != other]
        other = ", ".join(f"{names[label]} is {names[self.assignment[label]]}" for label in moved[:12])
        more = ", ..." if len(moved) > 12 else ""
        return f"{seen}, and in {self.best_agreement:.0f} % if {other}{more}"


def check_order(
    images: Tensor, labels: Tensor, data: Images, *, strategy: str, seed: int, device: torch.device
) -> OrderCheck:
    """Trains a network on a few thousand of the training images `data` and compares what it sees in
    normalised images (N, C, H, W) with their labels (N,)."""
    chosen, held = _rows(data)
    network = models.build(
        "convnet",
        channels=data.channels,
        size=data.size,
        classes=len(data.counts),
        depth=convnet_depth(data.size),
        width=WIDTH,
    )
    models.reinitialise(network, seeds.stream(seed, "class-order"))
    network.to(device)
    seen, others = (
        tensor_set(data.normalise(data.images[rows]).to(device), data.labels[rows].to(device))
        for rows in (chosen, held)
    )
    train(
        network,
        seen,
        _PROTOCOL,
        strategy=strategy,
        seed=seed,
        name=("class-order",),
        checkpoint=Checkpoint(None, "class-order"),
    )
    trusted = accuracy(network, others)
    with torch.inference_mode():
        logits = torch.cat([network(part.to(device)) for part in images.split(256)])
    return judged(torch.softmax(logits.float(), 1).cpu().numpy(), labels.cpu().numpy(), trusted)


def judged(probabilities: np.ndarray, labels: np.ndarray, trusted: float) -> OrderCheck:
    """The verdict on what a network, right on `trusted` percent of real images, sees: probabilities (N,
    classes) of images with these labels (N,).

    The best assignment maximises the sum of the mean log-probabilities (Hungarian method). The order is
    wrong if nearly all classes that it moves are seen as the other class and hardly one as its own, and if
    the images that go with it are more than chance allows (sign test); doubtful if some of this holds, as
    for two classes of one image each, or if most classes are not seen as themselves.
    """
    from scipy.optimize import linear_sum_assignment

    classes = probabilities.shape[1]
    logs = np.log(probabilities.astype(np.float64) + 1e-12)
    means = np.stack([logs[labels == label].mean(0) for label in range(classes)])
    assignment = linear_sum_assignment(-means)[1]
    guessed, votes, own = probabilities.argmax(1), means.argmax(1), np.arange(classes)
    agreement, best = float((guessed == labels).mean()), float((guessed == assignment[labels]).mean())
    moved = assignment != own
    inside = moved[labels]
    wins = int((guessed == assignment[labels])[inside].sum())
    chance = _by_chance(wins, wins + int((guessed == labels)[inside].sum()))
    crossed = moved.any() and ((votes == assignment)[moved].all() or chance < _DOUBT)
    verdict = DOUBTFUL if crossed or (votes == own).mean() < 0.5 else RIGHT
    if moved.any() and chance < _SURE:
        with_it, against = (votes == assignment)[moved].mean(), (votes == own)[moved].mean()
        verdict = WRONG if with_it >= _VOTES and against <= _AGAINST else verdict
    return OrderCheck(verdict, trusted, 100 * agreement, 100 * best, assignment.tolist())


def _by_chance(wins: int, images: int) -> float:
    """The probability of at least so many heads of so many coins."""
    return sum(math.comb(images, heads) for heads in range(wins, images + 1)) / 2**images


def _rows(data: Images) -> tuple[Tensor, Tensor]:
    """Rows of the training images that are trained on and held out: as many of each class, spread over it."""
    wanted = max(_LEAST_A_CLASS, IMAGES // len(data.counts))
    rows = []
    for label, count in zip(data.classes, data.counts, strict=True):
        places = torch.linspace(0, count - 1, min(count, wanted)).round().long()
        rows.append(data.class_slice(label).start + places)
    held = [part[::_HELD] if len(part) > 1 else part[:0] for part in rows]
    seen = [part[torch.arange(len(part)) % _HELD != 0] if len(part) > 1 else part for part in rows]
    return torch.cat(seen), torch.cat(held)


_PROTOCOL = Protocol(
    name="class_order",
    title="Whether classes lie in the right order",
    source=Source("ours"),
    epochs=EPOCHS,
    batch=64,
    optimizer=NetworkSGD(0.02, momentum=0.9, weight_decay=5e-4),
    schedule=CosineSchedule("cosine"),
    precision="fp32",
)
