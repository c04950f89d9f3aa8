"""Beside numbers of all networks of a set together: their intervals, and what each repetition gives."""

from __future__ import annotations

from condense.report import layout, names
from condense.report.layout import Block, Cell, Line
from condense.report.measured import EACH, INTERVAL
from condense.report.records import Record

_ABOUT = (
    "Together: one number of all repetitions, as in the table above, and its interval. {each}: mean ± "
    "standard deviation over the numbers that repetitions give one by one."
)


def of_table(rows: list[Record]) -> list[Block]:
    """For each block of a table with numbers of all networks together a block with both readings; [] for a
    table that has none."""
    grouped: dict[tuple[str, ...], list[Record]] = {}
    for record in rows:
        if record.readings:
            where = (record.origin, record.values["dataset"], record.stands_for, record.measure)
            grouped.setdefault(where, []).append(record)
    return [_block(group) for group in grouped.values()]


def _block(group: list[Record]) -> Block:
    first = group[0]
    heads = [head for head in (INTERVAL, EACH) if any(head in record.readings for record in group)]
    by_ipc: dict[str, list[Line]] = {}
    for record in group:
        by_ipc.setdefault(names.ipc(record.values["ipc"]), []).append(_line(record, group, heads))
    title = f"{names.dataset(first.values['dataset'])}: of all repetitions together, and of each by itself"
    caption = f"{first.measure}. {_ABOUT.format(each=EACH)}"
    return Block(title, caption, ["Together", *heads], list(by_ipc.items()), measured=False)


def _line(record: Record, group: list[Record], heads: list[str]) -> Line:
    values = record.values
    spread = f" ± {values['measured_std']}" if values["measured_std"] else ""
    beside = [[Cell(published=record.readings.get(head, ""))] for head in heads]
    together = [Cell(measured=f"{values['measured']}{spread}")]
    return Line(layout.label(record, layout.naming_columns(group)), [together, *beside])
