"""Networks for matching, each trained on all real images by a protocol, and kept in a bank: at the end of its
training, or at the ends of all its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.machine.progress import Progress
from condense.networks.finished import network_like, write_networks
from condense.networks.making import Making
from condense.networks.origin import origin
from condense.specs import Protocol, TrainedNetworks, TrajectoryNetworks
from condense.training.loop import number_of_epochs, train
from condense.training.sets import pixel_set


def make_trained_bank(
    making: Making, networks: TrainedNetworks | TrajectoryNetworks, protocol: Protocol, strategy: str
) -> None:
    """Trains `networks.count` networks by `protocol` under an augmentation and writes their bank, from the
    last checkpoint if there is one; of those of all epochs the ones of a training lie after each other.

    Network k is drawn from the stream ("trained", k), which `FinishedNetworks` draws it from again. Raises
    UserError if the loss of a network is no number.
    """
    data, arch = making.data, making.arch
    about = origin(data, arch, making.options, making.seed)
    settings = [about, protocol.computed_part(), strategy, networks.count]
    settings += ["of all epochs"] if networks.of_all_epochs else []
    checkpoint, images = making.checkpoint(settings), pixel_set(data, making.device)
    epochs = number_of_epochs(protocol, len(images))
    each = epochs if networks.of_all_epochs else 1  # states of a training
    whole = networks.count * each
    done = _resumed(checkpoint, network_like(data, arch, making.options), whole, each)
    title = f"{networks.count} x {arch} on {data.dataset} by '{protocol.name}'"
    bar = Progress(title, networks.count * epochs, "epoch", len(done) // each * epochs)
    while len(done) < whole:
        number = len(done) // each
        before = number * epochs
        network = making.drawn_network(seeds.stream(making.seed, "trained", number))
        inner = checkpoint.part(f"network{number}")
        ends = _Ends(network, epochs, len(images)) if networks.of_all_epochs else None
        train(
            network,
            images,
            protocol,
            strategy=strategy,
            seed=making.seed,
            name=("trained", number),
            checkpoint=inner,
            watch=ends,
            progress=partial(_further, bar, before),
        )
        done += ends.states() if ends else [_copied(network)]
        inner.remove()
        if checkpoint.due() and len(done) < whole:
            arrays = {
                f"{index}.{name}": value.numpy()
                for index, state in enumerate(done)
                for name, value in state.items()
            }
            checkpoint.save(arrays, {"done": len(done)})
    bar.close()
    making.before_writing()
    header = about | {"protocol": protocol.name}
    write_networks(making.path, done, header, making.key, epochs if networks.of_all_epochs else None)
    checkpoint.remove()


class _Ends:
    """Watches a training, and keeps parameters and buffers as they are after the last batch of every epoch,
    on the CPU: `state` has them by name, (epochs, ...)."""

    def __init__(self, network: nn.Module, epochs: int, images: int):
        self.network, self.images = network, images
        self.state = {
            name: torch.zeros(epochs, *value.shape, dtype=value.dtype)
            for name, value in network.state_dict().items()
        }
        self.state["images seen"] = torch.zeros((), dtype=torch.int64)

    def see(self, indices: Tensor, logits: Tensor) -> None:
        """Counts the images of a batch; whole epochs end where all have been seen so many times."""
        seen = self.state["images seen"]
        seen += len(indices)
        epoch, left = divmod(int(seen), self.images)
        if left == 0:
            for name, value in self.network.state_dict().items():
                self.state[name][epoch - 1] = value.detach().cpu()

    def states(self) -> list[dict[str, Tensor]]:
        """The networks after each epoch."""
        kept = {name: value for name, value in self.state.items() if name != "images seen"}
        return [dict(zip(kept, values, strict=True)) for values in zip(*kept.values(), strict=True)]


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _further(bar: Progress, before: int, epoch: int) -> None:
    bar.update(before + epoch)


@dataclass(frozen=True)
class Finished:
    """How many networks a checkpoint of a bank holds."""

    done: int


def _resumed(
    checkpoint: Checkpoint, like: Mapping[str, Tensor], count: int, each: int
) -> list[dict[str, Tensor]]:
    """The networks of the last checkpoint. Raises UserError if it is damaged, or of other networks than
    `like`."""
    loaded = checkpoint.load(Finished)
    if loaded is None:
        return []
    arrays, state = loaded
    checkpoint.check(
        0 < state.done < count and state.done % each == 0, f"{state.done} networks are none of {count}"
    )
    checkpoint.check_shapes(
        arrays, {f"{index}.{name}": value for index in range(state.done) for name, value in like.items()}
    )
    return [
        {name: torch.from_numpy(arrays[f"{index}.{name}"]) for name in like} for index in range(state.done)
    ]
