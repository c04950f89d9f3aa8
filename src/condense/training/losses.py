"""What the logits of a network are compared with, by the names that protocols give it: classes,
probabilities, or other logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from condense.augment.cutmix import Mixture
from condense.config import UserError, unknown
from condense.specs import Protocol
from condense.training.sets import Targets, TrainingSet


class Loss:
    """Cross-entropy with the classes of the images, which others build on."""

    def __init__(self, settings: Any):
        self.settings = settings

    def compared(self, targets: Targets | None) -> Tensor | None:
        """What of the soft labels of a set the logits are compared with, (n, classes); None: nothing.

        Raises UserError, in words that follow the name of the set, if they are not of a kind that serves.
        """
        return None

    def of_batch(
        self,
        logits: Tensor,
        labels: Tensor,
        wanted: Tensor | None,
        mixture: Mixture,
        rows: slice = slice(None),
    ) -> Tensor:
        """The mean () over the images of a batch that lie in its `rows`: logits (p, k) of those, labels (b,)
        of all.

        `wanted`: what `compared` gave of the images of the batch (b, k), mixed as they are.
        """
        return mixture.loss(logits, labels, rows)

    def of_networks(self, logits: Tensor, labels: Tensor, wanted: Tensor | None) -> Tensor:
        """The means (K,) over the images of an unmixed batch for each of K networks: logits (K, b, k), labels
        (K, b), wanted (K, b, k)."""
        return (
            F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
            .view(labels.shape)
            .mean(1)
        )


class VectorLoss(Loss):
    """A loss between the logits and a vector for each image; `hard_weight` times that of the classes is added
    where it has one."""

    def each(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """The loss (...) of logits (..., k) against vectors (..., k)."""
        raise NotImplementedError

    def compared(self, targets: Targets | None) -> Tensor | None:
        if targets is None:
            raise UserError("has none")
        return self.vectors(targets)

    def vectors(self, targets: Targets) -> Tensor:
        """What the logits are compared with."""
        raise NotImplementedError

    def of_batch(
        self,
        logits: Tensor,
        labels: Tensor,
        wanted: Tensor | None,
        mixture: Mixture,
        rows: slice = slice(None),
    ) -> Tensor:
        loss = self.each(logits, _given(wanted)[rows]).mean()
        weight = getattr(self.settings, "hard_weight", 0.0)
        if not weight:
            return loss
        mixed = mixture if self.settings.hard_labels == "mixed" else Mixture()
        return loss + weight * mixed.loss(logits, labels, rows)

    def of_networks(self, logits: Tensor, labels: Tensor, wanted: Tensor | None) -> Tensor:
        losses = self.each(logits, _given(wanted)).mean(1)
        weight = getattr(self.settings, "hard_weight", 0.0)
        return losses + weight * super().of_networks(logits, labels, None) if weight else losses


def _given(wanted: Tensor | None) -> Tensor:
    if wanted is None:
        raise ValueError("a loss that compares with soft labels was given none")
    return wanted


class SoftLoss(VectorLoss):
    """Cross-entropy with probabilities."""

    def vectors(self, targets: Targets) -> Tensor:
        return targets.probabilities()

    def each(self, logits: Tensor, wanted: Tensor) -> Tensor:
        return -(wanted * F.log_softmax(logits, -1)).sum(-1)


class DistillationLoss(VectorLoss):
    """Kullback-Leibler divergence at a temperature from the probabilities of a teacher at the same one."""

    def vectors(self, targets: Targets) -> Tensor:
        return targets.probabilities(self.settings.temperature)

    def each(self, logits: Tensor, wanted: Tensor) -> Tensor:
        temperature = self.settings.temperature
        loss = F.kl_div(F.log_softmax(logits / temperature, -1), wanted, reduction="none").sum(-1)
        return temperature**2 * loss if self.settings.scaled else loss


class LogitsLoss(VectorLoss):
    """Mean squared difference of logits."""

    def vectors(self, targets: Targets) -> Tensor:
        if targets.kind != "logits":
            raise UserError(f"has {targets.kind}, no logits")
        return targets.values

    def each(self, logits: Tensor, wanted: Tensor) -> Tensor:
        return (logits - wanted).square().mean(-1)


LOSSES: dict[str, Callable[[Any], Loss]] = {
    "hard": Loss,
    "soft": SoftLoss,
    "distillation": DistillationLoss,
    "mse": LogitsLoss,
}


def loss_of(protocol: Protocol, images: TrainingSet) -> tuple[Loss, Tensor | None]:
    """The loss of a protocol, and what it compares the logits of each image with, beside its class.

    That is nothing where the protocol takes its labels from elsewhere. Raises UserError naming both if the
    set does not have the soft labels that the loss needs.
    """
    name = protocol.loss.name
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES, protocol.name)
    loss = LOSSES[name](protocol.loss)
    if protocol.labels is not None:
        return loss, None
    try:
        return loss, loss.compared(images.targets)
    except UserError as error:
        raise UserError(
            f"protocol '{protocol.name}': its loss '{name}' compares with soft labels, and {images.name} "
            f"{error}: choose a protocol with another loss, or a set that has them"
        ) from None
