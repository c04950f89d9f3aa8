"""Layers one after the other, with the project's kernels for those that they compute faster than torch.

On CPUs these are convolutions by 3 x 3 windows or of few channels, and instance norm with its ReLU; all
else, and everything on GPUs, is what the modules do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from condense import kernels

_LANES = 8  # channels that torch's convolutions take at once


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Maps `x` (n, c, h, w) through `layers`, in their order."""
    waiting = list(layers)
    while waiting:
        done, x = _next(waiting, x)
        del waiting[:done]
    return x


def _next(layers: Sequence[nn.Module], x: Tensor) -> tuple[int, Tensor]:
    """How many of `layers` were applied, and what came out."""
    first = layers[0]
    if type(first) is nn.Sequential:
        return 1, through(first, x)
    if not kernels.available(x):
        return 1, first(x)
    if type(first) is nn.Conv2d:
        return 1, convolved(first, x, centred=len(layers) > 1 and is_instance_norm(layers[1]))
    if is_instance_norm(first):
        relu = len(layers) > 1 and type(layers[1]) is nn.ReLU
        return 1 + relu, kernels.norm_relu_pool(x, first.weight, first.bias, first.eps, 1, relu)
    return 1, first(x)


def is_instance_norm(layer: nn.Module) -> TypeGuard[nn.GroupNorm]:
    """Whether `layer` is a group norm with one group a channel, whose weights are trained."""
    return type(layer) is nn.GroupNorm and layer.num_groups == layer.num_channels and layer.affine


def convolved(convolution: nn.Conv2d, x: Tensor, centred: bool) -> Tensor:
    """`convolution(x)`, channels last where torch can; see `kernels.winograd` for `centred`."""
    if _breaks_channels_last(convolution):
        return convolution(x.contiguous(memory_format=torch.contiguous_format))
    x = x.contiguous(memory_format=torch.channels_last)
    # What the first saves is the gradient of images, or that of a bias which a norm makes 0.
    ways = (kernels.few_channels, kernels.winograd) if centred or x.requires_grad else (kernels.winograd,)
    faster = next((way for way in ways if way.serves(convolution, x)), None)
    if faster is None:
        return convolution(x)
    call_hooks(convolution, x)
    return faster.convolve(convolution, x, centred=centred)


def call_hooks(layer: nn.Module, x: Tensor) -> None:
    """Calls what is registered to be called before `layer`, which a kernel computes in its place."""
    for hook in tuple(layer._forward_pre_hooks.values()):
        hook(layer, (x,))


def _breaks_channels_last(convolution: nn.Conv2d) -> bool:
    """Whether torch's gradient of the weights writes outside its memory, channels last on CPUs.

    oneDNN 3.13, in torch 2.15, does so for windows smaller than their stride and few channels (2 to 6 were
    found), as in the shortcuts of narrow residual networks.
    """
    steps_over = max(convolution.stride) > min(convolution.kernel_size)
    return steps_over and convolution.in_channels // convolution.groups < _LANES
