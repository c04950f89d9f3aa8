"""States of networks on disk: in files of some megabytes each, in a folder beside the file that lists their
checksums.

A part is mapped and its checksum compared when a state in it is first asked for; processes on one machine
share its pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from condense.config import UserError
from condense.data.mapped import map_tensors
from condense.files import check_part, check_shapes
from condense.files.artifacts import damaged, read_header, write_tensors

PART_BYTES = 64 << 20
HEADER_BYTES = 4 << 20  # of a part: small states are limited by what their names take
_ENTRY = 128  # bytes of a header's entry for a tensor, without its name
_FRAME = 2048  # bytes of a header without its entries

State = Mapping[str, Tensor]


def part_path(bank: Path, number: int) -> Path:
    """Where a part lies."""
    return bank.with_name(f"{bank.name}.parts") / f"{number:05d}.safetensors"


def _entries(state: State) -> int:
    return sum(len(name) + _ENTRY for name in state)


def size_of(state: State) -> int:
    """Bytes that a state takes at most, with its share of the headers."""
    return sum(tensor.nbytes for tensor in state.values()) + _entries(state) + _FRAME


def states_a_part(state: State) -> int:
    """How many states of this size make a part."""
    return max(1, min(PART_BYTES // size_of(state), HEADER_BYTES // _entries(state)))


class PartWriter:
    """Writes named states, `each` to a part. What is not in a part yet lies in `pending`, for checkpoints."""

    def __init__(self, bank: Path, key: str, each: int):
        self.bank, self.key, self.each = bank, key, each
        self.checksums: list[str] = []
        self.pending: dict[str, Tensor] = {}
        self.added = 0

    def resume(self, added: int, checksums: list[str], pending: Mapping[str, Tensor]) -> None:
        """Goes on where a writer was after `added` states."""
        self.added, self.checksums, self.pending = added, checksums, dict(pending)

    def add(self, name: str, state: State) -> None:
        """Adds a state under a name without dots, and writes the part if it is full."""
        self.pending |= {f"{name}.{tensor}": value.detach().cpu().clone() for tensor, value in state.items()}
        self.added += 1
        if self.added % self.each == 0:
            self.flush()

    def flush(self) -> None:
        """Writes what is pending, if anything is, as the last part."""
        if not self.pending:
            return
        path = part_path(self.bank, len(self.checksums))
        header = {"kind": "bank part", "key": self.key, "part": len(self.checksums)}
        write_tensors(path, {name: tensor.numpy() for name, tensor in self.pending.items()}, header)
        self.checksums.append(read_header(path)["content_sha256"])
        self.pending = {}


class Parts:
    """The states of a bank whose parts have these checksums: each has the tensors of `like` in their types
    and shapes, and of those that are named `velocity.*` all or none.

    Raises UserError if a part is absent, cut short or another bank's.
    """

    def __init__(self, bank: Path, checksums: list[str], like: State):
        self.bank, self.like = bank, like
        self.mapped: dict[int, dict[str, dict[str, Tensor]]] = {}
        for number, checksum in enumerate(checksums):
            path = part_path(bank, number)
            if not path.exists():
                raise damaged(bank, f"its part {path} is missing")
            if read_header(path, "bank part")["content_sha256"] != checksum:
                raise UserError(
                    f"{path}: belongs to another bank than {bank}; delete {bank} and run the same command "
                    "again"
                )

    def state(self, number: int, name: str) -> dict[str, Tensor]:
        """The state `name`, mapped from part `number`. Raises UserError if the part is damaged, or if it
        is of other networks."""
        if number not in self.mapped:
            self.mapped[number] = self._read(number)
        if name not in self.mapped[number]:
            raise damaged(self.bank, f"its part {number} lacks the state {name}")
        return self.mapped[number][name]

    def _read(self, number: int) -> dict[str, dict[str, Tensor]]:
        path = part_path(self.bank, number)
        tensors, header = map_tensors(path, "bank part")
        check_part(path, {name: value.numpy() for name, value in tensors.items()}, header)
        states: dict[str, dict[str, Tensor]] = {}
        for full, value in tensors.items():
            state, _, tensor = full.partition(".")
            states.setdefault(state, {})[tensor] = value
        for state, held in states.items():
            moving = any(name.startswith("velocity.") for name in held)
            wanted = {
                name: value for name, value in self.like.items() if moving or not name.startswith("velocity.")
            }
            # Networks trained in float64 serve those of float32, which take their weights over rounded.
            wide = {name for name, value in held.items() if name in wanted and value.dtype == torch.float64}
            wanted |= {name: wanted[name].double() for name in wide if wanted[name].is_floating_point()}
            check_shapes(
                path,
                {f"{state}.{name}": value for name, value in held.items()},
                {f"{state}.{n}": v for n, v in wanted.items()},
            )
            if held.keys() != wanted.keys():
                raise damaged(path, f"its state {state} has tensors that its network lacks")
        return states
