"""The mean of the weights over the steps, which a network is judged with where its protocol asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from condense.specs import WeightAverage


class AveragedWeights:
    """mean <- decay mean + (1 - decay) weights, from the weights as they are now. Source: EDC's authors'
    code, which leaves buffers out."""

    def __init__(self, weights: Sequence[Tensor], settings: WeightAverage):
        self.weights, self.settings = list(weights), settings
        self.means = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def see(self) -> None:
        """Takes in the weights after a step."""
        torch._foreach_lerp_(self.means, self.weights, 1 - self.settings.decay)

    @torch.no_grad()
    def take_over(self) -> None:
        """Puts the means in place of the weights."""
        torch._foreach_copy_(self.weights, self.means)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds: views, not copies."""
        return {f"average.{index}": mean for index, mean in enumerate(self.means)}


@contextmanager
def judged_with(average: AveragedWeights | None) -> Iterator[None]:
    """Within it networks have the weights that they would be judged with now; after it those of their
    training, bit by bit."""
    if average is None:
        yield
        return
    trained = [weight.detach().clone() for weight in average.weights]
    average.take_over()
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(average.weights, trained)
