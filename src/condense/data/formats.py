"""Readers of the published file formats that are plain arrays. Nothing here unpickles."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from condense.config import UserError
from condense.data.fetch import gunzipped, tar_members

Arrays = tuple[np.ndarray, np.ndarray]  # images uint8 (N, C, H, W), labels int64 (N,)
_IDX = ("train", "t10k")
_CIFAR = {
    # archive members of the train and the test split, file of class names, bytes of labels before the pixels
    # (the last one counts)
    "cifar10": (
        [f"cifar-10-batches-bin/data_batch_{n}.bin" for n in range(1, 6)],
        ["cifar-10-batches-bin/test_batch.bin"],
        "cifar-10-batches-bin/batches.meta.txt",
        1,
    ),
    "cifar100": (
        ["cifar-100-binary/train.bin"],
        ["cifar-100-binary/test.bin"],
        "cifar-100-binary/fine_label_names.txt",
        2,
    ),
}


def digits() -> Arrays:
    """scikit-learn's handwritten digits, (1797, 1, 8, 8): their 17 grey levels 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    return np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def idx(files: dict[str, Path]) -> list[Arrays]:
    """Train and test of the MNIST family. Raises UserError naming the file if it is not a whole IDX file."""
    splits = []
    for split in _IDX:
        images = _idx_array(_named(files, f"{split}-images-idx3-ubyte.gz"), axes=3)
        labels = _idx_array(_named(files, f"{split}-labels-idx1-ubyte.gz"), axes=1)
        splits.append((images[:, None], labels.astype(np.int64)))
    return splits


def _named(files: dict[str, Path], name: str) -> Path:
    if name not in files:
        raise UserError(f"the source lacks the file {name}: add it to its 'files'")
    return files[name]


def _idx_array(path: Path, axes: int) -> np.ndarray:
    """The unsigned bytes of one IDX file: two zero bytes, type 8, the number of axes, each length as
    big-endian int32, data."""
    data = gunzipped(path)
    start = 4 + 4 * axes
    if len(data) < start or data[:4] != bytes((0, 0, 8, axes)):
        raise UserError(f"{path}: not an IDX file of unsigned bytes with {axes} axes")
    shape = struct.unpack(f">{axes}i", data[4:start])
    array = np.frombuffer(data, np.uint8, offset=start)
    if min(shape) < 0 or array.size != np.prod(shape):
        raise UserError(
            f"{path}: holds {array.size} bytes of data, but announces {' x '.join(map(str, shape))}"
        )
    return array.reshape(shape)


def cifar(files: dict[str, Path], layout: str) -> tuple[list[Arrays], list[str]]:
    """Train, test and class names of the binary version of CIFAR-10 or CIFAR-100 (fine labels); images
    (N, 3, 32, 32).

    Raises UserError if the archive lacks a file or a file is no whole number of records.
    """
    train, test, names, label_bytes = _CIFAR[layout]
    (path,) = files.values()
    contents = tar_members(path, [*train, *test, names])
    splits = [
        _cifar_records(path, {name: contents[name] for name in members}, label_bytes)
        for members in (train, test)
    ]
    return splits, contents[names].decode("ascii").split()


def _cifar_records(path: Path, files: dict[str, bytes], label_bytes: int) -> Arrays:
    width = label_bytes + 3 * 32 * 32
    for name, data in files.items():
        if len(data) % width or not data:
            raise UserError(
                f"{path}: {name} has {len(data)} bytes, which is no whole number of records of {width} bytes"
            )
    records = np.frombuffer(b"".join(files.values()), np.uint8).reshape(-1, width)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(np.int64)


def svhn(files: dict[str, Path]) -> list[Arrays]:
    """Train and test of SVHN's cropped digits from MATLAB 5 files; images (N, 3, 32, 32). The digit 0, there
    labelled 10, is class 0."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    splits = []
    for split in ("train", "test"):
        path = _named(files, f"{split}_32x32.mat")
        try:
            content = loadmat(path, variable_names=["X", "y"])
            images, labels = content["X"].transpose(3, 2, 0, 1), content["y"].reshape(-1).astype(np.int64)
            if images.dtype != np.uint8:
                raise ValueError(f"X holds {images.dtype}, not unsigned bytes")
        except (MatReadError, ValueError, KeyError, TypeError, NotImplementedError, OSError) as error:
            raise UserError(f"{path}: not a MATLAB file with images X and labels y ({error})") from None
        splits.append((images, labels % 10))
    return splits
