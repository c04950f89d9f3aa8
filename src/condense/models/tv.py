"""Networks of torchvision (untrained), for images of 64 pixels and more, and its ResNets with a stem for
small images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from condense.config import UserError
from condense.models.base import Builder, Network, Options, halvings_fit

SMALLEST = 64  # pixels: they halve the map five times
DEIT_TINY = {"patch_size": 16, "num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}


class TorchvisionNetwork(Network):
    """The network that `construct` makes, split before its last linear layer. Grey images are shown to all
    three of its channels.

    `published`: torchvision's name of it, if it is one that weights are given out of; else ''.
    """

    def __init__(self, construct: Callable[[], nn.Module], published: str = "") -> None:
        super().__init__()
        self.construct, self.published = construct, published
        self.body, self.classifier = _split(construct())

    def reset_parameters(self) -> None:
        """Draws as torchvision does, whose networks initialise themselves as a whole."""
        body, classifier = _split(self.construct())
        self.body.load_state_dict(body.state_dict())
        self.classifier.load_state_dict(classifier.state_dict())

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the weights of torchvision's own network, by its names. Raises RuntimeError for others."""
        network = self.construct()
        # Those of DenseNets are given out under names of before, with a point too many
        renamed = {
            re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d\.)", r"\1\2", name): value
            for name, value in weights.items()
        }
        network.load_state_dict(renamed)
        body, classifier = _split(network)
        self.body.load_state_dict(body.state_dict())
        self.classifier.load_state_dict(classifier.state_dict())

    def _embed(self, x: Tensor) -> Tensor:
        return self.body(x.expand(-1, 3, -1, -1))


def _split(network: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """The network without its last linear layer, and that layer."""
    name, last = [
        (name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)
    ][-1]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network, last


def _network(construct: Callable[[], nn.Module], channels: int, published: str = "") -> Network:
    if channels not in (1, 3):
        raise UserError(
            f"torchvision's networks take 1 or 3 channels, not {channels}: choose another architecture, such "
            "as 'convnet'"
        )
    return TorchvisionNetwork(construct, published)


def _named(name: str, classes: int, **more: int) -> nn.Module:
    from torchvision import models  # slow to import, and needed by few

    return models.get_model(name, weights=None, num_classes=classes, **more)


def convolutional(name: str) -> Builder:
    """torchvision's network `name`, which takes any size from 64 pixels."""

    def make(options: Options, channels: int, size: int, classes: int) -> Network:
        return _network(partial(_named, name, classes), channels, name)

    return Builder(Options(), lambda options, channels, size: size >= SMALLEST, make)


@dataclass(frozen=True, kw_only=True)
class TorchvisionResNetOptions(Options):
    """`stem`: "imagenet" is torchvision's own; "small" is 3 x 3 with stride 1 and no pooling, for small
    images (SRe2L, RDED)."""

    stem: Literal["imagenet", "small"] = "imagenet"


def resnet(name: str) -> Builder:
    """torchvision's ResNet `name`."""

    def fits(options: TorchvisionResNetOptions, channels: int, size: int) -> bool:
        return size >= SMALLEST if options.stem == "imagenet" else halvings_fit(size, 3, "batch")

    def make(options: TorchvisionResNetOptions, channels: int, size: int, classes: int) -> Network:
        if options.stem == "small":
            return _network(partial(_small_stem, name, classes), channels)
        return _network(partial(_named, name, classes), channels, name)

    return Builder(TorchvisionResNetOptions(), fits, make)


def _small_stem(name: str, classes: int) -> nn.Module:
    from torchvision.models import ResNet

    network = _named(name, classes)
    if not isinstance(network, ResNet):
        raise TypeError(f"'{name}' is no ResNet: it has no stem to be replaced")
    network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, padding=1, bias=False)
    network.add_module("maxpool", nn.Identity())
    return network


def _patches_fit(options: Options, channels: int, size: int) -> bool:
    return size >= SMALLEST and size % 16 == 0


def vit(name: str) -> Builder:
    """torchvision's vision transformer `name` with patches of 16 pixels, its positions learnt for the given
    image size."""

    def make(options: Options, channels: int, size: int, classes: int) -> Network:
        return _network(partial(_named, name, classes, image_size=size), channels, name)

    return Builder(Options(), _patches_fit, make)


def deit_tiny() -> Builder:
    """DeiT-Ti without distillation (Touvron et al. 2021), made of torchvision's vision transformer."""

    def make(options: Options, channels: int, size: int, classes: int) -> Network:
        return _network(partial(_deit_tiny, size, classes), channels)

    return Builder(Options(), _patches_fit, make)


def _deit_tiny(size: int, classes: int) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(image_size=size, num_classes=classes, **DEIT_TINY)
