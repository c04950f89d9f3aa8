"""Counting what one image costs in a network: a pass without data."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from condense import kernels, models
from condense.specs.costs.profile import Profile
from condense.specs.spaces import SPACES
from condense.training.stacked import can_be_batched

_SAMPLED = 40  # networks of a space whose mean is taken
# What of a space is that of its largest network, since the memory has to suffice for all
_MOST = ("activations", "kept", "largest", "features", "ties_batch")


def check_options(arch: str, options: str) -> None:
    """Raises UserError for an architecture that is none, and for options, as JSON, that it has not."""
    models.chosen_options(arch, json.loads(options))


def count(arch: str, options: str, channels: int, size: int, classes: int) -> Profile:
    """The profile of an architecture; `options` is JSON. That of a space of networks, of which the options
    choose none, is the mean of a sample, or the most where memory depends on it. Raises UserError as
    `models.build` does."""
    chosen, shape = json.loads(options), (channels, size, classes)
    space = SPACES.get(arch)
    if space is None or space.option in chosen:
        return _counted(arch, chosen, *shape)
    found = [_counted(arch, chosen | space.options(k), *shape) for k in space.sample(_SAMPLED, 0)]
    values = {field.name: [getattr(profile, field.name) for profile in found] for field in fields(Profile)}
    means = {name: round(sum(numbers) / len(numbers)) for name, numbers in values.items()}
    most = {name: max(values[name]) for name in _MOST}
    return Profile(**means | most | {"batched": min(values["batched"])})


def _counted(arch: str, options: dict[str, Any], channels: int, size: int, classes: int) -> Profile:
    """The profile of one network."""
    # Takes a fifth of a second, which most jobs do without
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = models.build(arch, channels=channels, size=size, classes=classes, **options).eval()
        image = torch.empty(1, channels, size, size)
    outputs: list[int] = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: outputs.append(output.numel()))
        for module in network.modules()
        if not list(module.children())
    ]
    with torch.no_grad():
        with FlopCounterMode(display=False) as counted:
            embedding = network.embed(image)
        embed = counted.get_total_flops()
        with FlopCounterMode(display=False) as counted:
            network.head(embedding)
    forward = embed + counted.get_total_flops()
    for handle in handles:
        handle.remove()
    return Profile(
        embed=embed,
        forward=forward,
        layers=len(outputs),
        parameters=models.count_parameters(network),
        activations=sum(outputs),
        kept=_kept(network, image),
        largest=max(outputs),
        features=embedding.shape[1],
        batched=int(can_be_batched(network)),
        ties_batch=int(ties_batch(network)),
    )


def ties_batch(network: nn.Module) -> bool:
    """Whether batch norm ties the images of a batch together: with such a network a set is condensed in one
    shard."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def _kept(network: nn.Module, image: Tensor) -> int:
    """Numbers that a forward pass of one of several images keeps for the backward one, each memory counted
    once."""
    parameters = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no other memory gets the same name

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept[storage._cdata] = storage
        return tensor

    images = image.expand(2, -1, -1, -1).clone()
    with kernels.plain(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(images)
    return sum(storage.nbytes() for storage in kept.values()) // (4 * len(images))
