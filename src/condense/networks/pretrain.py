"""Pretraining a classifier on the whole training set, storing it, and taking it up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense import kernels, models
from condense.config import UserError
from condense.data.classes import brief
from condense.data.dataset import Images
from condense.files import read_teacher
from condense.files.artifacts import damaged, digest, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.machine.progress import Progress
from condense.models import Network
from condense.specs import Protocol
from condense.training.loop import accuracy, number_of_epochs, train
from condense.training.sets import pixel_set


class ForgettingEvents:
    """Counts for every training image how often it was classified wrongly right after having been classified
    rightly.

    Source: Toneva et al. 2019. Seen in the augmented training batches; an image that was never right has no
    event.
    """

    def __init__(self, labels: Tensor):
        self.labels = labels.cpu()
        self.state = {
            "right": torch.zeros(len(labels), dtype=torch.bool),
            "events": torch.zeros(len(labels), dtype=torch.int64),
        }

    def see(self, indices: Tensor, logits: Tensor) -> None:
        right = logits.argmax(1).cpu() == self.labels[indices]
        self.state["events"][indices] += self.state["right"][indices] & ~right
        self.state["right"][indices] = right


def pretrain(
    path: Path,
    data: Images,
    protocol: Protocol,
    *,
    arch: str,
    options: dict[str, Any],
    strategy: str,
    seed: int,
    key: str,
    device: torch.device,
    trained: Callable[[], None] = lambda: None,
) -> None:
    """Trains `arch` on `data` and writes weights, forgetting events and training accuracy to `path`; before
    it calls `trained`."""
    network = models.build(arch, channels=data.channels, size=data.size, classes=len(data.counts), **options)
    models.reinitialise(network, seeds.stream(seed, "teacher"))
    network.to(device)
    # By hand, other settings may have the same key
    settings = [protocol.computed_part(), arch, options, strategy, seed, data.data_sha256]
    checkpoint = Checkpoint.beside(path, f"{key}-{digest(settings)}", kernels.used_on(device))
    events, images = ForgettingEvents(data.labels), pixel_set(data, device)
    bar = Progress(
        f"{arch} on {data.dataset} by '{protocol.name}'", number_of_epochs(protocol, len(images)), "epoch"
    )
    train(
        network,
        images,
        protocol,
        strategy=strategy,
        seed=seed,
        name=("teacher",),
        checkpoint=checkpoint,
        watch=events,
        progress=bar.update,
    )
    bar.close()
    shape = {"channels": data.channels, "size": data.size, "classes": len(data.counts)}
    header = {
        "kind": "teacher",
        "arch": arch,
        "options": options,
        "shape": shape,
        "dataset": data.dataset,
        "seed": seed,
        "key": key,
    }
    header |= {
        "protocol": protocol.name,
        "data_sha256": data.data_sha256,
        "class_names": list(data.class_names),
        "train_accuracy": accuracy(network, images),
    }
    tensors = {f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
    trained()
    write_tensors(path, {**tensors, "forgetting_events": events.state["events"].numpy()}, header)
    checkpoint.remove()


def load_teacher(path: Path, data: Images, device: torch.device) -> tuple[Network, Tensor]:
    """The frozen classifier in eval mode, and the forgetting events (n,) of the training images it saw.

    Raises UserError if the file is damaged, or if it was trained on other data than `data`, or tells other
    classes apart, or the same in another order.
    """
    tensors, header = read_teacher(path)
    if header.data_sha256 != data.data_sha256:
        raise UserError(
            f"{path}: was trained on other images than those of {data.dataset}; give the classifier of these "
            "(`condense teach --help` says how one is made)"
        )
    if header.class_names and header.class_names != list(data.class_names):
        raise UserError(
            f"{path}: its outputs are {brief(header.class_names)}, and the classes of {data.dataset} are "
            f"{brief(data.class_names)}, in this order; give the classifier of these"
        )
    if asdict(header.shape) != {"channels": data.channels, "size": data.size, "classes": len(data.counts)}:
        raise damaged(path, "its network is for images of another shape, or for other classes")
    if len(tensors["forgetting_events"]) != len(data):
        raise damaged(
            path,
            f"it counts the forgetting events of {len(tensors['forgetting_events'])} images instead of "
            f"{len(data)}",
        )
    try:
        network = models.build(header.arch, **asdict(header.shape), **header.options)
        network.load_state_dict(
            {
                name[8:]: torch.from_numpy(value)
                for name, value in tensors.items()
                if name.startswith("network.")
            }
        )
    except UserError as error:
        raise damaged(path, str(error)) from None
    except (RuntimeError, TypeError) as error:
        raise damaged(
            path, f"its weights are not those of {header.arch}: {' '.join(str(error).split())[:150]}"
        ) from None
    return network.to(device).eval().requires_grad_(False), torch.from_numpy(tensors["forgetting_events"])
