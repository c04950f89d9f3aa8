"""Banks of finished networks of one architecture, one by one, such as observers or experts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense import models
from condense.config import UserError
from condense.data.dataset import Images
from condense.files.artifacts import write_tensors
from condense.networks.origin import opened, origin
from condense.networks.parts import Parts, PartWriter, State, states_a_part


def network_like(data: Images, arch: str, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Parameters and buffers, without values, of a network of this kind for these images."""
    with torch.device("meta"):
        return dict(
            models.build(
                arch, channels=data.channels, size=data.size, classes=len(data.counts), **options
            ).state_dict()
        )


def write_networks(
    path: Path, states: Iterable[State], made_from: Mapping[str, Any], key: str, epochs: int | None = None
) -> None:
    """Writes finished networks of one architecture, such as observers or experts, as a bank; `made_from` is
    their `origin`. With `epochs`: those at the ends of so many epochs of each training, one training after
    the other."""
    writer, count = None, 0
    path.unlink(missing_ok=True)  # its parts are about to be replaced
    for count, state in enumerate(states, 1):
        writer = writer or PartWriter(path, key, states_a_part(state))
        writer.add(str(count - 1), state)
    if writer is None:
        raise UserError(f"{path}: a bank needs at least one network")
    writer.flush()
    header = {
        **made_from,
        "kind": "bank",
        "key": key,
        "networks": {"kind": "finished", "count": count, **({"epochs": epochs} if epochs else {})},
        "states_a_part": writer.each,
    }
    write_tensors(path, {}, header | {"parts": writer.checksums})


class NetworkBank:
    """Finished networks by number: `network(i)`, mapped from the file. The same architecture on the same
    images is asked for.

    `epochs`: of how many epochs of every training it has the networks; None where it has the last alone.
    Raises UserError if the bank is damaged or of other networks or images.
    """

    def __init__(self, path: Path, data: Images, *, arch: str, options: Mapping[str, Any]):
        wanted = {name: value for name, value in origin(data, arch, options, 0).items() if name != "seed"}
        _, header = opened(path, wanted)
        if header.finished is None:
            raise UserError(f"{path}: holds a queue, but a bank of finished networks is needed")
        self.path, self.count, self.each, self.seed = (
            path,
            header.finished.count,
            header.states_a_part,
            header.seed,
        )
        self.epochs = header.finished.epochs
        self.parts = Parts(path, header.parts, network_like(data, arch, options))

    def __len__(self) -> int:
        return self.count

    def network(self, number: int) -> State:
        """Parameters and buffers of a network, as `load_state_dict` takes them. Raises UserError if there is
        no such network."""
        if not 0 <= number < self.count:
            raise UserError(f"{self.path}: has no network {number}; its {self.count} are numbered from 0")
        return self.parts.state(number // self.each, str(number))

    def require(self, count: int) -> None:
        """Raises UserError if it has fewer networks than that."""
        if len(self) < count:
            raise UserError(
                f"{self.path}: has {len(self)} networks, but {count} are asked for: make the bank anew"
            )

    def ends(self) -> NetworkBank:
        """Itself. Raises UserError if it has networks of all epochs and not the last ones alone."""
        if self.epochs:
            raise UserError(
                f"{self.path}: has the networks of {self.epochs} epochs of each training, but the last ones "
                "are asked for: make the bank anew"
            )
        return self
