"""The job that puts sets of some classes each together to one of all classes, as they come one after the
other in continual learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from condense.config import UserError
from condense.files import check_prepared, joined, read_dataset_header, read_facts, read_set
from condense.files.artifacts import write_json, write_tensors
from condense.files.carried import OF_IMAGE
from condense.files.headers import SOFT_LABELS
from condense.jobs.facts import cost_facts, joined_facts
from condense.jobs.making import draw_set
from condense.machine.drafts import require_place

# Entries of the header in which the sets of the steps agree
_SAME = ("method", "arch", "options", "seed", "recipe", "steps", "mean", "std", "ipc", "decode", "stored")
_OWN = ("class_names", "classes", "data_sha256", "dataset", "parents", "content_sha256", "schema")


class _Step(NamedTuple):
    """The set of a step as it was read, and the numbers that its classes have in the whole dataset."""

    tensors: dict[str, np.ndarray]
    header: dict[str, Any]
    path: Path
    classes: list[int]


def assemble(out: Path, sets: Sequence[Path], of: Sequence[Path], data: Path, key: str) -> None:
    """Writes the set `out` of all classes of the prepared images `data` from `sets` of some classes each, in
    the order in which they come, with `run.json` and `grid.png` beside it.

    `of`: for each set the folder of the classes that it was made from, which says what of `data` they are.
    The header says by `class_steps` which classes came together. Raises UserError for a set made from other
    images, for sets that do not belong together, and unless they hold every class once.
    """
    if len(sets) != len(of):
        raise UserError(f"--of: one folder for each of the {len(sets)} sets is needed, found {len(of)}")
    for name in ("run.json", "grid.png"):
        require_place(out.with_name(name))
    require_place(out)
    whole = read_dataset_header(data)
    steps = [_read(path, folder, data) for path, folder in zip(sets, of, strict=True)]
    first = steps[0]
    if SOFT_LABELS in first.tensors:
        raise UserError(
            f"{first.path}: has soft labels over the classes of its step, which no network of all classes "
            "can be trained with; leave them out of the recipe"
        )
    for step in steps:
        differing = [name for name in _SAME if step.header.get(name) != first.header.get(name)]
        if differing:
            raise UserError(f"{step.path}: does not fit {first.path}: they differ in their {differing[0]}")
    held = [label for step in steps for label in step.classes]
    if sorted(held) != list(range(len(whole.class_names))):
        raise UserError(
            f"{out}: the sets hold the classes {held} instead of each of {len(whole.class_names)} once"
        )
    header = {name: value for name, value in first.header.items() if name not in _OWN}
    header |= {"kind": "synthetic", "key": key, "dataset": whole.dataset, "data_sha256": whole.data_sha256}
    header |= {"class_names": whole.class_names, "classes": sorted(held)}
    header |= {"class_steps": [step.classes for step in steps]}
    labels = np.concatenate([np.asarray(step.classes)[step.tensors["labels"]] for step in steps])
    order, stored = np.argsort(labels, kind="stable"), first.header.get("stored", "float32")
    images = np.concatenate([step.tensors["images"] for step in steps])[order]
    # They were read as float32, whatever the sets of the steps store
    tensors = {"images": images.astype(stored), "labels": labels[order].astype(np.int64)}
    for name, values in joined(out, [step[:3] for step in steps]).items():
        of_image = header["carries"][name] == OF_IMAGE
        tensors[name] = values[order] if of_image else values
        if of_image and values.dtype == np.float32:
            tensors[name] = tensors[name].astype(stored)
    facts = [path.with_name("run.json") for path in sets]
    write_json(
        out.with_name("run.json"), joined_facts([cost_facts(read_facts(path), path) for path in facts])
    )
    draw_set(out.with_name("grid.png"), tensors, whole.class_names, data)
    write_tensors(out, tensors, header)


def _read(path: Path, folder: Path, data: Path) -> _Step:
    """A set with the classes it is of. Raises UserError unless it was made from those in `folder`, and these
    are of `data`."""
    tensors, header = read_set(path)
    known, whole = check_prepared(folder), read_dataset_header(data)
    if header["data_sha256"] != known.splits.train.data_sha256:
        raise UserError(f"{path}: was made from other images than those in {folder}")
    if known.source.get("train") != whole.data_sha256:
        raise UserError(f"{folder}: holds no classes of the images in {data}")
    # By name: a class keeps its name, whatever its number
    return _Step(tensors, header, path, [whole.class_names.index(name) for name in known.class_names])
