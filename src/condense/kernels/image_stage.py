"""The first stage of a ConvNet where nothing has a gradient, in one pass (image_stage.cpp)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense.kernels.few_channels import fits
from condense.kernels.library import call, panel
from condense.kernels.norm_relu_pool import available

_LANES = 16  # channels that the kernel takes at once


def serves(convolution: nn.Conv2d, norm: nn.GroupNorm, images: Tensor) -> bool:
    """Whether `compute` takes these layers and images: float32, few channels, no gradients."""
    tensors = (images, convolution.weight, norm.weight, norm.bias)
    if not fits(convolution) or convolution.out_channels % _LANES or any(one.dtype != torch.float32 for one in tensors):
        return False
    frozen = not (torch.is_grad_enabled() and any(one.requires_grad for one in tensors))
    smallest = min(images.shape[2:]) + 2 * convolution.padding[0] >= convolution.kernel_size[0]
    return frozen and smallest and available(images) and not torch.is_autocast_enabled("cpu")


def compute(convolution: nn.Conv2d, norm: nn.GroupNorm, images: Tensor, pool: int) -> Tensor:
    """relu(norm(convolution(images))), averaged over `pool` x `pool` pixels: (n, c, h, w) -> (n, d, h' // pool, w' // pool).

    `norm` is of every channel of every image, `pool` 1 or 2. Differs from the layers by the order of sums.
    """
    outputs, channels, size, _ = convolution.weight.shape
    count, _, *sides = images.shape
    padding, width = convolution.padding[0], panel(outputs)
    windows = convolution.weight.detach().permute(2, 3, 1, 0).reshape(-1, outputs // width, width).transpose(0, 1).contiguous()
    rows, cols = ((side + 2 * padding - size + 1) // pool for side in sides)
    out = torch.empty((count, outputs, rows, cols), memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    sizes = (count, *sides, channels, outputs, size, padding, pool)
    call("image_stage", images, images, windows, norm.weight.detach(), norm.bias.detach(), out, *sizes, float(norm.eps))
    return out
