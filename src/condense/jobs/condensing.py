"""The job that condenses (or selects) the classes of a shard, of one set or of several that share the real side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condense.artifacts import digest, write_json, write_tensors
from condense.checkpoints import Checkpoint
from condense.config import UserError
from condense.jobs.machine import Machine, at_work
from condense.specs import Recipe


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
    bank: Path | None = None  # of the recipe's queue of networks

    def where(self) -> dict[str, Any]:
        """What sets have to agree in to be condensed in one pass, beside their recipes' networks, batches and augmentation."""
        return {name: getattr(self, name) for name in ("data", "arch", "options", "seed", "classes", "bank")}


def condense_shard(out: Path, job: ShardJob, machine: Machine) -> None:
    """Condenses (or selects) the classes of a shard and writes them to `out`, with `run.json` facts beside it.

    Raises UserError if the recipe makes no set, or if it uses a teacher and none is given.
    """
    condense_shards({out: job}, machine)


def condense_shards(shards: Mapping[Path, ShardJob], machine: Machine) -> None:
    """As `condense_shard`, for one or several shards by output; several are matched to the same real side, computed once.

    Each ends as it would alone. Raises UserError also if they cannot share: other data, classes, network, seed, batches or augmentation.
    """
    from condense import kernels
    from condense.data.dataset import load

    first = next(iter(shards.values()))
    for job in shards.values():
        _check(job, first)
    with at_work(machine, *shards, beside=run_facts_path) as (device, clock):
        images = load(first.data)
        for label in first.classes or ():
            images.class_slice(label)  # raises for a class that is not there
        classes = tuple(first.classes or images.classes)
        checkpoints = {out: _checkpoint(out, job, classes, images.data_sha256, device) for out, job in shards.items()}
        outcomes, precision = _outcomes(shards, images, classes, checkpoints, device)
        facts = clock.facts(shared_by=len(shards)) | {"precision": precision, "kernels": kernels.done_by(device)}
        for out, job in shards.items():
            # Before the shard: whoever finds a shard finds what it cost.
            write_json(run_facts_path(out), facts | {"graphs": outcomes[out].recorded})
            _write_shard(out, job, images, classes, outcomes[out])
        for checkpoint in checkpoints.values():
            checkpoint.remove()


def _check(job: ShardJob, first: ShardJob) -> None:
    if job.recipe.engine == "whole":
        raise UserError(f"{job.recipe.name}: stands for the whole training set, which is evaluated but not condensed")
    if job.recipe.teacher and job.teacher is None:
        making = "make one first (`condense teach --help` says how) and give it as --teacher"
        raise UserError(f"{job.recipe.name}: uses a pretrained classifier; {making}")
    if job.recipe.engine == "select" and job.bank is not None:
        raise UserError(f"{job.recipe.name}: a selection takes no bank of networks: leave out --bank")
    if job is first:
        return
    if "select" in (job.recipe.engine, first.recipe.engine):
        raise UserError(f"{job.recipe.name}: a selection is not matched to real images, so it shares nothing with others: make it alone")
    differing = [name for name, value in job.where().items() if first.where()[name] != value]
    if differing:
        raise UserError(f"{job.recipe.name}: sets condensed in one pass agree in {', '.join(first.where())}; {differing[0]} differs")


def _checkpoint(out: Path, job: ShardJob, classes: tuple[int, ...], data_sha256: str, device: Any) -> Checkpoint:
    from condense import kernels

    # Not the key alone: jobs that are called by hand may all have the same.
    settings = [asdict(job.recipe), job.arch, job.options, job.ipc, job.seed, classes, data_sha256]
    return Checkpoint.beside(out, f"{job.key}-{digest(settings)}", kernels.used_on(device))


def _outcomes(
    shards: Mapping[Path, ShardJob], images: Any, classes: tuple[int, ...], checkpoints: Mapping[Path, Checkpoint], device: Any
) -> tuple[dict[Path, Any], dict[str, str]]:
    """What was made, by output, and in which precision."""
    from condense.engines.matching import Matching, run_together
    from condense.engines.selection import choose
    from condense.engines.streams import RealStream
    from condense.graphs import recorder_for
    from condense.teachers.pretrain import load_teacher

    out, first = next(iter(shards.items()))
    if first.recipe.engine == "select":
        teacher = load_teacher(first.teacher, images, device) if first.teacher else None
        return {out: choose(first.recipe, images, classes, ipc=first.ipc, seed=first.seed, teacher=teacher, device=device)}, {}
    names = {"arch": first.arch, "options": first.options, "seed": first.seed, "bank": first.bank}
    stream = RealStream(first.recipe, images, classes, **names, device=device, recorder=recorder_for(device))
    sets, critics = [], {}
    for out, job in shards.items():
        if not stream.serves(job.recipe):
            raise UserError(f"{job.recipe.name}: its networks, batches, augmentation or precision are not those of {first.recipe.name}")
        asked = (job.teacher, job.recipe.requires)
        if asked not in critics:  # one copy of each, however many sets it judges
            critics[asked] = _critic(*asked, images, device)
        sets.append(Matching(job.recipe, stream, ipc=job.ipc, critic=critics[asked], checkpoint=checkpoints[out]))
    return dict(zip(shards, run_together(sets), strict=True)), stream.precision


def _critic(teacher: Path | None, requires: str | None, images: Any, device: Any) -> Any:
    from condense.teachers.clip import clip_critic
    from condense.teachers.pretrain import load_teacher

    if requires == "clip":
        return clip_critic(images, device)
    return load_teacher(teacher, images, device)[0] if teacher else None


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
        "decode": asdict(job.recipe.decode) if job.recipe.decode else None,
        "recipe": asdict(job.recipe),
        "data_sha256": images.data_sha256,
        "steps": job.recipe.steps if job.recipe.engine == "matching" else 0,
        "history": outcome.history,
    }
    if outcome.snapshots:
        header["snapshot_steps"] = sorted(outcome.snapshots)
        tensors["snapshots"] = np.stack([pixels(outcome.snapshots[step]) for step in header["snapshot_steps"]])
    write_tensors(out, tensors, header)
