"""Tables and figures: what they show, and how they change a recipe for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from condense.config import UserError
from condense.specs.points import Point, check_points


@dataclass(frozen=True)
class TableSpec:
    """A table of a paper: which published rows it shows and how their settings change a recipe."""

    kind: Literal["table"]
    paper: str
    table: str
    title: str
    protocol: str = "dc"
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # published `setting` -> change of the recipe
    note: str = ""

    @property
    def name(self) -> str:
        return f"table{self.table}"


@dataclass(frozen=True)
class FigureSpec:
    """A figure of a paper, drawn from the cells of `methods` x `ipc` on the papers' `dataset`.

    `accuracy_by_setting` compares `points`, one panel for each dataset and ipc; `x_label` and `log` are of its x axis.
    """

    kind: Literal["figure"]
    paper: str
    figure: str
    title: str
    draw: Literal["accuracy_by_ipc", "accuracy_by_step", "accuracy_by_setting", "embedding_map", "images"]
    dataset: str
    methods: list[str]
    ipc: list[int]
    train_arch: str = "convnet"
    eval_arch: str = "convnet"
    protocol: str = "dc"
    changes: dict[str, Any] = field(default_factory=dict)
    classes: list[int] = field(default_factory=list)  # classes shown by an embedding map
    feature_arch: str | None = None  # the network trained on the real set whose features an embedding map shows
    points: list[Point] = field(default_factory=list)
    x_label: str = ""
    log: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if (self.draw == "accuracy_by_setting") != bool(self.points):
            raise UserError("points: to be given exactly for 'draw: accuracy_by_setting'")
        if self.points:
            check_points(self.points, self.methods, self.log)

    @property
    def name(self) -> str:
        return f"figure{self.figure}"

    @property
    def lines(self) -> list[tuple[str, Point | None]]:
        """What is drawn at every ipc: (method, point) for every point, else every method."""
        if self.points:
            return [(point.method or self.methods[0], point) for point in self.points]
        return [(method, None) for method in self.methods]
