"""Optimisers over plain tensors.

Ours because `torch.optim` takes three seconds to import, as long as many of our jobs run, and because the
state must enter checkpoints by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condense.config import unknown
from condense.specs import AnyNetworkOptimizer, NetworkAdam, NetworkSGD, Optimizer, Plateau


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


class AdamW(Moments):
    """As torch.optim.AdamW: values shrink by lr wd, then move by lr times the corrected mean gradient over
    its corrected size."""

    repeats = False  # the corrections depend on the number of steps

    def __init__(self, tensors: Sequence[Tensor], settings: Optimizer):
        super().__init__(tensors, settings, decoupled=True)
        self.steps = 0

    def _step(self, places: Sequence[int], gradients: Sequence[Tensor], step: int) -> None:
        """The step of this number, from 1, of the tensors at `places`."""
        first, second = self.settings.beta1, self.settings.beta2
        self._move(places, gradients, 1 - first**step, (1 - second**step) ** 0.5)

    @torch.no_grad()
    def step(self) -> None:
        """Moves every tensor by its gradient. Raises ValueError where one has no gradient."""
        places, gradients = self._moved()
        if len(places) < len(self.tensors):
            raise ValueError("a tensor has no gradient")
        self.steps += 1
        self._step(places, gradients, self.steps)

    def forget(self) -> None:
        super().forget()
        self.steps = 0

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "steps": torch.tensor([self.steps])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        super().load(state)
        self.steps = int(state["steps"])


class SGDInTurns(Descent):
    """SGD of images (C, ...) as code has it that steps inside its loop over all classes, where the images of
    a class move on by momentum while it is another's turn.

    Class c of N has its step, then N - 1 - c moves by what is left of its velocity, and in the next round,
    behind whatever that begins with, c more (`begin`) before its next turn.
    """

    def __init__(self, values: Tensor, settings: Optimizer, turns: Sequence[int], classes: int):
        """`turns`: the number of each class among all `classes`."""
        super().__init__([values], settings.lr)
        momentum = settings.momentum
        self._left = momentum**classes
        of_class = [-1, *[1] * (values.dim() - 1)]

        def moves(first: Callable[[int], int], last: Callable[[int], int]) -> Tensor:
            sums = [sum(momentum**power for power in range(first(turn), last(turn))) for turn in turns]
            return torch.tensor(sums, dtype=values.dtype, device=values.device).reshape(of_class)

        self._own = moves(lambda turn: 0, lambda turn: classes - turn)
        self._before = moves(lambda turn: classes - turn, lambda turn: classes)

    @torch.no_grad()
    def begin(self) -> None:
        self.tensors[0].sub_(self.velocity[0] * (self._before * self.lr))

    @torch.no_grad()
    def step(self) -> None:
        _, gradients = self._moved()
        for gradient in gradients:
            self.velocity[0].mul_(self._left).add_(gradient)
            self.tensors[0].sub_(self.velocity[0] * (self._own * self.lr))


class AdamWInTurns(AdamW):
    """The same of AdamW, whose steps without a gradient shrink values, too, and which counts the steps of all
    classes."""

    def __init__(self, values: Tensor, settings: Optimizer, turns: Sequence[int], classes: int):
        super().__init__(list(values.detach().unbind()), settings)
        self.values, self.turns, self.classes = values, turns, classes
        self._whole = {
            name: torch.zeros_like(values, requires_grad=False) for name in ("velocity", "squares")
        }
        self.velocity, self.squares = (list(whole.unbind()) for whole in self._whole.values())

    def zero_grad(self) -> None:
        self.values.grad = None

    @torch.no_grad()
    def begin(self) -> None:
        for now in range(self.classes - 1):
            self._pass([place for place, turn in enumerate(self.turns) if turn > now], now, {})

    @torch.no_grad()
    def step(self) -> None:
        if self.values.grad is None:
            raise ValueError("the images have no gradient")
        gradients = dict(enumerate(self.values.grad.unbind()))
        for now in range(self.classes):
            self._pass([place for place, turn in enumerate(self.turns) if turn <= now], now, gradients)
        self.steps += self.classes

    def _pass(self, places: Sequence[int], now: int, gradients: Mapping[int, Tensor]) -> None:
        """The turn `now` of the round, for the classes at `places`: with a gradient for the one whose turn it
        is."""
        given = [
            gradients[place]
            if place in gradients and self.turns[place] == now
            else torch.zeros_like(self.tensors[place])
            for place in places
        ]
        if places:
            self._step(places, given, self.steps + now + 1)

    def state(self) -> dict[str, Tensor]:
        return {
            **{f"{name}.0": whole for name, whole in self._whole.items()},
            "steps": torch.tensor([self.steps]),
        }


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


def optimizer_of(values: Tensor, settings: Optimizer, turns: Sequence[int] = (), classes: int = 1) -> Descent:
    """The optimiser of images (C, ...) that `settings` name; `turns`: the numbers of their classes among all
    `classes` of the dataset, for `class_turns`."""
    if settings.name not in OF_IMAGES:
        raise unknown("optimizer", settings.name, OF_IMAGES)
    together, in_turns = OF_IMAGES[settings.name]
    return (
        in_turns(values, settings, turns, classes) if settings.class_turns else together([values], settings)
    )


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


# Of images of all classes at once, and of one class after the other.
OF_IMAGES: dict[str, tuple[Callable[..., Descent], Callable[..., Descent]]] = {
    "sgd": (SGD, SGDInTurns),
    "adamw": (AdamW, AdamWInTurns),
}
OF_NETWORKS: dict[str, Callable[[Sequence[Tensor], Any], Descent]] = {
    "sgd": lambda tensors, settings: SGD(tensors, settings, settings.nesterov),
    "adam": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=False),
    "adamw": lambda tensors, settings: NetworkMoments(tensors, settings, decoupled=True),
}
