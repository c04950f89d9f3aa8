"""Optimisers over plain tensors.

Ours because `torch.optim` takes three seconds to import, as long as many of our jobs run, and because the
state must enter checkpoints by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from condense.config import unknown
from condense.specs import AnyNetworkOptimizer, NetworkAdam, NetworkSGD, Optimizer, Plateau


class Descent:
    """Moves tensors in place along their gradients, with a momentum for each.

    `lr` is a number, or a tensor () where a device is to read it at every step.
    """

    repeats = True  # whether every step is the same work on the tensors, which nothing of the host enters
    clip: float | None = None  # the most that the norm of all gradients together may be

    def __init__(self, tensors: Sequence[Tensor], lr: float):
        self.tensors = list(tensors)
        self.lr: float | Tensor = lr
        self.velocity = [torch.zeros_like(tensor) for tensor in self.tensors]

    def zero_grad(self) -> None:
        for tensor in self.tensors:
            tensor.grad = None

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
        decay, momentum = self.settings.weight_decay, self.settings.momentum
        gradients = torch._foreach_add(given, tensors, alpha=decay) if decay else given
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
        for tensor, move in zip(tensors, moves, strict=True):
            tensor.mul_(1 - self.lr * decay)
            tensor.sub_(move * (self.lr / of_mean))

    def forget(self) -> None:
        super().forget()
        torch._foreach_zero_(self.squares)

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), **{f"squares.{index}": value for index, value in enumerate(self.squares)}}


class AdamW(Moments):
    """As torch.optim.AdamW: values shrink by lr wd, then move by lr times the corrected mean gradient over
    its corrected size."""

    repeats = False  # the corrections depend on the number of steps

    def __init__(self, tensors: Sequence[Tensor], settings: Optimizer, turns: int = 1):
        """`turns`: every step is followed by so many less one without a gradient, in which the momentum moves
        on."""
        super().__init__(tensors, settings, decoupled=True)
        self.turns = turns
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Moves every tensor by its gradient, `turns` times in all. Raises ValueError where one has no
        gradient."""
        places, gradients = self._moved()
        if len(places) < len(self.tensors):
            raise ValueError("a tensor has no gradient")
        for turn in range(self.turns):
            self.steps += 1
            first, second = self.settings.beta1, self.settings.beta2
            given = [torch.zeros_like(tensor) for tensor in self.tensors] if turn else gradients
            self._move(places, given, 1 - first**self.steps, (1 - second**self.steps) ** 0.5)

    def forget(self) -> None:
        super().forget()
        self.steps = 0

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "steps": torch.tensor([self.steps])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        self.steps = int(state["steps"])


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
        decay = 0.0 if self.decoupled else self.settings.weight_decay
        gradients = (
            torch._foreach_add(given, [self.tensors[index] for index in indices], alpha=decay)
            if decay
            else given
        )
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


class Stalling:
    """Lowers the rate of an optimiser where the loss stalls (torch's ReduceLROnPlateau), without waiting for
    the device."""

    LEAST = 1e-4  # the part by which a loss has to be less to count as less

    def __init__(self, optimizer: Descent, settings: Plateau, device: torch.device):
        self.optimizer, self.settings = optimizer, settings
        self.best = torch.full((), torch.inf, dtype=torch.float64, device=device)
        self.bad = torch.zeros((), dtype=torch.int64, device=device)
        self.rate = torch.full((), float(optimizer.lr), dtype=torch.float64, device=device)

    @torch.no_grad()
    def see(self, loss: Tensor) -> None:
        """The loss of a step, after it; the next one uses the rate that follows from it."""
        loss = loss.detach().double()
        better = loss < self.best * (1 - self.LEAST)
        self.best.copy_(torch.where(better, loss, self.best))
        self.bad.copy_(torch.where(better, 0, self.bad + 1))
        stalled = self.bad > self.settings.patience
        self.rate.mul_(torch.where(stalled, self.settings.factor, 1.0))
        self.bad.mul_(~stalled)
        self.optimizer.lr = self.rate

    def state(self) -> dict[str, Tensor]:
        """What is kept from step to step, for checkpoints."""
        return {"best": self.best[None], "bad": self.bad[None], "rate": self.rate[None]}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes up a `state`."""
        for name, tensor in (("best", self.best), ("bad", self.bad), ("rate", self.rate)):
            tensor.copy_(state[name].reshape(()))
        self.optimizer.lr = self.rate


def optimizer_of(tensors: Sequence[Tensor], settings: Optimizer, classes: int = 1) -> Descent:
    """The optimiser of images that `settings` name; `classes` is the number of all classes of the dataset,
    for `class_turns`."""
    if settings.name not in OF_IMAGES:
        raise unknown("optimizer", settings.name, OF_IMAGES)
    return OF_IMAGES[settings.name](tensors, settings, classes if settings.class_turns else 1)


def network_optimizer(
    tensors: Sequence[Tensor], settings: AnyNetworkOptimizer, clip: float | None = None
) -> Descent:
    """The optimiser of the weights of a network that `settings` name, with gradients clipped to the norm
    `clip`."""
    if settings.name not in OF_NETWORKS:
        raise unknown("optimizer", settings.name, OF_NETWORKS)
    made = OF_NETWORKS[settings.name](tensors, settings)
    made.clip = clip
    return made


def _sgd_of_images(tensors: Sequence[Tensor], settings: Optimizer, turns: int) -> SGD:
    return SGD(tensors, in_turns(settings, turns) if settings.class_turns else settings)


def in_turns(settings: Optimizer, classes: int) -> Optimizer:
    """SGD with the same course as steps for one of `classes` classes after the other, all of which move on by
    momentum meanwhile.

    From one turn of a class to its next its images move by lr v (1 + m + ... + m^(classes - 1)), and
    m^classes v is left of v. So the only difference is in the last round, after which this has made all those
    moves and the loop a few of them.
    """
    left = settings.momentum**classes
    return replace(
        settings, lr=settings.lr * (1 - left) / (1 - settings.momentum), momentum=left, class_turns=False
    )


# The turns of AdamW: a loop over classes has zeros for a gradient where it is another class's turn.
OF_IMAGES: dict[str, Callable[[Sequence[Tensor], Optimizer, int], Descent]] = {
    "sgd": _sgd_of_images,
    "adamw": AdamW,
}
OF_NETWORKS: dict[str, Callable[[Sequence[Tensor], Any], Descent]] = {
    "sgd": lambda tensors, settings: SGD(tensors, settings, settings.nesterov),
    "adam": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=False),
    "adamw": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=True),
}
