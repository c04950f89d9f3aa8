"""Pretraining a classifier on the whole training set, storing it, and taking it up again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from condense import models
from condense.config import UserError
from condense.data.classes import brief
from condense.data.dataset import Images
from condense.files import read_teacher
from condense.files.artifacts import damaged, write_tensors
from condense.machine import seeds
from condense.machine.progress import Progress
from condense.models import Network
from condense.networks.making import Making
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


def pretrain(making: Making, protocol: Protocol, strategy: str) -> None:
    """Trains a classifier under an augmentation, and writes its weights, forgetting events and training
    accuracy."""
    data, images = making.data, pixel_set(making.data, making.device)
    network = making.drawn_network(seeds.stream(making.seed, "teacher"))
    settings = [
        protocol.computed_part(),
        making.arch,
        making.options,
        strategy,
        making.seed,
        data.data_sha256,
    ]
    checkpoint, events = making.checkpoint(settings), ForgettingEvents(data.labels)
    title = f"{making.arch} on {data.dataset} by '{protocol.name}'"
    bar = Progress(title, number_of_epochs(protocol, len(images)), "epoch")
    train(
        network,
        images,
        protocol,
        strategy=strategy,
        seed=making.seed,
        name=("teacher",),
        checkpoint=checkpoint,
        watch=events,
        progress=bar.update,
    )
    bar.close()
    making.before_writing()
    write_teacher(making, protocol, network, events.state["events"], accuracy(network, images))
    checkpoint.remove()


def write_teacher(
    making: Making, protocol: Protocol, network: Network, events: Tensor, train_accuracy: float
) -> None:
    """Writes a classifier with the forgetting events (n,) of its training images; the accuracy is in
    percent."""
    data = making.data
    header = {
        "kind": "teacher",
        "arch": making.arch,
        "options": making.options,
        "shape": making.shape,
        "dataset": data.dataset,
        "seed": making.seed,
        "key": making.key,
        "protocol": protocol.name,
        "data_sha256": data.data_sha256,
        "class_names": list(data.class_names),
        "train_accuracy": train_accuracy,
    }
    tensors = {f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
    write_tensors(making.path, {**tensors, "forgetting_events": events.numpy()}, header)


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
