"""A table as people read it: one block for each dataset, methods as rows, images per class or architectures
as columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from condense.plan.published import architectures, method_of
from condense.plan.tables import Plan
from condense.report import names
from condense.report.records import Record
from condense.specs import catalogue


@dataclass(frozen=True)
class Cell:
    """Texts 'mean ± std'; '' where there is none."""

    measured: str = ""
    published: str = ""
    delta: str = ""
    gain: str = ""  # over random images under the same judge


@dataclass(frozen=True)
class Line:
    """One row of a block: a cell list for each column, usually of one cell."""

    label: str
    cells: list[list[Cell]]


@dataclass(frozen=True)
class Block:
    """A part of a table that holds numbers of one kind, of one dataset, one scale and one origin."""

    title: str
    caption: str
    columns: list[str]
    groups: list[tuple[str, list[Line]]]  # heading ('' if there is one group only) and its lines
    measured: bool
    footnotes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what the papers' numbers need said about them
    head: str = "Method"  # what its lines are


def blocks(scale: Plan, records: list[Record]) -> list[Block]:
    """The blocks of a table: those with numbers measured here first, then those of other machines, then the
    rest."""
    grouped: dict[tuple, list[Record]] = {}
    for record in records:
        if record.origin == "stand_in" and not record.was_measured:
            continue
        device = record.machine.get("device", "")
        key = (
            record.origin,
            record.shown_on,
            record.stands_for,
            record.values["scale"],
            device,
            record.measure,
        )
        grouped.setdefault(key, []).append(record)
    # Of a comparison of one's own nothing is printed anywhere
    told = [
        group
        for group in grouped.values()
        if any(record.was_measured or record.values["published"] for record in group)
    ]
    made = [_block(scale, group, records) for group in told or grouped.values()]
    return sorted(made, key=lambda block: not block.measured)


def _values(group: Iterable[Record], *columns: str) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuple(record.values[column] for column in columns) for record in group))


def _varies(group: list[Record], column: str, *given: str) -> bool:
    """Whether `column` takes several values where the columns `given` are fixed."""
    return len(_values(group, *given, column)) > len(_values(group, *given))


def _ipc_order(value: str) -> tuple:
    return (not value.isdigit(), int(value) if value.isdigit() else 0, value)


def _block(scale: Plan, group: list[Record], whole: list[Record]) -> Block:
    by_architecture = _varies(group, "eval_arch", "method", "ipc", "train_arch", "setting")
    key_columns = naming_columns(group)
    ipcs = sorted({record.values["ipc"] for record in group}, key=_ipc_order)
    columns = [value for (value,) in _values(group, "eval_arch")] if by_architecture else ipcs
    groups = []
    for ipc in ipcs if by_architecture else [None]:
        members = [record for record in group if ipc in (None, record.values["ipc"])]
        lines = [
            _line(members, key_columns, key, "eval_arch" if by_architecture else "ipc", columns)
            for key in dict.fromkeys(_key(record, key_columns) for record in members)
        ]
        groups.append((f"{ipc} images per class" if ipc else "", lines))
    heads = [names.architecture(column) if by_architecture else names.ipc(column) for column in columns]
    title, caption = _words(scale, group)
    has_any = any(record.was_measured for record in group)
    footnotes = [*_footnotes(group, whole), *_of_scale(scale, group)] if has_any else []
    return Block(title, caption, heads, groups, has_any, footnotes, _remarks(group, by_architecture))


def _of_scale(scale: Plan, group: list[Record]) -> list[str]:
    """What the scale says of the methods and architectures whose numbers were measured here."""
    if group[0].origin == "elsewhere":
        return []
    measured = [record.values for record in group if record.was_measured]
    shown = {method_of(values) for values in measured}
    archs = {arch for values in measured for arch in architectures(values["eval_arch"])}
    return remarks_on(scale, shown, archs)


def remarks_on(scale: Plan, methods: Collection[str], archs: Collection[str]) -> list[str]:
    """What the scale says of some of these methods and evaluation architectures, in its order."""
    return [
        f"{names.method(name) if name in methods else names.architecture(name)}: {text}"
        for name, text in scale.scale.remarks.items()
        if name in methods or name in archs
    ]


def naming_columns(group: list[Record]) -> list[str]:
    """The columns whose values name the lines of a block."""
    columns = ["method"]
    columns += ["train_arch"] if _varies(group, "train_arch", "method", "ipc", "eval_arch") else []
    return columns + (["setting"] if _varies(group, "setting", "method", "ipc") else [])


def label(record: Record, columns: list[str]) -> str:
    """What a line with this record is called, by the `columns` that name lines."""
    text = names.method_of_row(record.values)
    for column in columns[1:]:
        value = record.values[column]
        text += f", {value}" if column == "setting" else f", condensed with {names.architecture(value)}"
    return text + (f", judged by {record.judge}" if record.judge else "")


def _key(record: Record, columns: list[str]) -> tuple[str, ...]:
    """What names the line of a record: its judge, and its values of `columns`."""
    return record.judge, *(record.values[column] for column in columns)


def _line(
    group: list[Record], key_columns: list[str], key: tuple[str, ...], across: str, columns: list[str]
) -> Line:
    mine = [record for record in group if _key(record, key_columns) == key]
    return Line(
        label(mine[0], key_columns),
        [[_cell(record.values) for record in mine if record.values[across] == column] for column in columns],
    )


def _cell(values: dict[str, str]) -> Cell:
    def text(mean: str, std: str) -> str:
        return f"{mean} ± {std}" if mean and std else mean

    return Cell(
        text(values["measured"], values["measured_std"]),
        text(values["published"], values["published_std"]),
        values["delta"],
        values[f"over_{catalogue.BASELINE}"],
    )


def _words(scale: Plan, group: list[Record]) -> tuple[str, str]:
    """Title and caption of a block: on which dataset and at which scale its numbers were measured."""
    first = group[0]
    dataset, level, paper = (
        names.dataset(first.shown_on),
        first.values["scale"],
        names.dataset(first.stands_for),
    )
    how = f"{first.measure}. {_counts(group)}{_judges(group)}"
    cuts = scale.scale.note or f"Scale {level}: {scale.scale.title}."
    beside = "Beside it, marked 'paper', the published number."
    if first.origin == "stand_in":
        title = f"Measured here on {dataset} (scale {level}), standing in for {paper}"
        caution = (
            f"These numbers are for {dataset} and cannot be compared with the paper's, which are for {paper}."
        )
        return title, f"{how} {cuts} {caution}"
    if first.origin == "elsewhere":
        where = " on ".join(text for text in (first.machine["date"], first.machine["device"]) if text)
        caption = " ".join(text for text in (how, where and f"{where}.", beside) if text)
        return f"{dataset}: measured on another machine (scale {level})", caption
    if any(record.was_measured for record in group):
        copied = names.copied(first.shown_on)
        on, about = (f" on {names.dataset(copied)}", names.note(first.shown_on)) if copied else ("", "")
        title = f"{dataset}: measured here (scale {level})"
        if not any(record.values["published"] for record in group):  # of a comparison of one's own
            return title, " ".join(filter(None, [how, about, cuts]))
        return f"{title} and published{on}", " ".join(filter(None, [how, beside, about, cuts]))
    return (
        f"{dataset}: published numbers",
        f"{first.measure}, as the paper prints it. Not measured here on {dataset} (scale {level}).",
    )


def _counts(group: list[Record]) -> str:
    devices = dict.fromkeys(record.device for record in group if record.device)
    if devices:
        return f"Measured on: {'; '.join(devices)}."
    seen = _values(
        [record for record in group if record.was_measured and record.values["ipc"] != "full"],
        "n_sets",
        "n_networks",
    )
    together = any(record.together for record in group)
    unit = "repetition" if together else "network"
    plural = [
        f"{sets} synthetic set{'s' * (sets != '1')} × {nets} {unit}{'s' * (nets != '1')}"
        for sets, nets in seen
    ]
    if together and plural:
        several = any(sets != "1" for sets, _ in seen)
        spread = "mean ± standard deviation over sets, " * several
        return f"One number of all repetitions together, {spread}{' or '.join(plural)}."
    if not plural:
        return ""
    bare = [record.values for record in group if record.was_measured and not record.values["measured_std"]]
    of_several = {len(architectures(values["eval_arch"])) > 1 for values in bare}
    without = {True: "a mean of several architectures", False: "a single value"}
    extra = " and ".join(text for several, text in without.items() if several in of_several)
    stands = f" {extra.capitalize()} stand{'s' * (len(of_several) == 1)} without a deviation."
    return f"Mean ± standard deviation over {' or '.join(plural)}.{stands if extra else ''}"


def _judges(group: list[Record]) -> str:
    """Which protocols judged, where lines name one."""
    if not any(record.judge for record in group):
        return ""
    return (
        " Lines that name a judge are of networks trained by the protocol that their published numbers had, "
        "the others by that of the table."
    )


def _footnotes(group: list[Record], whole: list[Record]) -> list[str]:
    """Why cells are empty, in words; for a block of stand-ins, why those of the published rows are that they
    stand for."""
    first = group[0]
    if first.origin == "elsewhere":
        return []
    missing = [record for record in group if record.reason]
    if first.origin == "stand_in":
        measured = {tuple(_place(record)) for record in group}
        asked = [
            record
            for record in whole
            if record.origin == "published"
            and record.values["dataset"] == first.stands_for
            and record.measure == first.measure
        ]
        missing = [record for record in asked if tuple(_place(record)) not in measured]
    notes = []
    for reason in dict.fromkeys(record.reason for record in missing):
        rows = [record for record in missing if record.reason == reason]
        ipcs = sorted({record.values["ipc"] for record in rows}, key=_ipc_order)
        methods = ", ".join(dict.fromkeys(names.method_of_row(record.values) for record in rows))
        notes.append(
            f"{reason[:1].upper()}{reason[1:]}: {methods} ({', '.join(names.ipc(ipc) for ipc in ipcs)})."
        )
    return notes


def _place(record: Record) -> list[str]:
    return [
        record.values[column] for column in ("ipc", "method", "train_arch", "eval_arch", "metric", "setting")
    ]


def _remarks(group: list[Record], by_architecture: bool) -> list[str]:
    """Distinct notes on published numbers, with the methods, images per class and architectures they are
    about."""
    about: dict[str, list[Record]] = {}
    for record in group:
        if record.remark and record.remark != "not reported":
            about.setdefault(record.remark, []).append(record)
    texts = []
    for remark, rows in about.items():
        methods = dict.fromkeys(names.method_of_row(record.values) for record in rows)
        places = [names.ipc(ipc) for (ipc,) in _values(rows, "ipc")]
        places += (
            [names.architecture(arch) for (arch,) in _values(rows, "eval_arch")] if by_architecture else []
        )
        texts.append(f"{', '.join(methods)} ({', '.join(places)}): {remark}")
    return texts
