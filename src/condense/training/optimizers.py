"""Stochastic gradient descent over plain tensors.

Ours because `torch.optim` takes three seconds to import, as long as many of our jobs run, and because the state must
enter checkpoints by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from condense.specs import Optimizer


class SGD:
    """Momentum and L2 penalty as in torch.optim.SGD: v <- m v + (g + wd x); x <- x - lr v. Tensors without a gradient stay."""

    def __init__(self, tensors: Sequence[Tensor], settings: Optimizer):
        self.tensors, self.settings, self.lr = list(tensors), settings, settings.lr
        self.velocity = [torch.zeros_like(tensor) for tensor in self.tensors]

    def zero_grad(self) -> None:
        for tensor in self.tensors:
            tensor.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients that lie on the tensors."""
        moved = [(tensor, velocity) for tensor, velocity in zip(self.tensors, self.velocity, strict=True) if tensor.grad is not None]
        tensors, velocity = [pair[0] for pair in moved], [pair[1] for pair in moved]
        gradients = [tensor.grad for tensor in tensors]
        if self.settings.weight_decay:
            gradients = torch._foreach_add(gradients, tensors, alpha=self.settings.weight_decay)
        torch._foreach_mul_(velocity, self.settings.momentum)
        torch._foreach_add_(velocity, gradients)
        torch._foreach_add_(tensors, velocity, alpha=-self.lr)

    def forget(self) -> None:
        """Starts the momentum anew, as a newly made optimiser would."""
        torch._foreach_zero_(self.velocity)
