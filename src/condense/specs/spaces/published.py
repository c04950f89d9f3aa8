"""Tables of published accuracies of the networks of a space, as they stand in their files: CSV or parquet."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

from condense.config import UserError

TABLES = (".csv", ".parquet", ".pq")


def require_file(path: Path) -> None:
    """Raises UserError where there is no file, but nothing or a folder."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the file that is in it")
    if not path.is_file():
        raise UserError(f"{path}: no such file")


def columns_of(path: Path, text: str) -> dict[str, list[Any]]:
    """The columns of a table by their names, that called `text` as text where the file is CSV; None where a
    row has nothing, or NaN.

    Raises UserError for a file that is no table, and for two columns of one name.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    require_file(path)
    if path.suffix.lower() not in TABLES:
        raise UserError(f"{path}: its ending is none of {', '.join(TABLES)}")
    try:
        if path.suffix.lower() == ".csv":
            options = pa.csv.ConvertOptions(column_types={text: pa.string()}, strings_can_be_null=True)
            table = pa.csv.read_csv(path, convert_options=options)
        else:
            with pa.parquet.ParquetFile(path) as file:
                table = file.read()
        names = [str(name) for name in table.column_names]
        columns = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        told = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: cannot be read as a table ({told})") from None
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: has more than one column '{twice}'; leave one of them")
    return {
        name: [None if _is_nan(value) else value for value in column]
        for name, column in zip(names, columns, strict=True)
    }


def datasets_in(path: Path, text: str) -> frozenset[str]:
    """The columns of a table that have any value. Raises UserError as `columns_of` does."""
    told = path.stat() if path.is_file() else None
    return _datasets_in(path, text, told and (told.st_size, told.st_mtime_ns))


@cache
def _datasets_in(path: Path, text: str, when: tuple[int, int] | None) -> frozenset[str]:
    """As it is at a time."""
    columns = columns_of(path, text)
    return frozenset(name for name, values in columns.items() if any(value is not None for value in values))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
