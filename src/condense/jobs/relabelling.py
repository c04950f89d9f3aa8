"""The jobs that make soft labels of a set beforehand: of every epoch, to be replayed, or one an image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError, unknown
from condense.files import SOFT_LABELS, carried, carrying, read_dataset_header, read_set
from condense.files.artifacts import Shapes, bytes_of, canonical, digest, write_json, write_tensors
from condense.files.carried import OF_IMAGE
from condense.files.checkpoints import Checkpoint
from condense.files.relabels import RELABELS
from condense.jobs.condensing import run_facts_path
from condense.jobs.keeping import is_whole
from condense.jobs.machine import Machine, at_work
from condense.jobs.observing import said_of_observers
from condense.specs import DEFAULT_TASK, Protocol

if TYPE_CHECKING:
    import numpy as np

    from condense.training.storing import Pieces


@dataclass(frozen=True)
class RelabelJob:
    """The labels that the observers of a protocol give a set, batch by batch, as networks would see it.

    `top`: how many of the largest logits of an image are kept (None: all). `epochs`: as many (None: those of
    the protocol for this set). `key`: that of the file, '' by hand.
    """

    synthetic: Path
    data: Path  # the folder of the prepared dataset
    protocol: Protocol
    strategy: str
    seed: int
    observers: Mapping[str, Path] = field(default_factory=dict)
    top: int | None = None
    epochs: int | None = None
    key: str = ""


def relabel(out: Path, job: RelabelJob, machine: Machine, one_an_image: bool = False) -> None:
    """Writes the labels of every epoch to `out`; or, with `one_an_image`, the set itself with the mean logits
    of each image as its soft labels. What it cost lies beside the file.

    Raises UserError for a protocol without observers, for observers or a set that do not fit, and for a set
    that stores formations where each image is to have one label.
    """
    from condense import kernels
    from condense.evaluate.labelling import labeller_for
    from condense.evaluate.synthetic import training_set
    from condense.training import storing
    from condense.training.loop import number_of_epochs

    _check_asked(out, job)
    with at_work(machine, out, beside=run_facts_path) as (device, clock):
        tensors, header = read_set(job.synthetic)
        names = _class_names(job, header)
        top = _top(job, len(names))
        labeller = labeller_for(
            job.protocol.labelled_anew(), job.observers, job.data / "train.safetensors", device
        )
        if labeller is None:
            raise ValueError("observers that were asked for gave no labels")
        images = training_set(tensors, header, device, str(job.synthetic))
        epochs = job.epochs or number_of_epochs(job.protocol, len(images))
        drawn = (images, job.protocol, job.strategy, job.seed, labeller)
        observers = said_of_observers(job.protocol, job.observers)
        about: dict[str, Any] = {"observers": observers, "strategy": job.strategy, "seed": job.seed}
        if one_an_image:
            if len(images) != len(tensors["labels"]):
                raise UserError(
                    f"{job.synthetic}: stores formations, whose parts have labels of their own; leave "
                    "--averaged out"
                )
            labels = storing.averaged(*drawn, epochs).numpy()
            write_json(run_facts_path(out), clock.facts())
            _write_averaged(out, tensors, header, labels, about | {"epochs": epochs})
            return
        by = [header["content_sha256"], canonical(job.protocol.told()), about, epochs, top]
        checkpoint = Checkpoint.beside(out, f"{job.key}-{digest(by)}", kernels.used_on(device))
        shapes = storing.shapes_of(epochs, len(images), len(names), top)
        pieces = storing.label_epochs(*drawn, shapes, checkpoint)
        kept = f"the {top} largest of {len(names)}" if top else f"all {len(names)}"
        about |= {
            "kind": RELABELS,
            "key": job.key,
            "dataset": header["dataset"],
            "data_sha256": header["data_sha256"],
            "labelled_sha256": header["content_sha256"],
            "class_names": names,
            "protocol": json.loads(canonical(job.protocol.told())),
            "told": f"{epochs} epochs of {len(images)} images, {kept} classes, {bytes_of(shapes):,} bytes",
        }
        write_json(run_facts_path(out), clock.facts())
        _write_pieces(out, pieces, shapes, about)
        checkpoint.remove()


def _write_pieces(out: Path, pieces: Pieces, shapes: Shapes, about: Mapping[str, Any]) -> None:
    """The labels of all epochs, of which no more than a piece is ever in memory."""
    from condense.data.filling import filling

    with filling(out, shapes, about) as file:
        for first, labels in pieces:
            for name, values in labels.items():
                file.put(name, first, values)
        file.seal(about, file.content_sha256(f"checksum of {out.name}"))


def labels_of(out: Path, job: RelabelJob, machine: Machine) -> Path:
    """`out` with the labels of every epoch, made unless it is there under the key of the job. Raises
    UserError as `relabel` and `is_whole` do."""
    if not is_whole(out, RELABELS, job.key):
        relabel(out, job, machine)
    return out


def _check_asked(out: Path, job: RelabelJob) -> None:
    """Raises UserError for a protocol without observers, or with others than are given, and where the set
    would be overwritten."""
    if job.protocol.labels is None:
        raise UserError(
            f"--protocol: '{job.protocol.name}' has no observers to label the set; choose one with `labels`"
        )
    for name in job.observers:
        if name not in job.protocol.observers:
            raise unknown("name", name, job.protocol.observers, "--with NAME=FILE")
    DEFAULT_TASK.check_parents(list(job.observers), job.protocol.labelled_anew(), "--with NAME=FILE")
    if out.resolve() == job.synthetic.resolve():
        raise UserError(f"--out {out}: is the set itself; name another file")


def _top(job: RelabelJob, classes: int) -> int | None:
    """How many of the largest logits of an image are kept, as asked for, else as the protocol says; None:
    all. Raises UserError for a number that leaves none out."""
    if job.top is not None and not 1 <= job.top < classes:
        raise UserError(
            f"--top: of {classes} classes 1 to {classes - 1} can be kept, found {job.top}; leave it out for "
            "all"
        )
    top = job.top or (job.protocol.labels and job.protocol.labels.top)
    return top if top and top < classes else None


def _class_names(job: RelabelJob, header: Mapping[str, Any]) -> list[str]:
    """The names of the classes of a set. Raises UserError if it was made from other images."""
    known = read_dataset_header(job.data / "train.safetensors")
    if header["data_sha256"] != known.data_sha256:
        raise UserError(
            f"{job.synthetic}: was made from other images than those in {job.data}; give the folder that it "
            "was made from"
        )
    return list(header["class_names"])


def _write_averaged(
    out: Path,
    tensors: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
    labels: np.ndarray,
    given: Mapping[str, Any],
) -> None:
    """The set with one soft label an image, in place of those that it had."""
    kinds = header.get("carries", {})
    further = {name: values for name, values in carried(tensors).items() if name != SOFT_LABELS}
    of_image = {name: values for name, values in further.items() if kinds[name] == OF_IMAGE}
    of_set = {name: values for name, values in further.items() if name not in of_image}
    left = ("carries", SOFT_LABELS, "content_sha256", "schema", "stored")
    about = {name: value for name, value in header.items() if name not in left}
    plain = {name: tensors[name] for name in ("images", "labels")}
    whole, about = carrying(plain, about, {SOFT_LABELS: labels, **of_image}, of_set, "logits")
    write_tensors(out, whole, {**about, "labelled": dict(given)})
