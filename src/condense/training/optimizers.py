"""Optimisers over plain tensors.

Ours because `torch.optim` takes three seconds to import, as long as many of our jobs run, and because the state must
enter checkpoints by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from condense.config import unknown
from condense.specs import AnyNetworkOptimizer, NetworkAdam, NetworkSGD, Optimizer, Plateau


class SGD:
    """Momentum and L2 penalty as in torch.optim.SGD: v <- m v + (g + wd x); x <- x - lr v. Tensors without a gradient stay.

    With `nesterov`: x <- x - lr (g + wd x + m v). `lr` is a number, or a tensor () where a device is to read it at every step.
    """

    repeats = True  # whether every step is the same work on the tensors, which nothing of the host enters

    def __init__(self, tensors: Sequence[Tensor], settings: Optimizer | NetworkSGD | NetworkAdam, nesterov: bool = False):
        self.tensors, self.settings, self.nesterov = list(tensors), settings, nesterov
        self.lr: float | Tensor = settings.lr
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
        moves = torch._foreach_add(gradients, velocity, alpha=self.settings.momentum) if self.nesterov else velocity
        if isinstance(self.lr, Tensor):
            torch._foreach_sub_(tensors, torch._foreach_mul(moves, self.lr))
        else:
            torch._foreach_add_(tensors, moves, alpha=-self.lr)

    def forget(self) -> None:
        """Starts the momentum anew, as a newly made optimiser would."""
        torch._foreach_zero_(self.velocity)

    def state(self) -> dict[str, Tensor]:
        """What is kept from step to step, for checkpoints: views, not copies, of all that a step changes beside the tensors."""
        return {f"velocity.{place}": value for place, value in enumerate(self.velocity)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes up a `state`."""
        for name, own in self.state().items():
            own.copy_(state[name].reshape(own.shape))


