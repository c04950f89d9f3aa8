"""The label-robust and augmentation-robust scores of what a scale measured, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from condense.evaluate.ranking import augmentation_robust, label_robust
from condense.plan import MetricsCell
from condense.plan.beside import Cells
from condense.plan.tables import Plan
from condense.report.measured import measure_cells
from condense.specs import Protocol, catalogue

TITLES = ("Label-robust", "Augmentation-robust")
ABOUT = (
    " Scores of DD-Ranking, from 0 to 1, more is better: 0.269 is a set worth as much as random images (and, "
    "for the label-robust one, as the whole training set)."
)
# What the two judges of the augmentation-robust score may differ in
_AUGMENTS = ("name", "augment", "siamese")


@dataclass(frozen=True)
class Score:
    """A score from 0 to 1, or (None) why there is none."""

    value: float | None
    reason: str = ""


class Scores:
    """The scores of a scale, each by the protocols that the scale names for it."""

    def __init__(self, scale: Plan):
        self._scale, self._named = scale, scale.scale.scores

    def of(self, cells: Sequence[MetricsCell]) -> dict[str, Score]:
        """The scores of the sets of `cells`, by the `TITLES`."""
        given = (self.label_robust(cells), self.augmentation_robust(cells))
        return dict(zip(TITLES, given, strict=True))

    def stand_beside(self, cell: MetricsCell) -> bool:
        """Whether a cell was judged with hard labels as the scores have it: they stand beside such ones
        alone."""
        return self._scale.comparable.is_judged_by(cell, self._named.hard)

    def label_robust(self, cells: Sequence[MetricsCell]) -> Score:
        """Of the sets of `cells`, as `ranking.label_robust` says."""
        hard = self._named.hard
        own = self._named.own.get(cells[0].synthetic.recipe.name, hard)
        if self._scale.maker.protocol(hard).loss.labels != "hard":
            return Score(None, f"{hard} trains on soft labels")
        taken = {
            "real_hard": (self._scale.comparable.whole(cells[0], hard), "the whole training set", hard),
            "hard": (self._scale.comparable.judged(cells, hard), "the method", hard),
            **self._with_random(cells, own, "own"),
        }
        return _score(taken, label_robust)

    def augmentation_robust(self, cells: Sequence[MetricsCell]) -> Score:
        """Of the sets of `cells`, as `ranking.augmentation_robust` says."""
        augmented, plain = self._named.augmented, self._named.plain
        differing = _differing(*map(self._scale.maker.protocol, (augmented, plain)))
        if differing:
            what = ", ".join(differing)
            return Score(None, f"{plain} differs from {augmented} in more than the augmentation: in {what}")
        taken = self._with_random(cells, augmented, "augmented")
        return _score(taken | self._with_random(cells, plain, "plain"), augmentation_robust)

    def _with_random(
        self, cells: Sequence[MetricsCell], protocol: str, name: str
    ) -> dict[str, tuple[Cells, str, str]]:
        """The sets and as many random images by `protocol`, under the names that a score calls them."""
        judged = self._scale.comparable.judged
        return {
            name: (judged(cells, protocol), "the method", protocol),
            f"random_{name}": (judged(cells, protocol, catalogue.BASELINE), catalogue.BASELINE, protocol),
        }


def _score(taken: dict[str, tuple[Cells, str, str]], formula: Callable[..., float]) -> Score:
    missing = [f"{what} by {protocol}" for cells, what, protocol in taken.values() if not cells]
    if missing:
        return Score(None, f"these were not judged: {', '.join(dict.fromkeys(missing))}")
    return Score(formula(**{name: measure_cells(cells).mean / 100 for name, (cells, _, _) in taken.items()}))


def _differing(one: Protocol, other: Protocol) -> list[str]:
    """The settings, but for those of the augmentation, in which two protocols differ."""
    first, second = one.computed_part(), other.computed_part()
    return [
        name for name in {**first, **second} if name not in _AUGMENTS and first.get(name) != second.get(name)
    ]
