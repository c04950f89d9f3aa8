"""Optimisers over plain tensors.

Ours because `torch.optim` takes three seconds to import, as long as many of our jobs run, and because the state must
enter checkpoints by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from condense.specs import Optimizer, Plateau


class SGD:
    """Momentum and L2 penalty as in torch.optim.SGD: v <- m v + (g + wd x); x <- x - lr v. Tensors without a gradient stay."""

    repeats = True  # whether every step is the same work on the tensors, which nothing of the host enters

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

    def state(self) -> dict[str, Tensor]:
        """What is kept from step to step, for checkpoints: views, not copies."""
        return {f"velocity.{place}": value for place, value in enumerate(self.velocity)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes up a `state`."""
        for name, own in self.state().items():
            own.copy_(state[name].reshape(own.shape))


class AdamW(SGD):
    """As torch.optim.AdamW: values shrink by lr wd, then move by lr times the corrected mean gradient over its corrected size."""

    EPS = 1e-8
    repeats = False  # the corrections depend on the number of steps

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
        self._move([tensor.grad for tensor in self.tensors])
        for _ in range(1, self.turns):
            self._move([torch.zeros_like(tensor) for tensor in self.tensors])

    def _move(self, gradients: list[Tensor]) -> None:
        self.steps += 1
        first, second = self.settings.beta1, self.settings.beta2
        torch._foreach_lerp_(self.velocity, gradients, 1 - first)
        torch._foreach_mul_(self.squares, second)
        torch._foreach_addcmul_(self.squares, gradients, gradients, 1 - second)
        sizes = torch._foreach_div(torch._foreach_sqrt(self.squares), (1 - second**self.steps) ** 0.5)
        torch._foreach_add_(sizes, self.EPS)
        moves = torch._foreach_div(self.velocity, sizes)
        for tensor, move in zip(self.tensors, moves, strict=True):  # the rate may be a tensor, which a plateau lowers
            tensor.mul_(1 - self.lr * self.settings.weight_decay)
            tensor.sub_(move * (self.lr / (1 - first**self.steps)))

    def forget(self) -> None:
        super().forget()
        torch._foreach_zero_(self.squares)
        self.steps = 0

    def state(self) -> dict[str, Tensor]:
        squares = {f"squares.{place}": value for place, value in enumerate(self.squares)}
        return {**super().state(), **squares, "steps": torch.tensor([self.steps])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        self.steps = int(state["steps"])


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
    """The optimiser that `settings` name; `classes` is the number of all classes of the dataset, for `class_turns`."""
    if settings.name == "adamw":
        # The loop over classes has zeros for a gradient where it is another class's turn.
        return AdamW(tensors, settings, classes if settings.class_turns else 1)
    return SGD(tensors, in_turns(settings, classes) if settings.class_turns else settings)


def in_turns(settings: Optimizer, classes: int) -> Optimizer:
    """SGD with the same course as steps for one of `classes` classes after the other, all of which move on by momentum meanwhile.

    From one turn of a class to its next its images move by lr v (1 + m + ... + m^(classes - 1)), and m^classes v is left of v. So the
    only difference is in the last round, after which this has made all those moves and the loop a few of them.
    """
    left = settings.momentum**classes
    return replace(settings, lr=settings.lr * (1 - left) / (1 - settings.momentum), momentum=left, class_turns=False)
