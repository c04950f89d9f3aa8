"""The 15,625 cells of NAS-Bench-201. Source: Dong & Yang 2020 (NAS-Bench-201), section 2.1.

A cell has four nodes; each of the six edges between an earlier and a later one is one of five operations.
"""

from __future__ import annotations

import re

from condense.config import UserError, unknown
from condense.specs.spaces.base import Space, digits, number_of

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# (from, to): by the node that an edge leads to, then by that it starts from
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
_BASES = [len(OPERATIONS)] * len(EDGES)
SIZE = len(OPERATIONS) ** len(EDGES)


def operations_of(number: int) -> list[str]:
    """The operations of the edges of a cell, in the order of `EDGES`; the last edge runs fastest."""
    return [OPERATIONS[place] for place in digits(number, _BASES)]


def genotype(number: int) -> str:
    """A cell as the benchmark writes it: '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|'."""
    by_node: dict[int, list[str]] = {}
    for (start, end), operation in zip(EDGES, operations_of(number), strict=True):
        by_node.setdefault(end, []).append(f"{operation}~{start}")
    return "+".join(f"|{'|'.join(inputs)}|" for inputs in by_node.values())


def cell_number(cell: int | str) -> int:
    """The number of a cell, given by it, as a number or as text, or as the benchmark writes it. Raises
    UserError for what is none."""
    if isinstance(cell, str) and re.fullmatch(r"[0-9]{1,9}", cell):
        cell = int(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        if not 0 <= cell < SIZE:
            raise UserError(f"cell: numbers from 0 to {SIZE - 1:,} are cells, found {cell}")
        return cell
    places = []
    nodes = str(cell).split("+")
    for node, inputs in enumerate(nodes, start=1):
        for start, entry in enumerate(inputs.strip("|").split("|")):
            match = re.fullmatch(r"(\w+)~(\d)", entry)
            if match is None or int(match[2]) != start:
                raise _no_cell(str(cell))
            if match[1] not in OPERATIONS:
                raise unknown("operation", match[1], OPERATIONS, "cell")
            places.append(OPERATIONS.index(match[1]))
        if len(inputs.strip("|").split("|")) != node:
            raise _no_cell(str(cell))
    if len(places) != len(EDGES):
        raise _no_cell(str(cell))
    return number_of(places, _BASES)


def _no_cell(cell: str) -> UserError:
    return UserError(
        f"cell: {cell[:120]!r} is no cell; write its six operations as the benchmark does, such as "
        f"'{genotype(0)}', or its number, from 0 to {SIZE - 1:,}"
    )


NAS201 = Space(
    "nas_bench_201",
    "15,625 cells of NAS-Bench-201",
    SIZE,
    "cell",
    genotype,
    ("cifar10", "cifar100"),
    "CONDENSE_NAS201",
)
