"""Named random streams: every draw is addressed by what it is for, never by the order in which it happens."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream(run_seed: int, *name: str | int) -> int:
    """A 63-bit seed for the stream `name` of the run `run_seed`, such as ("real-batch", class, step).

    Different names give independent seeds; the same name gives the same seed on every machine and in every
    process.
    """
    address = json.dumps([run_seed, *name]).encode()
    return int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "big") >> 1


def generator(run_seed: int, *name: str | int) -> torch.Generator:
    """A CPU `torch.Generator` at the start of the stream `name`."""
    import torch

    return torch.Generator().manual_seed(stream(run_seed, *name))
