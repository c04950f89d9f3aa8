"""Gradients of the mean loss of every class with respect to a network's parameters: what gradient matching
compares.

Class by class: a class has tens to hundreds of real images, which keep a processor busy, and of the synthetic
side only the graph of one class then lies in memory. All classes of the synthetic side at once (by
`torch.func`, or one pass and a grouped product for the windows of every class), which does without the
kernels, took twice as long on one core at ten images a class, and half as long at one image a class, where
the real side takes twenty times that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from condense.kernels.context import Context
from condense.kernels.precision import computed_in
from condense.machine.fitting import CHUNK

Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def class_gradients(
    network: nn.Module,
    images: Iterable[Tensor],
    labels: Tensor,
    parameters: Sequence[Tensor],
    mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """The gradient of the mean cross-entropy of each class with respect to each of `parameters`, without a
    graph: (C, *parameter) each.

    `images` gives the normalised images (n, c, h, w) of one class after the other, such as a tensor
    (C, n, ...), or a generator that makes them as they are asked for; labels (C, n) int64; mask (C, n) is
    false for images that do not count, of which a class needs one that does. Layers are computed in `dtype`,
    so many images at a time as suit the device; sums are float32 or better. In bfloat16 the gradients of an
    untrained ConvNet's convolutions lay 2 to 5 % off, of its classifier 0.1 % (128 images of CIFAR-10).
    Raises ValueError where a batch norm would use statistics of the batch (see `freeze_statistics`), a
    parameter has no gradient, or the images are of more or fewer classes than the labels.
    """
    _check(network, parameters)
    totals = [parameter.new_zeros(len(labels), *parameter.shape) for parameter in parameters]
    weights = _weights(labels, mask)
    for index, batch in zip(range(len(labels)), images, strict=True):
        size = max(1, CHUNK[batch.device.type] // batch.shape[-1] ** 2)
        for chosen in torch.arange(len(batch)).split(size):
            rows = slice(int(chosen[0]), int(chosen[-1]) + 1)
            with torch.enable_grad():
                with computed_in(dtype, batch.device):
                    logits = network(batch[rows])
                losses = F.cross_entropy(logits, labels[index, rows], reduction="none")
                given = torch.autograd.grad(
                    (losses * weights[index, rows].to(losses.dtype)).sum(), parameters
                )
            for total, gradient in zip(totals, given, strict=True):
                total[index] += gradient
    return totals


def gradient_discrepancy(
    network: nn.Module,
    real: Sequence[Tensor],
    images: Tensor,
    labels: Tensor,
    parameters: Sequence[Tensor],
    distance: Distance,
) -> Tensor:
    """The distance of every class between `real`, the class gradients (C, *parameter), and those of synthetic
    images: (C,).

    images (C, m, c, h, w), labels (C, m). `distance` takes two gradients of one class, tensors as in
    `parameters`. Differentiable once, with respect to `images` alone; their gradient is computed with the
    value, class by class, so that one graph at a time is in memory. Where images need no gradient, only the
    value is computed. Raises ValueError as `class_gradients` does.
    """
    _check(network, parameters)
    return _Matched.apply(images, labels, network, real, parameters, distance)


class _Matched(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context,
        images: Tensor,
        labels: Tensor,
        network: nn.Module,
        real: Sequence[Tensor],
        parameters: Sequence[Tensor],
        distance: Distance,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        values, gradients = [], []
        for index, batch in enumerate(images.detach()):
            batch = batch.requires_grad_(wanted)
            with torch.enable_grad():
                loss = F.cross_entropy(network(batch), labels[index])
                made = torch.autograd.grad(loss, parameters, create_graph=wanted)
                value = distance([gradient[index] for gradient in real], made)
                if wanted:
                    gradients.append(torch.autograd.grad(value, batch)[0])
            values.append(value.detach())
        ctx.save_for_backward(*([torch.stack(gradients)] if wanted else []))
        return torch.stack(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, given: Tensor) -> tuple[Tensor | None, ...]:
        """Of images (C, m, ...), from that of the distances (C,)."""
        (gradients,) = ctx.saved_tensors
        return (
            given.to(gradients.dtype).view(-1, *[1] * (gradients.ndim - 1)) * gradients,
            None,
            None,
            None,
            None,
            None,
        )


@torch.no_grad()
def freeze_statistics(network: nn.Module, images: Tensor) -> None:
    """One pass of `images` (n, ...), of all classes together, through a network whose batch norms then use
    their running statistics.

    The pass moves the statistics by the momentum of the layers, as in the authors' code (16 real images a
    class at every outer step): those of a new network are a tenth of the images' own. Afterwards a class
    alone has the gradient it has among others. Layers other than batch norms stay in their mode. `train()`
    sets the batch norms back to the statistics of batches.
    """
    layers = _batch_norms(network)
    if not layers:
        return
    for layer in layers:
        layer.train()
    network(images)
    for layer in layers:
        layer.eval()


def _batch_norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _check(network: nn.Module, parameters: Sequence[Tensor]) -> None:
    if any(layer.training for layer in _batch_norms(network)):
        raise ValueError("batch norms in training mode look across the batch: freeze_statistics comes first")
    if not parameters or not all(parameter.requires_grad for parameter in parameters):
        raise ValueError("parameters that have gradients are needed, at least one")


def _weights(labels: Tensor, mask: Tensor | None) -> Tensor:
    """What each image counts in the mean of its class: (C, n), 1 in all."""
    counted = torch.ones_like(labels, dtype=torch.float64) if mask is None else mask.double()
    return counted / counted.sum(1, keepdim=True)
