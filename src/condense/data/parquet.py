"""Images in a parquet file: a column of encoded images (binary, or a struct with a field `bytes`) and a column of whole-number labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from condense.config import UserError, unknown
from condense.data import folder

_BATCH = 1024  # rows held at once


class Table:
    """An open parquet file of images. Raises UserError naming the file if it is damaged or a column is absent or of the wrong type."""

    def __init__(self, path: Path, image: str | None = None, label: str | None = None):
        """Without `image` or `label` the column is the usual name, else the only one of a fitting type."""
        self.path = Path(path)
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        self._schema = self._file.schema_arrow
        self.image = self._column(image, "image", _is_image)
        self.label = self._column(label, "label", pa.types.is_integer)

    def _damaged(self, error: Exception) -> UserError:
        return UserError(f"{self.path}: cannot be read as parquet, or is cut short ({str(error)[:200]})")

    def _column(self, name: str | None, usual: str, fits) -> str:
        fitting = [field.name for field in self._schema if fits(field.type)]
        if name is None:
            name = usual if usual in fitting or len(fitting) != 1 else fitting[0]
        if name not in self._schema.names:
            raise unknown(f"{usual} column", name, self._schema.names, str(self.path))
        if name not in fitting:
            wanted = "encoded images (binary, or a struct with 'bytes')" if usual == "image" else "whole numbers"
            raise UserError(f"{self.path}: the column '{name}' must hold {wanted}, but it holds {str(self._schema.field(name).type)[:80]}")
        return name

    @property
    def class_names(self) -> list[str] | None:
        """The names of the labels, from the schema metadata under `huggingface`; None if there are none."""
        try:
            info = json.loads((self._schema.metadata or {})[b"huggingface"])
            names = info["info"]["features"][self.label]["names"]
        except (KeyError, TypeError, ValueError):
            return None
        return [str(name) for name in names]

    def labels(self) -> np.ndarray:
        """The labels, int64 (N,). Raises UserError naming the first row without one."""
        try:
            column = self._file.read(columns=[self.label]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        if column.null_count:
            row = column.is_null().to_numpy().argmax()
            raise UserError(f"{self.path}: row {row} has no label")
        return column.to_numpy().astype(np.int64)

    def encoded(self) -> Iterator[tuple[str, bytes]]:
        """The place of each row, for messages, and its encoded image. Raises UserError naming the first row without one."""
        row = 0
        nested = pa.types.is_struct(self._schema.field(self.image).type)
        try:
            for batch in self._file.iter_batches(_BATCH, columns=[f"{self.image}.bytes" if nested else self.image]):
                column = batch.column(0)
                for value in column.field("bytes") if nested else column:
                    if not value.is_valid:
                        raise UserError(f"{self.path}: row {row} has no image bytes")
                    yield f"{self.path}: row {row}", value.as_py()
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None


def fingerprint(tables: list[Table]) -> str:
    """The checksum of all bytes of a training file and perhaps a test file."""
    return folder.fingerprint((split, table.path) for split, table in zip(("train", "test"), tables, strict=False))


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_image(kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
