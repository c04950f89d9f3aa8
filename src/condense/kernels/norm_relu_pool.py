"""The end of a convolutional block, instance norm, ReLU and average pooling, as one operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.kernels.context import Context
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


def norm_relu_pool(
    maps: Tensor, weight: Tensor, bias: Tensor, eps: float, pool: int, relu: bool = True
) -> Tensor:
    """Average of `pool` x `pool` pixels of relu(weight * instance_norm(maps) + bias), or without the ReLU.

    Shapes: maps (n, C, h, w), weight and bias (C,) float32 -> (n, C, h // pool, w // pool), channels last;
    `pool` is 1 or 2. Statistics and sums are float32 whatever the type of `maps`, which the result keeps.
    Twice differentiable in float32; further gradients, and second ones in bfloat16, are taken through torch's
    operations.
    Raises ValueError where `available` is false.
    """
    if not available(maps):
        raise ValueError(f"no kernel for {maps.dtype} maps on {maps.device}")
    # Outside of the operation, so that what it keeps are its inputs, through which a second gradient finds
    # its way.
    maps = maps.contiguous(memory_format=torch.channels_last)
    return _NormReluPool.apply(maps, weight, bias, _Settings(eps, pool, relu))


class _Settings(NamedTuple):
    eps: float
    pool: int
    relu: bool


def reference(maps: Tensor, weight: Tensor, bias: Tensor, eps: float, pool: int, relu: bool = True) -> Tensor:
    """The same by torch's own operations."""
    value = F.group_norm(maps, maps.shape[1], weight.to(maps.dtype), bias.to(maps.dtype), eps)
    value = F.relu(value) if relu else value
    return F.avg_pool2d(value, pool) if pool > 1 else value


class _WithSettings(Context, Protocol):
    settings: _Settings


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _WithSettings, maps: Tensor, weight: Tensor, bias: Tensor, settings: _Settings
    ) -> Tensor:
        """See `norm_relu_pool`; keeps the mean and the inverse deviation of every channel of every image for
        the gradient."""
        count, channels, height, width = maps.shape
        out = torch.empty(
            (count, channels, height // settings.pool, width // settings.pool),
            dtype=maps.dtype,
            memory_format=torch.channels_last,
        )
        mean, rstd = torch.empty(count, channels), torch.empty(count, channels)
        call(
            "forward",
            maps,
            maps,
            weight.detach().float(),
            bias.detach().float(),
            out,
            mean,
            rstd,
            *_sizes(maps, settings),
            float(settings.eps),
        )
        ctx.save_for_backward(maps, weight, bias, mean, rstd)
        ctx.settings = settings
        return out

    @staticmethod
    def backward(ctx: _WithSettings, given: Tensor) -> tuple[Tensor | None, ...]:
        """Of maps (n, C, h, w), weight and bias (C,), from that of the result (n, C, h // pool, w //
        pool)."""
        maps, weight, bias, mean, rstd = ctx.saved_tensors
        settings = ctx.settings
        if not torch.is_grad_enabled():
            return *_gradient(given, maps, weight, bias, mean, rstd, settings), None
        # The gradient is to be differentiated in its turn.
        if maps.dtype == torch.float32:
            given = given.contiguous(memory_format=torch.channels_last)  # out here, as in `norm_relu_pool`
            return *_Gradient.apply(given, maps, weight, bias, mean, rstd, settings), None
        return *_by_torch((maps, weight, bias), given, settings, ctx.needs_input_grad), None


class _Gradient(torch.autograd.Function):
    """The gradient, as an operation of `given`, maps, weight and bias that has a gradient of its own."""

    @staticmethod
    def forward(
        ctx: _WithSettings,
        given: Tensor,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        rstd: Tensor,
        settings: _Settings,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of maps, weight and bias; see `_NormReluPool.backward`."""
        ctx.save_for_backward(given, maps, weight, bias, mean, rstd)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return _gradient(given, maps, weight, bias, mean, rstd, settings)

    @staticmethod
    def backward(
        ctx: _WithSettings, along: Tensor | None, *beside: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Of `given`, maps, weight and bias, from those of the three gradients."""
        given, maps, weight, bias, mean, rstd = ctx.saved_tensors
        settings = ctx.settings
        none = None, None, None
        along = (
            torch.zeros_like(maps) if along is None else along.contiguous(memory_format=torch.channels_last)
        )
        along_weight, along_bias = (
            torch.zeros_like(weight) if gradient is None else gradient for gradient in beside
        )
        if torch.is_grad_enabled():
            # Under names of their own: `given` was made from the maps, and what it makes of them is not to be
            # counted here.
            asked = [tensor.view_as(tensor) for tensor in (given, maps, weight, bias)]
            own_given, *inputs = asked
            first = _gradients_by_torch(inputs, own_given, settings, inputs)
            wanted = [tensor for tensor, needed in zip(asked, ctx.needs_input_grad, strict=False) if needed]
            by_torch = torch.autograd.grad(
                first, wanted, (along, along_weight, along_bias), create_graph=True, allow_unused=True
            )
            gradients = iter(by_torch)
            return *(next(gradients) if needed else None for needed in ctx.needs_input_grad[:4]), *none
        of_given, of_maps = (
            torch.empty_like(tensor, memory_format=torch.channels_last) for tensor in (given, maps)
        )
        of_weight = torch.empty(len(maps), maps.shape[1])
        parameters = (
            along_weight.float(),
            along_bias.float(),
            given,
            maps,
            weight.detach().float(),
            bias.detach().float(),
            mean,
            rstd,
        )
        call("second", maps, along, *parameters, of_given, of_maps, of_weight, *_sizes(maps, settings))
        return of_given, of_maps, of_weight.sum(0).to(weight.dtype), torch.zeros_like(bias), *none


def _gradient(
    given: Tensor,
    maps: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    settings: _Settings,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of maps (n, C, h, w), weight and bias (C,), by the kernel."""
    given = given.to(maps.dtype).contiguous(memory_format=torch.channels_last)
    gradient = torch.empty_like(maps, memory_format=torch.channels_last)
    sums = torch.empty(len(maps), 2, maps.shape[1])
    parameters = weight.detach().float(), bias.detach().float()
    call("backward", maps, given, maps, *parameters, mean, rstd, gradient, sums, *_sizes(maps, settings))
    of_bias, of_weight = sums.sum(0)
    return gradient, of_weight.to(weight.dtype), of_bias.to(bias.dtype)


def _by_torch(
    inputs: Sequence[Tensor], given: Tensor, settings: _Settings, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of those of maps, weight and bias that are `needed`, with a graph of their own."""
    wanted = [tensor for tensor, asked in zip(inputs, needed, strict=False) if asked]
    gradients = iter(_gradients_by_torch(inputs, given, settings, wanted))
    return tuple(next(gradients) if asked else None for asked in needed[:3])


def _gradients_by_torch(
    inputs: Sequence[Tensor], given: Tensor, settings: _Settings, wanted: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    maps, weight, bias = inputs
    return torch.autograd.grad(reference(maps, weight, bias, *settings), wanted, given, create_graph=True)


def _sizes(maps: Tensor, settings: _Settings) -> tuple[int, ...]:
    count, channels, height, width = maps.shape
    return count, height, width, channels, settings.pool, int(settings.relu)
