"""Reading the small JSON files that say what lies beside them: indexes of groups, prepared data, requests of
runs, rows of tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from condense.config import UserError
from condense.files.artifacts import damaged, read_json
from condense.files.headers import header_as
from condense.files.records import check_schema
from condense.specs.common import at_least

INDEX = "group"
TOGETHER = "evaluated together"


@dataclass(frozen=True)
class Index:
    """Which shards the job of a group left: key of the set -> file, or None where the set was whole."""

    kind: Literal["group"]
    shards: dict[str, str | None]


@dataclass(frozen=True)
class MadeTogether:
    """Which metrics the job of several evaluations made; those that failed there are left to their own
    jobs."""

    kind: Literal["evaluated together"]
    made: list[str]


@dataclass(frozen=True)
class PreparedSplit:
    """What `dataset.json` says of a split: its file, its images of each class, and the checksum that its
    header has too."""

    file: str
    images: int
    counts: list[int]
    data_sha256: str

    def __post_init__(self) -> None:
        for number in self.counts:
            at_least({"counts": number}, 0, 1 << 62)
        if sum(self.counts) != self.images:
            raise UserError(f"images: {self.images} are not the sum of its counts")


@dataclass(frozen=True)
class PreparedSplits:
    """Both splits of a prepared dataset."""

    train: PreparedSplit
    test: PreparedSplit


@dataclass(frozen=True)
class Prepared:
    """What `dataset.json` says of a prepared dataset: its name, what it was made from, its splits."""

    kind: Literal["dataset"]
    dataset: str
    title: str
    class_names: list[str]
    source: dict[str, Any]
    splits: PreparedSplits
    note: str = ""

    def __post_init__(self) -> None:
        for split in (self.splits.train, self.splits.test):
            if len(split.counts) != len(self.class_names):
                raise UserError(f"splits: {len(split.counts)} counts for {len(self.class_names)} class names")


@dataclass(frozen=True)
class RunRequest:
    """What `condense run` was asked for in a folder, under the key of its results."""

    kind: Literal["request"]
    key: str
    method: str
    scale: str
    images: str = ""
    arch: str = ""
    ipc: int = 1
    seed: int = 0
    minutes: float | None = None
    steps: int | None = None
    epochs: int | None = None
    pretrain_networks: int | None = None
    pretrain_epochs: int | None = None

    def __post_init__(self) -> None:
        numbers = ("ipc", "steps", "epochs", "pretrain_networks", "pretrain_epochs")
        at_least({name: getattr(self, name) for name in numbers}, 1)
        at_least({"seed": self.seed}, 0, 1 << 62)


@dataclass(frozen=True)
class Manifest:
    """What a table or figure was made from, at which scale, and a digest of what it shows besides."""

    name: str
    scale: str
    inputs: list[str]
    shows: str


@dataclass(frozen=True)
class RatesNote:
    """What this machine did in a second, by images and network."""

    kind: Literal["rates"]
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_index(path: Path) -> Index:
    """The index of a group of sets. Raises UserError if the file is absent, damaged or something else."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != INDEX:
        raise damaged(path, "it is no index of a group")
    check_schema(path, value)
    return header_as(Index, value, path, "its entries")


def read_together(path: Path) -> MadeTogether:
    """What the job of several evaluations made. Raises UserError if the file is absent, damaged or something
    else."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != TOGETHER:
        raise damaged(path, "it does not tell of several evaluations")
    check_schema(path, value)
    return header_as(MadeTogether, value, path, "its entries")


def read_prepared(path: Path) -> Prepared:
    """What `dataset.json` says of a prepared dataset. Raises UserError if the file is absent, damaged or
    something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise damaged(path, "it does not describe a dataset")
    return header_as(Prepared, value, path, "its entries")


def read_request(path: Path) -> RunRequest:
    """The request of a run. Raises UserError if the file is absent, damaged or something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise damaged(path, "it holds no request of a run")
    return header_as(RunRequest, value, path, "its entries")


def read_rows(
    path: Path, columns: Sequence[str], *, delimiter: str = ",", whole: bool = False
) -> list[dict[str, str]]:
    """The rows of a table with at least these columns, or exactly these where it is `whole`; every row has a
    cell for each column.

    Raises UserError if the file is absent, cut off, no text, or has other columns.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise damaged(path, str(error)) from None
    if not text.endswith("\n"):
        raise damaged(path, "it is empty or its last line is cut off")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names, rows = reader.fieldnames or [], list(reader)
    except csv.Error as error:
        raise damaged(path, str(error)) from None
    missing = [column for column in columns if column not in names]
    if missing or (whole and tuple(names) != tuple(columns)):
        raise damaged(path, f"its columns are not {', '.join(columns)}")
    if any(None in row or None in row.values() for row in rows):
        raise damaged(path, "a row has more or fewer cells than there are columns")
    return rows


def number_in(path: Path, row: Mapping[str, str], column: str, least: float, most: float) -> float:
    """The number in a cell. Raises UserError naming the file unless it lies from `least` to `most`."""
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise damaged(path, f"{column} '{row[column][:40]}' is no number from {least:g} to {most:g}")
    return value
