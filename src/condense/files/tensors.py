"""Reading sets, shards, prepared data and teachers, so that what they hold fits what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.artifacts import damaged, read_header, read_tensors
from condense.files.headers import DatasetHeader, SetHeader, TeacherHeader, header_as

if TYPE_CHECKING:
    import numpy as np

_RUN = 64  # zeros in a row that no training leaves in the weights of a layer


def read_set(path: Path, kind: str = "synthetic") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a synthetic set, or of the snapshots of one, whose parts fit each other.

    `images` are float32, whatever the file stores. Raises UserError as `read_tensors` does, and naming what does not fit.
    """
    tensors, header = read_tensors(path, kind)
    names = header.get("class_names")
    _check_images(path, tensors, header, "images", 4 if kind == "synthetic" else 5)
    _check_labels(path, tensors, names)
    for name in ("mean", "std"):
        values = header.get(name)
        channels = tensors["images"].shape[-3]
        if not isinstance(values, list) or len(values) != channels or not all(type(value) in (int, float) for value in values):
            raise damaged(path, f"its '{name}' is no list of a number a channel")
    for name in ("dataset", "method", "arch", "data_sha256"):
        if not isinstance(header.get(name), str):
            raise damaged(path, f"its '{name}' is no text")
    known = header_as(SetHeader, header, path)
    if kind == "snapshots" and len(known.snapshot_steps or ()) != len(tensors["images"]):
        raise damaged(path, "it does not say the step of every snapshot")
    return tensors | {"images": tensors["images"].astype("float32", copy=False)}, header


def read_artifact(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a file of any kind, checked as the kind is where it is used. Raises UserError as these readers do."""
    header = read_header(path)
    kind = header.get("kind")
    if kind in ("synthetic", "snapshots"):
        return read_set(path, kind)
    if kind == "shard":
        return read_shard(path)
    tensors, header = read_tensors(path)
    if kind == "teacher":
        read_teacher(path)
    if kind == "dataset":
        if not {"images", "labels"} <= tensors.keys():
            raise damaged(path, "it has no images or no labels")
        images = tensors["images"]
        check_dataset(path, header_as(DatasetHeader, header, path), images.shape, str(images.dtype), tensors["labels"])
    return tensors, header


def read_shard(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a shard: `ipc` images of each of its classes, one class after the other.

    Raises UserError as `read_tensors` does, and naming what does not fit.
    """
    import numpy as np

    tensors, header = read_tensors(path, "shard")
    known = header_as(SetHeader, header, path)
    if None in (known.ipc, known.key, known.seed) or not known.classes or "history" not in header:
        raise damaged(path, "it does not say its ipc, seed, key, classes and history")
    _check_images(path, tensors, header, "images", 4)
    _check_labels(path, tensors, known.class_names)
    if len(known.mean) != tensors["images"].shape[-3] or len(known.std) != len(known.mean):
        raise damaged(path, "its 'mean' or 'std' is no list of a number a channel")
    if tensors["labels"].tolist() != np.repeat(known.classes, known.ipc or 0).tolist():
        raise damaged(path, f"it does not hold {known.ipc} images of each of its {len(known.classes)} classes in their order")
    if ("snapshots" in tensors) != (known.snapshot_steps is not None):
        raise damaged(path, "it has snapshots without their steps, or steps without snapshots")
    if known.snapshot_steps is not None:
        _check_images(path, tensors, header, "snapshots", 5)
        if tensors["snapshots"].shape != (len(known.snapshot_steps), *tensors["images"].shape):
            raise damaged(path, "its snapshots are not one at a step of the images that it holds")
    if any("step" not in row or row.keys() != known.history[0].keys() for row in known.history):
        raise damaged(path, "the rows of its history differ in what they hold")
    return tensors, header


def _check_images(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any], name: str, dimensions: int) -> None:
    import numpy as np

    images, stored = tensors.get(name), header.get("stored", "float32")
    fits = images is not None and images.ndim == dimensions and str(images.dtype) in ("float32", stored)
    if images is None or not fits or images.dtype not in (np.float32, np.float16):
        raise damaged(path, f"it has no {name}, float32 {'(N, C, H, W)' if dimensions == 4 else '(steps, N, C, H, W)'}")
    if not images.size or images.shape[-3] not in (1, 3):
        raise damaged(path, f"its {name} are {' x '.join(map(str, images.shape))}, which are none of 1 or 3 channels")
    if not np.isfinite(images).all():
        raise damaged(path, f"some pixels of its {name} are no numbers")


def _check_labels(path: Path, tensors: Mapping[str, np.ndarray], names: Any) -> None:
    import numpy as np

    labels = tensors.get("labels")
    if labels is None or labels.dtype != np.int64 or labels.shape != tensors["images"].shape[-4:-3]:
        raise damaged(path, "it does not have one label an image")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise damaged(path, "it does not name its classes")
    if not 0 <= labels.min() <= labels.max() < len(names):
        raise damaged(path, f"its labels are not all among its {len(names)} classes")


def read_dataset_header(path: Path) -> DatasetHeader:
    """What a prepared split says of itself. Raises UserError as `read_header` does, and naming what does not fit."""
    return header_as(DatasetHeader, read_header(path, "dataset"), path)


def check_dataset(path: Path, header: DatasetHeader, shape: Sequence[int], kind: str, labels: np.ndarray | None) -> None:
    """Raises UserError unless the images of a prepared split, of this shape and type, and its labels are those its header speaks of."""
    import numpy as np

    if tuple(shape) != (header.images, header.channels, header.size, header.size) or kind != "uint8":
        raise damaged(path, f"its images are {kind} {' x '.join(map(str, shape))}, which do not fit its counts and size")
    if labels is None:
        return
    wanted = np.repeat(np.arange(len(header.counts)), header.counts)
    if labels.dtype != np.int64 or not np.array_equal(labels, wanted):
        raise damaged(path, "its labels are not those of its counts")


def read_teacher(path: Path) -> tuple[dict[str, np.ndarray], TeacherHeader]:
    """The tensors of a trained classifier and what it says of itself.

    Raises UserError as `read_tensors` does, and naming what does not fit; whether the weights are those of its architecture shows when it
    is built.
    """
    import numpy as np

    tensors, header = read_tensors(path, "teacher")
    known = header_as(TeacherHeader, header, path)
    events = tensors.get("forgetting_events")
    if events is None or events.dtype != np.int64 or events.ndim != 1 or (events.size and events.min() < 0):
        raise damaged(path, "it does not count the forgetting events of its images")
    check_weights(path, {name: value for name, value in tensors.items() if name.startswith("network.")})
    return tensors, known


def check_weights(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Raises UserError for weights of a trained network that are no numbers, or that were overwritten by zeros."""
    import numpy as np

    for name, values in weights.items():
        if values.dtype.kind != "f":
            continue
        if not np.isfinite(values).all():
            raise damaged(path, f"some of its weights '{name}' are no numbers")
        flat = np.flatnonzero(np.concatenate([[1], values.reshape(-1), [1]]))
        if values.ndim > 1 and flat.size > 1 and np.diff(flat).max() > _RUN:
            raise damaged(path, f"a part of its weights '{name}' was overwritten by zeros")
