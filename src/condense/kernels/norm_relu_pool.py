"""The end of a ConvNet block, instance norm, ReLU and average pooling, as one operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from condense.kernels.library import TYPES, call, library

_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plain() -> Iterator[None]:
    """Inside, torch's own operations are used: for function transforms, which do not see through a kernel."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def available(maps: Tensor) -> bool:
    """Whether the kernel takes `maps`: on the CPU, float32 or bfloat16, where it could be compiled."""
    return maps.device.type == "cpu" and maps.dtype in TYPES and not _plain.get() and library() is not None


def norm_relu_pool(maps: Tensor, weight: Tensor, bias: Tensor, eps: float, pool: int) -> Tensor:
    """Average of `pool` x `pool` pixels of relu(weight * instance_norm(maps) + bias).

    Shapes: maps (n, C, h, w), weight and bias (C,) float32 -> (n, C, h // pool, w // pool), channels last; `pool` is 1 or 2.
    Statistics and sums are float32 whatever the type of `maps`, which the result keeps. Differentiable; the gradient's own gradient is
    taken through torch's operations.
    Raises ValueError where `available` is false.
    """
    if not available(maps):
        raise ValueError(f"no kernel for {maps.dtype} maps on {maps.device}")
    # Outside of the operation, so that what it keeps are its inputs, through which a second gradient finds its way.
    return _NormReluPool.apply(maps.contiguous(memory_format=torch.channels_last), weight, bias, eps, pool)


def reference(maps: Tensor, weight: Tensor, bias: Tensor, eps: float, pool: int) -> Tensor:
    """The same by torch's own operations."""
    value = F.relu(F.group_norm(maps, maps.shape[1], weight.to(maps.dtype), bias.to(maps.dtype), eps))
    return F.avg_pool2d(value, pool) if pool > 1 else value


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, maps: Tensor, weight: Tensor, bias: Tensor, eps: float, pool: int) -> Tensor:
        """See `norm_relu_pool`; keeps the mean and the inverse deviation of every channel of every image for the gradient."""
        count, channels, height, width = maps.shape
        out = torch.empty((count, channels, height // pool, width // pool), dtype=maps.dtype, memory_format=torch.channels_last)
        mean, rstd = torch.empty(count, channels), torch.empty(count, channels)
        call("forward", maps, maps, weight.detach().float(), bias.detach().float(), out, mean, rstd, *_sizes(maps, pool), float(eps))
        ctx.save_for_backward(maps, weight, bias, mean, rstd)
        ctx.settings = eps, pool
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, given: Tensor) -> tuple[Tensor | None, ...]:
        """Of maps (n, C, h, w), weight and bias (C,), from that of the result (n, C, h // pool, w // pool)."""
        maps, weight, bias, mean, rstd = ctx.saved_tensors
        eps, pool = ctx.settings
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            wanted = [tensor for tensor, needed in zip((maps, weight, bias), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(reference(maps, weight, bias, eps, pool), wanted, given, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None, None
        given = given.to(maps.dtype).contiguous(memory_format=torch.channels_last)
        gradient = torch.empty_like(maps, memory_format=torch.channels_last)
        sums = torch.empty(len(maps), 2, maps.shape[1])
        parameters = weight.detach().float(), bias.detach().float()
        call("backward", maps, given, maps, *parameters, mean, rstd, gradient, sums, *_sizes(maps, pool))
        of_bias, of_weight = sums.sum(0)
        return gradient, of_weight.to(weight.dtype), of_bias.to(bias.dtype), None, None


def _sizes(maps: Tensor, pool: int) -> tuple[int, ...]:
    count, channels, height, width = maps.shape
    return count, height, width, channels, pool
