"""Files that are whole or absent, and that say what they are.

Tensors go to safetensors with one JSON header entry, everything else to JSON; no pickle is written or read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from condense.config import UserError
from condense.machine.drafts import whole

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
Shapes = Mapping[str, tuple[str, Sequence[int]]]  # name -> type and shape of a tensor
# What safetensors calls numpy's types, in the order in which it lays tensors out.
_CODES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "float16": "F16",
}
_CODES |= {"uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
_LARGEST_HEADER = 16 << 20  # bytes; a larger length field can only come from a damaged file


def canonical(value: Any) -> str:
    """`value` as JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 12) -> str:
    """The first `length` hex digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def write_json(path: Path, value: Any) -> None:
    """Writes `value` atomically as indented JSON."""
    with whole(path) as draft:
        draft.write_text(
            json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
        )


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for numbers that are not finite or of more than 63
    bits: we write none."""
    return json.loads(text, parse_float=_finite, parse_int=_of_63_bits, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _of_63_bits(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= 1 << 63:
        raise ValueError(f"the number {text[:20]}... is too large")
    return int(text)


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError naming the file if it is absent or damaged."""
    try:
        return parsed(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, why: str) -> UserError:
    """The error for a file that fails its check."""
    return UserError(
        f"{path}: damaged or not one of our files ({why}); delete it and run the same command again to make "
        "it anew"
    )


def _tensor_bytes(tensor: np.ndarray) -> memoryview:
    import numpy as np

    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def described(name: str, kind: str, shape: Sequence[int]) -> bytes:
    """What stands before the bytes of a tensor in `content_sha256`."""
    return canonical([name, kind, list(shape)]).encode()


def content_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes of `tensors`, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(described(name, str(tensor.dtype), tensor.shape))
        if tensor.size:
            total.update(_tensor_bytes(tensor))
    return total.hexdigest()


def sealed(header: Mapping[str, Any], content_sha256: str) -> dict[str, Any]:
    """The header entry `condense`: `header`, the schema and the checksums of content and header."""
    note = {**header, "schema": SCHEMA, "content_sha256": content_sha256}
    return {**note, "header_sha256": digest(json.loads(canonical(note)), 64)}


def layout(shapes: Shapes, note: Mapping[str, Any]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """What stands before the tensors in a safetensors file with the header entry `note`, and where each
    begins and ends after it.

    The tensors are in the order in which the library lays them out: wide types first, so that every one is
    aligned.
    """
    import numpy as np

    ranks, offsets, end = list(_CODES), {}, 0
    for name in sorted(shapes, key=lambda name: (ranks.index(shapes[name][0]), name)):
        kind, shape = shapes[name]
        offsets[name] = (end, end := end + np.dtype(kind).itemsize * math.prod(shape))
    head: dict[str, Any] = {"__metadata__": {"condense": canonical(note)}}
    for name, extent in offsets.items():
        head[name] = {"dtype": _CODES[shapes[name][0]], "shape": shapes[name][1], "data_offsets": extent}
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offsets


def bytes_of(shapes: Shapes) -> int:
    """The bytes of tensors of these types and shapes."""
    import numpy as np

    return sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in shapes.values())


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Writes `tensors` atomically as safetensors; `header`, `schema` and checksums go into the header entry
    `condense`."""
    import numpy as np

    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    note = sealed(header, content_sha256(tensors))
    head, offsets = layout(
        {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}, note
    )
    # Not by the library's own `save_file`: it writes a file of another name, which a killed process would
    # leave.
    with whole(path) as draft, open(draft, "wb") as file:
        file.write(head)
        for name in offsets:
            if tensors[name].size:
                file.write(_tensor_bytes(tensors[name]))


def read_header(path: Path, kind: str | None = None) -> dict[str, Any]:
    """The `condense` header of a safetensors file, read without its tensors.

    Raises UserError if the file is absent, cut short, of another kind than `kind`, or of a schema this
    version cannot read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            if len(start) < 8:
                raise damaged(path, "it is cut short")
            (length,) = struct.unpack("<Q", start)
            if length > min(_LARGEST_HEADER, size - 8):
                raise damaged(path, "it is cut short or its header is broken")
            layout = json.loads(file.read(length))
        note = parsed(layout["__metadata__"]["condense"])
        end = (
            8
            + length
            + max(
                (entry["data_offsets"][1] for name, entry in layout.items() if name != "__metadata__"),
                default=0,
            )
        )
        schema, seal = note["schema"], note.pop("header_sha256", None)
        broken = seal != digest(note, 64)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise damaged(path, "its header is broken") from None
    if schema != SCHEMA:
        raise UserError(
            f"{path}: written with schema {schema}; this version reads {SCHEMA}: use the version of condense "
            "that wrote it"
        )
    if broken:
        raise damaged(path, "the checksum of its header differs")
    if size != end:
        raise damaged(path, f"it has {size} bytes instead of {end}")
    if not isinstance(note.get("content_sha256"), str) or not isinstance(note.get("kind"), str):
        raise damaged(path, "its header lacks a checksum of its tensors or does not say what it is")
    if kind is not None and note.get("kind") != kind:
        made = f"; `condense gather --shards {path} --data train.safetensors --out set.safetensors` makes one"
        advice = made if (note["kind"], kind) == ("shard", "synthetic") else ""
        raise UserError(f"{path}: holds '{note['kind']}', but a file with '{kind}' is needed{advice}")
    return note


@contextmanager
def openable(path: Path) -> Iterator[str]:
    """The name by which safetensors, which takes UTF-8 alone, opens a file whose path is in another
    encoding."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        yield os.fspath(path)


def extents(file: BinaryIO) -> dict[str, tuple[str, list[int], int, int]]:
    """Of each tensor of a safetensors file that `read_header` has read: its type, as numpy calls it, its
    shape, and where in the file it begins and ends."""
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    names = {code: name for name, code in _CODES.items()}
    found = {}
    for name, entry in json.loads(file.read(length)).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = (names.get(entry["dtype"], entry["dtype"]), entry["shape"], begin, end)
    return found


def read_tensors(path: Path, kind: str | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a file of ours, checksum verified. Raises UserError as `read_header`
    does, and if a byte changed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    note = read_header(path, kind)
    try:
        with openable(path) as name:
            tensors = load_file(name)
    # The last but one: types that numpy lacks
    except (SafetensorError, ValueError, KeyError, AttributeError, OSError) as error:
        raise damaged(path, str(error)) from None
    if content_sha256(tensors) != note.get("content_sha256"):
        raise damaged(path, "its checksum differs")
    return tensors, note


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(path: Path, value: Any) -> None:
    """Adds one JSON line to a log."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(canonical(value) + "\n")


def read_lines(path: Path) -> list[Any]:
    """The values of a JSON-lines file. Raises UserError naming the file if it is absent or a line of it is
    cut off or no JSON."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            raise damaged(path, "its last line is cut off")
        return [parsed(line) for line in text.splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from None
