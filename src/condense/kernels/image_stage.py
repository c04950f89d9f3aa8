"""The first stage of a ConvNet in one pass, where the images it is given have no gradient
(image_stage.cpp)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.kernels.context import Context
from condense.kernels.few_channels import fits, padding_of
from condense.kernels.library import LANES, call, panel
from condense.kernels.norm_relu_pool import available, reference


def serves(convolution: nn.Conv2d, norm: nn.GroupNorm, images: Tensor) -> bool:
    """Whether `compute` takes these layers and images: float32, few channels, images without a gradient."""
    tensors = (images, convolution.weight, norm.weight, norm.bias)
    if (
        not fits(convolution)
        or convolution.out_channels % LANES
        or any(tensor.dtype != torch.float32 for tensor in tensors)
    ):
        return False
    without = not (torch.is_grad_enabled() and images.requires_grad)
    large = min(images.shape[2:]) + 2 * padding_of(convolution) >= convolution.kernel_size[0]
    return without and large and available(images) and not torch.is_autocast_enabled("cpu")


def compute(convolution: nn.Conv2d, norm: nn.GroupNorm, images: Tensor, pool: int) -> Tensor:
    """relu(norm(convolution(images))), averaged over `pool` x `pool` pixels: (n, c, h, w) -> (n, d, h' //
    pool, w' // pool).

    `norm` is of every channel of every image, `pool` 1 or 2. Differs from the layers by the order of sums;
    the gradient of the convolution's bias is 0, as the norm takes away what it adds.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    padding = padding_of(convolution)
    return _Stage.apply(
        images, convolution.weight, convolution.bias, norm.weight, norm.bias, padding, norm.eps, pool
    )


def _windows(weight: Tensor) -> Tensor:
    """(d, c, k, k) -> (panels, k * k * c, panel)."""
    outputs, width = len(weight), panel(len(weight))
    return (
        weight.detach().permute(2, 3, 1, 0).reshape(-1, outputs // width, width).transpose(0, 1).contiguous()
    )


class _OfStage(Context, Protocol):
    sizes: tuple[int, ...]
    eps: float


class _Stage(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _OfStage, images: Tensor, *given: Any) -> Tensor:
        """See `compute`; keeps the mean and the inverse deviation of every channel of every image for the
        gradient."""
        window, shift, weight, bias, padding, eps, pool = given
        (outputs, channels, size, _), (count, _, *sides) = window.shape, images.shape
        rows, cols = ((side + 2 * padding - size + 1) // pool for side in sides)
        out = torch.empty((count, outputs, rows, cols), memory_format=torch.channels_last)
        mean, rstd = torch.empty(count, outputs), torch.empty(count, outputs)
        ctx.sizes, ctx.eps = (count, *sides, channels, outputs, size, padding, pool), eps
        call(
            "image_stage",
            images,
            images,
            _windows(window),
            weight.detach(),
            bias.detach(),
            out,
            mean,
            rstd,
            *ctx.sizes,
            float(eps),
        )
        ctx.save_for_backward(images, window, shift, weight, bias, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: _OfStage, given: Tensor) -> tuple[Tensor | None, ...]:
        """Of window (d, c, k, k), shift, weight and bias (d,), from that of the result."""
        images, window, shift, weight, bias, mean, rstd = ctx.saved_tensors
        *_, channels, outputs, size, padding, pool = ctx.sizes
        needed = ctx.needs_input_grad[1:5]
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            value = reference(F.conv2d(images, window, shift, padding=padding), weight, bias, ctx.eps, pool)
            wanted = [
                tensor for tensor, asked in zip((window, shift, weight, bias), needed, strict=True) if asked
            ]
            gradients = iter(torch.autograd.grad(value, wanted, given, create_graph=True))
            return None, *(next(gradients) if asked else None for asked in needed), None, None, None
        given = given.contiguous(memory_format=torch.channels_last)
        of_window, sums = torch.empty(size, size, channels, outputs), torch.empty(len(images), 2, outputs)
        parameters = _windows(window), weight.detach(), bias.detach(), mean, rstd
        call("image_stage_gradient", images, given, images, *parameters, of_window, sums, *ctx.sizes)
        of_bias, of_weight = sums.sum(0)
        return (
            None,
            of_window.permute(3, 2, 0, 1),
            torch.zeros_like(shift) if needed[1] else None,
            of_weight,
            of_bias,
            None,
            None,
            None,
        )
