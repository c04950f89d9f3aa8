"""The job that makes a synthetic set of its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from condense.config import UserError
from condense.files import joined, read_facts, read_shard
from condense.files.artifacts import append_line, whole, write_json, write_tensors
from condense.files.carried import ENTRIES, OF_IMAGE
from condense.jobs.condensing import run_facts_path
from condense.jobs.facts import cost_facts, joined_facts
from condense.machine.drafts import require_place

# Entries of the header in which the shards of a set agree
_SAME = (
    *("method", "arch", "options", "seed", "recipe", "parents", "steps"),
    *("class_names", "mean", "std", "ipc", "data_sha256", "decode", "snapshot_steps", *ENTRIES),
)
_AS_FLOAT32 = "write `stored: float32` in the scale"


class _Shard(NamedTuple):
    """A shard as it was read."""

    tensors: dict[str, np.ndarray]
    header: dict[str, Any]
    path: Path


def gather(out: Path, shards: list[Path], data: Path, stored: str = "float32") -> None:
    """Joins the shards of one set into `out`, with `run.json`, `history.jsonl` and `grid.png` beside it.

    `stored` is the type of the pixels in the file, and of what else belongs to each image: 'float32' or
    'float16', which takes half the room and rounds by 0.05 % at most. Snapshots are always stored as float16:
    they only serve curves, and take several times the room of the set.
    Raises UserError if the shards do not belong together or do not hold every image once, or if values are
    too large for the type.
    """
    folder = out.parent
    for name in ("run.json", "history.jsonl", "grid.png", "snapshots.safetensors"):
        require_place(folder / name)
    require_place(out)
    loaded = _fitting(shards)
    first = loaded[0].header
    order = _order(out, [shard.header for shard in loaded])
    left_out = ("history", "snapshot_steps", "content_sha256", "schema", "images")
    header = {name: value for name, value in first.items() if name not in left_out}
    header |= {"kind": "synthetic", "classes": [*range(len(first["class_names"]))]}
    header |= {"stored": stored} if stored != "float32" else {}
    tensors = {
        name: np.concatenate([shard.tensors[name] for shard in loaded])[order]
        for name in ("images", "labels")
    }
    tensors["images"] = _rounded(tensors["images"], stored, out, "its pixels")
    for name, values in joined(out, [*loaded]).items():
        of_image = header["carries"][name] == OF_IMAGE
        tensors[name] = values[order] if of_image else values
        if of_image and values.dtype == np.float32:
            tensors[name] = _rounded(tensors[name], stored, out, f"the values of its '{name}'")
    _write_history(folder / "history.jsonl", [shard.header["history"] for shard in loaded])
    write_json(
        folder / "run.json",
        joined_facts([cost_facts(read_facts(path), path) for path in map(run_facts_path, shards)]),
    )
    draw_set(folder / "grid.png", tensors, header["class_names"], data)
    if "snapshot_steps" in first:
        snapshots = np.concatenate([shard.tensors["snapshots"] for shard in loaded], 1)[:, order]
        snapshots = _rounded(
            snapshots, "float16", out, "the pixels of its snapshots", "leave `snapshots` out of the recipe"
        )
        about = {name: value for name, value in header.items() if name not in ENTRIES}
        about |= {"kind": "snapshots", "snapshot_steps": first["snapshot_steps"], "stored": "float16"}
        write_tensors(
            folder / "snapshots.safetensors", {"images": snapshots, "labels": tensors["labels"]}, about
        )
    write_tensors(out, tensors, header)


def _fitting(paths: list[Path]) -> list[_Shard]:
    """The shards in the order of their classes and images. Raises UserError if they are not of one set."""
    shards = sorted(
        (_Shard(*read_shard(path), path) for path in paths),
        key=lambda shard: (shard.header["classes"][0], shard.header.get("images", [0])[0]),
    )
    first = shards[0]
    for tensors, header, path in shards:
        if header["key"] != first.header["key"]:
            raise UserError(f"{path}: belongs to the set {header['key']}, not to {first.header['key']}")
        differing = [name for name in _SAME if header.get(name) != first.header.get(name)]
        if (
            differing
            or tensors["images"].shape[1:] != first.tensors["images"].shape[1:]
            or not _one_history(header, first.header)
        ):
            raise UserError(
                f"{path}: does not fit {first.path}: they differ in their "
                f"{(differing or ['images or history'])[0]}"
            )
    return shards


def _order(out: Path, headers: list[dict[str, Any]]) -> np.ndarray:
    """Where the images of the set lie in those of its shards, one after the other: class by class, in each by
    their numbers.

    Raises UserError unless each is there once.
    """
    ipc, total = headers[0]["ipc"], len(headers[0]["class_names"])
    numbers = [
        range(header["images"][0], header["images"][1] + 1) if "images" in header else range(ipc)
        for header in headers
    ]
    pairs = [
        (label, number)
        for header, span in zip(headers, numbers, strict=True)
        for label in header["classes"]
        for number in span
    ]
    if sorted(pairs) == [(label, number) for label in range(total) for number in range(ipc)]:
        return np.asarray(sorted(range(len(pairs)), key=pairs.__getitem__))
    classes = [label for header in headers for label in header["classes"]]
    if len(pairs) == ipc * len(classes) and all("images" not in header for header in headers):
        raise UserError(f"{out}: the shards hold the classes {classes} instead of each of {total} once")
    held = ", ".join(f"{span.start}-{span.stop - 1}" for span in numbers)
    raise UserError(
        f"{out}: the shards hold the images {held} of their classes instead of each of {ipc} of each of "
        f"{total} classes once"
    )


def _rounded(
    values: np.ndarray, stored: str, out: Path, content: str, otherwise: str = _AS_FLOAT32
) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = values.astype(stored)
    if not np.isfinite(rounded).all():
        raise UserError(
            f"{out}: {content} reach {np.abs(values).max():.3g}, too large for {stored}; {otherwise}"
        )
    return rounded


def _one_history(header: dict[str, Any], first: dict[str, Any]) -> bool:
    """Whether two shards tell of the same steps and terms."""
    return [(row["step"], *row) for row in header["history"]] == [
        (row["step"], *row) for row in first["history"]
    ]


def _write_history(path: Path, histories: list[list[dict[str, float]]]) -> None:
    """The loss terms of all shards added up, step by step."""
    with whole(path) as draft:
        draft.touch()
        for rows in zip(*histories, strict=True):
            append_line(
                draft,
                {
                    name: rows[0][name] if name == "step" else sum(row[name] for row in rows)
                    for name in rows[0]
                },
            )


def draw_set(path: Path, tensors: dict[str, np.ndarray], names: list[str], data: Path) -> None:
    """Draws images of a set below real ones of their classes, from the prepared images `data`."""
    from condense.report.grids import MOST_IMAGES, draw_grid
    from condense.report.samples import first_of_each_class

    real, labels = first_of_each_class(data, MOST_IMAGES)
    draw_grid(path, tensors["images"].astype(np.float32), tensors["labels"], real, labels, names)
