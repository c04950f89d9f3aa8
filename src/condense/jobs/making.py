"""Jobs that make things: a teacher, a shard of a synthetic set, the set from its shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condense import locks, runtime
from condense.artifacts import (
    append_line,
    digest,
    read_json,
    read_tensors,
    require_place,
    whole,
    write_json,
    write_tensors,
)
from condense.checkpoints import Checkpoint
from condense.config import UserError
from condense.jobs.facts import cost_facts, joined_facts
from condense.jobs.machine import Machine
from condense.specs import Protocol, Recipe


def pretrain_teacher(
    out: Path,
    data: Path,
    protocol: Protocol,
    *,
    arch: str,
    options: dict[str, Any],
    strategy: str,
    seed: int,
    key: str,
    machine: Machine,
) -> None:
    """One teacher: trained on the training images in `data`, written to `out`."""
    from condense.data.dataset import load
    from condense.teachers.pretrain import pretrain

    require_place(out)
    threads = runtime.set_threads(machine.threads)
    with locks.only_maker(out), runtime.device(machine.device) as device:
        clock = runtime.Clock(device, threads)
        settings = {"arch": arch, "options": options, "strategy": strategy, "seed": seed, "key": key, "device": device}
        pretrain(out, load(data), protocol, **settings, trained=lambda: write_json(out.with_name("run.json"), clock.facts()))


@dataclass(frozen=True)
class ShardJob:
    """Some classes of one synthetic set. `recipe` is resolved; `key` is that of the set."""

    recipe: Recipe
    data: Path
    arch: str
    options: dict[str, Any]
    ipc: int
    seed: int
    key: str
    classes: Sequence[int] | None = None  # None: all
    teacher: Path | None = None


def condense_shard(out: Path, job: ShardJob, machine: Machine) -> None:
    """Condenses (or selects) the classes of a shard and writes them to `out`, with `run.json` facts beside it.

    Raises UserError if the recipe makes no set, or if it uses a teacher and none is given.
    """
    from condense.data.dataset import load
    from condense.teachers.pretrain import load_teacher

    if job.recipe.engine == "whole":
        raise UserError(f"{job.recipe.name}: stands for the whole training set, which is evaluated but not condensed")
    if job.recipe.teacher and job.teacher is None:
        raise UserError(f"{job.recipe.name}: uses a pretrained classifier; make one with `condense teach` and give it as --teacher")
    require_place(out)
    threads = runtime.set_threads(machine.threads)
    with locks.only_maker(out), runtime.device(machine.device) as device:
        clock = runtime.Clock(device, threads)
        images = load(job.data)
        for label in job.classes or ():
            images.class_slice(label)  # raises for a class that is not there
        classes = tuple(job.classes or images.classes)
        teacher = load_teacher(job.teacher, images, device) if job.teacher else None
        # Not the key alone: jobs that are called by hand may all have the same.
        settings = [asdict(job.recipe), job.arch, job.options, job.ipc, job.seed, classes, images.data_sha256]
        checkpoint = Checkpoint.beside(out, f"{job.key}-{digest(settings)}")
        outcome = _outcome(job, images, classes, teacher, checkpoint, device)
        _write_shard(out, job, images, classes, outcome)
        write_json(run_facts_path(out), clock.facts())
        checkpoint.remove()


def _outcome(job: ShardJob, images: Any, classes: tuple[int, ...], teacher: Any, checkpoint: Checkpoint, device: Any) -> Any:
    if job.recipe.engine == "select":
        from condense.engines.selection import choose

        return choose(job.recipe, images, classes, ipc=job.ipc, seed=job.seed, teacher=teacher, device=device)
    from condense.engines.matching import Matching

    critic = teacher[0] if teacher else None
    if job.recipe.requires == "clip":
        from condense.teachers.clip import clip_critic

        critic = clip_critic(images, device)
    names = {"arch": job.arch, "options": job.options, "ipc": job.ipc, "seed": job.seed}
    return Matching(job.recipe, images, classes, **names, device=device, critic=critic, checkpoint=checkpoint).run()


def run_facts_path(out: Path) -> Path:
    """Where the cost of making `out` is written."""
    return out.with_name(f"{out.stem}.run.json")


def _write_shard(out: Path, job: ShardJob, images: Any, classes: tuple[int, ...], outcome: Any) -> None:
    def pixels(values: Any) -> np.ndarray:
        return images.denormalise(values).flatten(0, 1).float().cpu().numpy()

    labels = np.repeat(np.asarray(classes, dtype=np.int64), job.ipc)
    tensors = {"images": pixels(outcome.images), "labels": labels}
    header = {
        "kind": "shard",
        "dataset": images.dataset,
        "method": job.recipe.name,
        "ipc": job.ipc,
        "arch": job.arch,
        "options": job.options,
        "seed": job.seed,
        "key": job.key,
        "classes": list(classes),
        "class_names": list(images.class_names),
        "mean": list(images.mean),
        "std": list(images.std),
        "decode": None,
        "recipe": asdict(job.recipe),
        "data_sha256": images.data_sha256,
        "steps": job.recipe.steps if job.recipe.engine == "matching" else 0,
        "history": outcome.history,
    }
    if outcome.snapshots:
        header["snapshot_steps"] = sorted(outcome.snapshots)
        tensors["snapshots"] = np.stack([pixels(outcome.snapshots[step]) for step in header["snapshot_steps"]])
    write_tensors(out, tensors, header)


def gather(out: Path, shards: list[Path], data: Path) -> None:
    """Joins the shards of one set into `out`, with `run.json`, `history.jsonl` and `grid.png` beside it.

    Raises UserError if the shards do not belong together or do not hold every class once.
    """
    found = sorted(((*read_tensors(path, "shard"), path) for path in shards), key=lambda part: part[1]["classes"][0])
    parts = [(tensors, header) for tensors, header, _ in found]
    first = parts[0][1]
    for _, header, path in found:
        if header["key"] != first["key"]:
            raise UserError(f"{path}: belongs to the set {header['key']}, not to {first['key']}")
    classes = [label for _, header in parts for label in header["classes"]]
    if classes != list(range(len(first["class_names"]))):
        raise UserError(f"{out}: the shards hold the classes {classes} instead of each of {len(first['class_names'])} once")
    header = {name: value for name, value in first.items() if name not in ("history", "snapshot_steps", "content_sha256", "schema")}
    header |= {"kind": "synthetic", "classes": classes}
    tensors = {name: np.concatenate([part[0][name] for part in parts]) for name in ("images", "labels")}
    folder = out.parent
    _write_history(folder / "history.jsonl", [header["history"] for _, header in parts])
    write_json(folder / "run.json", joined_facts([cost_facts(read_json(found), found) for found in map(run_facts_path, shards)]))
    _draw(folder / "grid.png", tensors, header["class_names"], data)
    if "snapshot_steps" in first:
        joined = {"images": np.concatenate([part[0]["snapshots"] for part in parts], 1), "labels": tensors["labels"]}
        write_tensors(folder / "snapshots.safetensors", joined, {**header, "kind": "snapshots", "snapshot_steps": first["snapshot_steps"]})
    write_tensors(out, tensors, header)


def _write_history(path: Path, histories: list[list[dict[str, float]]]) -> None:
    """The loss terms of all shards added up, step by step."""
    with whole(path) as draft:
        draft.touch()
        for rows in zip(*histories, strict=True):
            append_line(draft, {name: rows[0][name] if name == "step" else sum(row[name] for row in rows) for name in rows[0]})


def _draw(path: Path, tensors: dict[str, np.ndarray], names: list[str], data: Path) -> None:
    from condense.report.grids import draw_grid
    from condense.report.samples import first_of_each_class

    real, labels = first_of_each_class(data, 10)
    draw_grid(path, tensors["images"], tensors["labels"], real, labels, names)
