"""Convolution of images, which have few channels, with a gradient for them alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from condense.kernels.library import call
from condense.kernels.norm_relu_pool import available

_MOST_CHANNELS = 4
_CHUNK = 64  # images whose patches are summed at once, while they are in the cache


def serves(convolution: nn.Conv2d, images: Tensor) -> bool:
    """Whether `convolve` is the faster way: the images have a gradient, few channels, and the weights are frozen."""
    plain = convolution.stride == (1, 1) and convolution.dilation == (1, 1) and convolution.groups == 1
    square = convolution.kernel_size[0] == convolution.kernel_size[1] and convolution.padding in ((0, 0), (1, 1), (2, 2), (3, 3))
    zeros = convolution.padding_mode == "zeros" and convolution.in_channels <= _MOST_CHANNELS
    frozen = not convolution.weight.requires_grad and images.requires_grad and torch.is_grad_enabled()
    return plain and square and zeros and frozen and available(images)


def convolve(convolution: nn.Conv2d, images: Tensor, centred: bool = False) -> Tensor:
    """As `convolution(images)`, (n, c, h, w) -> (n, d, h', w'), where it `serves`; weights have no gradient, `centred` or not.

    The gradient is a product of matrices and a sum of overlapping patches: for 3 channels torch's way takes five times as long.
    """
    return _Convolution.apply(images, convolution.weight, convolution.bias, convolution.padding[0])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.dtype, ctx.padding = images.shape, images.dtype, padding
        return F.conv2d(images, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: FunctionCtx, given: Tensor) -> tuple[Tensor, None, None, None]:
        """Of the images alone: given (n, d, h', w') -> (n, c, h, w)."""
        (weight,) = ctx.saved_tensors
        weight = weight.to(given.dtype)
        if torch.is_grad_enabled():  # linear in what is given, so that torch can take the gradient's gradient
            return F.conv_transpose2d(given, weight, padding=ctx.padding).to(ctx.dtype), None, None, None
        outputs, channels, size, _ = weight.shape
        weight = weight.permute(0, 2, 3, 1).reshape(outputs, -1)
        gradient = torch.empty(ctx.shape, dtype=given.dtype, memory_format=torch.channels_last)
        for part, out in zip(given.split(_CHUNK), gradient.split(_CHUNK), strict=True):
            patches = part.permute(0, 2, 3, 1).reshape(-1, outputs) @ weight
            call("fold", patches, patches, out, len(out), *ctx.shape[2:], channels, size, ctx.padding)
        return gradient.to(ctx.dtype), None, None, None
