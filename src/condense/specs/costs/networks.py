"""What one image costs in the networks of the scales: counted before, in `networks.csv`, by
`python -m condense.estimate.counting`, which lists the names of all architectures beside it.

No torch here: the Snakefile asks in every job of a cluster.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

from condense.specs.costs.profile import Profile

TABLE = Path(__file__).with_name("networks.csv")
NAMES = Path(__file__).with_name("architectures.txt")

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
def listed_architectures() -> frozenset[str]:
    """The names of all architectures that `models` builds."""
    return frozenset(NAMES.read_text(encoding="utf-8").split())


def write_table(counted: dict[Network, Profile], path: Path = TABLE) -> None:
    """Writes the profiles of networks, sorted."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, [*_COLUMNS, *(field.name for field in fields(Profile))], lineterminator="\n"
        )
        writer.writeheader()
        for network in sorted(counted):
            writer.writerow(dict(zip(_COLUMNS, network, strict=True)) | asdict(counted[network]))
