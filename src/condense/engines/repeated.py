"""Steps of a matched set by recorded work, where all of them are the same work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from condense.engines.run import Run
from condense.engines.streams import RealStream
from condense.engines.views import RealSide, WatchedSide
from condense.machine.graphs import Recorded
from condense.machine.transfer import Slots
from condense.specs import AnyTerm, Weight

_log = logging.getLogger(__name__)
Move = Callable[[tuple[RealSide, Sequence[float | Tensor]]], Tensor]


class RepeatedSteps:
    """The steps `move` of one set: recorded once and repeated where the stream has a recorder, plain
    elsewhere.

    Weights that change over the steps then lie in a tensor that stays where it is. Recorded work is left as
    soon as a term shows that steps are not all the same work.
    """

    def __init__(self, run: Run, terms: Sequence[AnyTerm], move: Move, stream: RealStream):
        self.run, self.move = run, move
        self._recorded: Recorded | None = None
        self._slots: Slots | None = None
        self._side: RealSide | None = None  # of the step at work
        self._weights: Sequence[float | Tensor] = ()
        self._falling = [isinstance(term.weight, Weight) for term in terms]
        if stream.recorder is not None and run.optimizer.repeats and run.plateau is None:
            name = f"{run.recipe.name}: a step"
            self._recorded = Recorded(
                self._move,
                stream.recorder,
                state=self._changing,
                computed_in=stream.synthetic_type,
                name=name,
            )
            self._slots = Slots([torch.zeros(len(terms))], stream.device) if any(self._falling) else None

    @property
    def replays(self) -> bool:
        """Whether steps were repeated as recorded."""
        return self._recorded is not None and self._recorded.replays

    def __call__(self, side: RealSide, weights: Sequence[float]) -> Tensor:
        """The step against the real side `side` under these weights of the terms; what `move` gives."""
        self._side, self._weights = side, weights
        if self._recorded is None:
            return self._move()
        assert isinstance(side, WatchedSide)
        side.read = False
        if self._slots is not None:
            self._slots.fill([torch.tensor(weights)])
            lying = self._slots.tensors[0]
            self._weights = [
                lying[index] if falls else weights[index] for index, falls in enumerate(self._falling)
            ]
        row = self._recorded().clone()
        if side.read or self.run.remembers:
            why = "asks the host at every step" if side.read else "keeps something from step to step"
            _log.info("%s: a term %s, so steps are not recorded", self.run.recipe.name, why)
            self._recorded = self._slots = None
        return row

    def _move(self) -> Tensor:
        assert self._side is not None
        return self.move((self._side, self._weights))

    def _changing(self) -> list[Tensor]:
        """The tensors that a step changes."""
        return [self.run.values, *self.run.optimizer.state().values()]
