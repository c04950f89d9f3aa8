"""Optimisers over plain tensors; those of images stand in `image_optimizers`.

Ours because `torch.optim` takes three seconds to import, as long as many of our jobs run, and because the
state must enter checkpoints by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condense.config import unknown
from condense.specs import AnyNetworkOptimizer, NetworkAdam, NetworkSGD, Optimizer


class Descent:
    """Moves tensors in place along their gradients, with a momentum for each.

    `lr` is a number, or a tensor () where a device is to read it at every step.
    """

    repeats = True  # whether every step is the same work on the tensors, which nothing of the host enters
    clip: float | None = None  # the most that the norm of all gradients together may be
    spared: frozenset[int] = frozenset()  # the places of tensors that no weight decay pulls

    def __init__(self, tensors: Sequence[Tensor], lr: float):
        self.tensors = list(tensors)
        self.lr: float | Tensor = lr
        self.velocity = [torch.zeros_like(tensor) for tensor in self.tensors]

    def zero_grad(self) -> None:
        for tensor in self.tensors:
            tensor.grad = None

    def begin(self) -> None:
        """Called before gradients are taken, for what moves between one step and the next."""

    def step(self) -> None:
        """One step along the gradients that lie on the tensors."""
        raise NotImplementedError

    def _moved(self) -> tuple[list[int], list[Tensor]]:
        """The places of the tensors that have a gradient, and these, clipped where `clip` says so."""
        moved = [(index, tensor.grad) for index, tensor in enumerate(self.tensors) if tensor.grad is not None]
        gradients = [gradient for _, gradient in moved]
        return [index for index, _ in moved], gradients if self.clip is None else clipped(
            gradients, self.clip
        )

    def _pulled(self, indices: Sequence[int], gradients: list[Tensor], decay: float) -> list[Tensor]:
        """Gradients with an L2 penalty on the tensors at `indices`, but for those that are spared."""
        if not decay:
            return gradients
        pulls = [0.0 if index in self.spared else decay for index in indices]
        tensors = [self.tensors[index] for index in indices]
        if not any(index in self.spared for index in indices):
            return list(torch._foreach_add(gradients, tensors, alpha=decay))
        return list(torch._foreach_add(gradients, torch._foreach_mul(tensors, pulls)))

    def forget(self) -> None:
        """Starts the momentum anew, as a newly made optimiser would."""
        torch._foreach_zero_(self.velocity)

    def state(self) -> dict[str, Tensor]:
        """What is kept from step to step, for checkpoints: views, not copies, of all that a step changes
        beside the tensors."""
        return {f"velocity.{index}": value for index, value in enumerate(self.velocity)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes up a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name].reshape(tensor.shape))


def clipped(gradients: Sequence[Tensor], most: float) -> list[Tensor]:
    """Gradients scaled down so that their norm, over all of them together, is at most `most`, as
    torch.nn.utils.clip_grad_norm_ does; as they are where it is less. Nothing waits for the device."""
    if not gradients:
        return []
    norm = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(gradients)))))
    return list(torch._foreach_mul(list(gradients), (most / (norm + 1e-6)).clamp(max=1.0)))


class SGD(Descent):
    """Momentum and L2 penalty as in torch.optim.SGD: v <- m v + (g + wd x); x <- x - lr v. Tensors without a
    gradient stay.

    With `nesterov`: x <- x - lr (g + wd x + m v).
    """

    def __init__(self, tensors: Sequence[Tensor], settings: Optimizer | NetworkSGD, nesterov: bool = False):
        super().__init__(tensors, settings.lr)
        self.settings, self.nesterov = settings, nesterov

    @torch.no_grad()
    def step(self) -> None:
        indices, given = self._moved()
        tensors, velocity = (
            [self.tensors[index] for index in indices],
            [self.velocity[index] for index in indices],
        )
        momentum = self.settings.momentum
        gradients = self._pulled(indices, given, self.settings.weight_decay)
        torch._foreach_mul_(velocity, momentum)
        torch._foreach_add_(velocity, gradients)
        moves = torch._foreach_add(gradients, velocity, alpha=momentum) if self.nesterov else velocity
        if isinstance(self.lr, Tensor):
            torch._foreach_sub_(tensors, torch._foreach_mul(moves, self.lr))
        else:
            torch._foreach_add_(tensors, moves, alpha=-self.lr)


class Moments(Descent):
    """What Adam and AdamW share: a mean of the gradients, `velocity`, and one of their squares."""

    EPS = 1e-8

    def __init__(self, tensors: Sequence[Tensor], settings: Optimizer | NetworkAdam, decoupled: bool):
        """`decoupled`: whether values shrink by themselves."""
        super().__init__(tensors, settings.lr)
        self.settings, self.decoupled = settings, decoupled
        self.squares = [torch.zeros_like(tensor) for tensor in self.tensors]

    def _move(
        self,
        indices: Sequence[int],
        given: Sequence[Tensor],
        of_mean: float | Tensor,
        of_size: float | Tensor,
    ) -> None:
        """Moves the tensors at `indices` by their gradients.

        `of_mean` and `of_size`: what the mean and the size of gradients are divided by, since they began at
        0.
        """
        gradients = list(given)
        tensors, velocity, squares = (
            [values[index] for index in indices] for values in (self.tensors, self.velocity, self.squares)
        )
        first, second = self.settings.beta1, self.settings.beta2
        torch._foreach_lerp_(velocity, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        sizes = torch._foreach_div(torch._foreach_sqrt(squares), of_size)
        torch._foreach_add_(sizes, self.EPS)
        moves = torch._foreach_div(velocity, sizes)
        decay = self.settings.weight_decay if self.decoupled else 0.0
        # The rate may be a tensor, which a plateau lowers
        for index, tensor, move in zip(indices, tensors, moves, strict=True):
            if index not in self.spared:
                tensor.mul_(1 - self.lr * decay)
            tensor.sub_(move * (self.lr / of_mean))

    def forget(self) -> None:
        super().forget()
        torch._foreach_zero_(self.squares)

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), **{f"squares.{index}": value for index, value in enumerate(self.squares)}}


class NetworkMoments(Moments):
    """torch.optim.AdamW for the weights of networks, or with `decoupled` False torch.optim.Adam, whose
    `weight_decay` is an L2 penalty.

    The device counts the steps, so that they can be recorded; tensors without a gradient stay.
    """

    def __init__(self, tensors: Sequence[Tensor], settings: NetworkAdam, decoupled: bool):
        super().__init__(tensors, settings, decoupled)
        self.steps = torch.zeros(1, dtype=torch.float64, device=self.tensors[0].device)

    @torch.no_grad()
    def step(self) -> None:
        indices, given = self._moved()
        gradients = self._pulled(indices, given, 0.0 if self.decoupled else self.settings.weight_decay)
        self.steps.add_(1)
        steps = self.steps[0]
        self._move(
            indices, gradients, 1 - self.settings.beta1**steps, (1 - self.settings.beta2**steps).sqrt()
        )

    def forget(self) -> None:
        super().forget()
        self.steps.zero_()

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "steps": self.steps}


def network_optimizer(
    network: nn.Module, settings: AnyNetworkOptimizer, clip: float | None = None
) -> Descent:
    """The optimiser of the weights of a network that `settings` name, those that need a gradient, with
    gradients clipped to the norm `clip`."""
    if settings.name not in OF_NETWORKS:
        raise unknown("optimizer", settings.name, OF_NETWORKS)
    named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    made = OF_NETWORKS[settings.name]([weight for _, weight in named], settings)
    made.clip = clip
    if settings.decay_of == "weights":
        made.spared = frozenset(
            place for place, (name, weight) in enumerate(named) if "weight" not in name or weight.dim() < 2
        )
    return made


OF_NETWORKS: dict[str, Callable[[Sequence[Tensor], Any], Descent]] = {
    "sgd": lambda tensors, settings: SGD(tensors, settings, settings.nesterov),
    "adam": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=False),
    "adamw": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=True),
}
