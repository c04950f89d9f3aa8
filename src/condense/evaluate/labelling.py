"""Who labels the batches of networks that are judged by a protocol with labels that are not the set's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from condense.config import UserError
from condense.data.dataset import load
from condense.files.artifacts import read_header
from condense.files.relabels import read_relabels
from condense.machine.runtime import note
from condense.machine.terminal import several
from condense.networks.pretrain import load_teacher
from condense.specs import Protocol
from condense.specs.labels import STORED
from condense.specs.parent import others
from condense.training.loop import layer_type, number_of_epochs
from condense.training.observers import Labeller, Observers
from condense.training.replay import Replay, as_stored

# The settings of a protocol that decide which batches there are, and what labels them
_OF_BATCHES = ("batch", "augment", "siamese", "cutmix", "views", "mixing", "labels")


def labeller_for(
    protocol: Protocol,
    parents: Mapping[str, Path],
    data: Path,
    device: torch.device,
    labelled_sha256: str | None = None,
    arch: str | None = None,
) -> Labeller | None:
    """The observers of `protocol`, from the files of `parents` that are theirs by name, or what they gave
    beforehand; None where it takes the labels of the set, or where none was given, as to tasks that train
    nothing.

    `data`: the real training images, which they must have been trained on; `labelled_sha256`: the checksum of
    the set that is labelled; `arch`: the architecture that judges, which observers without one are asked to
    have. An observer that is something else than was asked for is told.
    Raises UserError for observers that are damaged, or of other images, whose classes may lie in another
    order, and for labels of another set or of batches drawn otherwise.
    """
    if protocol.labels is not None and STORED in parents:
        return _replay(protocol, parents[STORED], labelled_sha256, arch)
    named = {name: parents[name] for name in protocol.observers if name in parents}
    if not named:
        return None
    images = load(data)
    networks = [load_teacher(path, images, device)[0] for path in named.values()]
    for name, path in named.items():
        _tell_others(protocol, name, path, read_header(path), arch)
    return Observers(networks, [layer_type(network, protocol, device) for network in networks])


def _tell_others(
    protocol: Protocol, name: str, path: Path, said: Mapping[str, Any], arch: str | None
) -> None:
    """Says in which settings the observer of this name, as `said` of it in a file, is not what the protocol
    asks for."""
    need = protocol.observers[name]
    for line in others(f"'{protocol.name}'", replace(need, arch=need.arch or arch), path, said):
        note(f"{line}; the metrics say which file it was")


def _of_batches(told: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the batches and who labels them, of a protocol as it tells of itself."""
    chosen = {name: told.get(name) for name in _OF_BATCHES}
    labels = chosen["labels"]
    return chosen | {"labels": labels.get("observers") if isinstance(labels, dict) else None}


def _replay(protocol: Protocol, path: Path, labelled_sha256: str | None, arch: str | None) -> Replay:
    """What observers gave beforehand. Raises UserError for labels of another set, of batches drawn otherwise,
    of fewer epochs or of other numbers of logits than the protocol asks for."""
    tensors, known = read_relabels(path)
    if known.labelled_sha256 != labelled_sha256:
        raise UserError(
            f"{path}: holds the labels of another set than the one that is judged; make those of this set "
            "(`condense relabel --help`)"
        )
    own, other = _of_batches(protocol.told()), _of_batches(known.protocol)
    differing = [name for name in own if own[name] != other[name]]
    if differing:
        raise UserError(
            f"{path}: was made by the protocol '{known.protocol.get('name')}', whose '{differing[0]}' is not "
            f"that of '{protocol.name}'; make the labels by this one (`condense relabel --help`)"
        )
    epochs, images, held = tensors["logits"].shape
    needed = number_of_epochs(protocol, images)
    if epochs < needed:
        raise UserError(
            f"{path}: holds the labels of {several(epochs, 'epoch')} of {images} images, and "
            f"'{protocol.name}' trains for {needed}; make those of all (`condense relabel --help`)"
        )
    classes = len(known.class_names)
    stored = protocol.labels if protocol.stores_labels else None
    asked = min(stored.top or classes, classes) if stored else held
    if held != asked:
        raise UserError(
            f"{path}: holds the {held} largest logits of an image, where '{protocol.name}' asks for {asked}; "
            "make the labels by this protocol (`condense relabel --help`)"
        )
    for name in protocol.observers:
        _tell_others(protocol, name, path, known.observers.get(name, {}), arch)
    return Replay(as_stored(tensors), known.strategy, known.seed, len(known.class_names), str(path))
