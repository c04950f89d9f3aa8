"""What the layers of a trained classifier are given for the real images: of all of them and of each class,
gathered in one pass, stored, and taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.augment.cutmix import Mixture
from condense.config import UserError
from condense.data.dataset import Images
from condense.discrepancy.statistics import Moments, moments, moments_of_each
from condense.files.artifacts import damaged, read_header, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.files.statistics import MOMENTS, read_statistics
from condense.machine.progress import Progress
from condense.models.observing import LayerInputs
from condense.networks.making import Making
from condense.networks.pretrain import load_teacher
from condense.specs import Protocol
from condense.training.batches import batches
from condense.training.sets import pixel_set

LAYERS = (nn.BatchNorm2d, nn.Conv2d)  # whose inputs have statistics


@dataclass(frozen=True)
class LayerKnowledge:
    """Of what one layer is given: its moments for all real images, (k,) each, and for those of each class,
    (C, k) each; none of the latter where nobody asks for them."""

    of_all: Moments
    of_classes: Moments


@dataclass(frozen=True)
class _Seen:
    """How many batches a checkpoint has gone through."""

    batches: int


class Sums:
    """Sums of the moments of layers over real images, in float64: of a batch those of all its images together
    times their number, of a class those of each of its images by itself."""

    def __init__(self, classes: int):
        self.classes, self.values = classes, dict[str, Tensor]()
        self.counts = torch.zeros(classes, dtype=torch.float64)

    def add(self, maps: Sequence[Tensor], patches: Sequence[bool], labels: Tensor) -> None:
        """The inputs (n, c, h, w) of every layer for a batch of images with `labels` (n,), on one device."""
        self.counts += torch.bincount(labels.cpu(), minlength=self.classes)
        for number, (given, has_patches) in enumerate(zip(maps, patches, strict=True)):
            together, each = moments(given, has_patches), moments_of_each(given, has_patches)
            for name, of_batch, of_images in zip(MOMENTS, together, each, strict=False):
                total = self._sum(f"{number}.all.{name}", of_batch, ())
                total += of_batch.double() * len(labels)
                rows = self._sum(f"{number}.classes.{name}", of_batch, (self.classes,))
                if labels.is_cuda:  # where adding by place has no fixed order
                    rows += F.one_hot(labels, self.classes).double().T @ of_images.double()
                else:
                    rows.index_add_(0, labels, of_images.double())

    def _sum(self, name: str, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The sum so far, on the device of `like` (k,): (*shape, k)."""
        if name not in self.values:
            self.values[name] = like.new_zeros((*shape, len(like)), dtype=torch.float64)
        self.values[name] = self.values[name].to(like.device)  # from a checkpoint
        return self.values[name]

    def means(self) -> dict[str, Tensor]:
        """The means over all images, and over those of each class."""
        return {
            name: value.cpu() / (self.counts.sum() if ".all." in name else self.counts[:, None])
            for name, value in self.values.items()
        }


