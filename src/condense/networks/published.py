"""Classifiers that others trained and gave out: their weights as teachers of ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from condense import models
from condense.config import UserError
from condense.data.classes import brief
from condense.data.dataset import Images
from condense.data.spec import data_folder
from condense.machine.terminal import tell
from condense.models.tv import TorchvisionNetwork
from condense.networks.making import Making
from condense.networks.pretrain import write_teacher
from condense.outside.torchfile import read_torch
from condense.specs import Protocol, catalogue
from condense.specs.protocol import TRIED
from condense.training.loop import accuracy
from condense.training.sets import pixel_set

_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Published:
    """Weights that are given out: the address of their file, whose name ends in the first digits of its
    SHA-256, and what each output stands for."""

    url: str
    categories: Sequence[str]
    accuracy: float  # in percent, on the validation images of those who trained it
    size: int = 224  # pixels a side of the images that it knows

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def weights_of(arch: str, options: Mapping[str, Any] | None = None) -> Published:
    """torchvision's first weights of one of its networks. Raises UserError for a network that has none."""
    from torchvision.models import get_model_weights

    network = models.build(arch, channels=3, size=224, classes=2, **(options or {}))
    if not isinstance(network, TorchvisionNetwork) or not network.published:
        raise UserError(
            f"'{arch}': torchvision has no weights of it; choose one of its own networks, such as tv_resnet18"
        )
    weights = get_model_weights(network.published).IMAGENET1K_V1
    accuracy = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return Published(weights.url, weights.meta["categories"], accuracy)


def take_published(making: Making, protocol: Protocol) -> None:
    """Writes a teacher with the weights that are given out for its architecture.

    Its classes have to be those of the images, in their order: where the images name synsets, some of which
    are known by their words too, these are compared, and the weights are tried on some training images.
    Raises UserError if the file is not here, or not the one that was given out, for images of another size,
    other classes or another order, and if the classifier is right less than half as often as it should be.
    """
    published, data = weights_of(making.arch, making.options), making.data
    if data.size != published.size:
        raise UserError(
            f"{data.dataset}: its images have {data.size} pixels a side, and the weights of {making.arch} "
            f"are of {published.size}; take a dataset of that size, such as imagenet1k_224, or train a "
            "classifier (`condense teach --help`)"
        )
    _check_classes(making.arch, published.categories, data)
    path = _found(making.arch, published)
    network = making.drawn_network(0)
    assert isinstance(network, TorchvisionNetwork)
    weights = read_torch(path)
    try:
        network.take({name: torch.as_tensor(value) for name, value in weights.items()})
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        words = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: does not hold weights of {making.arch}: {words}") from None
    network = network.to(making.device).eval()
    some = _some(data)
    right = accuracy(network, pixel_set(some, making.device))
    tell(f"{making.arch}: {path}, {right:.1f} % of {len(some):,} training images right")
    if right < published.accuracy / 2:
        raise UserError(
            f"{path}: as {making.arch} it takes {right:.1f} % of {len(some):,} images of {data.dataset} for "
            f"their classes, where {published.accuracy:.1f} % are known of it: the classes lie in another "
            "order, or the images are not as it knows them; train a classifier (`condense teach --help`)"
        )
    making.before_writing()
    # Nobody has counted what it forgot
    write_teacher(making, protocol, network, torch.full((len(data),), -1), right)


def _check_classes(arch: str, categories: Sequence[str], data: Images) -> None:
    """Raises UserError if the classes of the images are not those of the outputs, as far as names tell."""
    if len(categories) != len(data.counts):
        raise UserError(
            f"{arch}: the weights are of {len(categories)} classes, and {data.dataset} has "
            f"{len(data.counts)}; train a classifier of these (`condense teach --help`)"
        )
    known = _words_of_synsets()
    for place, name in enumerate(data.class_names):
        words = known.get(name, name if not _SYNSET.fullmatch(name) else "")
        if words and words.casefold() != categories[place].casefold():
            raise UserError(
                f"{data.dataset}: class {place} is {name}{f' ({words})' if words != name else ''}, and that "
                f"output of the weights of {arch} is {categories[place]}; their classes, "
                f"{brief(list(categories))}, have to be those of the images in the same order"
            )


def _words_of_synsets() -> dict[str, str]:
    """'n01749939' -> 'green mamba', as far as data sets of the project name both."""
    known = {}
    for dataset in catalogue.names_in("datasets"):
        for name in catalogue.load_yaml(catalogue.file_of("datasets", dataset)).get("class_names") or ():
            synset, _, words = str(name).partition(" ")
            if words and _SYNSET.fullmatch(synset):
                known[synset] = words
    return known


def _found(arch: str, published: Published) -> Path:
    """The file with the weights, checked. Raises UserError if it is not here, or another one."""
    folders = [data_folder() / "torchvision", Path(torch.hub.get_dir()) / "checkpoints"]
    path = next((folder / published.file for folder in folders if (folder / published.file).is_file()), None)
    if path is None:
        raise UserError(
            f"{arch}: its weights are not here; put {published.url} into {folders[0]} (or {folders[1]})"
        )
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = path.stem.rpartition("-")[2]
    if not checksum.startswith(wanted):
        raise UserError(
            f"{path}: its SHA-256 begins with {checksum[: len(wanted)]} and not with {wanted}, as its name "
            f"says; get it again from {published.url}"
        )
    return path


def _some(data: Images) -> Images:
    """Some of the images, evenly spread."""
    places = torch.linspace(0, len(data) - 1, min(TRIED, len(data))).long()
    labels = data.labels[places]
    counts = torch.bincount(labels, minlength=len(data.counts)).tolist()
    return replace(data, images=data.images[places], labels=labels, counts=tuple(counts))
