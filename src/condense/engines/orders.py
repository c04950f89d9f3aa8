"""What an engine is given and what it gives: the orders of a job, and the outcome of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from condense.checkpoints import Checkpoint
from condense.data.dataset import Images
from condense.specs import Decode, Recipe


@dataclass(frozen=True)
class Site:
    """What all sets of a job share: the real images, the classes that are made, the network's architecture, the seed and the device."""

    data: Images
    classes: tuple[int, ...]
    arch: str
    options: Mapping[str, Any]
    seed: int
    device: torch.device


@dataclass(frozen=True)
class Order:
    """One set of a job. `parents`: the files of what was made beforehand, by the names that the recipe gives them."""

    recipe: Recipe
    ipc: int
    parents: Mapping[str, Path]
    checkpoint: Checkpoint


@dataclass
class Outcome:
    """Normalised images (C, ipc, channels, size, size), the history of the loss terms, and snapshots {step: images}.

    `tensors`: what else belongs to each image, by name, (C, ipc, ...); of these `soft_labels` (C, ipc, classes) are of the kind
    `label_kind`. `of_set`: what belongs to the set as a whole, such as a learned rate. `decode`: how an image becomes several of full
    size. `recorded`: whether steps were repeated as recorded, as CUDA graphs; `precision`: in which types it was computed.
    """

    images: Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    of_set: dict[str, Tensor] = field(default_factory=dict)
    label_kind: Literal["probabilities", "logits"] = "probabilities"
    decode: Decode | None = None
    recorded: bool = False
    precision: dict[str, str] = field(default_factory=dict)
