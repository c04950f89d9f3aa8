"""What a set carries beside its images and labels: soft labels, and tensors that its method names, each of
which its header lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError
from condense.files.artifacts import damaged
from condense.files.headers import SOFT_LABELS, SetHeader

if TYPE_CHECKING:
    import numpy as np

_ALWAYS = ("images", "labels", "snapshots")
_UNEVEN = 1e-3  # by which probabilities may miss the sum of 1: those of float16 miss it by half of this
OF_IMAGE, OF_SET = "image", "set"
ENTRIES = ("carries", SOFT_LABELS)  # of a header


def carried(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a set or shard beside images, labels and snapshots."""
    return {name: values for name, values in tensors.items() if name not in _ALWAYS}


def carrying(
    tensors: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
    of_image: Mapping[str, np.ndarray],
    of_set: Mapping[str, np.ndarray],
    label_kind: str = "probabilities",
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of a shard that carries more: `of_image` (N, ...) by name, `of_set` (...) by
    name.

    `label_kind` is that of the soft labels, if there are any. Raises ValueError for names that a file or an
    export has for others.
    """
    import numpy as np

    if taken := sorted({*of_image, *of_set} & {*_ALWAYS, "class_names"} | set(of_image) & set(of_set)):
        raise ValueError(f"a further tensor cannot be called {', '.join(taken)}")
    if not of_image and not of_set:
        return dict(tensors), dict(header)
    about: dict[str, Any] = {"carries": dict.fromkeys(of_image, OF_IMAGE) | dict.fromkeys(of_set, OF_SET)}
    about |= {SOFT_LABELS: label_kind} if SOFT_LABELS in of_image else {}
    return {**tensors, **of_image, **{name: np.atleast_1d(values) for name, values in of_set.items()}}, {
        **header,
        **about,
    }


def check_carried(path: Path, tensors: Mapping[str, np.ndarray], header: SetHeader) -> None:
    """Raises UserError unless the further tensors are those that the header lists, finite, one entry an image
    where they are of images."""
    import numpy as np

    further = carried(tensors)
    for name in sorted({*further, *header.carries}):
        if name not in header.carries:
            raise damaged(path, f"its header does not say what '{name}' is")
        if name not in further:
            raise damaged(path, f"it lacks '{name}', which its header lists")
        values = further[name]
        if values.dtype.kind not in "fiu" or not values.ndim:
            raise damaged(path, f"its '{name}' are no list of numbers")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise damaged(path, f"some values of its '{name}' are no numbers")
        if header.carries[name] == OF_IMAGE and len(values) != len(tensors["labels"]):
            raise damaged(
                path,
                f"its '{name}' are {len(values)}, and not one for each of its {len(tensors['labels'])} "
                "images",
            )
    if header.soft_labels is not None:
        _check_soft_labels(path, further[SOFT_LABELS], header)


def _check_soft_labels(path: Path, values: np.ndarray, header: SetHeader) -> None:
    import numpy as np

    if (
        values.ndim != 2
        or values.shape[1] != len(header.class_names)
        or str(values.dtype) not in ("float32", header.stored)
    ):
        shape = " x ".join(map(str, values.shape))
        raise damaged(
            path,
            f"its soft labels are {values.dtype} {shape}, not float32 with one value for each of its classes",
        )
    if header.soft_labels != "probabilities":
        return
    sums = values.astype(np.float64).sum(1)
    if values.min() < 0 or np.abs(sums - 1).max() > _UNEVEN:
        raise damaged(
            path, "its soft labels are said to be probabilities, but some are negative or do not sum to 1"
        )


def as_used(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors with those in float32 that were stored in float16."""
    import numpy as np

    return {
        name: values.astype(np.float32) if values.dtype == np.float16 else values
        for name, values in tensors.items()
    }


def joined(
    out: Path, shards: list[tuple[Mapping[str, np.ndarray], Mapping[str, Any], Path]]
) -> dict[str, np.ndarray]:
    """What the shards of a set carry, as the set `out` does: of images class by class, of the set as all of
    them say.

    Raises UserError if shards differ in what belongs to the whole set.
    """
    import numpy as np

    first, header, path = shards[0]
    whole: dict[str, np.ndarray] = {}
    for name, kind in header.get("carries", {}).items():
        if kind == OF_IMAGE:
            whole[name] = np.concatenate([tensors[name] for tensors, _, _ in shards])
            continue
        for tensors, _, shard in shards:
            if not np.array_equal(tensors[name], first[name]):
                why = (
                    f"they differ in '{name}', of which the whole set has one: condense all classes in one "
                    "shard"
                )
                raise UserError(f"{out}: {shard} does not fit {path}: {why}")
        whole[name] = first[name]
    return whole
