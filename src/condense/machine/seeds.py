"""Named random streams: every draw is addressed by what it is for, never by the order in which it happens."""

from __future__ import annotations

import hashlib
import json
import random
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


def numpy_permutation(seed: int, count: int) -> list[int]:
    """What numpy's legacy generator permutes 0 to `count` - 1 to after `seed`, from 0 to 2^32 - 1:
    `RandomState(seed).permutation(count)`, without numpy.

    Benchmarks that others have published fix their orders so. The state of the Mersenne twister is filled as
    numpy fills it (Matsumoto and Nishimura's `init_genrand`), and places are drawn by masked rejection.
    """
    state = [seed & 0xFFFFFFFF]
    for place in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + place) & 0xFFFFFFFF)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        mask = (1 << last.bit_length()) - 1
        while (place := twister.getrandbits(32) & mask) > last:
            pass
        order[last], order[place] = order[place], order[last]
    return order


def generator(run_seed: int, *name: str | int) -> torch.Generator:
    """A CPU `torch.Generator` at the start of the stream `name`."""
    import torch

    return torch.Generator().manual_seed(stream(run_seed, *name))
