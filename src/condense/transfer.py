"""Sending tensors to a device, in few copies and without waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Slots:
    """Tensors that stay where they are on a device, and are filled anew by one copy a type. `tensors` are shaped as those in `like`."""

    def __init__(self, like: Sequence[Tensor], device: torch.device):
        self.device, self.places, self.wholes = device, {}, {}
        self.tensors: list[Tensor] = [torch.empty(0)] * len(like)
        for dtype in dict.fromkeys(tensor.dtype for tensor in like):
            places = [place for place, tensor in enumerate(like) if tensor.dtype == dtype]
            whole = torch.empty(sum(like[place].numel() for place in places), dtype=dtype, device=device)
            parts = whole.split([like[place].numel() for place in places])
            for place, part in zip(places, parts, strict=True):
                self.tensors[place] = part.view(like[place].shape)
            self.places[dtype], self.wholes[dtype] = places, whole

    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Puts in tensors from the host, of the shapes and types of the first ones."""
        for dtype, places in self.places.items():
            whole = torch.cat([tensors[place].flatten() for place in places])
            self.wholes[dtype].copy_(pinned(whole) if self.device.type == "cuda" else whole, non_blocking=True)


def pinned(tensor: Tensor) -> Tensor:
    """The tensor in memory from which a GPU reads by itself: the copy waits in its queue, and this process goes on."""
    return tensor.pin_memory()


def sent(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host on `device`, where on a GPU those of each type come in one copy."""
    if device.type == "cpu":
        return list(tensors)
    slots = Slots(tensors, device)
    slots.fill(tensors)
    return slots.tensors


class Ahead(Generic[T]):
    """`make(step)` for one step after the other. With a `depth`, a thread makes so many more before they are asked for.

    For what the host does while a GPU works; `make` depends on the step alone.
    """

    def __init__(self, make: Callable[[int], T], depth: int):
        self.make, self.depth = make, depth
        self._pool = ThreadPoolExecutor(1, "ahead") if depth else None
        self._coming: dict[int, Future[T]] = {}

    def at(self, step: int) -> T:
        """What is made for a step; what `make` raises is raised here."""
        if self._pool is None:
            return self.make(step)
        coming = range(step, step + self.depth + 1)
        self._coming = {one: self._coming.get(one) or self._pool.submit(self.make, one) for one in coming}
        return self._coming[step].result()
