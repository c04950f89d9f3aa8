"""Tables of settings: what a paper prints of how it ran its methods, beside what the recipes have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from condense.config import UserError
from condense.specs.common import check_names

EVERYWHERE = "any"  # in `notes`: of all datasets


@dataclass(frozen=True)
class SettingsSpec:
    """A table of a paper that prints settings, which are rows of `params/published/hyperparameters.csv`.

    They stand beside those of the resolved recipes of the scale `paper`. `architectures`: dataset -> the
    network that its sets are condensed with, where that is not the ConvNet. `protocol`: by which the sets are
    judged whose evaluation the table tells of. `notes`: name of a setting -> where ('any', 'cifar10', or with
    images per class 'cifar10 10') -> why the recipes differ there.
    """

    kind: Literal["settings"]
    paper: str
    table: str
    title: str
    architectures: dict[str, str] = field(default_factory=dict)
    protocol: str = ""
    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        check_names(
            {
                "paper": self.paper,
                "table": self.table,
                "architectures": [*self.architectures, *self.architectures.values()],
                "protocol": self.protocol or None,
            }
        )
        for name, places in self.notes.items():
            for place, text in places.items():
                if not text.strip():
                    raise UserError(f"notes: {name}: {place}: says nothing; give the reason, or leave it out")

    @property
    def name(self) -> str:
        return f"table{self.table}"

    def note_of(self, name: str, dataset: str, ipc: str) -> str:
        """Why the recipes differ from the printed setting `name`; '' if nothing is said of it."""
        places = self.notes.get(name, {})
        return next(
            (places[place] for place in (f"{dataset} {ipc}", dataset, EVERYWHERE) if place in places), ""
        )
