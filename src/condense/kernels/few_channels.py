"""Convolution of images, which have few channels."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from condense.kernels.context import Context
from condense.kernels.library import call
from condense.kernels.norm_relu_pool import available

_MOST_CHANNELS = 4
_CHUNK = 64  # images whose patches are summed at once, while they are in the cache


def fits(convolution: nn.Conv2d) -> bool:
    """Whether it is a plain convolution of few channels by square windows."""
    plain = convolution.stride == (1, 1) and convolution.dilation == (1, 1) and convolution.groups == 1
    square = convolution.kernel_size[0] == convolution.kernel_size[1] and convolution.padding in (
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
    )
    return (
        plain and square and convolution.padding_mode == "zeros" and convolution.in_channels <= _MOST_CHANNELS
    )


def padding_of(convolution: nn.Conv2d) -> int:
    """Pixels that a convolution which `fits` adds on every side."""
    return convolution.padding[0] if isinstance(convolution.padding, tuple) else 0


def serves(convolution: nn.Conv2d, images: Tensor) -> bool:
    """Whether `convolve` is the faster way: the images have few channels, and they or the weights have a
    gradient."""
    either = (convolution.weight.requires_grad or images.requires_grad) and torch.is_grad_enabled()
    return fits(convolution) and either and available(images)


def convolve(convolution: nn.Conv2d, images: Tensor, centred: bool = False) -> Tensor:
    """As `convolution(images)`, (n, c, h, w) -> (n, d, h', w'), where it `serves`.

    The gradient of images is a product of matrices and a sum of overlapping patches: for 3 channels torch's
    way takes five times as long. `centred`: what follows takes the mean of every channel away, so that the
    gradient of the bias is 0; to sum it up would take torch as long as the gradient of the weights.
    """
    return _Convolution.apply(images, convolution.weight, convolution.bias, padding_of(convolution), centred)


class _Padded(Context, Protocol):
    padding: int


class _OfConvolution(_Padded, Protocol):
    shape: torch.Size
    dtype: torch.dtype
    centred: bool


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _OfConvolution, images: Tensor, weight: Tensor, bias: Tensor | None, padding: int, centred: bool
    ) -> Tensor:
        ctx.save_for_backward(images if weight.requires_grad else None, weight)
        ctx.shape, ctx.dtype, ctx.padding, ctx.centred = images.shape, images.dtype, padding, centred
        return F.conv2d(images, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: _OfConvolution, given: Tensor) -> tuple[Tensor | None, ...]:
        """Of the images (n, c, h, w), or of weight (d, c, k, k) and bias (d,), from that of the result
        (n, d, h', w')."""
        images, weight = ctx.saved_tensors
        of_images, of_weight, of_bias, *_ = ctx.needs_input_grad
        gradient = (
            _gradient_of_images(given, weight.to(given.dtype), ctx.shape, ctx.padding).to(ctx.dtype)
            if of_images
            else None
        )
        bias = None
        if of_bias:
            bias = weight.new_zeros(len(weight)) if ctx.centred else given.sum((0, 2, 3), dtype=weight.dtype)
        windows = (
            _Windows.apply(given, images.to(given.dtype), ctx.padding, weight.shape).to(weight.dtype)
            if of_weight
            else None
        )
        return gradient, windows, bias, None, None


class _Windows(torch.autograd.Function):
    """The gradient of the windows, which is bilinear: (n, d, h', w') and images (n, c, h, w) -> (d, c, k,
    k)."""

    @staticmethod
    def forward(ctx: _Padded, given: Tensor, images: Tensor, padding: int, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(given, images)
        ctx.padding = padding
        return conv2d_weight(images, shape, given, padding=padding)

    @staticmethod
    def backward(ctx: _Padded, along: Tensor) -> tuple[Tensor | None, ...]:
        """Of `given` and of the images, from that of the windows (d, c, k, k)."""
        given, images = ctx.saved_tensors
        of_given, of_images, *_ = ctx.needs_input_grad
        return (
            F.conv2d(images, along, padding=ctx.padding) if of_given else None,
            _gradient_of_images(given, along, images.shape, ctx.padding) if of_images else None,
            None,
            None,
        )


def _gradient_of_images(given: Tensor, weight: Tensor, shape: torch.Size, padding: int) -> Tensor:
    if torch.is_grad_enabled():  # linear in what is given, so that torch can take the gradient's gradient
        return F.conv_transpose2d(given, weight, padding=padding)
    outputs, channels, size, _ = weight.shape
    weight = weight.permute(0, 2, 3, 1).reshape(outputs, -1)
    gradient = torch.empty(shape, dtype=given.dtype, memory_format=torch.channels_last)
    for chunk, out in zip(given.split(_CHUNK), gradient.split(_CHUNK), strict=True):
        patches = chunk.permute(0, 2, 3, 1).reshape(-1, outputs) @ weight
        call("fold", patches, patches, out, len(out), *shape[2:], channels, size, padding)
    return gradient
