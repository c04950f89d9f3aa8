"""Published accuracies of networks of a space: tables of architecture and accuracy, and the file of
NAS-Bench-201 from which one is made.

A table is CSV or parquet with a column `architecture`, the name of a network as the space writes it, and a
column of test accuracies in percent for each dataset, under the dataset's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.machine.drafts import whole
from condense.outside.torchfile import read_torch
from condense.specs.spaces.nas201 import NAS201, cell_number, genotype

ARCHITECTURE = "architecture"
TABLES = (".csv", ".parquet", ".pq")
FORM = (
    f"a CSV or parquet file with a column '{ARCHITECTURE}', such as '{genotype(0)}', and a column of test "
    f"accuracies in percent for each dataset ({', '.join(NAS201.published)})"
)
_LAST = "ori-test@199"  # test accuracy after the last of 200 epochs, in the benchmark's file


@dataclass(frozen=True)
class Benchmark:
    """Accuracies in percent by dataset and by the name of the network; `path` is where they were read."""

    path: Path
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

    @property
    def networks(self) -> list[str]:
        """The names of all networks, each once."""
        return list(dict.fromkeys(name for values in self.accuracies.values() for name in values))


def read_benchmark(path: Path) -> Benchmark:
    """The accuracies in a table of cells of NAS-Bench-201. Raises UserError naming the file for what is none,
    and the row for a cell or a number that is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix.lower() not in TABLES:
        raise UserError(f"{path}: its ending is none of {', '.join(TABLES)}; give {FORM}")
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
    return Benchmark(
        path,
        {
            dataset: {
                name: _percentage(path, row, dataset, value)
                for row, (name, value) in enumerate(zip(names, columns[dataset], strict=True), start=1)
                if value not in (None, "")
            }
            for dataset in datasets
        },
    )


def _columns(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".csv":
            as_text = pa.csv.ConvertOptions(column_types={ARCHITECTURE: pa.string()})
            table = pa.csv.read_csv(path, convert_options=as_text)
        else:
            table = pa.parquet.read_table(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: cannot be read as a table ({told}); give {FORM}") from None
    return {str(name): table.column(name).to_pylist() for name in table.column_names}


def _cell(path: Path, row: int, value: object) -> str:
    """A cell in the one way of writing it."""
    try:
        return genotype(cell_number(str(value)))
    except UserError as error:
        raise UserError(f"{path}: row {row}: {error}") from None


def _percentage(path: Path, row: int, dataset: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise UserError(f"{path}: row {row}: {dataset}: a percentage is needed, found {str(value)[:40]!r}")
    return float(value)


def import_benchmark(path: Path) -> Benchmark:
    """The accuracies in the published file of NAS-Bench-201 (`NAS-Bench-201-*.pth`), read without running
    anything that it names, or in a table.

    Raises UserError, saying which form is taken instead, for a file that needs more than that, and for one
    that is something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
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
    accuracies: dict[str, dict[str, float]] = {dataset: {} for dataset in NAS201.published}
    for info in infos.values():
        name, results = _results(path, info)
        for dataset in NAS201.published:
            values = [_last(path, name, found) for found in results(dataset)]
            if values:
                accuracies[dataset][name] = sum(values) / len(values)
    found = {dataset: values for dataset, values in accuracies.items() if values}
    if not found:
        raise UserError(f"{path}: has no accuracies on {', '.join(NAS201.published)}; give {FORM}")
    return Benchmark(path, found)


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


def _last(path: Path, name: str, result: object) -> float:
    accuracies = result.get("eval_acc1es") if isinstance(result, dict) else None
    value = accuracies.get(_LAST) if isinstance(accuracies, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise UserError(
            f"{path}: {name}: has no plain percentage under 'eval_acc1es', '{_LAST}'; give {FORM}"
        )
    return float(value)


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