class AdamW(SGD):
    """As torch.optim.AdamW: values shrink by lr wd, then move by lr times the corrected mean gradient over its corrected size."""

    EPS = 1e-8
    repeats = False  # the corrections depend on the number of steps
    decoupled = True  # whether values shrink by themselves

    def __init__(self, tensors: Sequence[Tensor], settings: Optimizer, turns: int = 1):
        """`turns`: every step is followed by so many less one without a gradient, in which the momentum moves on."""
        super().__init__(tensors, settings)
        self.turns = turns
        self.squares = [torch.zeros_like(tensor) for tensor in self.tensors]
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Moves every tensor by its gradient, `turns` times in all. Raises ValueError where one has no gradient."""
        if any(tensor.grad is None for tensor in self.tensors):
            raise ValueError("a tensor has no gradient")
        self._move(range(len(self.tensors)), [tensor.grad for tensor in self.tensors])
        for _ in range(1, self.turns):
            self._move(range(len(self.tensors)), [torch.zeros_like(tensor) for tensor in self.tensors])

    def _move(self, places: Sequence[int], gradients: list[Tensor]) -> None:
        """Moves the tensors at `places` by their gradients."""
        tensors, velocity, squares = ([values[place] for place in places] for values in (self.tensors, self.velocity, self.squares))
        first, second = self.settings.beta1, self.settings.beta2
        of_mean, of_size = self._corrections()
        torch._foreach_lerp_(velocity, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        sizes = torch._foreach_div(torch._foreach_sqrt(squares), of_size)
        torch._foreach_add_(sizes, self.EPS)
        moves = torch._foreach_div(velocity, sizes)
        decay = self.settings.weight_decay if self.decoupled else 0.0
        for tensor, move in zip(tensors, moves, strict=True):  # the rate may be a tensor, which a plateau lowers
            tensor.mul_(1 - self.lr * decay)
            tensor.sub_(move * (self.lr / of_mean))

    def _corrections(self) -> tuple[Any, Any]:
        """Counts a step; what the mean and the size of gradients are divided by, since they began at 0."""
        self.steps += 1
        return 1 - self.settings.beta1**self.steps, (1 - self.settings.beta2**self.steps) ** 0.5

    def forget(self) -> None:
        super().forget()
        torch._foreach_zero_(self.squares)
        self.steps = 0

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), **self._sizes(), "steps": torch.tensor([self.steps])}

    def _sizes(self) -> dict[str, Tensor]:
        return {f"squares.{place}": value for place, value in enumerate(self.squares)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        self.steps = int(state["steps"])


class NetworkMoments(AdamW):
    """torch.optim.AdamW for the weights of networks, or with `decoupled` False torch.optim.Adam, whose `weight_decay` is an L2 penalty.

    The device counts the steps, so that they can be recorded; tensors without a gradient stay.
    """

    repeats = True

    def __init__(self, tensors: Sequence[Tensor], settings: NetworkAdam, decoupled: bool):
        super().__init__(tensors, settings)
        self.decoupled = decoupled
        self.steps = torch.zeros(1, dtype=torch.float64, device=self.tensors[0].device)

    @torch.no_grad()
    def step(self) -> None:
        places = [place for place, tensor in enumerate(self.tensors) if tensor.grad is not None]
        gradients = [self.tensors[place].grad for place in places]
        if self.settings.weight_decay and not self.decoupled:
            gradients = torch._foreach_add(gradients, [self.tensors[place] for place in places], alpha=self.settings.weight_decay)
        self._move(places, gradients)

    def _corrections(self) -> tuple[Tensor, Tensor]:
        self.steps.add_(1)
        steps = self.steps[0]
        return 1 - self.settings.beta1**steps, (1 - self.settings.beta2**steps).sqrt()

    def forget(self) -> None:
        torch._foreach_zero_([*self.velocity, *self.squares, self.steps])

    def state(self) -> dict[str, Tensor]:
        return SGD.state(self) | self._sizes() | {"steps": self.steps}

    def load(self, state: Mapping[str, Tensor]) -> None:
        SGD.load(self, state)


class Stalling:
    """Lowers the rate of an optimiser where the loss stalls (torch's ReduceLROnPlateau), without waiting for the device."""

    LEAST = 1e-4  # the part by which a loss has to be less to count as less

    def __init__(self, optimizer: SGD, settings: Plateau, device: torch.device):
        self.optimizer, self.settings = optimizer, settings
        self.best = torch.full((), torch.inf, dtype=torch.float64, device=device)
        self.bad = torch.zeros((), dtype=torch.int64, device=device)
        self.rate = torch.full((), optimizer.lr, dtype=torch.float64, device=device)

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
        for name, own in (("best", self.best), ("bad", self.bad), ("rate", self.rate)):
            own.copy_(state[name].reshape(()))
        self.optimizer.lr = self.rate


def optimizer_of(tensors: Sequence[Tensor], settings: Optimizer, classes: int = 1) -> SGD:
    """The optimiser of images that `settings` name; `classes` is the number of all classes of the dataset, for `class_turns`."""
    if settings.name not in OF_IMAGES:
        raise unknown("optimizer", settings.name, OF_IMAGES)
    return OF_IMAGES[settings.name](tensors, settings, classes if settings.class_turns else 1)


def network_optimizer(tensors: Sequence[Tensor], settings: AnyNetworkOptimizer) -> SGD:
    """The optimiser of the weights of a network that `settings` name."""
    if settings.name not in OF_NETWORKS:
        raise unknown("optimizer", settings.name, OF_NETWORKS)
    return OF_NETWORKS[settings.name](tensors, settings)


def _sgd_of_images(tensors: Sequence[Tensor], settings: Optimizer, turns: int) -> SGD:
    return SGD(tensors, in_turns(settings, turns) if settings.class_turns else settings)


def in_turns(settings: Optimizer, classes: int) -> Optimizer:
    """SGD with the same course as steps for one of `classes` classes after the other, all of which move on by momentum meanwhile.

    From one turn of a class to its next its images move by lr v (1 + m + ... + m^(classes - 1)), and m^classes v is left of v. So the
    only difference is in the last round, after which this has made all those moves and the loop a few of them.
    """
    left = settings.momentum**classes
    return replace(settings, lr=settings.lr * (1 - left) / (1 - settings.momentum), momentum=left, class_turns=False)


# The turns of AdamW: a loop over classes has zeros for a gradient where it is another class's turn.
OF_IMAGES: dict[str, Callable[[Sequence[Tensor], Optimizer, int], SGD]] = {"sgd": _sgd_of_images, "adamw": AdamW}
OF_NETWORKS: dict[str, Callable[[Sequence[Tensor], Any], SGD]] = {
    "sgd": lambda tensors, settings: SGD(tensors, settings, settings.nesterov),
    "adam": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=False),
    "adamw": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=True),
}
