"""Reading sets, shards, prepared data, and any artifact by its kind, so that what they hold fits what they
say."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.files.artifacts import damaged, read_header, read_tensors
from condense.files.carried import as_used, check_carried
from condense.files.facts import check_history
from condense.files.headers import DatasetHeader, SetHeader, header_as
from condense.files.notes import Prepared, read_prepared
from condense.files.relabels import RELABELS, check_relabels
from condense.files.states import check_bank, check_checkpoint, check_part, check_teacher
from condense.files.statistics import check_statistics
from condense.files.truths import check_truth

if TYPE_CHECKING:
    import numpy as np

_FARTHEST = 1e6  # of a pixel in [0, 1], stored unclipped: condensation stops long before as diverged


def read_set(path: Path, kind: str = "synthetic") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a synthetic set, or of the snapshots of one, whose parts fit each other.

    `images` and what belongs to each of them are float32, even where the file stores float16. Raises
    UserError as `read_tensors` does, and naming what does not fit.
    """
    tensors, header = read_tensors(path, kind)
    names = header.get("class_names")
    _check_images(path, tensors, header, "images", 4 if kind == "synthetic" else 5)
    _check_labels(path, tensors, names)
    for name in ("mean", "std"):
        values = header.get(name)
        channels = tensors["images"].shape[-3]
        if (
            not isinstance(values, list)
            or len(values) != channels
            or not all(type(value) in (int, float) for value in values)
        ):
            raise damaged(path, f"its '{name}' is no list of a number a channel")
    for name in ("dataset", "method", "arch", "data_sha256"):
        if not isinstance(header.get(name), str):
            raise damaged(path, f"its '{name}' is no text")
    known = header_as(SetHeader, header, path)
    if known.ipc and known.classes and not _is_class_major(tensors["labels"], known):
        raise damaged(
            path,
            f"it does not hold {known.ipc} images of each of its {len(known.classes)} classes in their order",
        )
    if kind == "snapshots" and len(known.snapshot_steps or ()) != len(tensors["images"]):
        raise damaged(path, "it does not say the step of every snapshot")
    check_carried(path, tensors, known)
    return as_used(tensors), header


def read_artifact(path: Path, also: Container[str] = ()) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a file of any kind, checked as the kind is where it is used. Raises
    UserError as these readers do.

    Of the kinds in `also` that have no reader of their own nothing but the checksums is checked.
    """
    header = read_header(path)
    kind = header.get("kind")
    if kind in ("synthetic", "snapshots"):
        return read_set(path, kind)
    if kind == "shard":
        return read_shard(path)
    if kind not in _READERS and kind not in also:
        raise damaged(path, f"it holds '{kind}'")
    tensors, header = read_tensors(path)
    if kind in _READERS:
        _READERS[kind](path, tensors, header)
    return tensors, header


def _check_split(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    if not {"images", "labels"} <= tensors.keys():
        raise damaged(path, "it has no images or no labels")
    images = tensors["images"]
    check_dataset(path, dataset_header(header, path), images.shape, str(images.dtype), tensors["labels"])


def read_split(path: Path) -> tuple[dict[str, np.ndarray], DatasetHeader]:
    """The tensors of a prepared split and what it says of itself. Raises UserError as `read_tensors` does,
    and for what does not fit."""
    tensors, header = read_tensors(path, "dataset")
    _check_split(path, tensors, header)
    return tensors, dataset_header(header, path)


def _is_class_major(labels: np.ndarray, header: SetHeader) -> bool:
    import numpy as np

    return labels.tolist() == np.repeat(header.classes or [], len(header.numbers)).tolist()


def read_shard(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a shard: `ipc` images, or some of them, of each of its classes, one class
    after the other.

    Raises UserError as `read_tensors` does, and naming what does not fit.
    """
    tensors, header = read_tensors(path, "shard")
    known = header_as(SetHeader, header, path)
    if (
        None in (known.ipc, known.key, known.seed)
        or not known.classes
        or not {"history", "steps"} <= header.keys()
    ):
        raise damaged(path, "it does not say its ipc, seed, key, classes, steps and history")
    _check_images(path, tensors, header, "images", 4)
    _check_labels(path, tensors, known.class_names)
    if len(known.mean) != tensors["images"].shape[-3] or len(known.std) != len(known.mean):
        raise damaged(path, "its 'mean' or 'std' is no list of a number a channel")
    if not _is_class_major(tensors["labels"], known):
        raise damaged(
            path,
            f"it does not hold {len(known.numbers)} images of each of its {len(known.classes)} classes in "
            "their order",
        )
    if ("snapshots" in tensors) != (known.snapshot_steps is not None):
        raise damaged(path, "it has snapshots without their steps, or steps without snapshots")
    if known.snapshot_steps is not None:
        _check_images(path, tensors, header, "snapshots", 5)
        if tensors["snapshots"].shape != (len(known.snapshot_steps), *tensors["images"].shape):
            raise damaged(path, "its snapshots are not one at a step of the images that it holds")
    check_carried(path, tensors, known)
    check_history(path, header["history"])
    if known.steps != (header["history"][-1]["step"] if known.history else 0):
        raise damaged(path, f"its history does not end at step {known.steps}, its last")
    return tensors, header


