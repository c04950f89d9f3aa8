"""Jobs that make what sets need beforehand: classifiers, what these are given, banks of networks.

One function a kind, named in `MAKERS`; the cells of the kinds stand in `plan.parents`, and a test compares
both lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import unknown
from condense.files.artifacts import write_json
from condense.jobs.condensing import run_facts_path
from condense.jobs.machine import Machine, at_work
from condense.plan import ParentCell
from condense.specs import Protocol, QueueNetworks, TrainedNetworks, TrajectoryNetworks

if TYPE_CHECKING:
    from condense.networks.making import Making


def _facts_beside(out: Path) -> Path:
    return out.with_name("run.json")


@dataclass(frozen=True)
class ParentJob:
    """What all of them are given: the training images in `data`, the architecture and its options, and where
    the file goes, under which key."""

    out: Path
    data: Path
    arch: str
    options: dict[str, Any]
    seed: int
    key: str
    machine: Machine

    @contextmanager
    def begun(self, facts: Callable[[Path], Path] = _facts_beside) -> Iterator[Making]:
        """Inside, this process alone makes the file, and `facts` is where its provenance goes."""
        from condense.data.dataset import load
        from condense.networks.making import Making

        with at_work(self.machine, self.out, beside=facts) as (device, clock):
            what = (self.out, load(self.data), self.arch, self.options, self.seed, self.key, device)
            yield Making(*what, lambda: write_json(facts(self.out), clock.facts()))


def pretrain_teacher(job: ParentJob, *, protocol: Protocol, strategy: str) -> None:
    """One teacher, trained on the training images, or by others."""
    from condense.networks.pretrain import pretrain
    from condense.networks.published import take_published

    with job.begun() as making:
        if protocol.weights:
            take_published(making, protocol)
        else:
            pretrain(making, protocol, strategy)


def make_bank(job: ParentJob, *, networks: QueueNetworks, steps: int, max_mb: int) -> None:
    """The bank of a queue of networks that are trained on the images, in at most about `max_mb` MB."""
    from condense.networks.bank import make_queue_bank

    with job.begun(run_facts_path) as making:
        make_queue_bank(making, networks, steps, max_mb * 10**6)


def make_trained_bank(
    job: ParentJob, *, networks: TrainedNetworks | TrajectoryNetworks, protocol: Protocol, strategy: str
) -> None:
    """The bank of networks trained by `protocol` on the images, at the end or at the ends of all epochs."""
    from condense.networks import trained

    with job.begun(run_facts_path) as making:
        trained.make_trained_bank(making, networks, protocol, strategy)


def make_truth(
    job: ParentJob,
    *,
    protocol: Protocol,
    strategy: str,
    candidates: int,
    draw: int,
    networks: int,
    images: int | None,
    table: str,
) -> None:
    """The true accuracies of networks of a space, trained on the images and tested on the test images beside
    them, or (`table`) published."""
    from condense.data.dataset import load
    from condense.evaluate.truth import measured_truth, published_truth
    from condense.files.artifacts import write_tensors

    drawn: dict[str, Any] = {"candidates": candidates, "draw": draw}
    with job.begun() as making:
        checkpoint = None
        if table:
            found = published_truth(making, protocol, **drawn, table=table)
        else:
            test = load(job.data.with_name("test.safetensors"))
            drawn |= {"networks": networks, "images": images}
            found, checkpoint = measured_truth(making, test, protocol, strategy, **drawn)
        making.before_writing()
        write_tensors(job.out, *found)
        if checkpoint is not None:
            checkpoint.remove()


def gather_layer_statistics(job: ParentJob, *, protocol: Protocol, strategy: str, observer: Path) -> None:
    """What the layers of the classifier in `observer` are given for the images."""
    from condense.networks.layer_statistics import gather_statistics

    with job.begun() as making:
        gather_statistics(making, protocol, strategy, observer)


def store_labels(
    job: ParentJob, *, protocol: Protocol, strategy: str, synthetic: str, **observers: Path
) -> None:
    """The labels that the observers of the protocol, by its names, give the set in a file."""
    from condense.jobs.relabelling import RelabelJob, relabel

    asked = RelabelJob(Path(synthetic), job.data.parent, protocol, strategy, job.seed, observers, key=job.key)
    relabel(job.out, asked, job.machine)


# By the kind of the cell in `plan.PARENTS`: what makes a file of the kind, given the job, the kind's own
# settings by name, and the files of its own parents by theirs.
MAKERS: dict[str, Callable[..., None]] = {
    "teacher": pretrain_teacher,
    "layer_statistics": gather_layer_statistics,
    "trained_bank": make_trained_bank,
    "trajectory_bank": make_trained_bank,
    "queue_bank": make_bank,
    "truth": make_truth,
    "stored_labels": store_labels,
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
    job = ParentJob(out, data, cell.arch, json.loads(cell.options), cell.seed, cell.key, machine)
    maker_of(cell.kind)(job, **cell.values, **made_from)
