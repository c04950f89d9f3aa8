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

from condense import seeds
from condense.augment import cutmix, siamese
from condense.checkpoints import Checkpoint
from condense.config import UserError
from condense.data.dataset import Images
from condense.precision import computed_in, reduced
from condense.runtime import note
from condense.specs import Protocol, number_of_epochs
from condense.training.memory import in_smaller_batches, release, whole_batch_for
from condense.training.optimizers import SGD

Fetch = Callable[[Tensor], Tensor]
TEST_BATCH = {"cpu": 64, "cuda": 2048}  # images; on CPUs what lies between two layers then stays in the cache
_log = logging.getLogger(__name__)


class Watch(Protocol_):
    """Something that follows a training; `state` is kept in checkpoints and changed in place."""

    state: dict[str, Tensor]

    def see(self, indices: Tensor, logits: Tensor) -> None:
        """Indices (b,) on the CPU and logits (b, k) of a training batch."""


@dataclass(frozen=True)
class TrainingSet:
    """Images by index: `fetch(indices (b,))` gives normalised float32 (b, C, H, W) on the device; `labels` (n,) int64 on it too.

    `beside` gives an image more for each, which is augmented alike; the network that is trained takes both.
    """

    fetch: Fetch
    labels: Tensor
    size: int
    beside: Fetch | None = None

    def __len__(self) -> int:
        return len(self.labels)


def tensor_set(images: Tensor, labels: Tensor) -> TrainingSet:
    """A training set over normalised images (n, C, H, W) that fit on the device."""
    return TrainingSet(lambda indices: images[indices.to(images.device)], labels, images.shape[-1])


def pixel_set(images: Images, device: torch.device) -> TrainingSet:
    """A training set over prepared 8-bit images, normalised on the fly; on a GPU the pixels are kept there."""
    pixels = images.images.to(device)
    return TrainingSet(lambda indices: images.normalise(pixels[indices.to(device)]), images.labels.to(device), images.size)


def drops_after(protocol: Protocol, images: int) -> list[int]:
    """Epochs (from 0) after which the learning rate drops."""
    epochs = protocol.epochs_of_schedule(images)
    if protocol.schedule.kind == "dc":
        return [epochs // 2 + 1]
    # At least one epoch is run at the full rate.
    return [max(round(part * epochs), 1) - 1 for part in protocol.schedule.at] if protocol.schedule.kind == "step" else []


def learning_rate(protocol: Protocol, drops: list[int], epoch: int) -> float:
    """The rate in `epoch` (from 0) where it falls after the epochs `drops`."""
    return protocol.optimizer.lr * protocol.schedule.factor ** sum(drop < epoch for drop in drops)


def layer_type(network: nn.Module, protocol: Protocol, device: torch.device) -> torch.dtype:
    """The type in which the layers of `network` are computed under `protocol`; parameters, their steps and the logits are float32."""
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
    progress: Callable[[int], None] | None = None,
) -> None:
    """Trains `network` in place by `protocol` on `images`, from the last checkpoint if there is one.

    `strategy` is the augmentation of the dataset, used where the protocol asks for it: one operation a batch, parameters an
    image. `name` addresses the random streams of this training. `watch` sees every batch,
    `progress` the number of epochs done.
    Raises UserError if the loss stops being a number.
    """
    optimizer = SGD([parameter for parameter in network.parameters() if parameter.requires_grad], protocol.optimizer)
    device = images.labels.device
    passes = _Passes(network, optimizer, layer_type(network, protocol, device), device)
    drops, epochs = drops_after(protocol, len(images)), number_of_epochs(protocol, len(images))
    first = resumed(network, optimizer, watch, checkpoint, epochs)
    strategy, mode = protocol.operations_of(strategy), "all" if protocol.augment == "all" else "one"
    network.train()
    for epoch in range(first, epochs):
        optimizer.lr = learning_rate(protocol, drops, epoch)
        order = torch.randperm(len(images), generator=seeds.generator(seed, *name, "order", epoch))
        augment, mixing = (seeds.generator(seed, *name, what, epoch) for what in ("augment", "cutmix"))
        torch.manual_seed(seeds.stream(seed, *name, "dropout", epoch))  # layers that draw take no generator of their own
        loss = None
        for indices in order.split(protocol.batch):
            batches = [fetch(indices) for fetch in (images.fetch, images.beside) if fetch is not None]
            drawn = siamese.draw_each(strategy, images.size, len(indices), augment, mode)
            mixture = cutmix.draw(protocol.cutmix, len(indices), images.size, mixing)
            seen = [mixture.images(siamese.apply(batch, drawn)) for batch in batches]
            loss, logits = passes(seen, images.labels[indices.to(device)], mixture)
            optimizer.step()
            if watch is not None:
                watch.see(indices, logits)
        if epoch in drops and protocol.schedule.kind == "dc":
            optimizer.forget()
        check(loss, epoch, checkpoint.blame)
        if checkpoint.due() and epoch + 1 < epochs:
            checkpoint.save(*saved_state(network, optimizer, watch, epoch))
        if progress is not None:
            progress(epoch + 1)


