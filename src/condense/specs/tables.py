"""Tables and figures: what they show, and how they change a recipe for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


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
    """A figure of a paper, drawn from the cells of `methods` x `ipc` on the papers' `dataset`."""

    kind: Literal["figure"]
    paper: str
    figure: str
    title: str
    draw: Literal["accuracy_by_ipc", "accuracy_by_step", "embedding_map", "images"]
    dataset: str
    methods: list[str]
    ipc: list[int]
    train_arch: str = "convnet"
    eval_arch: str = "convnet"
    protocol: str = "dc"
    changes: dict[str, Any] = field(default_factory=dict)
    classes: list[int] = field(default_factory=list)  # classes shown by an embedding map
    feature_arch: str | None = None  # the network trained on the real set whose features an embedding map shows
    note: str = ""

    @property
    def name(self) -> str:
        return f"figure{self.figure}"
