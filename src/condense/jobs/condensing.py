"""The job that condenses (or selects) the classes of a shard, of one set or of several that share the real
side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from condense.config import UserError, unknown
from condense.files import carrying
from condense.files.artifacts import digest, read_header, write_json, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.jobs.machine import Machine, at_work
from condense.machine.terminal import tell
from condense.plan import PARENTS
from condense.specs import Recipe
from condense.specs.parent import others


@dataclass(frozen=True)
class ShardJob:
    """Some classes, or some images of each class, of one synthetic set. `recipe` is resolved; `key` is that
    of the set."""

    recipe: Recipe
    data: Path
    arch: str
    options: dict[str, Any]
    ipc: int
    seed: int
    key: str
    classes: Sequence[int] | None = None  # None: all
    images: range | None = None  # of the `ipc` of each class; None: all
    # What was made beforehand, by the names that the recipe gives it
    parents: Mapping[str, Path] = field(default_factory=dict)

    @property
    def made(self) -> range:
        """Which of the images of each class are made."""
        return range(self.ipc) if self.images is None else self.images

    def where(self) -> dict[str, Any]:
        """Sets that are condensed in one pass agree in this, and in what their recipes say of the real
        side."""
        return {
            name: getattr(self, name) for name in ("data", "arch", "options", "seed", "classes", "images")
        }


def condense_shard(out: Path, job: ShardJob, machine: Machine) -> None:
    """Condenses (or selects) the classes of a shard and writes them to `out`, with `run.json` facts beside
    it.

    Raises UserError if the recipe makes no set, or if something is given that it has no use for.
    """
    condense_shards({out: job}, machine)


def condense_shards(shards: Mapping[Path, ShardJob], machine: Machine) -> None:
    """As `condense_shard`, for one or several shards by output; several are matched to the same real side,
    computed once.

    Each ends as it would alone. Raises UserError also if they cannot share: other data, classes, network,
    seed, batches or augmentation.
    """
    from condense import kernels
    from condense.data.dataset import load
    from condense.engines import engine
    from condense.engines.orders import Site

    first = next(iter(shards.values()))
    for job in shards.values():
        check_shard(job, first)
    headers = {
        out: {name: read_header(path) for name, path in job.parents.items()} for out, job in shards.items()
    }
    for line in dict.fromkeys(
        line for out, job in shards.items() for line in _other_parents(job, headers[out])
    ):
        tell(line)
    shards = {out: _with_its_network(job, headers[out]) for out, job in shards.items()}
    first = next(iter(shards.values()))
    with at_work(machine, *shards, beside=run_facts_path) as (device, clock):
        images = load(first.data)
        for label in first.classes or ():  # before a set of billions of them is made
            images.class_slice(label)  # raises for a class that is not there
        for job in shards.values():
            _check_share(job, images)
        classes = tuple(first.classes or images.classes)
        parents = {out: _deciding(job, headers[out]) for out, job in shards.items()}
        checkpoints = {
            out: _checkpoint(out, job, classes, [images.data_sha256, *parents[out].items()], device)
            for out, job in shards.items()
        }
        site = Site(images, classes, first.arch, first.options, first.seed, device)
        orders = [_order(job, checkpoints[out]) for out, job in shards.items()]
        made = engine(first.recipe.engine)(site, orders)
        if len(made) != len(orders):
            raise ValueError(f"engine '{first.recipe.engine}': {len(made)} outcomes of {len(orders)} orders")
        for outcome, order in zip(made, orders, strict=True):
            outcome.check(site, order)
        outcomes = dict(zip(shards, made, strict=True))
        facts = clock.facts(shared_by=len(shards)) | {"kernels": kernels.done_by(device)}
        for out, job in shards.items():
            # Before the shard: whoever finds a shard finds what it cost.
            write_json(
                run_facts_path(out),
                facts | {"precision": outcomes[out].precision, "graphs": outcomes[out].recorded},
            )
            _write_shard(out, job, images, classes, outcomes[out], parents[out])
        for checkpoint in checkpoints.values():
            checkpoint.remove()


def check_shard(job: ShardJob, first: ShardJob) -> None:
    """Raises UserError for a recipe that makes no set, for what it needs beforehand and is not given, and for
    a job that cannot share the real side with the `first` one."""
    recipe = job.recipe
    if not recipe.makes_set:
        raise UserError(
            f"{recipe.name}: stands for the whole training set, which is evaluated but not condensed"
        )
    for name, parent in recipe.parents().items():
        if parent.needed and name not in job.parents:
            raise UserError(
                f"{recipe.name}: uses {parent.what}; make it first ({parent.making}) and give it as --with "
                f"{name}=FILE"
            )
    for name in job.parents:
        if name not in recipe.parents():
            raise unknown("name", name, recipe.parents(), f"{recipe.name}: --with")
    if job is first:
        return
    if recipe.stream is None or first.recipe.stream is None:
        alone = recipe if recipe.stream is None else first.recipe
        raise UserError(f"{alone.name}: shares no real side with other sets: make it alone")
    differing = [name for name, value in job.where().items() if first.where()[name] != value]
    common = [name for name in recipe.parents() if name in first.recipe.parents()]
    differing += [name for name in common if job.parents.get(name) != first.parents.get(name)]
    if differing:
        agreeing = ", ".join([*job.where(), *common])
        raise UserError(
            f"{recipe.name}: sets condensed in one pass agree in {agreeing}; {differing[0]} differs"
        )


def _other_parents(job: ShardJob, headers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each parent that says it was trained by another protocol, or is of another architecture,
    than the recipe asks for."""
    for name, need in job.recipe.parents().items():
        for line in others("the recipe", need, job.parents[name], headers[name]) if name in headers else ():
            yield f"{job.recipe.name}: {line}; the set says which file it was"


