"""Sending tensors to a device, in few copies and without waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
AHEAD = {"cpu": 0, "cuda": 4}  # steps for which the host draws while the device is at work; a CPU is both


class Slots:
    """Tensors that stay where they are on a device, and are filled anew by one copy a type. `tensors` are
    shaped as those in `like`."""

    def __init__(self, like: Sequence[Tensor], device: torch.device):
        self.device, self.tensors = device, [torch.empty(0)] * len(like)
        # For each type its places in `tensors`, and all of them as one
        self._parts: list[tuple[list[int], Tensor]] = []
        for dtype in dict.fromkeys(tensor.dtype for tensor in like):
            indices = [index for index, tensor in enumerate(like) if tensor.dtype == dtype]
            whole = torch.empty(sum(like[index].numel() for index in indices), dtype=dtype, device=device)
            for index, values in zip(
                indices, whole.split([like[index].numel() for index in indices]), strict=True
            ):
                self.tensors[index] = values.view(like[index].shape)
            self._parts.append((indices, whole))

    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Puts in tensors from the host. Raises ValueError if they have not the shapes and types of the first
        ones."""
        if [(tensor.shape, tensor.dtype) for tensor in tensors] != [
            (tensor.shape, tensor.dtype) for tensor in self.tensors
        ]:
            raise ValueError("tensors of other shapes or types than before")
        for indices, whole in self._parts:
            joined = torch.cat([tensors[index].flatten() for index in indices])
            whole.copy_(pinned(joined) if self.device.type == "cuda" else joined, non_blocking=True)


def pinned(tensor: Tensor) -> Tensor:
    """The tensor in memory from which a GPU reads by itself: the copy waits in its queue, and this process
    goes on."""
    return tensor.pin_memory()


def sent(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host on `device`, where on a GPU those of each type come in one copy."""
    if device.type == "cpu":
        return list(tensors)
    slots = Slots(tensors, device)
    slots.fill(tensors)
    return slots.tensors


class Ahead(Generic[T]):
    """`make(step)` for one step after the other, on a GPU some steps before it is asked for, by a thread.

    For what the host does while a GPU works; `make` depends on the step alone.
    """

    def __init__(self, make: Callable[[int], T], depth: int):
        """`depth`: see `AHEAD`."""
        self.make, self.depth = make, depth
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[T]] = {}

    def at(self, step: int) -> T:
        """What is made for a step; what `make` raises is raised here."""
        if not self.depth:
            return self.make(step)
        self._pool = self._pool or ThreadPoolExecutor(1, "ahead")
        coming = range(step, step + self.depth + 1)
        self._coming = {
            ahead: self._coming.get(ahead) or self._pool.submit(self.make, ahead) for ahead in coming
        }
        return self._coming[step].result()

    def close(self) -> None:
        """Ends the thread; what it is making is finished first, the rest is not made. `at` would start
        another."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._coming = None, {}