def gather_statistics(making: Making, protocol: Protocol, strategy: str, observer: Path) -> None:
    """Sends all images once through the classifier in `observer`, in the batches and under the augmentation
    by which `protocol` trains it, and writes what its layers were given. Goes on where it was stopped.

    Raises UserError for an observer of other images, classes or another architecture, or without any layer
    that has statistics. Source: EDC (2024), section 3.2, as its authors' code.
    """
    data, arch, options, seed = making.data, making.arch, making.options, making.seed
    header = read_header(observer, "teacher")
    if (header.get("arch"), header.get("options")) != (arch, options):
        raise UserError(
            f"{observer}: holds a {header.get('arch')} with options {header.get('options')}, and statistics "
            f"of a {arch} with {options} are asked for"
        )
    network, _ = load_teacher(observer, data, making.device)
    layers, images = LayerInputs(network, LAYERS), pixel_set(data, making.device)
    patches = [isinstance(layer, nn.Conv2d) for layer in layers.layers]
    settings = [protocol.computed_part(), strategy, seed, data.data_sha256, header["content_sha256"]]
    checkpoint = making.checkpoint(settings)
    sums, done = _resume(checkpoint, len(data.counts))
    count = -(-len(images) // protocol.batch)
    bar = Progress(f"statistics of {arch} on {data.dataset}", count, "batch", start=done)
    for number, batch in enumerate(batches(images, protocol, strategy, seed, ("statistics",), 0)):
        if number < done:
            continue
        unmixed = replace(batch, mixture=Mixture())  # so that the class of an image is that of its label
        with torch.no_grad(), layers:
            network(unmixed.seen(images)[0])
        sums.add(layers.taken(), patches, images.labels[batch.indices.to(making.device)])
        bar.update(number + 1)
        if checkpoint.due() and number + 1 < count:
            checkpoint.save(_state(sums), {"batches": number + 1})
    bar.close()
    making.before_writing()
    note = {
        "kind": "statistics",
        "dataset": data.dataset,
        "data_sha256": data.data_sha256,
        "class_names": list(data.class_names),
        "observer_sha256": header["content_sha256"],
        "arch": arch,
        "options": options,
        "protocol": protocol.name,
        "strategy": strategy,
        "seed": seed,
        "key": making.key,
        "layers": [type(layer).__name__ for layer in layers.layers],
    }
    write_tensors(making.path, {name: value.float().numpy() for name, value in sums.means().items()}, note)
    checkpoint.remove()


def _state(sums: Sums) -> dict[str, Any]:
    values = {name: value.cpu().numpy() for name, value in sums.values.items()}
    return {"counts": sums.counts.numpy(), **values}


def _resume(checkpoint: Checkpoint, classes: int) -> tuple[Sums, int]:
    """The sums of the last checkpoint, if there is one, and how many batches they are of. Raises UserError if
    it is damaged."""
    loaded, sums = checkpoint.load(_Seen), Sums(classes)
    if loaded is None:
        return sums, 0
    tensors, seen = {name: torch.from_numpy(value) for name, value in loaded[0].items()}, loaded[1]
    checkpoint.check_shapes(tensors, {"counts": sums.counts})
    sums.counts = tensors.pop("counts")
    sums.values = tensors
    return sums, seen.batches


def load_statistics(
    path: Path, observer: Path, data: Images, device: torch.device, classes: bool = True
) -> list[LayerKnowledge]:
    """What is known of every layer of the classifier in `observer`, in the order in which it has them; of the
    `classes` only if asked for.

    Raises UserError if the file is damaged, or of other images, classes or another observer.
    """
    tensors, header = read_statistics(path)
    if header.data_sha256 != data.data_sha256 or header.class_names != list(data.class_names):
        raise UserError(
            f"{path}: was gathered from other images, or other classes, than those of {data.dataset}; gather "
            "it anew (`condense parent --help`)"
        )
    if header.observer_sha256 != read_header(observer, "teacher")["content_sha256"]:
        raise UserError(f"{path}: is of another network than {observer}; give the statistics of that one")

    def of(number: int, which: str) -> Moments:
        names = header.moments_of(number)
        return tuple(torch.from_numpy(tensors[f"{number}.{which}.{name}"]).to(device) for name in names)

    return [
        LayerKnowledge(of(number, "all"), of(number, "classes") if classes else ())
        for number in range(len(header.layers))
    ]


def check_layers(path: Path, known: Sequence[LayerKnowledge], network: nn.Module) -> None:
    """Raises UserError unless the statistics in `path` are those of the layers of `network`, by their number
    and channels."""
    layers = LayerInputs(network, LAYERS).layers
    channels = [
        layer.num_features if isinstance(layer, nn.BatchNorm2d) else layer.in_channels for layer in layers
    ]
    if [len(layer.of_all[0]) for layer in known] != channels:
        raise damaged(path, "its layers are not those of its observer")
