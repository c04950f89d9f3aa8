"""The jobs that judge a synthetic set, its snapshots, or the whole training set: all networks in one job, or
some for `joining`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from condense.config import UserError
from condense.files import read_dataset_header, read_set, spread
from condense.files.artifacts import canonical, damaged, digest, read_header, write_json
from condense.files.checkpoints import Checkpoint
from condense.files.records import PART
from condense.files.relabels import read_relabels_header
from condense.jobs.machine import Machine, at_work
from condense.jobs.observing import said_of_observers
from condense.specs import Protocol, Task, task_class
from condense.specs.labels import STORED

if TYPE_CHECKING:
    from condense.evaluate.trainer import Results, TaskSet, TaskSets


@dataclass(frozen=True)
class EvaluationJob:
    """What a task gives of networks trained on a synthetic set, or on its snapshots, or (`synthetic` None) on
    the whole training set."""

    task: Task
    synthetic: Path | None
    data: Path  # the folder of the prepared dataset
    method: str | None  # None: as the set says; the whole training set needs a name
    arch: str
    options: dict[str, Any]
    protocol: Protocol
    strategy: str
    n_networks: int
    seed: int
    key: str
    share: range | None = None  # the networks of this job; None: all, and their metrics
    sets: Mapping[str, Path] = field(default_factory=dict)  # the further sets of the task, by name
    parents: Mapping[str, Path] = field(default_factory=dict)  # what the task needs beforehand, by name


def evaluate_set(out: Path, job: EvaluationJob, machine: Machine) -> None:
    """Evaluates a set and writes its metrics to `out`, or those of the networks of `job.share` for
    `joining.join_parts`.

    Raises UserError if no network is asked for, or one that is not there, if a set of the task is missing, or
    if one was made from other images than those tested.
    """
    from condense import kernels
    from condense.data.dataset import load
    from condense.evaluate.labelling import labeller_for
    from condense.evaluate.tasks import task_function
    from condense.evaluate.trainer import Trainer
    from condense.training.sets import pixel_set

    if job.n_networks < 1:
        raise UserError(f"--networks: at least 1 is needed, found {job.n_networks}")
    networks = range(job.n_networks) if job.share is None else job.share
    if networks[-1] >= job.n_networks:
        raise UserError(
            f"--part: network {networks[-1]} is not among the {job.n_networks} of --networks, numbered from 0"
        )
    if job.method is None and job.synthetic is None:
        raise UserError("--method: is needed where --synthetic names no set")
    if job.task.of_a_set and job.synthetic is None:
        raise UserError(f"--task {job.task.kind}: --synthetic must name the {job.task.of_a_set}")
    job.task.check_further(list(job.sets), "--with NAME=FILE")
    job.task.check_parents(list(job.parents), job.protocol, "--with NAME=FILE")
    compute = task_function(job.task.kind)
    with at_work(machine, out) as (device, clock):
        test, sets = load(job.data / "test.safetensors"), _task_sets(job, device)
        header, further, observers = sets.judged.header, _further(job, sets), _observers(job)
        settings = [
            job.protocol.computed_part(),
            job.arch,
            job.options,
            job.strategy,
            job.seed,
            header["content_sha256"],
        ]
        settings.append([networks[0], networks[-1], asdict(job.task), further | observers])
        checkpoint = Checkpoint.beside(out, f"{job.key}-{digest(settings)}", kernels.used_on(device))
        given = {name: getattr(job, name) for name in ("protocol", "arch", "options", "strategy", "seed")}
        train = job.data / "train.safetensors"
        labeller = labeller_for(job.protocol, job.parents, train, device, header["content_sha256"], job.arch)
        trainer = Trainer(
            test,
            **given,
            networks=networks,
            metrics=job.task.metrics,
            checkpoint=checkpoint,
            device=device,
            labeller=labeller,
        )
        results = compute(job.task, sets, pixel_set(test, device), trainer)
        about = _description(job, test, header, further, observers)
        written = metrics_from(about, results) if job.share is None else _part(about, networks, results)
        write_json(out, written | {"run": clock.facts() | _computed_by(job, test, device)})
        checkpoint.remove()


def _further(job: EvaluationJob, sets: TaskSets) -> dict[str, Any]:
    """What the metrics say of the further sets of the task, and of what was made beforehand for it."""
    made = {name: path for name, path in job.parents.items() if name in job.task.parents()}
    return {name: _origin(image_set.header) for name, image_set in sets.further.items()} | {
        name: _made(read_header(path)) for name, path in made.items()
    }


def _observers(job: EvaluationJob) -> dict[str, Any]:
    """What the metrics say of the classifiers that labelled the batches, or of the file of what they gave
    beforehand; empty where none did."""
    if job.protocol.labels is not None and STORED in job.parents:
        known, header = read_relabels_header(job.parents[STORED])
        file = header["content_sha256"]
        return {name: {**said, "stored": file} for name, said in known.observers.items()}
    return said_of_observers(job.protocol, job.parents)


def _origin(header: dict[str, Any]) -> dict[str, Any]:
    """What the metrics say of a further set."""
    return {"method": header["method"], "key": header.get("key"), "sha256": header["content_sha256"]}


def _made(header: dict[str, Any]) -> dict[str, Any]:
    """What the metrics say of what was made beforehand; of a bank, whose networks lie in parts beside it, the
    checksum is that of the header, which has those of the parts."""
    checksum = digest(header, 64) if "parts" in header else header["content_sha256"]
    said = {"told": header.get("told"), "key": header.get("key"), "sha256": checksum}
    return {name: value for name, value in said.items() if value is not None}


def _computed_by(job: EvaluationJob, test: Any, device: Any) -> dict[str, str]:
    """What computed the networks, and in which type."""
    import torch

    from condense import kernels, models
    from condense.training.loop import layer_type

    with torch.device("meta"):  # only what it consists of is asked for
        network = models.build(
            job.arch, channels=test.channels, size=test.size, classes=len(test.counts), **job.options
        )
    return {
        "precision": str(layer_type(network, job.protocol, device)).removeprefix("torch."),
        "kernels": kernels.done_by(device),
    }


def _task_sets(job: EvaluationJob, device: Any) -> TaskSets:
    """The set that is judged, or its snapshots, or the whole training set, and the further sets of the
    task."""
    from condense.data.dataset import load
    from condense.evaluate.trainer import TaskSet, TaskSets
    from condense.training.sets import pixel_set

    further = {name: _task_set(job, path, "synthetic", device) for name, path in job.sets.items()}

    def real() -> Any:
        return pixel_set(load(job.data / "train.safetensors"), device)

    if job.synthetic is not None:
        return TaskSets(_task_set(job, job.synthetic, job.task.reads, device), further, real, job.parents)
    train = load(job.data / "train.safetensors")
    header = {"dataset": train.dataset, "arch": "none", "ipc": "full"}
    header |= {"data_sha256": train.data_sha256, "content_sha256": train.data_sha256}
    return TaskSets(TaskSet(None, header, {0: lambda: pixel_set(train, device)}), further, real, job.parents)


def _task_set(job: EvaluationJob, path: Path, kind: str, device: Any) -> TaskSet:
    """A set, or the snapshots of one by step, ready for training on the device when it is asked for."""
    from condense.evaluate.synthetic import training_set
    from condense.evaluate.trainer import TaskSet

    tensors, header = _read_checked(job, path, kind)

    def ready(pixels: np.ndarray) -> Any:
        return training_set({**tensors, "images": pixels}, header, device, str(path))

    if tensors["images"].ndim == 5:  # of snapshots (steps, N, C, H, W)
        images = zip(header["snapshot_steps"], tensors["images"], strict=True)
        return TaskSet(path, header, {step: partial(ready, pixels) for step, pixels in images})
    return TaskSet(path, header, {0: partial(ready, tensors["images"])})


def _read_checked(job: EvaluationJob, path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A set, made from the images that the job tests on."""
    tensors, header = read_set(path, kind)
    if header.get("ipc") is None:
        raise damaged(path, "it does not say how many images a class it has")
    if path == job.synthetic and job.method and job.method != header["method"]:
        raise UserError(
            f"{path}: is a set of '{header['method']}', not of '{job.method}'; leave --method out, or give "
            "another set"
        )
    if header["data_sha256"] != read_dataset_header(job.data / "train.safetensors").data_sha256:
        raise UserError(
            f"{path}: was made from other images than those in {job.data}; give the folder that it was "
            "made from, or make a set of these images"
        )
    return tensors, header


