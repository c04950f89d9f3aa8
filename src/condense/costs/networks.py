"""What one image costs in a network. No torch here: the Snakefile asks in every job of a cluster.

The networks of the scales were counted before and stand in `networks.csv`, which `python -m condense.estimate.counting` writes;
others are counted when they are asked for.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

from condense.costs.profile import Profile

TABLE = Path(__file__).with_name("networks.csv")


Network = tuple[str, str, int, int, int]  # architecture, its options as JSON, channels, size, classes
_COLUMNS = ["arch", "options", "channels", "size", "classes"]


@cache
def counted_networks() -> dict[Network, Profile]:
    """The networks of the table with what an image costs in each."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [field.name for field in fields(Profile)]
    return {
        (row["arch"], row["options"], int(row["channels"]), int(row["size"]), int(row["classes"])): Profile(
            *(int(row[name]) for name in numbers)
        )
        for row in rows
    }


@cache
def profile(arch: str, options: str, channels: int, size: int, classes: int) -> Profile:
    """The profile of a network for images of `size` pixels a side. Raises UserError as `models.build` does."""
    counted = counted_networks().get((arch, options, channels, size, classes))
    if counted is None:
        from condense.estimate.counting import count  # with torch

        counted = count(arch, options, channels, size, classes)
    return counted


def write_table(counted: dict[Network, Profile], path: Path = TABLE) -> None:
    """Writes the profiles of networks, sorted."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*_COLUMNS, *(field.name for field in fields(Profile))], lineterminator="\n")
        writer.writeheader()
        for network in sorted(counted):
            writer.writerow(dict(zip(_COLUMNS, network, strict=True)) | asdict(counted[network]))
