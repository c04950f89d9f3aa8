"""Training several networks of one architecture at once: each as `loop.train` would, one operation for all of
them.

Meant for GPUs, which one small network leaves idle. A CPU is busy with one: there it takes 10 to 20 % longer
than one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from condense.augment import siamese
from condense.files.checkpoints import Checkpoint
from condense.kernels.precision import computed_in
from condense.machine import seeds
from condense.machine.graphs import Recorded, Recorder, recorder_for
from condense.machine.transfer import sent
from condense.specs import HardLoss, Protocol
from condense.training.following import Follower
from condense.training.loop import averaged, check, layer_type, number_of_epochs, resumed, saved_state
from condense.training.losses import Loss, loss_of
from condense.training.optimizers import Descent, network_optimizer
from condense.training.schedules import course
from condense.training.sets import TrainingSet
from condense.training.stacked import Stacked

Step = Callable[..., Tensor]
# A recorded step has the rate as a number, and is recorded anew for another; where there are more, the device
# reads it
_RATES = 16
# Check the loss every 16 epochs: reading it waits for the GPU, and a loss that is no number stays so
_CHECKED = 16


def train_together(
    networks: Stacked,
    images: TrainingSet,
    protocol: Protocol,
    *,
    strategy: str,
    seed: int,
    names: Sequence[tuple[str | int, ...]],
    checkpoint: Checkpoint,
    follower: Follower | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Trains K networks in place; the one at place k as `train` would under `names[k]`, but for the order of
    sums.

    It sees the same batches under the same augmentation. Dropout masks are others: the stream of `names[0]`
    gives those of all.
    Raises UserError if a loss stops being a number, seen some epochs later, or if it needs soft labels that
    the set does not have.
    """
    if not protocol.trains_together:
        raise ValueError("networks under a mixing or several operations at once are trained one by one")
    loss, targets = loss_of(protocol, images)
    weights = [parameter for parameter in networks.parameters() if parameter.requires_grad]
    optimizer = network_optimizer(networks, protocol.optimizer, protocol.clip)
    average = averaged(weights, protocol)
    device = images.labels.device
    rates, epochs = course(protocol, len(images)), number_of_epochs(protocol, len(images))
    step, rate = plain_step(networks, optimizer, layer_type(networks, protocol, device), device, loss), None
    recorder = recorder_for(device)
    if recorder is not None:
        changing = [*networks.parameters(), *networks.buffers(), *optimizer.state().values()]
        step = CapturedStep(step, optimizer, recorder, changing, layer_type(networks, protocol, device))
        rate = (
            torch.zeros((), dtype=torch.float64, device=device) if len(set(rates.factors)) > _RATES else None
        )
    first = resumed(networks, optimizer, checkpoint, epochs, average, follower=follower)
    networks.train()
    for epoch in range(first, epochs):
        number = protocol.optimizer.lr * rates.factors[epoch]
        optimizer.lr = number if rate is None else rate.fill_(number)
        torch.manual_seed(seeds.stream(seed, *names[0], "dropout", epoch))
        for batch in _batches(images, protocol, strategy, seed, names, epoch):
            losses = step(*batch.taken(images, targets))
            if average is not None:
                average.see()
        if epoch in rates.restarts:
            optimizer.forget()
        last, due = epoch + 1 == epochs, checkpoint.due()
        if last or due or epoch % _CHECKED == 0:
            check(losses.sum(), epoch, checkpoint.blame)
        if follower is not None:
            follower.see(epoch + 1, networks, average)
        if due and not last:
            checkpoint.save(*saved_state(networks, optimizer, epoch, average, follower=follower))
        if progress is not None:
            progress(epoch + 1)
    if average is not None:
        average.take_over()


@dataclass(frozen=True)
class _Batch:
    """A batch for each of K networks, which are sorted here so that those under the same operation lie side
    by side.

    `indices` (K * b,) of images in that order, `places` (K,) at which networks 0 to K - 1 lie in it, and for
    each operation the number of its networks and their draws as one. Tensors are on the device.
    """

    indices: Tensor
    places: Tensor
    draws: list[tuple[int, siamese.Draw]]

    def taken(self, images: TrainingSet, targets: Tensor | None = None) -> tuple[Tensor, ...]:
        """Augmented images (K, b, c, h, w), labels (K, b) and, of `targets` (n, k), vectors (K, b, k),
        network by network."""
        size = len(self.indices) // len(self.places)
        parts = images.fetch(self.indices).split([count * size for count, _ in self.draws])
        augmented = torch.cat(
            [siamese.apply(pixels, drawn) for pixels, (_, drawn) in zip(parts, self.draws, strict=True)]
        )
        of_each = [augmented, images.labels[self.indices]] + (
            [] if targets is None else [targets[self.indices]]
        )
        return tuple(values.unflatten(0, (-1, size))[self.places] for values in of_each)


