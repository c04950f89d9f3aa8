"""Images and labels of another program in the layout and the numbering of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condense.config import UserError
from condense.data.classes import alike, brief, in_order_of, of_names
from condense.outside.foreign import Foreign, shape_of

AS_DATASET = "dataset"  # of --classes-as: the numbers count the classes as the data set does
CLASS_MAJOR = "class-major"  # of --labels: as many images of each class, one class after the other
_UNEVEN = 1e-3  # by which probabilities may miss the sum of 1


@dataclass(frozen=True)
class Labelled:
    """Labels (N,) int64 in the file's own numbering 0..classes-1, and soft ones (N, classes) with their
    kind."""

    labels: np.ndarray
    soft: np.ndarray | None = None
    soft_kind: str | None = None


def laid_out(foreign: Foreign, channels: int, size: int, where: str) -> np.ndarray:
    """The images as (N, channels, size, size), of the type that they have.

    Taken are (N, C, H, W), (N, H, W, C), (N, H, W) of one channel, (N, C H W), and with an axis of classes in
    front. Raises UserError for other shapes and for values that are no numbers.
    """
    images = foreign.images
    if images.ndim == 5:
        images = images.reshape(-1, *images.shape[2:])
    if images.ndim == 3 and channels == 1:
        images = images[:, None]
    if images.ndim == 2 and images.shape[1] == channels * size * size:
        images = images.reshape(-1, channels, size, size)
    if (
        images.ndim == 4
        and images.shape[1:] != (channels, size, size)
        and images.shape[1:] == (size, size, channels)
    ):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1:] != (channels, size, size) or not len(images):
        raise UserError(
            f"{where}: its images '{foreign.called[0]}' are {shape_of(foreign.images)}; the data set has "
            f"(N, {channels}, {size}, {size}) or (N, {size}, {size}, {channels}): give the data set of this "
            "size, or name other tensors with --tensors"
        )
    if images.dtype.kind not in "fiu":
        raise UserError(f"{where}: its images are {images.dtype}, not numbers of real pixels")
    bad = ~np.isfinite(images)
    if bad.any():
        first = int(bad.reshape(len(images), -1).any(1).argmax())
        raise UserError(
            f"{where}: image {first} has values that are no numbers (NaN or infinite), {bad.sum()} in all"
        )
    return images


def labelled(foreign: Foreign, labels: np.ndarray | None, count: int, classes: int, where: str) -> Labelled:
    """The labels of `count` images, hard and, where there are any, soft; `labels` are those of a file of
    their own.

    Labels of images with an axis of classes in front may have the same axis: (classes, n), or soft ones
    (classes, n, classes). Rows that are 0 but for a 1 are hard labels; rows that sum to 1 are probabilities,
    others logits. Raises UserError if there are none, of another number, or outside 0..classes-1.
    """
    values = foreign.labels if labels is None else labels
    if values is None and foreign.images.ndim == 5 and foreign.images.shape[0] == classes:
        values = np.repeat(np.arange(classes), count // classes)
    if values is None:
        raise UserError(
            f"{where}: has images '{foreign.called[0]}' but no labels; give them with --labels FILE, or "
            f"--labels {CLASS_MAJOR} if it has as many of each class, one class after the other"
        )
    leading = foreign.images.shape[:2]
    if foreign.images.ndim == 5 and values.ndim in (2, 3) and values.shape[:2] == leading:
        values = values.reshape(-1, *values.shape[2:])  # with the axis of classes that the images have
    values = np.squeeze(values, 1) if values.ndim == 2 and values.shape[1] == 1 else values
    if len(values.shape) == 0 or len(values) != count:
        raise UserError(
            f"{where}: has {count} images, but its labels are {shape_of(values)}; one each is needed"
        )
    if not np.isfinite(values).all() if values.dtype.kind == "f" else values.dtype.kind not in "iub":
        raise UserError(f"{where}: its labels are {shape_of(values)} with values that are no class numbers")
    if values.ndim == 2:
        return _soft(values, classes, where)
    if values.ndim != 1:
        raise UserError(f"{where}: its labels are {shape_of(values)}; (N,) or (N, {classes}) are needed")
    if values.dtype.kind == "f" and not np.array_equal(values, np.floor(values)):
        raise UserError(f"{where}: its labels are {shape_of(values)} and not whole; class numbers are needed")
    return Labelled(values.astype(np.int64), foreign.soft, foreign.soft_kind)


def _soft(values: np.ndarray, classes: int, where: str) -> Labelled:
    if values.shape[1] != classes:
        raise UserError(f"{where}: its labels are {shape_of(values)}, but the data set has {classes} classes")
    hard, numbers = values.argmax(1).astype(np.int64), values.astype(np.float32)
    if np.array_equal(numbers, np.eye(classes, dtype=np.float32)[hard]):
        return Labelled(hard)
    sums = numbers.astype(np.float64).sum(1)
    kind = "probabilities" if numbers.min() >= 0 and np.abs(sums - 1).max() <= _UNEVEN else "logits"
    return Labelled(hard, numbers, kind)


def class_order(
    foreign: Foreign, labels: np.ndarray, known: Sequence[str], classes_as: str | None, where: str
) -> tuple[np.ndarray, str]:
    """For every class number of the file its number in the data set, whose classes are `known`, and how
    that is known.

    `classes_as`: 'dataset', or the names that the numbers stand for, with commas between or one a line of a
    file. Names of the file are compared with those of the data set. Numbers are their names where the data
    set's are 0, 1, ... too. Raises UserError where nothing says which class a number is, and for numbers
    and names outside.
    """
    if labels.min() < 0 or labels.max() >= len(foreign.names or known):
        raise UserError(
            f"{where}: its labels go from {labels.min()} to {labels.max()}, outside "
            f"0..{len(foreign.names or known) - 1}, the numbers of the {len(foreign.names or known)} classes"
        )
    plain = [str(number) for number in range(len(known))]
    if classes_as is not None and classes_as != AS_DATASET:
        names = _listed(classes_as)
        if len(names) != len(known):
            raise UserError(
                f"--classes-as: {len(names)} name(s) given ({brief(names)}); the data set has {len(known)} "
                f"classes ({brief(known)})"
            )
        return _places(names, known, "--classes-as"), "named by --classes-as"
    if classes_as == AS_DATASET:
        if foreign.names is not None and len(foreign.names) != len(known):
            raise UserError(
                f"--classes-as dataset: {where} has {len(foreign.names)} classes ({brief(foreign.names)}), "
                f"the data set {len(known)}; give their names instead"
            )
        return np.arange(len(known)), "as the data set counts, by --classes-as"
    if foreign.names is not None and not (_numerals(foreign.names) and not _numerals(known)):
        return _places(foreign.names, known, where), "by the names in the file"
    if foreign.names is None and [alike(name) for name in known] == plain:
        return np.arange(len(known)), "its numbers are the names of the classes"
    raise UserError(
        f"{where}: its classes are numbers, and nothing says which is which; give --classes-as dataset if "
        f"they count {brief(known)} in this order, or --classes-as with the names of 0, 1, ... and commas "
        "between"
    )


def _numerals(names: Sequence[str]) -> bool:
    return all(name.strip().isdecimal() for name in names)


def _listed(text: str) -> list[str]:
    path = Path(text)
    if "," not in text and path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return [name.strip() for name in text.split(",")]


def _places(names: Sequence[str], known: Sequence[str], where: str) -> np.ndarray:
    """For each of `names` its number among `known`. Raises UserError for one that is none of them."""
    try:
        places = in_order_of(of_names(names, np.arange(len(names)), where), known, "the data set").places
        twice = [names[index] for index in range(len(names)) if places[index] in places[:index]]
        if twice:
            raise UserError(f"{where}: '{twice[0]}' and another name are one class of the data set")
        return places
    except UserError as error:
        if where.startswith("--"):
            raise
        raise UserError(
            f"{error}; --classes-as names the classes of the file in their order ({brief(list(names))}) as "
            "the data set does"
        ) from None


def arranged(
    images: np.ndarray, given: Labelled, order: np.ndarray, classes: int, known: Sequence[str], where: str
) -> tuple[np.ndarray, Labelled]:
    """Images and labels class by class in the numbering of the data set; `order` as of `class_order`.

    Raises UserError unless there are as many images of every class.
    """
    labels = order[given.labels]
    counts = np.bincount(labels, minlength=classes)
    if counts.min() != counts.max():
        few, many = int(counts.argmin()), int(counts.argmax())
        raise UserError(
            f"{where}: has {counts[few]} images of '{known[few]}' and {counts[many]} of '{known[many]}'; "
            "a set is judged with as many images of every class, since random images beside it are: keep "
            + (f"{counts[few]} of each and save it anew" if counts[few] else "some of every class")
        )
    rows = np.argsort(labels, kind="stable")
    soft = given.soft
    if soft is not None:
        moved = np.empty_like(soft)
        moved[:, order] = soft
        soft = moved[rows]
    return images[rows], Labelled(labels[rows], soft, given.soft_kind)
