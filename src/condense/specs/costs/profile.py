"""What one image costs in a network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """What one image costs in a network: multiply-adds count as 2 FLOPs; activations in numbers, not
    bytes."""

    embed: int  # FLOPs of a forward pass up to the last linear layer
    forward: int  # FLOPs of a forward pass
    layers: int
    parameters: int
    activations: int  # outputs of all layers together
    kept: int  # what a forward pass keeps for the backward one
    largest: int  # of one layer
    features: int
    batched: int  # 1 if several networks can be trained as one (`training/stacked.py`)
    ties_batch: int  # 1 if batch norm ties the images of a batch together


# CLIP's ViT-B/32 as the published architecture gives it: 12 blocks of width 768 on 50 tokens.
CLIP = Profile(8_800_000_000, 8_800_000_000, 150, 88_000_000, 6_000_000, 9_000_000, 154_000, 512, 0, 0)
