"""Test passes over the epochs of a training, which it does not notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from condense.config import UserError
from condense.training.averages import AveragedWeights, judged_with

_NOT_YET = -1.0  # a percentage that none is


def epochs_of_passes(passes: int, epochs: int) -> list[int]:
    """After how many epochs each of so many evenly spread test passes comes; the last one after all.

    Raises UserError for more passes than epochs.
    """
    if not 1 <= passes <= epochs:
        raise UserError(
            f"tests: {passes} test passes are asked for over a training of {epochs} epochs; ask for at least "
            "1 and at most one after each epoch"
        )
    return [round(number * epochs / passes) for number in range(1, passes + 1)]


class Follower:
    """Keeps what `measure` gives of each of K networks, in percent, after some epochs of their training.

    The training goes on as if nobody had looked: networks are measured in eval mode, with the averaged
    weights where these are judged, and draw nothing. `state` is kept in checkpoints and changed in place.
    """

    def __init__(self, after: Sequence[int], networks: int, measure: Callable[[], list[float]]):
        """`after`: of how many epochs, ascending."""
        self.after, self.measure = list(after), measure
        self.state: dict[str, Tensor] = {
            "accuracies": torch.full((len(self.after), networks), _NOT_YET, dtype=torch.float64)
        }

    def see(self, done: int, network: nn.Module, average: AveragedWeights | None) -> None:
        """Looks at the networks after so many epochs, if it is to."""
        if done not in self.after:
            return
        with judged_with(average):
            values = self.measure()
        network.train()
        self.state["accuracies"][self.after.index(done)] = torch.tensor(values, dtype=torch.float64)

    def fits(self, done: int) -> bool:
        """Whether it holds what has to be seen after so many epochs, and no more."""
        seen = self.state["accuracies"][: sum(after <= done for after in self.after)]
        rest = self.state["accuracies"][len(seen) :]
        return bool(((seen >= 0) & (seen <= 100)).all() and (rest == _NOT_YET).all())

    def best(self, last: Sequence[float]) -> list[float]:
        """Of each network the largest of what was seen and of its `last` value."""
        final = torch.tensor(last, dtype=torch.float64)[None]
        return torch.cat([self.state["accuracies"], final]).amax(0).tolist()