class _Passes:
    """The loss of batches and its gradients; in parts once the memory does not suffice for a batch and parts give the same."""

    def __init__(self, network: nn.Module, optimizer: SGD, dtype: torch.dtype, device: torch.device):
        self.network, self.optimizer, self.dtype, self.device = network, optimizer, dtype, device
        self.parts = 1

    def __call__(self, images: Sequence[Tensor], labels: Tensor, mixture: cutmix.Mixture) -> tuple[Tensor, Tensor]:
        """The mean loss () over a batch and the logits (b, k), without gradient; the gradients of the loss lie on the tensors.

        `images` are what the network takes, each (b, ...). Raises UserError where neither the batch nor parts of it can be done.
        """
        while True:
            try:
                return self._in_parts(images, labels, mixture)
            except torch.OutOfMemoryError:
                reason = whole_batch_for(self.network) or ("not even for one image" if self.parts >= len(labels) else "")
            if reason:
                raise UserError(
                    f"training: the memory of the device does not suffice for a batch of {len(labels)} images, which cannot be divided"
                    f" ({reason}): choose a smaller batch in the protocol, a smaller network, or a GPU with more memory"
                )
            self.parts *= 2
            release()
            note(f"a batch of {len(labels)} images goes through a network in {self.parts} parts: the memory of the device does not suffice")

    def _in_parts(self, images: Sequence[Tensor], labels: Tensor, mixture: cutmix.Mixture) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        losses, found = [], []
        for part in torch.arange(len(labels)).tensor_split(min(self.parts, len(labels))):
            chosen = slice(int(part[0]), int(part[-1]) + 1)
            with computed_in(self.dtype, self.device):
                logits = self.network(*(image[chosen] for image in images))
            share = len(part) / len(labels)
            loss = mixture.loss(logits, labels, chosen)
            (loss if share == 1 else loss * share).backward()  # sums over parts, as the gradients do
            losses.append(loss.detach() * share)
            found.append(logits.detach())
        return (losses[0], found[0]) if len(losses) == 1 else (torch.stack(losses).sum(), torch.cat(found))


def check(loss: Tensor, epoch: int, blame: str = "") -> None:
    """Raises UserError, ending with `blame`, if the loss is no number. Once an epoch at most: asking a GPU for the value waits for it."""
    if not torch.isfinite(loss):
        raise UserError(f"training: the loss is {loss.item()} after epoch {epoch}; a lower learning rate in the protocol may help{blame}")


def saved_state(network: nn.Module, optimizer: SGD, watch: Watch | None, epoch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and state of a checkpoint after `epoch`; `resumed` takes them up."""
    tensors = {f"network.{name}": value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    tensors |= {f"velocity.{place}": value.cpu().numpy() for place, value in enumerate(optimizer.velocity)}
    tensors |= {f"watch.{name}": value.cpu().numpy() for name, value in (watch.state if watch else {}).items()}
    return tensors, {"epoch": epoch}


@dataclass(frozen=True)
class Reached:
    """The last epoch, from 0, that a checkpoint of a training has seen."""

    epoch: int


def resumed(network: nn.Module, optimizer: SGD, watch: Watch | None, checkpoint: Checkpoint, epochs: int) -> int:
    """Takes up the checkpoint of a training of so many `epochs`, if there is one; returns the epoch to go on with.

    Raises UserError if it is damaged, or of another network.
    """
    found = checkpoint.load(Reached)
    if found is None:
        return 0
    tensors, state = found
    checkpoint.check(0 <= state.epoch < epochs - 1, f"epoch {state.epoch} is not one before the last of {epochs}")
    wanted = {f"network.{name}": value for name, value in network.state_dict().items()}
    wanted |= {f"velocity.{place}": value for place, value in enumerate(optimizer.velocity)}
    checkpoint.check_shapes(tensors, wanted | {f"watch.{name}": value for name, value in (watch.state if watch else {}).items()})
    network.load_state_dict({name[8:]: torch.from_numpy(tensors[name]) for name in wanted if name.startswith("network.")})
    for place, velocity in enumerate(optimizer.velocity):
        velocity.copy_(torch.from_numpy(tensors[f"velocity.{place}"]))
    for name, value in (watch.state if watch else {}).items():
        value.copy_(torch.from_numpy(tensors[f"watch.{name}"]))
    _log.info("resumed from epoch %d", state.epoch + 1)
    return state.epoch + 1


def accuracy(network: nn.Module, images: TrainingSet, dtype: torch.dtype = torch.float32, batch: int | None = None) -> float:
    """Percentage of `images` that `network` classifies rightly, in eval mode, its layers computed in `dtype`.

    `batch` images go through it at a time, by default as many as suit the device; fewer where its memory does not suffice.
    """
    network.eval()
    count = partial(_right, network, images, dtype)
    return 100.0 * in_smaller_batches(count, batch or TEST_BATCH[images.labels.device.type]) / len(images)


@torch.inference_mode()
def _right(network: nn.Module, images: TrainingSet, dtype: torch.dtype, batch: int) -> int:
    device = images.labels.device
    right = torch.zeros((), dtype=torch.int64, device=device)
    with computed_in(dtype, device):
        for indices in torch.arange(len(images)).split(batch):
            right += (network(images.fetch(indices)).argmax(1) == images.labels[indices.to(device)]).sum()
    return int(right)
