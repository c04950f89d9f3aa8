"""The networks of the fixtures in our names, and the two ways in which fixtures state their parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from condense.config import unknown
from condense.models import build

CHOICES = {
    "norm": {
        "instancenorm": "instance",
        "batchnorm": "batch",
        "layernorm": "layer",
        "groupnorm": "group",
        "none": "none",
    },
    "pool": {"avg": "average", "avgpooling": "average", "max": "max", "maxpooling": "max", "none": "none"},
    "act": {"relu": "relu", "leakyrelu": "leaky_relu", "sigmoid": "sigmoid", "swish": "swish"},
}


def convnet(options: Mapping[str, int | str], channels: int, size: int, classes: int) -> nn.Module:
    """The ConvNet with options as the fixtures spell them; an option or a value that is not known is an
    error."""
    ours = {}
    for name, value in options.items():
        if name in CHOICES and value not in CHOICES[name]:
            raise unknown(name, value, CHOICES[name])
        ours[name] = CHOICES[name][value] if name in CHOICES else value
    return build("convnet", channels=channels, size=size, classes=classes, **ours)


def reference(name: str, channels: int, size: int, classes: int) -> nn.Module:
    """A network by its fixture's name, such as `mlp_3ch`, whose channels are stated apart, or
    `resnet18_bn_ap`, our `resnet18_ap_bn`."""
    name = re.sub(r"_\dch$", "", name)
    name = re.sub(r"_bn_ap$", "_ap_bn", name)
    return build(name, channels=channels, size=size, classes=classes)


def load_stack(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets `features.K.<weight|bias|...>` and `classifier.*` by position; a fixture without the classifier
    leaves ours as it was drawn."""
    fields = ("weight", "bias", "running_mean", "running_var")

    def place(name: str) -> tuple[float, int]:
        where, field = name.rsplit(".", 1)
        return float("inf") if where == "classifier" else int(where.removeprefix("features.")), fields.index(
            field
        )

    names = sorted(arrays, key=place)
    own = {
        name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    if "classifier.weight" not in arrays:
        own = {name: tensor for name, tensor in own.items() if not name.startswith("classifier.")}
    for (ours, tensor), name in zip(own.items(), names, strict=True):
        array = torch.tensor(arrays[name])
        assert (ours.rsplit(".", 1)[1], tensor.shape) == (name.rsplit(".", 1)[1], array.shape), (
            f"{ours} is not {name}"
        )
        tensor.copy_(array)


def fill(net: nn.Module, parameters: Sequence[tuple[str, Sequence[int], str]], seed: int) -> None:
    """Sets parameter i, in construction order, from RandomState(seed + i) by the rule of its kind."""
    with torch.no_grad():
        for place, (own, (name, shape, kind)) in enumerate(zip(net.parameters(), parameters, strict=True)):
            assert list(own.shape) == list(shape), (
                f"parameter {place} ({name}) has shape {list(own.shape)} instead of {shape}"
            )
            uniform = np.random.RandomState(seed + place).random_sample(own.numel()).reshape(shape)
            own.copy_(torch.tensor(_by_rule(uniform, kind)))


def _by_rule(uniform: np.ndarray, kind: str) -> np.ndarray:
    if kind == "matrix":
        return (2 * uniform - 1) * np.sqrt(6 / np.prod(uniform.shape[1:]))
    if kind == "scale":
        return 0.8 + 0.4 * uniform
    if kind == "shift":
        return 0.2 * (uniform - 0.5)
    raise unknown("kind of parameter", kind, ("matrix", "scale", "shift"))
