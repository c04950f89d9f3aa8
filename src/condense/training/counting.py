"""Counting what one image costs in a network: a pass without data."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from condense import kernels, models
from condense.costs.profile import Profile
from condense.training.stacked import can_be_batched


def count(arch: str, options: str, channels: int, size: int, classes: int) -> Profile:
    """The profile of an architecture; `options` is JSON. Raises UserError as `models.build` does."""
    with torch.device("meta"):
        network = models.build(
            arch, channels=channels, size=size, classes=classes, **json.loads(options)
        ).eval()
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