def _check_images(
    path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any], name: str, dimensions: int
) -> None:
    import numpy as np

    images, stored = tensors.get(name), header.get("stored", "float32")
    fits = images is not None and images.ndim == dimensions and str(images.dtype) in ("float32", stored)
    if images is None or not fits or images.dtype not in (np.float32, np.float16):
        raise damaged(
            path, f"it has no {name}, float32 {'(N, C, H, W)' if dimensions == 4 else '(steps, N, C, H, W)'}"
        )
    if not images.size or images.shape[-3] not in (1, 3):
        raise damaged(
            path, f"its {name} are {' x '.join(map(str, images.shape))}, which are none of 1 or 3 channels"
        )
    if not np.isfinite(images).all():
        raise damaged(path, f"some pixels of its {name} are no numbers")
    if max(abs(float(images.min())), abs(float(images.max()))) > _FARTHEST:
        raise damaged(path, f"some pixels of its {name} are beyond all bounds")


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
    """What a prepared split says of itself. Raises UserError as `read_header` does, and naming what does not
    fit."""
    return dataset_header(read_header(path, "dataset"), path)


def dataset_header(header: Mapping[str, Any], path: Path) -> DatasetHeader:
    """The header of a prepared split. Raises UserError naming what does not fit, such as a checksum of other
    images."""
    known = header_as(DatasetHeader, header, path)
    if known.data_sha256 != header["content_sha256"]:
        raise damaged(path, "its 'data_sha256' is not the checksum of its images")
    return known


def check_prepared(folder: Path) -> Prepared:
    """What a prepared dataset says of itself, its splits having the headers that it says. Raises UserError
    for what does not fit."""
    known = read_prepared(folder / "dataset.json")
    for name in ("train", "test"):
        split, path = getattr(known.splits, name), folder / f"{name}.safetensors"
        header = read_dataset_header(path)
        if (header.split, header.counts, header.data_sha256) != (name, split.counts, split.data_sha256):
            raise damaged(folder / "dataset.json", f"its counts or its checksum are not those of {path}")
        if (header.dataset, header.class_names) != (known.dataset, known.class_names):
            raise damaged(folder / "dataset.json", f"its name or its classes are not those of {path}")
    return known


def check_dataset(
    path: Path, header: DatasetHeader, shape: Sequence[int], kind: str, labels: np.ndarray | None
) -> None:
    """Raises UserError unless the images of a prepared split, of this shape and type, and its labels are
    those its header speaks of."""
    import numpy as np

    if tuple(shape) != (header.images, header.channels, header.size, header.size) or kind != "uint8":
        raise damaged(
            path, f"its images are {kind} {' x '.join(map(str, shape))}, which do not fit its counts and size"
        )
    if labels is None:
        return
    wanted = np.repeat(np.arange(len(header.counts)), header.counts)
    if labels.dtype != np.int64 or not np.array_equal(labels, wanted):
        raise damaged(path, "its labels are not those of its counts")


# What is checked of a file that is read by its kind alone, beside its checksums.
_READERS: dict[str, Callable[[Path, Mapping[str, np.ndarray], Mapping[str, Any]], object]] = {
    "dataset": _check_split,
    "teacher": check_teacher,
    "bank": check_bank,
    "bank part": check_part,
    "checkpoint": check_checkpoint,
    "truth": check_truth,
    "statistics": check_statistics,
    RELABELS: check_relabels,
}
