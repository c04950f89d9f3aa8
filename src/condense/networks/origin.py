"""Where the networks of a bank come from, as its header says it, and as whoever opens it asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condense.config import UserError
from condense.data.dataset import Images
from condense.files import BankHeader, read_bank
from condense.files.artifacts import canonical


def origin(data: Images, arch: str, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Where the networks of a bank come from, as its header says it."""
    shape = {"channels": data.channels, "size": data.size, "classes": len(data.counts)}
    known = {"dataset": data.dataset, "data_sha256": data.data_sha256, "arch": arch, "options": dict(options)}
    return known | {"shape": shape, "seed": seed}


def opened(path: Path, wanted: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], BankHeader]:
    """The tensors and the header of a bank. Raises UserError if it is damaged, or if its header has other
    values than `wanted`.

    Settings, given as their dataclass, are compared as they are read: a bank may be older than a setting that
    has its default.
    """
    tensors, known, header = read_bank(path)
    for name, value in wanted.items():
        there = getattr(known, name) if is_dataclass(value) else header.get(name)
        if there != value:
            made, asked = (canonical(_plain(side)) for side in (there, value))
            told = f"{path}: was made with {name} {made}, but {asked} is asked for"
            raise UserError(f"{told}; make a bank of its own for this: `condense bank --help` says how")
    return tensors, known


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
