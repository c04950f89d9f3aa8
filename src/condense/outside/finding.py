"""Which of the arrays of a file are the images of a set and which its labels: by their names, or by the
pair that DC's family saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from condense.config import UserError
from condense.outside.foreign import IMAGES, LABELS, Foreign, shape_of

_PAIR = ("the first", "the second")


def found(path: Path, form: str, held: Any, tensors: tuple[str, str] | None, number: int | None) -> Foreign:
    """The set among what a file holds: containers of arrays.

    `tensors`: the names of images and labels, where they have no usual ones; `number`: which set, where
    there are several. Raises UserError, telling what the file holds, if no set or more than one may be
    meant.
    """
    sets = list(_sets(held, tensors))
    if not sets:
        named = f"has no '{tensors[0]}'" if tensors else "holds no images by a usual name"
        raise UserError(
            f"{path}: {named}; it holds {_told(held)}. Name images and labels with --tensors IMAGES,LABELS"
        )
    if number is not None and number >= len(sets):
        raise UserError(f"--number {number}: {path} holds {len(sets)} set(s), numbered from 0")
    if number is None and len(sets) > 1:
        raise UserError(
            f"{path}: holds {len(sets)} sets, as a results file of several runs; choose one with --number 0 "
            f"to {len(sets) - 1}"
        )
    images, labels, called = sets[number or 0]
    names = held.get("class_names") if isinstance(held, Mapping) else None
    return Foreign(images, labels, form, called, _names(names))


def _names(value: Any) -> list[str] | None:
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "U":
        return [str(name) for name in value]
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return value
    return None


_Found = tuple[np.ndarray, np.ndarray | None, tuple[str, str]]


def _sets(held: Any, tensors: tuple[str, str] | None) -> Iterator[_Found]:
    """Every set that `held` may be meant for, in its order."""
    if isinstance(held, np.ndarray):
        if held.ndim >= 3 and tensors is None:
            yield held, None, ("the tensor", "")
    elif isinstance(held, Mapping):
        yield from _named(held, tensors)
    elif isinstance(held, list) and tensors is None:
        pair = _pair(held)
        if pair is not None:
            yield pair
        else:
            for entry in held:
                if isinstance(entry, (list, Mapping)):
                    yield from _sets(entry, None)


def _pair(held: list[Any]) -> _Found | None:
    """[images, labels], with whatever else behind them."""
    arrays = [entry for entry in held[:2] if isinstance(entry, np.ndarray)]
    if len(arrays) < 2 or arrays[0].ndim < 3 or arrays[1].ndim > 2:
        return None
    return arrays[0], arrays[1], _PAIR


def _named(held: Mapping[str, Any], tensors: tuple[str, str] | None) -> Iterator[_Found]:
    if tensors is not None:
        images, labels = (held.get(name) for name in tensors)
        if isinstance(images, np.ndarray):
            yield images, _labels(labels), (tensors[0], tensors[1] if labels is not None else "")
        return
    by_name = {name.lower(): name for name in held}
    image_name = next(
        (
            by_name[name]
            for name in IMAGES
            if name in by_name
            and isinstance(held[by_name[name]], np.ndarray)
            and held[by_name[name]].ndim >= 2
        ),
        None,
    )
    if image_name is None:
        for name in ("data", "images", "sets"):  # results of DC's family: data: [[images, labels], ...]
            if isinstance(held.get(name), (list, Mapping)):
                yield from _sets(held[name], None)
                return
        return
    label_name = next(
        (by_name[name] for name in LABELS if name in by_name and by_name[name] != image_name), None
    )
    labels = None if label_name is None else _labels(held[label_name])
    yield held[image_name], labels, (image_name, label_name or "")


def _labels(value: Any) -> np.ndarray | None:
    if isinstance(value, list) and value and all(type(entry) is int for entry in value):
        return np.asarray(value, np.int64)
    return value if isinstance(value, np.ndarray) else None


def _told(held: Any) -> str:
    """What a file holds, in a few words."""
    if isinstance(held, np.ndarray):
        return shape_of(held)
    if isinstance(held, Mapping):
        parts = [f"'{name[:40]}' ({_kind(value)})" for name, value in list(held.items())[:8]]
        return ", ".join(parts) + (", ..." if len(held) > 8 else "") or "nothing"
    if isinstance(held, list):
        return f"a list of {', '.join(_kind(value) for value in held[:4])}" + (
            ", ..." if len(held) > 4 else ""
        )
    return _kind(held)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return shape_of(value)
    return (
        f"{type(value).__name__} of {len(value)}"
        if isinstance(value, (list, Mapping))
        else type(value).__name__
    )
