"""Training one network on images, epoch by epoch, resumable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from typing import Protocol as Protocol_

import torch
from torch import Tensor, nn

from condense.augment.cutmix import Mixture
from condense.config import UserError
from condense.files.checkpoints import Checkpoint
from condense.kernels.precision import computed_in, reduced
from condense.machine import seeds
from condense.machine.fitting import test_batch
from condense.machine.runtime import note
from condense.specs import Protocol, number_of_epochs
from condense.training.averages import AveragedWeights
from condense.training.batches import batches
from condense.training.following import Follower
from condense.training.losses import Loss, loss_of
from condense.training.memory import in_smaller_batches, release, whole_batch_for
from condense.training.observers import Labeller, Wanted
from condense.training.optimizers import Descent, network_optimizer
from condense.training.schedules import Adaptation, course
from condense.training.sets import TrainingSet

_log = logging.getLogger(__name__)


class Watch(Protocol_):
    """Something that follows a training; `state` is kept in checkpoints and changed in place."""

    state: dict[str, Tensor]

    def see(self, indices: Tensor, logits: Tensor) -> None:
        """Indices (b,) on the CPU and logits (b, k) of a training batch."""


def layer_type(network: nn.Module, protocol: Protocol, device: torch.device) -> torch.dtype:
    """The type in which the layers of `network` are computed under `protocol`; parameters, their steps and
    the logits are float32."""
    return reduced(network, device) if protocol.precision == "mixed" else torch.float32


def train(
    network: nn.Module,
    images: TrainingSet,
    protocol: Protocol,
    *,
    strategy: str,
    seed: int,
    name: tuple[str | int, ...],
    checkpoint: Checkpoint,
    watch: Watch | None = None,
    follower: Follower | None = None,
    progress: Callable[[int], None] | None = None,
    labeller: Labeller | None = None,
    optimizer: Descent | None = None,
) -> None:
    """Trains `network` in place by `protocol` on `images`, from the last checkpoint if there is one; with the
    mean of its weights over the steps in the end, where the protocol asks for it.

    `strategy` is the augmentation of the dataset, used where the protocol asks for it: one operation a batch,
    parameters an image. `name` addresses the random streams of this training. `watch` sees every batch,
    `follower` the network after each epoch, `progress` the number of epochs done. `labeller` gives the
    labels where the protocol takes them from elsewhere than the set. `optimizer`: one of the network that
    goes on with its momentum, in place of a new one.
    Raises UserError if the loss stops being a number, or if it needs soft labels that the set does not have.
    """
    if protocol.weights:
        raise UserError(
            f"protocol '{protocol.name}': takes weights of {protocol.weights} that are there, and trains "
            "nothing; choose another one here"
        )
    if not len(images):
        raise UserError(f"training: {images.name} has no images")
    loss_function, targets = loss_of(protocol, images)
    wanted = Wanted(loss_function, targets, labeller, protocol)
    draw = batches if labeller is None else labeller.batches
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = optimizer or network_optimizer(network, protocol.optimizer, protocol.clip)
    average = averaged(weights, protocol)
    device = images.labels.device
    passes = _Passes(network, optimizer, loss_function, layer_type(network, protocol, device), device)
    rates, epochs = course(protocol, len(images)), number_of_epochs(protocol, len(images))
    adapts, also = rates.adapts, (average, watch, follower, rates.adapts)
    first = resumed(network, optimizer, checkpoint, epochs, *also)
    network.train()
    loss = torch.zeros((), device=device)
    for epoch in range(first, epochs):
        optimizer.lr = protocol.optimizer.lr * rates.factors[epoch] * (adapts.factor if adapts else 1)
        # Layers that draw take no generator of their own
        torch.manual_seed(seeds.stream(seed, *name, "dropout", epoch))
        for batch in draw(images, protocol, strategy, seed, name, epoch):
            seen, places = batch.seen(images), batch.indices.to(device)
            loss, logits = passes(seen, images.labels[places], wanted.of(batch, seen[0]), batch.mixture)
            optimizer.step()
            if average is not None:
                average.see()
            if watch is not None:
                watch.see(batch.indices, logits)
            if adapts is not None:
                adapts.see(loss, len(batch.indices))
        if epoch in rates.restarts:
            optimizer.forget()
        check(loss, epoch, checkpoint.blame)
        if adapts is not None:
            adapts.end()
        if follower is not None:
            follower.see(epoch + 1, network, average)
        if checkpoint.due() and epoch + 1 < epochs:
            checkpoint.save(*saved_state(network, optimizer, epoch, *also))
        if progress is not None:
            progress(epoch + 1)
    if average is not None:
        average.take_over()


def averaged(weights: Sequence[Tensor], protocol: Protocol) -> AveragedWeights | None:
    """The mean of the weights over the steps, if the protocol asks for it."""
    return AveragedWeights(weights, protocol.average) if protocol.average else None


class _Passes:
    """The loss of batches and its gradients; in parts once the memory does not suffice for a batch and parts
    give the same."""

    def __init__(
        self, network: nn.Module, optimizer: Descent, loss: Loss, dtype: torch.dtype, device: torch.device
    ):
        self.network, self.optimizer, self.loss, self.dtype, self.device = (
            network,
            optimizer,
            loss,
            dtype,
            device,
        )
        self.parts = 1

    def __call__(
        self, images: Sequence[Tensor], labels: Tensor, wanted: Tensor | None, mixture: Mixture
    ) -> tuple[Tensor, Tensor]:
        """The mean loss () over a batch and the logits (b, k), without gradient; the gradients of the loss
        lie on the tensors.

        `images` are what the network takes, each (b, ...); `wanted` as `Loss.of_batch` takes it. Raises
        UserError where neither the batch nor parts of it can be done.
        """
        while True:
            try:
                return self._in_parts(images, labels, wanted, mixture)
            except torch.OutOfMemoryError:
                reason = whole_batch_for(self.network) or (
                    "not even for one image" if self.parts >= len(labels) else ""
                )
            if reason:
                raise UserError(
                    f"training: the memory of the device does not suffice for a batch of {len(labels)} "
                    f"images, which cannot be divided ({reason}): choose a smaller batch in the protocol, a "
                    "smaller network, or a GPU with more memory"
                )
            self.parts *= 2
            release()
            note(
                f"a batch of {len(labels)} images goes through a network in {self.parts} parts: the memory "
                "of the device does not suffice"
            )

    def _in_parts(
        self, images: Sequence[Tensor], labels: Tensor, wanted: Tensor | None, mixture: Mixture
    ) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        losses, outputs = [], []
        for indices in torch.arange(len(labels)).tensor_split(min(self.parts, len(labels))):
            chosen = slice(int(indices[0]), int(indices[-1]) + 1)
            with computed_in(self.dtype, self.device):
                logits = self.network(*(image[chosen] for image in images))
            share = len(indices) / len(labels)
            loss = self.loss.of_batch(logits, labels, wanted, mixture, chosen)
            (loss if share == 1 else loss * share).backward()  # sums over parts, as the gradients do
            losses.append(loss.detach() * share)
            outputs.append(logits.detach())
        return (
            (losses[0], outputs[0]) if len(losses) == 1 else (torch.stack(losses).sum(), torch.cat(outputs))
        )


def check(loss: Tensor, epoch: int, blame: str = "") -> None:
    """Raises UserError, ending with `blame`, if the loss is no number. Once an epoch at most: asking a GPU
    for the value waits for it."""
    if not torch.isfinite(loss):
        raise UserError(
            f"training: the loss is {loss.item()} after epoch {epoch}; a lower learning rate in the protocol "
            f"may help{blame}"
        )


Saved = tuple[dict[str, Any], dict[str, Any]]


def saved_state(
    network: nn.Module,
    optimizer: Descent,
    epoch: int,
    average: AveragedWeights | None = None,
    watch: Watch | None = None,
    follower: Follower | None = None,
    adapts: Adaptation | None = None,
) -> Saved:
    """Tensors and state of a checkpoint after `epoch`; `resumed` takes them up."""
    kept = _kept(network, optimizer, average, watch, follower, adapts)
    return {name: value.detach().cpu().numpy() for name, value in kept.items()}, {"epoch": epoch}


def _kept(
    network: nn.Module,
    optimizer: Descent,
    average: AveragedWeights | None,
    watch: Watch | None,
    follower: Follower | None,
    adapts: Adaptation | None,
) -> dict[str, Tensor]:
    """What changes over the steps of a training: views, by the names in its checkpoint."""
    kept = {f"network.{name}": value for name, value in network.state_dict().items()}
    kept |= optimizer.state() | (average.state() if average else {})
    kept |= {f"rate.{name}": value for name, value in (adapts.state if adapts else {}).items()}
    kept |= {f"watch.{name}": value for name, value in (watch.state if watch else {}).items()}
    return kept | {f"follower.{name}": value for name, value in (follower.state if follower else {}).items()}


@dataclass(frozen=True)
class Reached:
    """The last epoch, from 0, that a checkpoint of a training has seen."""

    epoch: int


def resumed(
    network: nn.Module,
    optimizer: Descent,
    checkpoint: Checkpoint,
    epochs: int,
    average: AveragedWeights | None = None,
    watch: Watch | None = None,
    follower: Follower | None = None,
    adapts: Adaptation | None = None,
) -> int:
    """Takes up the checkpoint of a training of so many `epochs`, if there is one; returns the epoch to go on
    with.

    Raises UserError if it is damaged, or of another network.
    """
    loaded = checkpoint.load(Reached)
    if loaded is None:
        return 0
    tensors, state = loaded
    checkpoint.check(
        0 <= state.epoch < epochs - 1, f"epoch {state.epoch} is not one before the last of {epochs}"
    )
    kept = _kept(network, optimizer, average, watch, follower, adapts)
    checkpoint.check_shapes(tensors, kept)
    sizes = [tensors[name] for name in kept if name.startswith("squares.")]
    checkpoint.check(
        all((size >= 0).all() for size in sizes), "squares that its optimiser keeps are negative"
    )
    with torch.no_grad():
        for name, value in kept.items():
            value.copy_(torch.from_numpy(tensors[name]).reshape(value.shape))
    fits = follower is None or follower.fits(state.epoch + 1)
    checkpoint.check(fits, f"its test passes are not those of {state.epoch + 1} epochs")
    _log.info("resumed from epoch %d", state.epoch + 1)
    return state.epoch + 1


def accuracy(
    network: nn.Module, images: TrainingSet, dtype: torch.dtype = torch.float32, batch: int | None = None
) -> float:
    """Percentage of `images` that `network` classifies rightly, in eval mode, its layers computed in `dtype`.

    `batch` images go through it at a time, by default as many as suit the device; fewer where its memory does
    not suffice.
    """
    network.eval()
    count = partial(_right, network, images, dtype)
    return 100.0 * in_smaller_batches(count, batch or test_batch(images.labels.device.type)) / len(images)


@torch.inference_mode()
def _right(network: nn.Module, images: TrainingSet, dtype: torch.dtype, batch: int) -> int:
    device = images.labels.device
    right = torch.zeros((), dtype=torch.int64, device=device)
    with computed_in(dtype, device):
        for indices in torch.arange(len(images)).split(batch):
            right += (network(images.fetch(indices)).argmax(1) == images.labels[indices.to(device)]).sum()
    return int(right)
