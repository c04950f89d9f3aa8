"""The forms of files that a set of another program may have: one reader each, by the ending of the name.

Each gives a `Foreign`; none unpickles.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condense.config import UserError
from condense.data import folder, parquet, pixels
from condense.files import SOFT_LABELS, read_set
from condense.files.artifacts import file_sha256, openable, read_header
from condense.outside.finding import found
from condense.outside.foreign import Foreign
from condense.outside.torchfile import read_torch


@dataclass(frozen=True)
class Asked:
    """What may be asked of a file: the names of images and labels, which of several sets, and the images'
    channels and side in pixels, which those that are encoded must have."""

    channels: int
    size: int
    tensors: tuple[str, str] | None = None
    number: int | None = None


def read_foreign(path: Path, asked: Asked) -> Foreign:
    """The set in a file or folder of another program, or of ours. Raises UserError naming the file for what
    cannot be read, and what forms there are."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        return _from_folder(path, asked)
    ending = path.suffix.lower()
    if ending not in FORMS:
        raise UserError(
            f"{path}: its ending '{ending}' is none of {', '.join(sorted(FORMS))}, nor is it a folder of "
            "class folders; save the set in one of these forms"
        )
    return FORMS[ending](path, asked)


def sha256_of(path: Path) -> str:
    """The checksum of a file, or of the images of a folder."""
    if path.is_dir():
        return folder.fingerprint(folder.listing_roles([folder.list_images(path)]))
    return file_sha256(path)


def read_labels(path: Path) -> np.ndarray:
    """The labels in a file of their own: a single array, or one by a usual name. Raises UserError for
    others."""
    held = _ARRAYS[path.suffix.lower()](path) if path.suffix.lower() in _ARRAYS else None
    if isinstance(held, dict):
        arrays = [value for name, value in held.items() if isinstance(value, np.ndarray)]
        held = held.get("labels", arrays[0] if len(arrays) == 1 else None)
    if isinstance(held, list) and held and all(type(value) is int for value in held):
        held = np.asarray(held, np.int64)
    if not isinstance(held, np.ndarray) or held.ndim not in (1, 2):
        raise UserError(
            f"--labels {path}: holds no single array of labels, (N,) or (N, classes); one of "
            f"{', '.join(sorted(_ARRAYS))} with one is needed"
        )
    return held


def _torch_held(path: Path) -> object:
    return read_torch(path)


def _numpy_held(path: Path) -> object:
    with open(path, "rb") as file:
        begins = file.read(8)
    if not begins.startswith((b"PK", b"\x93NUMPY")):
        raise UserError(f"{path}: is no {path.suffix} file of numpy, whatever it is called")
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            return held
        with held:
            return {name: held[name] for name in held.files}
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise UserError(
                f"{path}: holds Python objects, which are code and are not run; save arrays of numbers alone"
            ) from None
        raise UserError(
            f"{path}: cannot be read as {path.suffix}, or is cut short ({str(error)[:150]})"
        ) from None


def _safetensors_held(path: Path) -> object:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # NumPy lacks bfloat16

    try:
        with openable(path) as name:
            held = load_file(name)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise UserError(f"{path}: cannot be read as safetensors ({str(error)[:150]})") from None
    return {
        name: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for name, value in held.items()
    }


def _from_arrays(form: str, held: Callable[[Path], object]) -> Callable[[Path, Asked], Foreign]:
    return lambda path, asked: found(path, form, held(path), asked.tensors, asked.number)


def _from_safetensors(path: Path, asked: Asked) -> Foreign:
    """A set of ours with all that it says, or the tensors of another program."""
    if not _is_ours(path):
        return found(path, "safetensors", _safetensors_held(path), asked.tensors, asked.number)
    tensors, header = read_set(path)
    return Foreign(
        tensors["images"],
        tensors["labels"],
        "synthetic set of condense",
        ("images", "labels"),
        header["class_names"],
        "unit",
        header.get(SOFT_LABELS),
        header.get("decode"),
        tensors.get(SOFT_LABELS),
        header["method"],
    )


def _is_ours(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    if b'"condense"' not in start:
        return False
    read_header(path)  # a damaged one is told as such
    return True


def _stacked(encoded: Iterable[tuple[str, bytes]], asked: Asked) -> np.ndarray:
    """Encoded images as uint8 (N, C, size, size). Raises UserError naming one of another size."""
    side, images = asked.size, []
    for where, data in encoded:
        image = pixels.shown(data, where, asked.channels).image
        if image.size != (side, side):
            raise UserError(
                f"{where}: has {image.width} x {image.height} pixels instead of the {side} x {side} of the "
                "data set that it is judged on"
            )
        images.append(pixels.fitted(image, where, side, False))
    return np.stack(images)


def _from_folder(path: Path, asked: Asked) -> Foreign:
    listing = folder.list_images(path)
    images = _stacked(folder.encoded(listing), asked)
    labels = np.asarray(listing.labels, np.int64)
    return Foreign(images, labels, "folder", ("images", "folders"), listing.class_names, "bytes")


def _from_parquet(path: Path, asked: Asked) -> Foreign:
    images, labels = asked.tensors or (None, None)
    table = parquet.Table(path, images, labels)
    known = table.labels()
    numbers, names = known.places, known.names
    if known.numbered:  # the numbers themselves, of which there may be gaps
        numbers = np.asarray([int(name) for name in known.names], np.int64)[known.places]
    return Foreign(
        _stacked(table.encoded(), asked),
        numbers,
        "parquet",
        (table.image, table.label),
        None if known.numbered else names,
        "bytes",
    )


_ARRAYS: dict[str, Callable[[Path], object]] = {
    ".pt": _torch_held,
    ".pth": _torch_held,
    ".npz": _numpy_held,
    ".npy": _numpy_held,
    ".safetensors": _safetensors_held,
}
FORMS: dict[str, Callable[[Path, Asked], Foreign]] = {
    ".pt": _from_arrays("torch.save", _torch_held),
    ".pth": _from_arrays("torch.save", _torch_held),
    ".npz": _from_arrays("npz", _numpy_held),
    ".npy": _from_arrays("npy", _numpy_held),
    ".safetensors": _from_safetensors,
    ".parquet": _from_parquet,
    ".pq": _from_parquet,
}
