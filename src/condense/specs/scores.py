"""From which judges the label-robust and augmentation-robust scores of a scale come."""

from __future__ import annotations

from dataclasses import dataclass, field

from condense.specs.common import check_names
from condense.specs.protocol import DEFAULT_PROTOCOL


@dataclass(frozen=True)
class Scores:
    """The protocols that judge for the scores; only what a table or figure measures by them is used.

    `hard`: with hard labels, of the set, of random images and of the whole training set. `own`: by method,
    the protocol of its own, `hard` where none is given. `augmented` and `plain`: with and without
    augmentation, else alike.
    """

    hard: str = DEFAULT_PROTOCOL
    own: dict[str, str] = field(default_factory=dict)
    augmented: str = DEFAULT_PROTOCOL
    plain: str = "dc_unaugmented"

    def __post_init__(self) -> None:
        check_names({"hard": self.hard, "augmented": self.augmented, "plain": self.plain})
        check_names({"own": [*self.own, *self.own.values()]})

    @property
    def protocols(self) -> list[str]:
        """All of them."""
        return [self.hard, *self.own.values(), self.augmented, self.plain]
