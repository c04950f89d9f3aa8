"""Rows of a table that compares methods without the numbers of one paper: a comparison of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from condense.config import UserError, unknown
from condense.specs.common import at_least, check_names, not_above


@dataclass(frozen=True)
class PrintedElsewhere:
    """A number in percent that the paper of a method prints, shown beside what is measured; `note` says where
    and how it was measured there."""

    method: str
    ipc: int
    value: float
    note: str
    std: float | None = None
    setting: str = ""

    def __post_init__(self) -> None:
        not_above({"value": self.value, "std": self.std}, 100)
        if not self.note:
            raise UserError("note: say which table prints the number, and by which judge")


@dataclass(frozen=True)
class OwnRows:
    """Every method with every setting at every number of images a class, on the papers' `dataset`."""

    dataset: str
    methods: list[str]
    ipc: list[int]
    settings: list[str] = field(default_factory=lambda: [""])
    train_arch: str = "convnet"
    eval_arch: str = "convnet"
    printed: list[PrintedElsewhere] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_names(
            {
                "dataset": self.dataset,
                "methods": self.methods,
                "train_arch": self.train_arch,
                "eval_arch": self.eval_arch,
            }
        )
        for key in ("methods", "ipc", "settings"):
            entries = getattr(self, key)
            if not entries:
                raise UserError(f"{key}: at least one is needed")
            repeated = next((entry for entry in entries if entries.count(entry) > 1), None)
            if repeated is not None:
                raise UserError(f"{key}: {repeated!r} stands there twice")
        for ipc in self.ipc:
            at_least({"ipc": ipc}, 1)
        for number in self.printed:
            for key, known in (("method", self.methods), ("ipc", self.ipc), ("setting", self.settings)):
                if getattr(number, key) not in known:
                    raise unknown(key, str(getattr(number, key)), map(str, known), "printed")

    def as_published(self, paper: str, table: str) -> list[dict[str, str]]:
        """The rows in the form of those of `params/published/results.csv`, without a value where none is
        printed."""
        printed = {(number.method, number.ipc, number.setting): number for number in self.printed}
        rows = []
        for ipc in self.ipc:
            for method in self.methods:
                for setting in self.settings:
                    number = printed.get((method, ipc, setting))
                    rows.append(
                        {
                            "paper": paper,
                            "table": table,
                            "dataset": self.dataset,
                            "ipc": str(ipc),
                            "method": method,
                            "train_arch": self.train_arch,
                            "eval_arch": self.eval_arch,
                            "task": "condense",
                            "metric": "test_accuracy",
                            "setting": setting,
                            "value": f"{number.value:.1f}" if number else "",
                            "std": f"{number.std:.1f}" if number and number.std is not None else "",
                            "unit": "%",
                            "note": number.note if number else "",
                        }
                    )
        return rows
