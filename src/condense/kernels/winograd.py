"""Convolution by 3 x 3 windows in float32 with a quarter of the products, forward and backward
(winograd.cpp)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from condense.kernels.context import Context
from condense.kernels.library import LANES, call, panel
from condense.kernels.norm_relu_pool import available

_TILE = 4  # pixels a side of what is computed at once
_MOST_WASTE = 1.8  # pixels that are computed for each that is kept; beyond it torch's way is as fast


def serves(convolution: nn.Conv2d, maps: Tensor) -> bool:
    """Whether `convolve` takes this convolution of these maps, and is the faster way."""
    plain = convolution.stride == (1, 1) and convolution.dilation == (1, 1) and convolution.groups == 1
    square = (
        convolution.kernel_size == (3, 3)
        and convolution.padding == (1, 1)
        and convolution.padding_mode == "zeros"
    )
    channels = not (convolution.in_channels % LANES or convolution.out_channels % LANES)
    if not (plain and square and channels and available(maps)) or {maps.dtype, convolution.weight.dtype} != {
        torch.float32
    }:
        return False
    height, width = maps.shape[2:]
    computed = -(-height // _TILE) * -(-width // _TILE) * _TILE**2
    return computed <= _MOST_WASTE * height * width and not torch.is_autocast_enabled("cpu")


def convolve(convolution: nn.Conv2d, maps: Tensor, centred: bool = False) -> Tensor:
    """As `convolution(maps)`, (n, c, h, w) -> (n, d, h, w) channels last, where it `serves`; float32 to a few
    parts in a million.

    `centred`: what follows takes the mean of every channel away, so that the gradient of the bias is 0 and
    need not be summed up.
    """
    return _Convolution.apply(
        maps.contiguous(memory_format=torch.channels_last), convolution.weight, convolution.bias, centred
    )


def _applied(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs, inputs = weight.shape[:2]
    width = panel(outputs)
    panels = (
        weight.permute(2, 3, 1, 0).reshape(9, inputs, outputs // width, width).transpose(1, 2).contiguous()
    )
    out = torch.empty((len(maps), outputs, *maps.shape[2:]), memory_format=torch.channels_last)
    bias = torch.zeros(outputs) if bias is None else bias.contiguous()
    call("winograd", maps, maps, panels, bias, out, len(maps), *maps.shape[2:], inputs, outputs)
    return out


class _OfConvolution(Context, Protocol):
    centred: bool


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _OfConvolution, maps: Tensor, weight: Tensor, bias: Tensor | None, centred: bool
    ) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.centred = centred
        return _applied(maps, weight.detach(), None if bias is None else bias.detach())

    @staticmethod
    def backward(ctx: _OfConvolution, given: Tensor) -> tuple[Tensor | None, ...]:
        """Of maps (n, c, h, w), weight (d, c, 3, 3) and bias (d,), from that of the result (n, d, h, w)."""
        maps, weight = ctx.saved_tensors
        of_maps, of_weight, of_bias, _ = ctx.needs_input_grad
        given = given.contiguous(memory_format=torch.channels_last)
        # As operations of their own where the gradient is to be differentiated in its turn; elsewhere nothing
        # is kept of them.
        gradients = (
            _Convolution.apply(given, weight.flip(2, 3).transpose(0, 1), None, False) if of_maps else None,
            _Windows.apply(given, maps) if of_weight else None,
        )
        bias = (given.new_zeros(len(weight)) if ctx.centred else given.sum((0, 2, 3))) if of_bias else None
        return *gradients, bias, None


class _Windows(torch.autograd.Function):
    """The gradient of the windows, which is bilinear: (n, d, h, w) and (n, c, h, w) -> (d, c, 3, 3)."""

    @staticmethod
    def forward(ctx: Context, given: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(given, maps)
        outputs, inputs = given.shape[1], maps.shape[1]
        windows = torch.empty(3, 3, inputs, outputs)
        call("winograd_windows", given, given, maps, windows, len(maps), *maps.shape[2:], inputs, outputs)
        return windows.permute(3, 2, 0, 1)

    @staticmethod
    def backward(ctx: Context, along: Tensor) -> tuple[Tensor | None, ...]:
        """Of `given` and of the maps, from that of the windows (d, c, 3, 3)."""
        given, maps = ctx.saved_tensors
        of_given, of_maps = ctx.needs_input_grad
        return (
            _Convolution.apply(maps, along, None, False) if of_given else None,
            _Convolution.apply(given, along.flip(2, 3).transpose(0, 1), None, False) if of_maps else None,
        )
