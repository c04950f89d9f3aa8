"""Labels that do not lie in the set: those that trained networks give each batch as it is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol as Protocol_

import torch
from torch import Tensor, nn

from condense.config import UserError
from condense.kernels import winograd
from condense.kernels.precision import computed_in
from condense.specs import Protocol
from condense.training.batches import Batch, batches, unchanged
from condense.training.losses import Loss, loss_of
from condense.training.memory import in_smaller_batches
from condense.training.sets import Targets, TrainingSet


class Labeller(Protocol_):
    """What gives the labels of batches as they come."""

    def batches(
        self,
        images: TrainingSet,
        protocol: Protocol,
        strategy: str,
        seed: int,
        name: tuple[str | int, ...],
        epoch: int,
    ) -> Iterator[Batch]:
        """The batches of an epoch; as `batches.batches` draws them for the network, or others."""

    def logits(self, batch: Batch, seen: Tensor) -> Tensor:
        """Logits (b, classes) of a batch, whose images are `seen` (b, c, h, w): augmented and mixed."""


class Observers:
    """The mean logits of frozen networks in eval mode. Source: the students of SRe2L on CIFAR-100, RDED and
    EDC."""

    def __init__(self, networks: Sequence[nn.Module], dtypes: Sequence[torch.dtype]):
        """`dtypes`: in which the layers of each network are computed."""
        self.networks, self.dtypes = list(networks), list(dtypes)
        for network in self.networks:
            winograd.keep_windows(network)

    batches = staticmethod(batches)

    def logits(self, batch: Batch, seen: Tensor) -> Tensor:
        """In float32. Fewer images go through at a time where the memory does not suffice."""
        return in_smaller_batches(partial(self._logits, seen), len(seen))

    @torch.no_grad()
    def _logits(self, images: Tensor, size: int) -> Tensor:
        return torch.cat([self._mean(chosen) for chosen in images.split(size)])

    def _mean(self, images: Tensor) -> Tensor:
        each = []
        for network, dtype in zip(self.networks, self.dtypes, strict=True):
            with computed_in(dtype, images.device):
                each.append(network(images))
        return torch.stack(each).mean(0)


class Wanted:
    """What the logits of batches are compared with, by the loss of a protocol."""

    def __init__(self, loss: Loss, targets: Tensor | None, labeller: Labeller | None, protocol: Protocol):
        """`targets` (n, k): what `loss` compares with of the images of the set, where nobody labels them.

        Raises UserError for a protocol that takes its labels from elsewhere where nobody gives them, such as
        one that trains what is made beforehand; ValueError for a labeller that it does not ask for.
        """
        if protocol.labels is not None and labeller is None:
            raise UserError(
                f"protocol '{protocol.name}': takes its labels from '{protocol.labels.name}', which only "
                "evaluations are given; choose a protocol without `labels` here"
            )
        if protocol.labels is None and labeller is not None:
            raise ValueError(f"'{protocol.name}' takes no labels, and was given some")
        self.loss, self.targets, self.labeller = loss, targets, labeller

    def of(self, batch: Batch, seen: Tensor) -> Tensor | None:
        """For the images of a batch, mixed as they are (b, k); None: nothing beside their classes."""
        if self.labeller is not None:
            return self.loss.compared(Targets(self.labeller.logits(batch, seen), "logits"))
        if self.targets is None:
            return None
        return batch.mixture.vectors(self.targets[batch.indices.to(self.targets.device)])


def compared_with(
    protocol: Protocol, images: TrainingSet, labeller: Labeller | None
) -> tuple[Loss, Tensor | None]:
    """The loss of a protocol, and what it compares the logits of each image with, beside its class, where
    images are neither augmented nor mixed: labels of the set, or those that `labeller` gives such images.

    Raises UserError as `loss_of` and `Wanted` do.
    """
    loss, targets = loss_of(protocol, images)
    Wanted(loss, targets, labeller, protocol)  # is what it takes given?
    if labeller is None:
        return loss, targets
    logits: Tensor | None = None
    for batch in batches(images, unchanged(protocol), "", 0, ("unchanged",), 0):
        given = labeller.logits(batch, batch.seen(images)[0]).float()
        if logits is None:
            logits = given.new_empty(len(images), given.shape[1])
        logits[batch.indices.to(given.device)] = given
    assert logits is not None, "a set without images"
    return loss, loss.compared(Targets(logits, "logits"))
