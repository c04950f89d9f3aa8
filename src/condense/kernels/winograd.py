"""Convolution by 3 x 3 windows in float32 with a quarter of the products, forward and backward
(winograd.cpp)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from condense.kernels.context import Context
from condense.kernels.library import LANES, call
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
    windows = getattr(convolution, _KEPT, None)
    if windows is not None and windows.stay:
        bias = None if convolution.bias is None else convolution.bias.detach()
        return _OfKept.apply(maps.contiguous(memory_format=torch.channels_last), windows, False, bias)
    maps = maps.contiguous(memory_format=torch.channels_last)
    return _Convolution.apply(maps, convolution.weight, convolution.bias, centred, False)


def keep_windows(network: nn.Module) -> None:
    """From now on the frozen convolutions of a network, as far as `convolve` takes them, keep their windows
    as it multiplies by them: four times the weights for maps, and as much again for gradients.

    Where few images go through at a time, making these takes longer than the products. Weights that are
    replaced, or changed in place, are noticed; not those that are changed through `.data`.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d:
            setattr(layer, _KEPT, _KeptWindows(layer))


_KEPT = "_kept_windows"


class _KeptWindows:
    """The windows of a frozen convolution, transformed when first asked for, for maps and for gradients."""

    def __init__(self, convolution: nn.Conv2d):
        self._convolution, self._of = convolution, (-1, -1)
        self._held: Tensor | None = None
        self._made: dict[bool, Tensor] = {}

    @property
    def stay(self) -> bool:
        """Whether the convolution has no weights that are trained."""
        return not any(
            tensor.requires_grad or tensor.is_inference() for tensor in self._convolution.parameters()
        )

    def transformed(self, backwards: bool) -> Tensor:
        """(36, panels, inputs, panel); `backwards`: of the convolution that gives the gradient of maps."""
        weight = self._convolution.weight.detach()
        if self._of != (now := (weight._version, weight.data_ptr())):
            # Held, so that no other weights come to lie where these did
            self._made, self._of, self._held = {}, now, weight
        if backwards not in self._made:
            made = torch.empty(36, weight[:, :, 0, 0].numel())
            channels = _channels(weight, backwards)
            call("winograd_transform", made, weight.contiguous(), made, *channels, int(backwards))
            self._made[backwards] = made
        return self._made[backwards]

    def applied(self, maps: Tensor, backwards: bool, bias: Tensor | None) -> Tensor:
        channels = _channels(self._convolution.weight, backwards)
        return _applied("winograd_transformed", maps, self.transformed(backwards), bias, channels)


def _channels(weight: Tensor, backwards: bool) -> tuple[int, int]:
    """What goes in and comes out of a convolution by `weight` (d, c, 3, 3), or of its gradient."""
    outputs, inputs = weight.shape[:2]
    return (outputs, inputs) if backwards else (inputs, outputs)


def _applied(
    kernel: str, maps: Tensor, windows: Tensor, bias: Tensor | None, channels: tuple[int, int]
) -> Tensor:
    out = torch.empty((len(maps), channels[1], *maps.shape[2:]), memory_format=torch.channels_last)
    bias = torch.zeros(channels[1]) if bias is None else bias.contiguous()
    call(kernel, maps, maps, windows, bias, out, len(maps), *maps.shape[2:], *channels)
    return out


class _OfKept(torch.autograd.Function):
    """The convolution by kept windows, or `backwards` what gives the gradient of its maps; each is the
    gradient of the other."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, windows: _KeptWindows, backwards: bool, bias: Tensor | None
    ) -> Tensor:
        ctx.windows, ctx.backwards = windows, backwards
        return windows.applied(maps, backwards, bias)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        given = given.contiguous(memory_format=torch.channels_last)
        of_maps = ctx.needs_input_grad[0]
        return (
            _OfKept.apply(given, ctx.windows, not ctx.backwards, None) if of_maps else None,
            None,
            None,
            None,
        )


class _OfConvolution(Context, Protocol):
    centred: bool
    backwards: bool


class _Convolution(torch.autograd.Function):
    """The convolution by windows (d, c, 3, 3), or `backwards` what gives the gradient of its maps; each is
    the gradient of the other."""

    @staticmethod
    def forward(
        ctx: _OfConvolution, maps: Tensor, weight: Tensor, bias: Tensor | None, centred: bool, backwards: bool
    ) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.centred, ctx.backwards = centred, backwards
        bias = None if bias is None else bias.detach()
        kernel = "winograd_backwards" if backwards else "winograd"
        return _applied(kernel, maps, weight.detach().contiguous(), bias, _channels(weight, backwards))

    @staticmethod
    def backward(ctx: _OfConvolution, given: Tensor) -> tuple[Tensor | None, ...]:
        """Of maps (n, c, h, w), weight (d, c, 3, 3) and bias (d,), from that of the result (n, d, h, w)."""
        maps, weight = ctx.saved_tensors
        of_maps, of_weight, of_bias = ctx.needs_input_grad[:3]
        given = given.contiguous(memory_format=torch.channels_last)
        # As operations of their own where the gradient is to be differentiated in its turn; elsewhere nothing
        # is kept of them.
        back = _Convolution.apply(given, weight, None, False, not ctx.backwards) if of_maps else None
        windows = _Windows.apply(given, maps) if of_weight else None
        if windows is not None and ctx.backwards:
            windows = windows.flip(2, 3).transpose(0, 1)
        bias = (given.new_zeros(len(weight)) if ctx.centred else given.sum((0, 2, 3))) if of_bias else None
        return back, windows, bias, None, None


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
            _Convolution.apply(maps, along, None, False, False) if of_given else None,
            _Convolution.apply(given, along, None, False, True) if of_maps else None,
        )