def _description(
    job: EvaluationJob,
    test: Any,
    header: dict[str, Any],
    further: dict[str, Any],
    observers: dict[str, Any],
) -> dict[str, Any]:
    """What was judged and how: the metrics without what came out."""
    from condense.evaluate.synthetic import labels_used

    return {
        "schema": 1,
        "kind": "metrics",
        "task": job.task.folder,
        "dataset": header["dataset"],
        "method": job.method or header["method"],
        "arch": header["arch"],
        "ipc": header["ipc"],
        "seed": job.seed,
        "key": job.key,
        "synthetic_key": header.get("key"),
        "eval_arch": job.arch,
        "options": job.options,
        "protocol": json.loads(canonical(job.protocol.told())),
        "strategy": job.strategy,
        "n_networks": job.n_networks,
        **({"unit": "%"} if job.task.is_plain() else {}),
        "data_sha256": header["data_sha256"],
        "test_sha256": test.data_sha256,
        "synthetic_sha256": header["content_sha256"],
        **job.task.described(further),
        **labels_used(job.protocol, header, str(job.synthetic)),
        **({"observers": observers} if observers else {}),
    }


def metrics_from(about: dict[str, Any], results: Results) -> dict[str, Any]:
    """The metrics of an evaluation: what was judged and how, and by metric the values with their means and
    spreads, by step where there are several. Accuracies that are all that a task gives stand by
    themselves."""
    task = task_class(about["task"])
    metrics = {
        name: {**_values(results[name], task.is_curve(name)), "unit": metric.unit}
        for name, metric in task.metrics.items()
    }
    steps = {"steps": list(results[task.curve()])} if task.over_steps else {}
    if not task.is_plain():
        return about | steps | {"metrics": metrics}
    (only,) = metrics.values()
    return about | steps | {"accuracies": only["values"], "mean": only["mean"], "std": only["std"]}


def _values(by_step: dict[int, list[float]], is_curve: bool) -> dict[str, Any]:
    spreads = [spread(values) for values in by_step.values()]
    values, means, stds = list(by_step.values()), [mean for mean, _ in spreads], [std for _, std in spreads]
    if is_curve:
        return {"values": values, "mean": means, "std": stds}
    return {"values": values[0], "mean": means[0], "std": stds[0]}


def _part(about: dict[str, Any], networks: range, results: Results) -> dict[str, Any]:
    rows = {name: list(map(list, by_step.items())) for name, by_step in results.items()}
    held = {"accuracies": rows["accuracy"]} if task_class(about["task"]).is_plain() else {"metrics": rows}
    return about | {"kind": PART, "networks": [networks[0], networks[-1]]} | held
