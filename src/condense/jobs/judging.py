"""The jobs that judge a synthetic set, its snapshots, or the whole training set: all networks in one job, or parts and their joining."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from condense import locks, runtime
from condense.artifacts import (
    canonical,
    damaged,
    digest,
    read_header,
    read_json,
    read_set,
    require_place,
    write_json,
)
from condense.checkpoints import Checkpoint
from condense.config import UserError
from condense.evaluate.spread import spread
from condense.jobs.facts import cost_facts, joined_facts
from condense.jobs.machine import Machine
from condense.specs import Protocol

_log = logging.getLogger(__name__)
_PART = "evaluation part"


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
    part: range | None = None  # the networks of this job; None: all, and their metrics


def evaluate_set(out: Path, job: EvaluationJob, machine: Machine) -> None:
    """Evaluates a set and writes its metrics to `out`, or the accuracies of the networks of `job.part` for `join_parts`.

    Raises UserError if no network is asked for, or one that is not there, or if the set was made from other images than those tested.
    """
    from condense.data.dataset import load

    if job.n_networks < 1:
        raise UserError(f"--networks: at least 1 is needed, found {job.n_networks}")
    networks = range(job.n_networks) if job.part is None else job.part
    if networks[-1] >= job.n_networks:
        raise UserError(f"--part: network {networks[-1]} is not among the {job.n_networks} of --networks, numbered from 0")
    if job.task == "snapshots" and job.synthetic is None:
        raise UserError("--task snapshots: --synthetic must name the snapshots of a set")
    require_place(out)
    threads = runtime.set_threads(machine.threads)
    with locks.only_maker(out), runtime.device(machine.device) as device:
        clock = runtime.Clock(device, threads)
        test = load(job.data / "test.safetensors")
        header, sets = _training_sets(job, device)
        settings = [asdict(job.protocol), job.arch, job.options, job.strategy, job.seed, header["content_sha256"]]
        settings.append([networks[0], networks[-1]])
        checkpoint = Checkpoint.beside(out, f"{job.key}-{digest(settings)}")
        results = _accuracies(job, networks, sets, test, checkpoint, device)
        about = _description(job, test, header)
        written = _metrics(about, results) if job.part is None else _part(about, networks, results)
        write_json(out, written | {"run": clock.facts() | _computed_by(job, test, device)})
        checkpoint.remove()


def _computed_by(job: EvaluationJob, test: Any, device: Any) -> dict[str, str]:
    """What computed the networks, and in which type."""
    import torch

    from condense import kernels, models
    from condense.training.loop import layer_type

    with torch.device("meta"):  # only what it consists of is asked for
        network = models.build(job.arch, channels=test.channels, size=test.size, classes=len(test.counts), **job.options)
    return {"precision": str(layer_type(network, job.protocol, device)).removeprefix("torch."), "kernels": kernels.state()}


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
    tensors, header = read_set(job.synthetic, "synthetic" if job.task == "condense" else "snapshots")
    expected = read_header(job.data / "train.safetensors", "dataset")["data_sha256"]
    if header["data_sha256"] != expected:
        raise UserError(f"{job.synthetic}: was made from other images than those in {job.data}; delete it and run the same command again")

    def ready(pixels: np.ndarray) -> Any:
        return tensor_set(*(tensor.to(device) for tensor in decoded(pixels, tensors["labels"], header)))

    if job.task == "condense":
        return header, {0: lambda: ready(tensors["images"])}
    return header, {step: partial(ready, pixels) for step, pixels in zip(header["snapshot_steps"], tensors["images"], strict=True)}


def _accuracies(
    job: EvaluationJob,
    networks: range,
    sets: dict[int, Callable[[], Any]],
    test: Any,
    checkpoint: Checkpoint,
    device: Any,
) -> dict[int, list[float]]:
    """Step -> the accuracies of the networks, from the last checkpoint if there is one."""
    from condense.evaluate.protocols import evaluate

    settings = {name: getattr(job, name) for name in ("arch", "options", "strategy", "seed")} | {"networks": networks}
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
    }


def _metrics(about: dict[str, Any], results: dict[int, list[float]]) -> dict[str, Any]:
    if about["task"] == "condense":
        mean, std = spread(results[0])
        return about | {"accuracies": results[0], "mean": mean, "std": std}
    spreads = [spread(values) for values in results.values()]
    values = {"accuracies": list(results.values()), "mean": [mean for mean, _ in spreads], "std": [std for _, std in spreads]}
    return about | {"steps": list(results)} | values


def _part(about: dict[str, Any], networks: range, results: dict[int, list[float]]) -> dict[str, Any]:
    return about | {"kind": _PART, "networks": [networks[0], networks[-1]], "accuracies": list(map(list, results.items()))}


def join_parts(out: Path, parts: Sequence[Path]) -> None:
    """Joins the parts of one evaluation into its metrics `out`: those of all networks in one job, but for what the run cost.

    Raises UserError if a file is no part, if the parts are of different evaluations, or if they do not hold every network once.
    """
    require_place(out)
    found = sorted((_read_part(path) for path in parts), key=lambda part: part.networks[0])
    first = found[0]
    for part in found:
        differing = [name for name in sorted({*first.about, *part.about}) if first.about.get(name) != part.about.get(name)]
        if differing or list(part.results) != list(first.results):
            what = differing[0] if differing else "steps"
            raise UserError(f"{part.path}: is a part of another evaluation than {first.path}: they differ in '{what}'")
    numbers = [number for part in found for number in part.networks]
    if len(numbers) != first.about["n_networks"] or numbers != list(range(len(numbers))):
        raise UserError(f"{out}: the parts hold the networks {numbers} instead of each of {first.about['n_networks']} once")
    results = {step: [value for part in found for value in part.results[step]] for step in first.results}
    with locks.only_maker(out):
        write_json(out, _metrics(first.about | {"kind": "metrics"}, results) | {"run": joined_facts([part.run for part in found])})


@dataclass(frozen=True)
class _Part:
    path: Path
    networks: range
    about: dict[str, Any]
    results: dict[int, list[float]]  # accuracies by step
    run: dict[str, Any]


def _read_part(path: Path) -> _Part:
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != _PART:
        held = value.get("kind") if isinstance(value, dict) else type(value).__name__
        raise UserError(f"{path}: holds '{held}', but a part of an evaluation is needed")
    about = {name: entry for name, entry in value.items() if name not in ("networks", "accuracies", "run")}
    try:
        first, last = value["networks"]
        networks, results = range(first, last + 1), {int(step): list(map(float, values)) for step, values in value["accuracies"]}
        whole = isinstance(about["n_networks"], int) and about["task"] in ("condense", "snapshots")
    except (KeyError, TypeError, ValueError):
        raise damaged(path, "its entries are not those of a part") from None
    if not whole or not networks or not results or any(len(values) != len(networks) for values in results.values()):
        raise damaged(path, "it does not hold one accuracy a network")
    if not all(0 <= value <= 100 for values in results.values() for value in values):
        raise damaged(path, "an accuracy is no percentage")
    if about["task"] == "condense" and list(results) != [0]:
        raise damaged(path, "it does not hold the accuracies of one set")
    return _Part(path, networks, about, results, cost_facts(value.get("run"), path))
