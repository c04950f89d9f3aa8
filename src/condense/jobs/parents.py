"""Jobs that make what sets need beforehand: classifiers, what these are given, banks of networks.

One function a kind, named in `MAKERS`; the cells of the kinds stand in `plan.parents`, and a test compares
both lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from condense.config import unknown
from condense.files.artifacts import write_json
from condense.jobs.condensing import run_facts_path
from condense.jobs.machine import Machine, at_work
from condense.plan import ParentCell
from condense.specs import Protocol, QueueNetworks, TrainedNetworks, TrajectoryNetworks


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
    from condense.networks.pretrain import pretrain

    with at_work(machine, out, beside=_facts_beside) as (device, clock):
        settings = {
            "arch": arch,
            "options": options,
            "strategy": strategy,
            "seed": seed,
            "key": key,
            "device": device,
        }
        pretrain(
            out,
            load(data),
            protocol,
            **settings,
            trained=lambda: write_json(_facts_beside(out), clock.facts()),
        )


def _facts_beside(out: Path) -> Path:
    return out.with_name("run.json")


def make_bank(
    out: Path,
    data: Path,
    networks: QueueNetworks,
    *,
    arch: str,
    options: dict[str, Any],
    steps: int,
    max_mb: int,
    seed: int,
    key: str,
    machine: Machine,
) -> None:
    """The bank of a queue of networks, trained on the images in `data`, in at most about `max_mb` MB, written
    to `out`."""
    from condense.data.dataset import load
    from condense.networks.bank import make_queue_bank

    with at_work(machine, out, beside=run_facts_path) as (device, clock):
        settings = {
            "arch": arch,
            "options": options,
            "steps": steps,
            "seed": seed,
            "key": key,
            "device": device,
        }
        settings["max_bytes"] = max_mb * 10**6
        make_queue_bank(
            out, load(data), networks, **settings, made=lambda: write_json(run_facts_path(out), clock.facts())
        )


def make_trained_bank(
    out: Path,
    data: Path,
    networks: TrainedNetworks | TrajectoryNetworks,
    protocol: Protocol,
    *,
    arch: str,
    options: dict[str, Any],
    strategy: str,
    seed: int,
    key: str,
    machine: Machine,
) -> None:
    """The bank of networks trained by `protocol` on the images in `data`, at the end or at the ends of all
    epochs, written to `out`."""
    from condense.data.dataset import load
    from condense.networks import trained

    with at_work(machine, out, beside=run_facts_path) as (device, clock):
        trained.make_trained_bank(
            out,
            load(data),
            networks,
            protocol,
            arch=arch,
            options=options,
            strategy=strategy,
            seed=seed,
            key=key,
            device=device,
            made=lambda: write_json(run_facts_path(out), clock.facts()),
        )


def make_truth(
    out: Path,
    data: Path,
    protocol: Protocol,
    *,
    arch: str,
    options: dict[str, Any],
    candidates: int,
    draw: int,
    networks: int,
    images: int | None,
    table: str,
    strategy: str,
    seed: int,
    key: str,
    machine: Machine,
) -> None:
    """The true accuracies of networks of the space `arch`, trained on the images in `data` and tested on the
    test images beside them, or (`table`) published, written to `out`."""
    from condense.data.dataset import load
    from condense.evaluate.truth import measured_truth, published_truth
    from condense.files.artifacts import write_tensors

    drawn: dict[str, Any] = {"arch": arch, "candidates": candidates, "draw": draw, "key": key}
    with at_work(machine, out, beside=_facts_beside) as (device, clock):
        train, checkpoint = load(data), None
        if table:
            found = published_truth(train, protocol, **drawn, table=table)
        else:
            found, checkpoint = measured_truth(
                out,
                train,
                load(data.with_name("test.safetensors")),
                protocol,
                **drawn,
                options=options,
                strategy=strategy,
                networks=networks,
                images=images,
                seed=seed,
                device=device,
            )
        write_json(_facts_beside(out), clock.facts())
        write_tensors(out, *found)
        if checkpoint is not None:
            checkpoint.remove()


def gather_layer_statistics(
    out: Path,
    data: Path,
    protocol: Protocol,
    *,
    observer: Path,
    arch: str,
    options: dict[str, Any],
    strategy: str,
    seed: int,
    key: str,
    machine: Machine,
) -> None:
    """What the layers of the classifier in `observer` are given for the images in `data`, written to
    `out`."""
    from condense.data.dataset import load
    from condense.networks.layer_statistics import gather_statistics

    with at_work(machine, out, beside=_facts_beside) as (device, clock):
        gather_statistics(
            out,
            load(data),
            protocol,
            observer=observer,
            arch=arch,
            options=options,
            strategy=strategy,
            seed=seed,
            key=key,
            device=device,
            gathered=lambda: write_json(_facts_beside(out), clock.facts()),
        )


# By the kind of the cell in `plan.PARENTS`: what makes a file of the kind, given its path, the training
# images, the kind's own settings by name, the files of its own parents by theirs, and `arch`, `options`,
# `seed`, `key` and `machine`.
MAKERS: dict[str, Callable[..., None]] = {
    "teacher": pretrain_teacher,
    "layer_statistics": gather_layer_statistics,
    "trained_bank": make_trained_bank,
    "trajectory_bank": make_trained_bank,
    "queue_bank": make_bank,
    "truth": make_truth,
}


def maker_of(kind: str) -> Callable[..., None]:
    """The function that makes parents of a kind. Raises UserError for a kind that nothing makes."""
    if kind not in MAKERS:
        raise unknown("parent", kind, MAKERS)
    return MAKERS[kind]


def make_parent(
    out: Path, cell: ParentCell, data: Path, machine: Machine, made_from: Mapping[str, Path] = {}
) -> None:
    """What sets need beforehand, made from the training images in `data` as its cell says, and from the files
    of its own parents by their names."""
    shared = {
        "arch": cell.arch,
        "options": json.loads(cell.options),
        "seed": cell.seed,
        "key": cell.key,
        "machine": machine,
    }
    maker_of(cell.kind)(out, data, **cell.values, **made_from, **shared)
