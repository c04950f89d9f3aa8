"""The jobs that judge a synthetic set, its snapshots, or the whole training set: all networks in one job, or some for `joining`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from condense.artifacts import (
    canonical,
    damaged,
    digest,
    write_json,
)
from condense.checkpoints import Checkpoint
from condense.config import UserError
from condense.files import check_accuracies, read_dataset_header, read_set, spread
from condense.files.records import PART
from condense.jobs.machine import Machine, at_work
from condense.specs import Protocol

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DriftJob:
    """Towards which set, by how much, and behind which stage of the network the style of the images is drifted."""

    style: Path
    ratio: float
    stage: int


@dataclass(frozen=True)
class EvaluationJob:
    """Networks trained on a synthetic set, as it is or drifted, on its snapshots, or (`synthetic` None) on the whole training set."""

    task: str  # condense, snapshots or drift
    synthetic: Path | None
    data: Path  # the folder of the prepared dataset
    method: str
    arch: str
    options: dict[str, Any]
    protocol: Protocol
    strategy: str
    n_networks: int
    seed: int
    key: str
    part: range | None = None  # the networks of this job; None: all, and their metrics
    drift: DriftJob | None = None


@dataclass(frozen=True)
class Done:
    """What a checkpoint of an evaluation has seen: by step, as text, the accuracies of the networks in percent."""

    results: dict[str, list[float]]

    def __post_init__(self) -> None:
        for values in self.results.values():
            check_accuracies(values)


def evaluate_set(out: Path, job: EvaluationJob, machine: Machine) -> None:
    """Evaluates a set and writes its metrics to `out`, or the accuracies of the networks of `job.part` for `joining.join_parts`.

    Raises UserError if no network is asked for, or one that is not there, or if the set was made from other images than those tested.
    """
    from condense import kernels
    from condense.data.dataset import load

    if job.n_networks < 1:
        raise UserError(f"--networks: at least 1 is needed, found {job.n_networks}")
    networks = range(job.n_networks) if job.part is None else job.part
    if networks[-1] >= job.n_networks:
        raise UserError(f"--part: network {networks[-1]} is not among the {job.n_networks} of --networks, numbered from 0")
    _check_task(job)
    with at_work(machine, out) as (device, clock):
        test = load(job.data / "test.safetensors")
        header, sets = _training_sets(job, device)
        settings = [asdict(job.protocol), job.arch, job.options, job.strategy, job.seed, header["content_sha256"]]
        settings.append([networks[0], networks[-1], *_drift_of(job, header).values()])
        checkpoint = Checkpoint.beside(out, f"{job.key}-{digest(settings)}", kernels.used_on(device))
        results = _accuracies(job, networks, sets, test, checkpoint, device)
        about = _description(job, test, header)
        written = metrics_from(about, results) if job.part is None else _part(about, networks, results)
        write_json(out, written | {"run": clock.facts() | _computed_by(job, test, device)})
        checkpoint.remove()


def _check_task(job: EvaluationJob) -> None:
    if job.task != "condense" and job.synthetic is None:
        what = "snapshots of a set" if job.task == "snapshots" else "set to drift"
        raise UserError(f"--task {job.task}: --synthetic must name the {what}")
    if (job.task == "drift") != (job.drift is not None):
        raise UserError("--style, --ratio, --stage: to be given exactly for --task drift")
    if job.drift and not 0 <= job.drift.ratio <= 1:
        raise UserError(f"--ratio: must lie between 0 and 1, found {job.drift.ratio}")


def _drift_of(job: EvaluationJob, header: dict[str, Any]) -> dict[str, Any]:
    """What the metrics say of a drift; empty where there is none."""
    if job.drift is None:
        return {}
    towards = {"method": header["style"]["method"], "key": header["style"].get("key"), "sha256": header["style"]["content_sha256"]}
    return {"drift": {"ratio": job.drift.ratio, "stage": job.drift.stage, "towards": towards}}


def _computed_by(job: EvaluationJob, test: Any, device: Any) -> dict[str, str]:
    """What computed the networks, and in which type."""
    import torch

    from condense import kernels, models
    from condense.training.loop import layer_type

    with torch.device("meta"):  # only what it consists of is asked for
        network = models.build(job.arch, channels=test.channels, size=test.size, classes=len(test.counts), **job.options)
    return {"precision": str(layer_type(network, job.protocol, device)).removeprefix("torch."), "kernels": kernels.done_by(device)}


def _training_sets(job: EvaluationJob, device: Any) -> tuple[dict[str, Any], dict[int, Callable[[], Any]]]:
    """The header of what is evaluated, and what makes the training sets by step (0 for the set itself)."""
    from condense.data.dataset import load
    from condense.evaluate.synthetic import decoded
    from condense.training.loop import pixel_set, tensor_set

    if job.synthetic is None:
        train = load(job.data / "train.safetensors")
        header = {"dataset": train.dataset, "arch": "none", "ipc": "full"}
        header |= {"data_sha256": train.data_sha256, "content_sha256": train.data_sha256}
        return header, {0: lambda: pixel_set(train, device)}
    tensors, header = _read_checked(job, job.synthetic, "snapshots" if job.task == "snapshots" else "synthetic")

    def ready(pixels: np.ndarray, labels: np.ndarray = tensors["labels"], about: dict[str, Any] = header) -> Any:
        return tensor_set(*(tensor.to(device) for tensor in decoded(pixels, labels, about)))

    if job.task == "condense":
        return header, {0: lambda: ready(tensors["images"])}
    if job.drift:
        partners, style = _read_checked(job, job.drift.style, "synthetic")
        images, others = ready(tensors["images"]), ready(partners["images"], partners["labels"], style)
        if images.labels.tolist() != others.labels.tolist():
            raise UserError(f"{job.drift.style}: every image of {job.synthetic} needs a partner of its class there, in the same order")
        return header | {"style": style}, {0: lambda: replace(images, beside=others.fetch)}
    return header, {step: partial(ready, pixels) for step, pixels in zip(header["snapshot_steps"], tensors["images"], strict=True)}


def _read_checked(job: EvaluationJob, path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A set, made from the images that the job tests on."""
    tensors, header = read_set(path, kind)
    if header.get("ipc") is None:
        raise damaged(path, "it does not say how many images a class it has")
    if header["data_sha256"] != read_dataset_header(job.data / "train.safetensors").data_sha256:
        raise UserError(f"{path}: was made from other images than those in {job.data}; delete it and run the same command again")
    return tensors, header


