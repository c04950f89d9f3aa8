"""Images in parquet files: a column of encoded images, or of their paths, and a column of labels, which are
names or whole numbers.

Images are binary, or a struct with fields `bytes` and `path`; where there are no bytes the path is looked up
beside the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from condense.config import UserError
from condense.data import classes, columns, folder, foreign
from condense.data.classes import Labels, brief
from condense.data.columns import is_text, value_type
from condense.data.entries import visible

SUFFIXES = (".parquet", ".pq")
_BATCH = 1024  # rows held at once
# How images begin that are written as text
_ENCODED_IMAGES = ("data:", "iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk0", "SUkq", "TU0AK")
_PARTS = ("train", "test")


class Table:
    """An open parquet file of images. Raises UserError naming the file if it is damaged or a column is absent
    or of the wrong type."""

    def __init__(self, path: Path, image: str | None = None, label: str | None = None):
        """Without `image` or `label` the column is that of the usual name, else the only one that can be
        meant."""
        self.path = Path(path)
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        self._schema = self._file.schema_arrow
        self._chosen = columns.Columns(self._schema, str(path))
        self.image = self._chosen.image(image)
        self.label = self._chosen.label(label, self.image, self._shown)

    def _damaged(self, error: Exception) -> UserError:
        reason = (
            f"cannot be read as parquet, or is cut short ({str(error)[:200]}); a folder of class folders can "
            "be given instead"
        )
        try:
            with open(self.path, "rb") as file:
                beginning = file.read(1000)
        except OSError:
            beginning = b"?"
        known = foreign.kind_of(beginning)
        if foreign.begins_as_image(beginning):
            known = "is a single image: give the folder that holds the class folders"
        if known and not beginning.startswith(b"PAR1"):
            reason = f"cannot be read as parquet: it {known}"
        return UserError(f"{self.path}: {reason}")

    def _column(self, name: str) -> pa.ChunkedArray:
        try:
            return self._file.read(columns=[name]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None

    def _shown(self, name: str) -> str:
        return brief([str(value) for value in self._column(name).slice(0, 4).to_pylist()])

    def labels(self) -> Labels:
        """The labels. Raises UserError naming the first row without one, and for numbers that are none of the
        named classes."""
        column = self._column(self.label)
        kind = value_type(column.type)
        if pa.types.is_dictionary(column.type):
            column = column.cast(kind)
        where, names = str(self.path), self._chosen.class_names(self.label)
        if not len(column):
            raise UserError(f"{where}: has no rows")
        if column.null_count:
            raise self._without_label(column.is_null().to_numpy())
        if is_text(kind):
            try:
                column.validate(full=True)
            except pa.ArrowException as error:
                raise UserError(
                    f"{where}: the column '{self.label}' holds text that is not UTF-8 ({str(error)[:100]})"
                ) from None
            return self._named(np.array(column.to_pylist(), dtype=object), names)
        if pa.types.is_decimal(kind):
            values = self._whole(np.array([float(value) for value in column.to_pylist()]))
        else:
            values = column.to_numpy()
        if pa.types.is_boolean(kind) and names is None:
            kinds, places = np.unique(values, return_inverse=True)
            return classes.of_names([str(name) for name in kinds.tolist()], places, where)
        if pa.types.is_floating(kind):
            values = self._whole(values)
        if names is None:
            return classes.of_numbers(values, where)
        outside = [value for value in map(int, np.unique(values).tolist()) if not 0 <= value < len(names)]
        if outside:
            raise UserError(
                f"{where}: the label {outside[0]} is outside 0..{len(names) - 1}, the numbers of its classes "
                f"({brief(names)}): remove the rows without a label"
            )
        return classes.of_names(names, values.astype(np.int64), where)

    def _without_label(self, missing: np.ndarray) -> UserError:
        return UserError(
            f"{self.path}: row {missing.argmax()} has no label: remove the rows without one ({missing.sum()})"
        )

    def _named(self, values: np.ndarray, known: Sequence[str] | None) -> Labels:
        """Labels that are text; where the metadata name the classes, in their order. Digits there are numbers
        of these classes."""
        names, places = np.unique(values, return_inverse=True)
        if known and all(name in known or (name.isdecimal() and int(name) < len(known)) for name in names):
            numbers = [known.index(name) if name in known else int(name) for name in names]
            return classes.of_names(known, np.array(numbers)[places], str(self.path))
        blank = [index for index, name in enumerate(names) if not name.strip()]
        if blank:
            raise self._without_label(np.isin(places, blank))
        return classes.of_names(names.tolist(), places, str(self.path), ordered=False)

    def _whole(self, values: np.ndarray) -> np.ndarray:
        """Floating labels as whole numbers, which pandas makes floating when rows are missing."""
        values = values.astype(np.float64)
        missing = np.isnan(values)
        if missing.any():
            raise self._without_label(missing)
        bad = ~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53))
        if bad.any():
            seen = brief(np.unique(values).tolist())
            raise UserError(
                f"{self.path}: the column '{self.label}' holds {seen}: labels are names or whole "
                f"numbers{columns.advice_on('label')}"
            )
        return values.astype(np.int64)

    def _rows(self) -> Iterator[tuple[int, bytes | None, str | None]]:
        """Number, bytes and path of every row."""
        kind, row = self._schema.field(self.image).type, 0
        nested = pa.types.is_struct(kind)
        fields = (
            [f"{self.image}.{field.name}" for field in kind if field.name in ("bytes", "path")]
            if nested
            else [self.image]
        )
        try:
            for batch in self._file.iter_batches(_BATCH, columns=fields):
                # One by one: a batch of large images need not be in memory twice
                for value in batch.column(0):
                    entry = value.as_py()
                    if isinstance(entry, dict):
                        yield row, entry.get("bytes"), entry.get("path")
                    else:
                        yield row, *((None, entry) if isinstance(entry, str) else (entry, None))
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None

    def encoded(self) -> Iterator[tuple[str, bytes]]:
        """The place of each row, for messages, and its encoded image. Raises UserError naming the first row
        without one."""
        for row, data, path in self._rows():
            if data is not None:
                yield f"{self.path}: row {row}", data
            else:
                file = self._beside(row, path)
                yield f"{file} (row {row} of {self.path})", folder.read(file)

    @property
    def unread(self) -> list[str]:
        """The columns that are not read."""
        return self._chosen.unchosen(self.image, self.label)

    def _beside(self, row: int, path: str | None) -> Path:
        """The file of an image that the table only names. Raises UserError if it is not there."""
        if not path:
            raise UserError(f"{self.path}: row {row} has no image bytes")
        if path.startswith(_ENCODED_IMAGES) and ("," in path or len(path) > 64):
            contents = f"its image as text (base64: {path[:24]}...)"
            raise UserError(
                f"{self.path}: row {row} has {contents}: decode the column '{self.image}' to bytes"
            )
        path = path.removeprefix("file://")
        if "://" in path:
            raise UserError(
                f"{self.path}: row {row} has the address {path[:80]} instead of an image: download the "
                "images first"
            )
        file = self.path.parent / path
        if not _is_file(file) and "\\" in path:  # as Windows writes paths
            file = self.path.parent / path.replace("\\", "/")
        if not _is_file(file):
            raise UserError(
                f"{self.path}: row {row} has no image bytes, and its path '{path[:120]}' is no file beside "
                f"the table ({str(file)[:300]})"
            )
        return file

    def named_files(self) -> Iterator[Path]:
        """The files of the images that lie outside the table. Raises UserError naming the first that is
        absent."""
        kind = self._schema.field(self.image).type
        if is_text(kind) or (pa.types.is_struct(kind) and self._lacks_bytes(kind)):
            for row, data, path in self._rows():
                if data is None:
                    yield self._beside(row, path)

    def _lacks_bytes(self, kind: pa.StructType) -> bool:
        """Whether some row may have a path alone, as the statistics of the file say."""
        if kind.get_field_index("bytes") < 0:
            return True
        meta = self._file.metadata
        column = next(
            (c for c in range(meta.num_columns) if meta.schema.column(c).path == f"{self.image}.bytes"), None
        )
        if column is None:
            return True
        counts = [meta.row_group(group).column(column).statistics for group in range(meta.num_row_groups)]
        return any(entry is None or not entry.has_null_count or entry.null_count for entry in counts)


class Shards:
    """The parquet files of one split, read one after the other as if they were one file."""

    def __init__(self, paths: Sequence[Path], image: str | None = None, label: str | None = None):
        first = Table(paths[0], image, label)
        self.tables = [first, *(Table(path, first.image, first.label) for path in paths[1:])]
        self.image, self.label = first.image, first.label

    def labels(self) -> Labels:
        """The labels of all files, matched by name."""
        return classes.joined([table.labels() for table in self.tables])

    def encoded(self) -> Iterator[tuple[str, bytes]]:
        """As `Table.encoded`."""
        for table in self.tables:
            yield from table.encoded()


def files_of(path: Path) -> list[Path]:
    """The parquet files that `path` stands for: itself, those in the folder, or those that the pattern fits.

    Raises UserError if there are none.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        files = in_folder(path)
    else:
        files = sorted(file for file in path.parent.glob(path.name) if file.is_file())
    if not files:
        raise UserError(f"{path}: no parquet files there")
    return files


def in_folder(path: Path) -> list[Path]:
    """The parquet files that lie in a folder, sorted."""
    return [
        path / name for name, is_folder in visible(path) if not is_folder and name.lower().endswith(SUFFIXES)
    ]


def fingerprint(splits: Sequence[Shards]) -> str:
    """The checksum of all bytes of a training set and perhaps a test set, and of the images that they only
    name."""

    def files() -> Iterator[tuple[str, Path]]:
        for role, shards in zip(_PARTS, splits, strict=False):
            for table in shards.tables:
                yield role, table.path
                yield from ((f"{role}/image", file) for file in table.named_files())

    return folder.fingerprint(files())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long for a file
        return False