def _batches(
    images: TrainingSet,
    protocol: Protocol,
    strategy: str,
    seed: int,
    names: Sequence[tuple[str | int, ...]],
    epoch: int,
) -> Iterator[_Batch]:
    """The batches of an epoch. All is drawn before the first one and sent in one copy a type, so that nothing
    waits for the device."""
    strategy = protocol.operations_of(strategy)
    orders = torch.stack(
        [
            torch.randperm(len(images), generator=seeds.generator(seed, *name, "order", epoch))
            for name in names
        ]
    )
    generators = [seeds.generator(seed, *name, "augment", epoch) for name in names]
    planned = []
    for indices in orders.split(protocol.batch, 1):
        drawn = [
            siamese.draw_each(strategy, images.size, indices.shape[1], generator) for generator in generators
        ]
        planned.append(_sorted(indices, drawn))
    there = iter(sent([tensor for batch in planned for tensor in _tensors(batch)], images.labels.device))
    for batch in planned:
        indices, places = next(there), next(there)
        draws = [
            (count, siamese.Draw(drawn.operation, {name: next(there) for name in drawn.parameters}))
            for count, drawn in batch.draws
        ]
        yield _Batch(indices, places, draws)


def _sorted(indices: Tensor, drawn: Sequence[siamese.Draw]) -> _Batch:
    """The batch of networks with the image numbers `indices` (K, b) and a draw each; on the CPU."""
    order = sorted(range(len(drawn)), key=lambda index: drawn[index].operation)
    draws = []
    for operation, group in groupby((drawn[index] for index in order), key=lambda draw: draw.operation):
        alike = list(group)
        joined = {name: torch.cat([draw.parameters[name] for draw in alike]) for name in alike[0].parameters}
        draws.append((len(alike), siamese.Draw(operation, joined)))
    return _Batch(indices[order].flatten(), torch.tensor(order).argsort(), draws)


def _tensors(batch: _Batch) -> list[Tensor]:
    return [
        batch.indices,
        batch.places,
        *(value for _, drawn in batch.draws for value in drawn.parameters.values()),
    ]


def plain_step(
    networks: Stacked, optimizer: Descent, dtype: torch.dtype, device: torch.device, loss: Loss | None = None
) -> Step:
    """One step of all networks: images (K, b, c, h, w), labels (K, b) and what else `loss` compares with ->
    losses (K,) before it."""
    loss = loss or Loss(HardLoss())

    def step(images: Tensor, labels: Tensor, wanted: Tensor | None = None) -> Tensor:
        with computed_in(dtype, device):
            logits = networks(images)
        losses = loss.of_networks(logits, labels, wanted)
        optimizer.zero_grad()
        losses.sum().backward()  # the networks share nothing, so each has the gradient of its own loss
        optimizer.step()
        return losses.detach()

    return step


class CapturedStep:
    """`step` as recorded work over fixed buffers, for each batch size (full and last) at the learning rate it
    was recorded at.

    A rate that is a number is one in the work too, which is recorded anew where it has changed; one that is a
    tensor is read at every step. What a step gives is overwritten by the next one.
    """

    def __init__(
        self,
        step: Step,
        optimizer: Descent,
        recorder: Recorder,
        changing: Sequence[Tensor],
        computed_in: torch.dtype,
    ):
        """`changing` are the tensors that a step changes, `computed_in` the type of its layers."""
        self.step, self.optimizer, self.recorder = step, optimizer, recorder
        self.changing, self.computed_in = changing, computed_in
        self.recorded: dict[torch.Size, tuple[float | None, tuple[Tensor, ...], Recorded]] = {}

    def __call__(self, *given: Tensor) -> Tensor:
        size, rate = given[1].shape, None if isinstance(self.optimizer.lr, Tensor) else self.optimizer.lr
        # Gradients are then made inside, where a graph writes them again and again
        self.optimizer.zero_grad()
        if size not in self.recorded or self.recorded[size][0] != rate:
            before = self.recorded.pop(size, None)
            refused, known = before[2].refused if before else "", before is not None
            del before  # its memory is free before the next takes some
            held = tuple(values.clone() for values in given)
            work = Recorded(
                partial(self.step, *held),
                self.recorder,
                state=lambda: self.changing,
                computed_in=self.computed_in,
                name="a step of networks trained at once",
                known=known,
            )
            work.refused = refused
            self.recorded[size] = rate, held, work
        _, held, work = self.recorded[size]
        for buffer, values in zip(held, given, strict=True):
            buffer.copy_(values)
        return work()
