"""A file of tensors of ours filled piece by piece, in any order: no more of it than a piece is ever in
memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from condense.data.fetch import progress
from condense.files.artifacts import Shapes, described, layout, sealed
from condense.machine.drafts import whole

_PIECE = 4 << 20  # bytes read or moved at once
UNKNOWN_SHA256 = "0" * 64  # stands for a checksum in the header that `filling` is given
UNKNOWN_NUMBER = -2.2250738585072014e-308  # stands for a number; none is longer in JSON


class Filling:
    """The open draft of a safetensors file. `seal` completes it to the bytes that `artifacts.write_tensors`
    would have written."""

    def __init__(self, file: BinaryIO, shapes: Shapes, header: Mapping[str, Any]):
        self._file, self._shapes = file, shapes
        head, self._offsets = layout(shapes, sealed(header, UNKNOWN_SHA256))
        self._start, self._size = len(head), max(end for _, end in self._offsets.values())

    def _row_bytes(self, name: str) -> int:
        kind, shape = self._shapes[name]
        return np.dtype(kind).itemsize * math.prod(shape[1:])

    def put(self, name: str, row: int, values: np.ndarray) -> None:
        """Writes `values`, some rows of the tensor `name`, from `row` on. Raises ValueError if they are of
        another type or shape."""
        kind, shape = self._shapes[name]
        if (
            str(values.dtype) != kind
            or values.shape[1:] != shape[1:]
            or not 0 <= row <= shape[0] - len(values)
        ):
            raise ValueError(
                f"{name}: {values.dtype} {values.shape} at row {row} does not fit {kind} {shape}"
            )
        # Not through a memory map: its pages would count as memory of this process, and a full disk would
        # kill it.
        self._file.seek(self._start + self._offsets[name][0] + row * self._row_bytes(name))
        self._file.write(np.ascontiguousarray(values).data)

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        """The tensor `name` in pieces of whole rows; what was never put is zero."""
        kind, shape = self._shapes[name]
        width = self._row_bytes(name)
        rows = max(1, _PIECE // width)
        for row in range(0, shape[0], rows):
            data = self._read(self._offsets[name][0] + row * width, min(rows, shape[0] - row) * width)
            yield np.frombuffer(data, kind).reshape(-1, *shape[1:])

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(self._start + offset)
        return self._file.read(size).ljust(size, b"\0")

    def content_sha256(self, text: str) -> str:
        """What `artifacts.content_sha256` gives for the tensors, with a bar named `text`."""
        total = hashlib.sha256()
        with progress(text, self._size, "B") as bar:
            for name in sorted(self._shapes):
                total.update(described(name, *self._shapes[name]))
                for piece in self.pieces(name):
                    total.update(piece.data)
                    bar.update(piece.nbytes)
        return total.hexdigest()

    def seal(self, header: Mapping[str, Any], content_sha256: str) -> None:
        """Writes `header` and the checksum of the tensors, after which nothing can be put any more.

        Raises ValueError if the header is longer than the one that `filling` was given.
        """
        head, _ = layout(self._shapes, sealed(header, content_sha256))
        if len(head) > self._start:
            raise ValueError(f"the header has {len(head)} bytes, but there is room for {self._start}")
        size = self._size
        if len(head) < self._start:
            for offset in range(0, size, _PIECE):
                data = self._read(offset, min(_PIECE, size - offset))
                self._file.seek(len(head) + offset)
                self._file.write(data)
        self._file.seek(0)
        self._file.write(head)
        self._file.truncate(len(head) + size)


@contextmanager
def filling(path: Path, shapes: Shapes, header: Mapping[str, Any]) -> Iterator[Filling]:
    """A `Filling` that becomes the file `path` if all goes well, and else leaves nothing.

    `header` is what `seal` will get as far as it is known, with UNKNOWN_SHA256 and UNKNOWN_NUMBER in the
    places of what is not.
    """
    with whole(path) as draft, open(draft, "w+b") as file:
        yield Filling(file, shapes, header)
