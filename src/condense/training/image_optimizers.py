"""How images move: all classes at once or in turns, and by a rate that falls where the loss stalls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from condense.config import unknown
from condense.specs import Optimizer, Plateau
from condense.training.optimizers import SGD, Descent, Moments


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
        powers = [settings.momentum**power for power in range(classes)]
        self._left = settings.momentum**classes  # of a velocity, after a round
        # By how many velocities a class moves in its turn and after it, and before its next one
        own = [sum(powers[: classes - turn]) for turn in turns]
        before = [sum(powers[classes - turn :]) for turn in turns]
        of_class = [-1, *[1] * (values.dim() - 1)]
        self._own, self._before = (values.new_tensor(sums).reshape(of_class) for sums in (own, before))

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
    """AdamW of images (C, ...) in the same loop over all classes: a step without a gradient shrinks the
    values of a class, too, and the corrections count the steps of all classes."""

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


# Of images of all classes at once, and of one class after the other.
OF_IMAGES: dict[str, tuple[Callable[..., Descent], Callable[..., Descent]]] = {
    "sgd": (SGD, SGDInTurns),
    "adamw": (AdamW, AdamWInTurns),
}


def optimizer_of(values: Tensor, settings: Optimizer, turns: Sequence[int] = (), classes: int = 1) -> Descent:
    """The optimiser of images (C, ...) that `settings` name; `turns`: the numbers of their classes among all
    `classes` of the dataset, for `class_turns`."""
    if settings.name not in OF_IMAGES:
        raise unknown("optimizer", settings.name, OF_IMAGES)
    together, in_turns = OF_IMAGES[settings.name]
    return (
        in_turns(values, settings, turns, classes) if settings.class_turns else together([values], settings)
    )
