"""Arrays mapped from a file of ours: processes on one machine share its pages, and nothing is copied until it
is used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.files.artifacts import damaged, described, extents, openable, read_header

if TYPE_CHECKING:
    import numpy as np

_PIECE = 16 << 20  # bytes


def map_arrays(path: Path, kind: str, *, verify: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a file. Writing to a tensor does not reach the file.

    `verify` reads the whole file once to compare its checksum; its header and length are always checked.
    Raises UserError if the file is absent, damaged or of another kind.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    header, arrays = read_header(path, kind), {}
    try:
        with openable(path) as name, safe_open(name, framework="np"):
            pass  # it has looked at types, shapes and places
        with open(path, "rb") as file:
            for name, (dtype, shape, begin, end) in extents(file).items():
                if begin == end:
                    arrays[name] = np.zeros(shape, dtype)
                else:
                    mapped = np.memmap(file, dtype, "c", begin, tuple(shape))
                    arrays[name] = mapped.view(np.ndarray)
    except (SafetensorError, ValueError, TypeError, OSError) as error:  # TypeError: a type that numpy lacks
        raise damaged(path, str(error)) from None
    if verify and _content_sha256(path) != header.get("content_sha256"):
        raise damaged(path, "its checksum differs")
    return arrays, header


def _content_sha256(path: Path) -> str:
    """`content_sha256` of the tensors of a file, read piece by piece: what is looked at through its mapping
    counts as memory of the process."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for name, (kind, shape, begin, end) in sorted(extents(file).items()):
            total.update(described(name, kind, shape))
            file.seek(begin)
            for left in range(end - begin, 0, -_PIECE):
                total.update(file.read(min(left, _PIECE)))
    return total.hexdigest()
