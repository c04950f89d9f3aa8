"""Published accuracies of networks of a space: tables of architecture and accuracy, and the file of
NAS-Bench-201 from which one is made.

A table is CSV or parquet with a column `architecture`, the name of a network as the space writes it or its
number, and a column of test accuracies in percent for each dataset, under the dataset's name. A network of
which a file of either form has nothing on a dataset, or NaN, has no accuracy there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.machine.drafts import whole
from condense.outside.torchfile import read_torch
from condense.specs.spaces.base import ARCHITECTURE
from condense.specs.spaces.nas201 import NAS201, cell_number, genotype
from condense.specs.spaces.published import TABLES, columns_of, require_file

FORM = (
    f"a CSV or parquet file with a column '{ARCHITECTURE}', such as '{genotype(0)}', and a column of test "
    f"accuracies in percent for each dataset ({', '.join(NAS201.published)})"
)
_LAST = "ori-test@199"  # test accuracy after the last of 200 epochs, in the benchmark's file


@dataclass(frozen=True)
class Benchmark:
    """Accuracies in percent by dataset and by the name of the network; `path` is where they were read, and
    `networks` the names of all that stand there, each once."""

    path: Path
    networks: Sequence[str]
    accuracies: Mapping[str, Mapping[str, float]]

    def accuracy(self, network: str, dataset: str) -> float:
        """Of a network on a dataset. Raises UserError if it is not there."""
        if dataset not in self.accuracies:
            raise UserError(
                f"{self.path}: has no column '{dataset}' of accuracies, only {', '.join(self.accuracies)}"
            )
        if network not in self.accuracies[dataset]:
            raise UserError(f"{self.path}: has no accuracy of {network} on {dataset}")
        return self.accuracies[dataset][network]

    def told(self) -> str:
        """How many accuracies there are, and on which datasets how many networks have none."""
        counts = {name: len(self.accuracies.get(name, ())) for name in NAS201.published}
        has = ", ".join(f"{count:,} on {name}" for name, count in counts.items() if count)
        of = len(self.networks)
        lacks = ", ".join(
            f"{of - count:,} of {of:,} on {name}" for name, count in counts.items() if count < of
        )
        rest = f"; without one: {lacks}" if lacks else ""
        return f"accuracies of {has}, of {NAS201.size:,} networks{rest}"


def _benchmark(
    path: Path, networks: Sequence[str], accuracies: Mapping[str, Mapping[str, float]]
) -> Benchmark:
    """What a file has of these networks, without the datasets on which it has nothing. Raises UserError where
    that is all of them, and for fractions in place of percent."""
    found = {dataset: values for dataset, values in accuracies.items() if values}
    if not found:
        raise UserError(f"{path}: has no accuracies on {' or '.join(NAS201.published)}; give {FORM}")
    for dataset, values in found.items():
        if max(values.values()) <= 1:
            raise UserError(
                f"{path}: {dataset}: no accuracy is above 1, as fractions are; give all in percent, such as "
                "91 and not 0.91"
            )
    return Benchmark(path, networks, found)


def read_benchmark(path: Path) -> Benchmark:
    """The accuracies in a table of cells of NAS-Bench-201. Raises UserError naming the file for what is none,
    and the row for a cell or a number that is none."""
    columns = _columns(path)
    if ARCHITECTURE not in columns:
        raise UserError(f"{path}: has no column '{ARCHITECTURE}', only {', '.join(columns)}; give {FORM}")
    datasets = [name for name in NAS201.published if name in columns]
    if not datasets:
        raise UserError(f"{path}: has no column of accuracies; give {FORM}")
    names = [_cell(path, row, value) for row, value in enumerate(columns[ARCHITECTURE], start=1)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: has the architecture {twice} more than once")
    accuracies: dict[str, dict[str, float]] = {}
    for dataset in datasets:
        values = [_percentage(path, row, dataset, value) for row, value in enumerate(columns[dataset], 1)]
        accuracies[dataset] = {
            name: value for name, value in zip(names, values, strict=True) if value is not None
        }
    return _benchmark(path, names, accuracies)


def _columns(path: Path) -> dict[str, list[Any]]:
    try:
        return columns_of(path, ARCHITECTURE)
    except UserError as error:
        raise UserError(f"{error}; give {FORM}") from None


def _cell(path: Path, row: int, value: object) -> str:
    """A cell in the one way of writing it."""
    try:
        return genotype(cell_number("" if value is None else str(value)))
    except UserError as error:
        raise UserError(f"{path}: row {row}: {error}") from None


def _percentage(path: Path, row: int, dataset: str, value: object) -> float | None:
    """A number, which may be written as text, as where another row of its column is none; None for nothing
    and NaN."""
    number = -1.0
    with suppress(ValueError):
        if value in (None, ""):
            return None
        if isinstance(value, (int, float, str, Decimal)) and not isinstance(value, bool):
            number = float(value)
    if math.isnan(number):
        return None
    if not 0 <= number <= 100:
        raise UserError(f"{path}: row {row}: {dataset}: a percentage is needed, found {str(value)[:40]!r}")
    return number


def import_benchmark(path: Path) -> Benchmark:
    """The accuracies in the published file of NAS-Bench-201 (`NAS-Bench-201-*.pth`), read without running
    anything that it names, or in a table.

    Raises UserError, saying which form is taken instead, for a file that needs more than that, and for one
    that is something else.
    """
    require_file(path)
    if path.suffix.lower() in TABLES:
        return read_benchmark(path)
    try:
        held = read_torch(path)
    except UserError as error:
        reason = (
            str(error).removeprefix(f"{path}: ").partition(". Save plain tensors")[0].partition("; give")[0]
        )
        raise UserError(f"{path}: {reason}; give {FORM}") from None
    infos = held.get("arch2infos") if isinstance(held, dict) else None
    if not isinstance(infos, dict) or not infos:
        raise UserError(f"{path}: holds no results of networks under 'arch2infos'; give {FORM}")
    by_network: dict[str, dict[str, float]] = {}
    for info in infos.values():
        name, results = _results(path, info)
        means = {dataset: _mean(path, name, results(dataset)) for dataset in NAS201.published}
        known = {dataset: mean for dataset, mean in means.items() if mean is not None}
        if by_network.setdefault(name, known) != known:
            raise UserError(
                f"{path}: has the architecture {name} more than once, with other accuracies; give {FORM}"
            )
    accuracies = {
        dataset: {name: known[dataset] for name, known in by_network.items() if dataset in known}
        for dataset in NAS201.published
    }
    return _benchmark(path, list(by_network), accuracies)


def _results(path: Path, info: object) -> tuple[str, Callable[[str], list[Any]]]:
    """The name of a network, and by dataset what its trainings of 200 epochs gave."""
    full = info.get("full", info) if isinstance(info, dict) else None
    results = full.get("all_results") if isinstance(full, dict) else None
    if not isinstance(full, dict) or not isinstance(results, dict) or "arch_str" not in full:
        raise UserError(
            f"{path}: an entry of 'arch2infos' holds no 'arch_str' and 'all_results'; give {FORM}"
        )

    def of_dataset(dataset: str) -> list[Any]:
        # Keys are (dataset, seed), here as text
        key = re.compile(rf"\(\s*'{re.escape(dataset)}'\s*,")
        return [value for name, value in results.items() if key.match(str(name))]

    return _cell(path, 0, full["arch_str"]), of_dataset


def _mean(path: Path, name: str, results: Sequence[Any]) -> float | None:
    """The mean over the trainings of a network that have an accuracy; None if none has."""
    values = [value for result in results if not math.isnan(value := _last(path, name, result))]
    return sum(values) / len(values) if values else None


def _last(path: Path, name: str, result: object) -> float:
    """The percentage that a training ended with, or NaN."""
    accuracies = result.get("eval_acc1es") if isinstance(result, dict) else None
    value = accuracies.get(_LAST) if isinstance(accuracies, dict) else None
    plain = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else -1.0
    if not (0 <= plain <= 100 or math.isnan(plain)):
        raise UserError(
            f"{path}: {name}: has no plain percentage under 'eval_acc1es', '{_LAST}'; give {FORM}"
        )
    return plain


def require_table(path: Path) -> None:
    """Raises UserError for a path whose ending is that of no table."""
    if path.suffix.lower() not in TABLES:
        raise UserError(f"{path}: the ending must be one of {', '.join(TABLES)}")


def write_benchmark(path: Path, known: Benchmark) -> None:
    """Writes the accuracies as a table, parquet or CSV by the ending of `path`. Raises UserError for another
    ending, and where the file cannot be written."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    require_table(path)
    columns: dict[str, list[Any]] = {ARCHITECTURE: sorted(known.networks, key=cell_number)}
    for dataset, values in known.accuracies.items():
        columns[dataset] = [values.get(name) for name in columns[ARCHITECTURE]]
    table = pa.table(columns)
    with whole(path) as draft:
        if path.suffix.lower() == ".csv":
            pa.csv.write_csv(table, draft)
        else:
            pa.parquet.write_table(table, draft)
