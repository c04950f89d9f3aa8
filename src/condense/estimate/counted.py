"""What one image costs in the networks of the scales: counted before, in `networks.csv`. No torch here."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("networks.csv")


@dataclass(frozen=True)
class Profile:
    """What one image costs in a network: multiply-adds count as 2 FLOPs; activations in numbers, not bytes."""

    embed: int  # FLOPs of a forward pass up to the last linear layer
    forward: int  # FLOPs of a forward pass
    layers: int
    parameters: int
    activations: int  # outputs of all layers together
    kept: int  # what a forward pass keeps for the backward one
    largest: int  # of one layer
    features: int
    batched: int  # 1 if several networks can be trained as one (`training/stacked.py`)


# CLIP's ViT-B/32 as the published architecture gives it: 12 blocks of width 768 on 50 tokens.
CLIP = Profile(8_800_000_000, 8_800_000_000, 150, 88_000_000, 6_000_000, 9_000_000, 154_000, 512, 0)
Network = tuple[str, str, int, int, int]  # architecture, its options as JSON, channels, size, classes
_COLUMNS = ["arch", "options", "channels", "size", "classes"]


@cache
def counted_networks() -> dict[Network, Profile]:
    with open(TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [field.name for field in fields(Profile)]
    return {
        (row["arch"], row["options"], int(row["channels"]), int(row["size"]), int(row["classes"])): Profile(
            *(int(row[name]) for name in numbers)
        )
        for row in rows
    }


def write_table(counted: dict[Network, Profile], path: Path = TABLE) -> None:
    """Writes the profiles of networks, sorted."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*_COLUMNS, *(field.name for field in fields(Profile))], lineterminator="\n")
        writer.writeheader()
        for network in sorted(counted):
            writer.writerow(dict(zip(_COLUMNS, network, strict=True)) | asdict(counted[network]))
