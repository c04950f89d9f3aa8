"""Test passes over a training: which metric they follow, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from condense.evaluate.trained import Measure, TrainedNetworks
from condense.training.following import Follower, epochs_of_passes


@dataclass(frozen=True)
class Following:
    """So many test passes evenly spread over a training, the last one at its end; `best` is the metric that
    has the largest value of `metric` over them, of each network."""

    passes: int
    metric: str
    best: str

    def measured(
        self,
        networks: TrainedNetworks,
        measure: Measure,
        epochs: int,
        train_them: Callable[[Follower], None],
    ) -> dict[str, list[float]]:
        """What `measure` gives of the networks once they are trained, for so many epochs, and the best of the
        passes."""
        after = epochs_of_passes(self.passes, epochs)[:-1]  # the last pass is what is measured in the end
        follower = Follower(after, networks.count, lambda: measure(networks)[self.metric])
        train_them(follower)
        measured = measure(networks)
        return measured | {self.best: follower.best(measured[self.metric])}