def _accuracies(
    job: EvaluationJob,
    networks: range,
    sets: dict[int, Callable[[], Any]],
    test: Any,
    checkpoint: Checkpoint,
    device: Any,
) -> dict[int, list[float]]:
    """Step -> the accuracies of the networks, from the last checkpoint if there is one."""
    from condense.evaluate.drift import StyleDrift
    from condense.evaluate.protocols import evaluate

    settings = {name: getattr(job, name) for name in ("arch", "options", "strategy", "seed")} | {"networks": networks}
    settings["drift"] = StyleDrift(job.drift.ratio, job.drift.stage) if job.drift else None
    found = checkpoint.load(Done)
    results = {step: found[1].results[str(step)] for step in sets if str(step) in found[1].results} if found else {}
    if found:
        fits = len(results) == len(found[1].results) and all(len(values) == len(networks) for values in results.values())
        checkpoint.check(fits, f"its accuracies are not those of {len(networks)} networks at steps of the set")
        _log.info("resumed from %d of %d sets", len(results), len(sets))
    for step in [step for step in sets if step not in results]:
        part = checkpoint.part(step)
        results[step] = evaluate(sets[step](), test, job.protocol, **settings, checkpoint=part, device=device)
        part.remove()
        if checkpoint.due() and len(results) < len(sets):
            checkpoint.save({}, {"results": results})
    return results


def _description(job: EvaluationJob, test: Any, header: dict[str, Any]) -> dict[str, Any]:
    """What was judged and how: the metrics without what came out."""
    return {
        "schema": 1,
        "kind": "metrics",
        "task": job.task,
        "dataset": header["dataset"],
        "method": job.method,
        "arch": header["arch"],
        "ipc": header["ipc"],
        "seed": job.seed,
        "key": job.key,
        "synthetic_key": header.get("key"),
        "eval_arch": job.arch,
        "options": job.options,
        "protocol": json.loads(canonical(asdict(job.protocol))),
        "n_networks": job.n_networks,
        "unit": "%",
        "data_sha256": header["data_sha256"],
        "test_sha256": test.data_sha256,
        "synthetic_sha256": header["content_sha256"],
        **_drift_of(job, header),
    }


def metrics_from(about: dict[str, Any], results: dict[int, list[float]]) -> dict[str, Any]:
    """The metrics of an evaluation: what was judged and how, and the accuracies by step with their means and spreads."""
    if about["task"] != "snapshots":
        mean, std = spread(results[0])
        return about | {"accuracies": results[0], "mean": mean, "std": std}
    spreads = [spread(values) for values in results.values()]
    values = {"accuracies": list(results.values()), "mean": [mean for mean, _ in spreads], "std": [std for _, std in spreads]}
    return about | {"steps": list(results)} | values


def _part(about: dict[str, Any], networks: range, results: dict[int, list[float]]) -> dict[str, Any]:
    return about | {"kind": PART, "networks": [networks[0], networks[-1]], "accuracies": list(map(list, results.items()))}
