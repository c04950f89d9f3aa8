"""A file of tensors of ours filled piece by piece, in any order: no more of it than a piece is ever in memory."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from condense.artifacts import canonical, described, sealed, whole
from condense.data.fetch import progress

_PIECE = 4 << 20  # bytes read or moved at once
_CODES = {"uint8": "U8", "int64": "I64"}  # what safetensors calls them
UNKNOWN_SHA256 = "0" * 64  # stands for a checksum in the header that `filling` is given
UNKNOWN_NUMBER = -2.2250738585072014e-308  # stands for a number; none is longer in JSON

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> type and shape of a tensor


class Filling:
    """The open draft of a safetensors file. `seal` completes it to the bytes that `artifacts.write_tensors` would have written."""

    def __init__(self, file: BinaryIO, shapes: Shapes, header: Mapping[str, Any]):
        self._file, self._shapes = file, shapes
        # safetensors puts wide types first, so that every tensor is aligned.
        self._order = sorted(shapes, key=lambda name: (-np.dtype(shapes[name][0]).itemsize, name))
        ends = np.cumsum([self._row_bytes(name) * shapes[name][1][0] for name in self._order]).tolist()
        self._offsets = dict(zip(self._order, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        self._start = len(self._head(sealed(header, UNKNOWN_SHA256)))

    def _row_bytes(self, name: str) -> int:
        kind, shape = self._shapes[name]
        return np.dtype(kind).itemsize * math.prod(shape[1:])

    def _head(self, note: Mapping[str, Any]) -> bytes:
        layout: dict[str, Any] = {"__metadata__": {"condense": canonical(note)}}
        for name in self._order:
            kind, shape = self._shapes[name]
            layout[name] = {"dtype": _CODES[kind], "shape": shape, "data_offsets": self._offsets[name]}
        text = json.dumps(layout, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    def put(self, name: str, row: int, values: np.ndarray) -> None:
        """Writes `values`, some rows of the tensor `name`, from `row` on. Raises ValueError if they are of another type or shape."""
        kind, shape = self._shapes[name]
        if str(values.dtype) != kind or values.shape[1:] != shape[1:] or not 0 <= row <= shape[0] - len(values):
            raise ValueError(f"{name}: {values.dtype} {values.shape} at row {row} does not fit {kind} {shape}")
        # Not through a memory map: its pages would count as memory of this process, and a full disk would kill it.
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
        with progress(text, self._offsets[self._order[-1]][1], "B") as bar:
            for name in sorted(self._shapes):
                total.update(described(name, *self._shapes[name]))
                for piece in self.pieces(name):
                    total.update(piece)
                    bar.update(piece.nbytes)
        return total.hexdigest()

    def seal(self, header: Mapping[str, Any], content_sha256: str) -> None:
        """Writes `header` and the checksum of the tensors, after which nothing can be put any more.

        Raises ValueError if the header is longer than the one that `filling` was given.
        """
        head = self._head(sealed(header, content_sha256))
        if len(head) > self._start:
            raise ValueError(f"the header has {len(head)} bytes, but there is room for {self._start}")
        size = self._offsets[self._order[-1]][1]
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

    `header` is what `seal` will get as far as it is known, with UNKNOWN_SHA256 and UNKNOWN_NUMBER in the places of what is not.
    """
    with whole(path) as draft, open(draft, "w+b") as file:
        yield Filling(file, shapes, header)
