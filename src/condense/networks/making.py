"""What is made of the real images before sets are: classifiers, banks of networks, statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from condense import kernels, models
from condense.data.dataset import Images
from condense.files.artifacts import digest
from condense.files.checkpoints import Checkpoint
from condense.models import Network


@dataclass(frozen=True)
class Making:
    """A file that is made of `data` with networks of an architecture, and written to `path` under its `key`.

    `before_writing` is called once everything is computed, before the file is whole.
    """

    path: Path
    data: Images
    arch: str
    options: Mapping[str, Any]
    seed: int
    key: str
    device: torch.device
    before_writing: Callable[[], None] = lambda: None

    @property
    def shape(self) -> dict[str, int]:
        """What networks for the images are built for: `channels`, `size` and `classes`."""
        return {"channels": self.data.channels, "size": self.data.size, "classes": len(self.data.counts)}

    def drawn_network(self, stream: int) -> Network:
        """A network drawn from a stream of random numbers, on the device."""
        network = models.build(self.arch, **self.shape, **self.options)
        models.reinitialise(network, stream)
        return network.to(self.device)

    def checkpoint(self, settings: Any) -> Checkpoint:
        """The checkpoint beside the file; by hand, other settings may have the same key."""
        return Checkpoint.beside(self.path, f"{self.key}-{digest(settings)}", kernels.used_on(self.device))
