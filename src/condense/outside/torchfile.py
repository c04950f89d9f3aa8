"""Files of `torch.save`, read without running anything that they name.

torch reads them with `weights_only=True`, which builds tensors, numbers, texts and containers and refuses
every other name. Numbers and arrays of NumPy, which most programs of the field save among their accuracies,
are allowed by stand-ins of ours that NumPy never sees: what a file says of a type of NumPy is compared with
a list.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from condense.config import UserError

TAKEN = "torch.save({'images': images, 'labels': labels}, FILE) of two tensors, an npz or a safetensors file"
_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


class _Type:
    """In the place of `numpy.dtype`: the name of a plain type and its order of bytes."""

    def __init__(self, name: object = "", *rest: object):
        self.name, self.order = str(name), "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = str(state[1])

    def plain(self) -> np.dtype | None:
        """The type, if it is one of numbers."""
        return np.dtype(self.order + self.name) if self.name in _TYPES else None


class _Number:
    """In the place of `numpy.core.multiarray.scalar`: a single number, which no set consists of."""

    def __init__(self, *parts: object):
        pass


class _Array:
    """In the place of an array of NumPy while it is read."""

    def __init__(self, *parts: object):
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def values(self) -> np.ndarray | None:
        """The array, if its state is that of plain numbers."""
        if not (isinstance(self.state, tuple) and len(self.state) == 5):
            return None
        _, shape, kind, fortran, data = self.state
        plain = kind.plain() if isinstance(kind, _Type) else None
        if plain is None or not isinstance(data, bytes) or not isinstance(shape, tuple):
            return None
        if not all(type(side) is int and side >= 0 for side in shape):
            return None
        flat = np.frombuffer(data, plain)
        if flat.size != np.prod(shape, dtype=object):
            return None
        return flat.reshape(shape, order="F" if fortran else "C")


class _NoType:
    """In the place of `numpy.ndarray`, which files name only for the reconstruction."""


def _stand_ins() -> list[Any]:
    pairs: list[Any] = [(_Type, "numpy.dtype"), (_NoType, "numpy.ndarray")]
    for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
        pairs += [(_Number, f"{core}.scalar"), (_Array, f"{core}._reconstruct")]
    return pairs


def read_torch(path: Path) -> Any:
    """What a file of `torch.save` holds: containers, texts and numbers as they are, tensors and arrays as
    NumPy's.

    Raises UserError for a file that is none, is cut short, or names anything but plain data, which is never
    run.
    """
    try:
        with torch.serialization.safe_globals(_stand_ins()):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch raises many kinds for damaged files, none of which is its contract
        raise _refused(path, str(error)) from None
    return _plain(held)


def _refused(path: Path, reason: str) -> UserError:
    named = re.search(r"GLOBAL ([\w.]+)", reason) or re.search(
        r"unrecognized function <\w+ '?([\w.]+)", reason
    )
    if named:
        return UserError(
            f"{path}: names '{named[1][:80]}', which is code and not data; it is not run. Save plain tensors "
            f"instead: {TAKEN}"
        )
    if "TorchScript" in reason:
        return UserError(f"{path}: is a TorchScript archive, which is a program; give {TAKEN}")
    told = " ".join(reason.split())[:150]
    return UserError(
        f"{path}: cannot be read as a file of torch.save, or is cut short ({told}); give {TAKEN}"
    )


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, torch.Tensor):
        dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        if dense.is_quantized:
            dense = dense.dequantize()
        return (dense.float() if dense.dtype == torch.bfloat16 else dense).cpu().numpy()
    if isinstance(value, _Array):
        return value.values()
    if depth > 20:  # deeper than any set; a file may nest without end
        return None
    if isinstance(value, dict):
        return {str(name): _plain(entry, depth + 1) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, depth + 1) for entry in value]
    return value
