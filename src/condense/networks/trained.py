"""Finished networks for matching: each trained on all real images by a protocol, and kept in a bank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from condense import kernels, models
from condense.data.dataset import Images
from condense.files.artifacts import digest
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.machine.progress import Progress
from condense.networks.finished import network_like, write_networks
from condense.networks.origin import origin
from condense.specs import Protocol, TrainedNetworks
from condense.training.loop import number_of_epochs, train
from condense.training.sets import pixel_set


def make_trained_bank(
    path: Path,
    data: Images,
    networks: TrainedNetworks,
    protocol: Protocol,
    *,
    arch: str,
    options: Mapping[str, Any],
    strategy: str,
    seed: int,
    key: str,
    device: torch.device,
    made: Callable[[], None] = lambda: None,
) -> None:
    """Trains `networks.count` networks by `protocol` and writes their bank to `path`, from the last
    checkpoint if there is one.

    Network k is drawn from the stream ("trained", k), which `FinishedNetworks` draws it from again. Before
    the bank is whole it calls `made`. Raises UserError if the loss of a network is no number.
    """
    about = origin(data, arch, options, seed)
    settings = [about, protocol.computed_part(), strategy, networks.count]
    checkpoint = Checkpoint.beside(path, f"{key}-{digest(settings)}", kernels.used_on(device))
    images, done = (
        pixel_set(data, device),
        _resumed(checkpoint, network_like(data, arch, options), networks.count),
    )
    epochs = number_of_epochs(protocol, len(images))
    title = f"{networks.count} x {arch} on {data.dataset} by '{protocol.name}'"
    bar = Progress(title, networks.count * epochs, "epoch", len(done) * epochs)
    while len(done) < networks.count:
        number, before = len(done), len(done) * epochs
        network = models.build(
            arch, channels=data.channels, size=data.size, classes=len(data.counts), **options
        )
        models.reinitialise(network, seeds.stream(seed, "trained", number))
        inner = checkpoint.part(f"network{number}")
        train(
            network.to(device),
            images,
            protocol,
            strategy=strategy,
            seed=seed,
            name=("trained", number),
            checkpoint=inner,
            progress=partial(_further, bar, before),
        )
        done.append({name: value.detach().cpu().clone() for name, value in network.state_dict().items()})
        inner.remove()
        if checkpoint.due() and len(done) < networks.count:
            arrays = {
                f"{index}.{name}": value.numpy()
                for index, state in enumerate(done)
                for name, value in state.items()
            }
            checkpoint.save(arrays, {"done": len(done)})
    bar.close()
    made()
    write_networks(path, done, about | {"protocol": protocol.name}, key)
    checkpoint.remove()


def _further(bar: Progress, before: int, epoch: int) -> None:
    bar.update(before + epoch)


@dataclass(frozen=True)
class Finished:
    """How many networks a checkpoint of a bank holds."""

    done: int


def _resumed(
    checkpoint: Checkpoint, like: Mapping[str, torch.Tensor], count: int
) -> list[dict[str, torch.Tensor]]:
    """The networks of the last checkpoint. Raises UserError if it is damaged, or of other networks than
    `like`."""
    loaded = checkpoint.load(Finished)
    if loaded is None:
        return []
    arrays, state = loaded
    checkpoint.check(0 < state.done < count, f"{state.done} networks are none of {count}")
    checkpoint.check_shapes(
        arrays, {f"{index}.{name}": value for index in range(state.done) for name, value in like.items()}
    )
    return [
        {name: torch.from_numpy(arrays[f"{index}.{name}"]) for name in like} for index in range(state.done)
    ]
