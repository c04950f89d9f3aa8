"""The job that judges a synthetic set, its snapshots, or the whole training set."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from condense import locks, runtime
from condense.artifacts import (
    canonical,
    digest,
    read_header,
    read_set,
    require_place,
    write_json,
)
from condense.checkpoints import Checkpoint
from condense.config import UserError
from condense.jobs.machine import Machine
from condense.specs import Protocol

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationJob:
    """Networks trained on a synthetic set, on its snapshots, or (`synthetic` None) on the whole training set."""

    task: str  # condense or snapshots
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


def evaluate_set(out: Path, job: EvaluationJob, machine: Machine) -> None:
    """Evaluates a set and writes its metrics to `out`.

    Raises UserError if no network is asked for, or if the set was made from other images than those tested.
    """
    from condense.data.dataset import load

    if job.n_networks < 1:
        raise UserError(f"--networks: at least 1 is needed, found {job.n_networks}")
    if job.task == "snapshots" and job.synthetic is None:
        raise UserError("--task snapshots: --synthetic must name the snapshots of a set")
    require_place(out)
    threads = runtime.set_threads(machine.threads)
    with locks.only_maker(out), runtime.device(machine.device) as device:
        clock = runtime.Clock(device, threads)
        test = load(job.data / "test.safetensors")
        header, sets = _training_sets(job, device)
        settings = [asdict(job.protocol), job.arch, job.options, job.strategy, job.seed, header["content_sha256"]]
        checkpoint = Checkpoint.beside(out, f"{job.key}-{digest(settings)}")
        results = _accuracies(job, sets, test, checkpoint, device)
        write_json(out, _metrics(job, test, header, results) | {"run": clock.facts()})
        checkpoint.remove()


def _training_sets(job: EvaluationJob, device: Any) -> tuple[dict[str, Any], dict[int, Callable[[], Any]]]:
    """The header of what is evaluated, and what makes the training sets by step (0 for the set itself)."""
    import torch

    from condense.data.dataset import load, normalise
    from condense.training.loop import pixel_set, tensor_set

    if job.synthetic is None:
        train = load(job.data / "train.safetensors")
        header = {"dataset": train.dataset, "arch": "none", "ipc": "full"}
        header |= {"data_sha256": train.data_sha256, "content_sha256": train.data_sha256}
        return header, {0: lambda: pixel_set(train, device)}
    tensors, header = read_set(job.synthetic, "synthetic" if job.task == "condense" else "snapshots")
    expected = read_header(job.data / "train.safetensors", "dataset")["data_sha256"]
    if header["data_sha256"] != expected:
        raise UserError(f"{job.synthetic}: was made from other images than those in {job.data}; delete it and run the same command again")
    labels = torch.from_numpy(tensors["labels"]).to(device)

    def ready(pixels: np.ndarray) -> Any:
        return tensor_set(normalise(torch.from_numpy(pixels), header["mean"], header["std"]).to(device), labels)

    if job.task == "condense":
        return header, {0: lambda: ready(tensors["images"])}
    return header, {step: partial(ready, pixels) for step, pixels in zip(header["snapshot_steps"], tensors["images"], strict=True)}


def _accuracies(job: EvaluationJob, sets: dict[int, Callable[[], Any]], test: Any, checkpoint: Checkpoint, device: Any) -> dict:
    """Step -> the accuracies of all networks, from the last checkpoint if there is one."""
    from condense.evaluate.protocols import evaluate

    settings = {name: getattr(job, name) for name in ("arch", "options", "strategy", "n_networks", "seed")}
    found = checkpoint.load()
    results = {int(step): values for step, values in found[1]["results"].items()} if found else {}
    if found:
        _log.info("resumed from %d of %d sets", len(results), len(sets))
    for step in [step for step in sets if step not in results]:
        part = checkpoint.part(step)
        results[step] = evaluate(sets[step](), test, job.protocol, **settings, checkpoint=part, device=device)
        part.remove()
        if checkpoint.due() and len(results) < len(sets):
            checkpoint.save({}, {"results": results})
    return results


def _metrics(job: EvaluationJob, test: Any, header: dict[str, Any], results: dict[int, list[float]]) -> dict[str, Any]:
    from condense.evaluate.protocols import spread

    metrics = {
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
    }
    if job.task == "condense":
        mean, std = spread(results[0])
        return metrics | {"accuracies": results[0], "mean": mean, "std": std}
    spreads = [spread(values) for values in results.values()]
    values = {"accuracies": list(results.values()), "mean": [mean for mean, _ in spreads], "std": [std for _, std in spreads]}
    return metrics | {"steps": list(results)} | values