def _with_its_network(job: ShardJob, headers: Mapping[str, Mapping[str, Any]]) -> ShardJob:
    """`job` with the network that makes its set: for a selection that of its classifier, if it has one."""
    given = {name: SimpleNamespace(arch=header.get("arch", job.arch)) for name, header in headers.items()}
    arch = job.recipe.arch_with(job.arch, given)
    if arch == job.arch:
        return job
    tell(f"{job.recipe.name}: --arch {job.arch} is not used: {_chosen_by(arch)}")
    options: dict[str, Any] = next(
        (header["options"] for header in headers.values() if header.get("arch") == arch), {}
    )
    return replace(job, arch=arch, options=options)


def _chosen_by(arch: str) -> str:
    return "no network chooses the images" if arch == "none" else f"the images are chosen by a {arch}"


def _deciding(job: ShardJob, headers: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key and checksum of what was made beforehand and decides the images, by the recipe's names. The header
    holds the checksums of all that belongs to it."""
    needs = job.recipe.parents()
    return {
        name: {"key": header.get("key"), "sha256": digest(header, 64)}
        for name, header in headers.items()
        if PARENTS[needs[name].made_as].decides
    }


def _check_share(job: ShardJob, data: Any) -> None:
    """Raises UserError for some of the classes, or of the images of each, that would come out otherwise
    than in the whole set."""
    from condense import models
    from condense.training.counting import ties_batch

    some_classes = job.classes is not None and set(job.classes) != set(data.classes)
    if job.images is None and not some_classes:
        return
    shape = {"channels": data.channels, "size": data.size, "classes": len(data.class_names)}
    tied = job.arch != "none" and ties_batch(models.build(job.arch, **shape, **job.options))
    splits = job.recipe.splits_by(tied)
    if some_classes and splits is None:
        raise UserError(
            f"{job.recipe.name}: its classes depend on each other, so all are made together; leave --classes "
            "out"
        )
    if job.images is None:
        return
    if splits != "images":
        raise UserError(f"{job.recipe.name}: the images of a class are made together; leave --images out")
    if job.images.stop > job.ipc:
        raise UserError(
            f"{job.recipe.name}: --images: at ipc {job.ipc} they go from 0 to {job.ipc - 1}, found "
            f"{job.images.stop - 1}"
        )


def _order(job: ShardJob, checkpoint: Checkpoint) -> Any:
    from condense.engines.orders import Order

    # An ipc that makes no sense goes to the engine as it is, which refuses it.
    ipc, first = (job.ipc, 0) if job.images is None else (len(job.images), job.images.start)
    return Order(job.recipe, ipc, job.parents, checkpoint, first)


def _checkpoint(
    out: Path, job: ShardJob, classes: tuple[int, ...], made_from: Sequence[Any], device: Any
) -> Checkpoint:
    from condense import kernels

    # Not the key alone: jobs that are called by hand may all have the same. What only describes a recipe, or
    # is at its default, may be told otherwise by a later version, which goes on all the same.
    computed = [job.recipe.computed_part(), job.recipe.NUMBER]
    settings = [computed, job.arch, job.options, job.ipc, job.seed, classes, made_from]
    settings += [list(job.images)] if job.images else []
    return Checkpoint.beside(out, f"{job.key}-{digest(settings)}", kernels.used_on(device))


def run_facts_path(out: Path) -> Path:
    """Where the cost of making `out` is written."""
    return out.with_name(f"{out.stem}.run.json")


def _write_shard(
    out: Path,
    job: ShardJob,
    images: Any,
    classes: tuple[int, ...],
    outcome: Any,
    parents: Mapping[str, Mapping[str, Any]],
) -> None:
    def pixels(values: Any) -> np.ndarray:
        return images.denormalise(values).flatten(0, 1).float().cpu().numpy()

    labels = np.repeat(np.asarray(classes, dtype=np.int64), len(job.made))
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
        **({"images": [job.made.start, job.made.stop - 1]} if job.images is not None else {}),
        "class_names": list(images.class_names),
        "mean": list(images.mean),
        "std": list(images.std),
        "decode": asdict(outcome.decode) if outcome.decode else None,
        "recipe": asdict(job.recipe),
        "data_sha256": images.data_sha256,
        **({"parents": parents} if parents else {}),
        "steps": job.recipe.number_of_steps,
        "history": outcome.history,
    }
    if outcome.snapshots:
        header["snapshot_steps"] = sorted(outcome.snapshots)
        tensors["snapshots"] = np.stack(
            [pixels(outcome.snapshots[step]) for step in header["snapshot_steps"]]
        )
    of_image = {name: values.flatten(0, 1).cpu().numpy() for name, values in outcome.tensors.items()}
    of_set = {name: values.cpu().numpy() for name, values in outcome.of_set.items()}
    write_tensors(out, *carrying(tensors, header, of_image, of_set, outcome.label_kind))
