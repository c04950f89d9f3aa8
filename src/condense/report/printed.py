"""Tables of settings: those that a paper prints beside those of the resolved recipes, every difference marked
and with its reason."""

from __future__ import annotations

from collections.abc import Iterable

from condense.plan import printed
from condense.plan.printed import PrintedSetting
from condense.plan.tables import Plan
from condense.report import names
from condense.report.layout import Block, Cell, Line

COLUMNS = (
    "paper,table,dataset,ipc,method,stage,name,published,published_note,here,differs,note,scale,run_scale"
).split(",")
NO_REASON = "no reason is given; the file of the table has a place for it (`notes`)"
_NAMES = {  # how settings are called in tables
    "image_learning_rate": "learning rate of the images",
    "real_batch_size": "real images a class and step",
    "batch_size": "batch",
    "weight_decay": "weight decay",
    "learning_rate": "learning rate",
    "scheduler": "schedule of the rate",
    "ema_rate": "decay of the mean weights",
}
_STAGES = {
    "synthesis": "Condensation",
    "soft_label_and_evaluation": "Soft labels and evaluation",
    "teacher": "Teacher",
}


def csv_rows(scale: Plan, name: str) -> list[dict[str, str]]:
    """One row a printed setting: as the paper has it, as the recipes have it (several values joined by
    'and'), 'yes' where they differ, and why."""
    rows = []
    for entry in scale.settings[name]:
        row = {key: entry.row[key] for key in COLUMNS[:7]}
        row |= {"published": entry.row["value"], "published_note": entry.row["note"], "here": entry.text}
        row |= {"differs": "yes" if entry.differs else "", "note": _why(entry) or entry.reason}
        rows.append(row | {"scale": printed.SCALE, "run_scale": scale.scale.name})
    return rows


def _why(entry: PrintedSetting) -> str:
    return (entry.note or NO_REASON) if entry.differs else ""


def of_settings(scale: Plan, name: str) -> list[Block]:
    """The table as a block: datasets as lines and images per class as columns; where the paper prints one
    value for all numbers of images, settings as lines and datasets as columns. Stages come one after the
    other."""
    entries = scale.settings[name]
    by_ipc = any(entry.row["ipc"] for entry in entries)
    across = "ipc" if by_ipc else "dataset"
    columns = list(dict.fromkeys(entry.row[across] for entry in entries))
    reasons = list(dict.fromkeys(_why(entry) for entry in entries if entry.differs))
    lines: dict[tuple[str, str, str], list[PrintedSetting]] = {}
    for entry in entries:
        place = (entry.row["stage"], entry.row["dataset"] if by_ipc else "", entry.row["name"])
        lines.setdefault(place, []).append(entry)
    one_setting = len({setting for _, _, setting in lines}) == 1
    sections: dict[str, list[Line]] = {}
    for (stage, dataset, setting), members in lines.items():
        called = _NAMES.get(setting, setting.replace("_", " "))
        about = [names.dataset(dataset)] if dataset else []
        label = ", ".join(about if one_setting and about else [*about, called])
        cells = [
            [_cell(entry, reasons) for entry in members if entry.row[across] == column] for column in columns
        ]
        sections.setdefault(stage, []).append(Line(label, cells))
    made = [(_STAGES.get(stage, stage) if len(sections) > 1 else "", of) for stage, of in sections.items()]
    heads = [names.ipc(column) if by_ipc else names.dataset(column) for column in columns]
    (method,) = dict.fromkeys(names.method(entry.row["method"]) for entry in entries)
    title = f"Settings of {method}: the recipe's and the paper's"
    footnotes = [f"[{number}] Differs: {reason}" for number, reason in enumerate(reasons, 1)]
    footnotes += _absent(entries)
    head = "Data" if by_ipc else "Setting"
    return [Block(title, _caption(scale), heads, made, True, footnotes, list(_remarks(entries)), head)]


def _cell(entry: PrintedSetting, reasons: list[str]) -> Cell:
    mark = f", differs [{reasons.index(_why(entry)) + 1}]" if entry.differs else ""
    return Cell(f"{entry.text}{mark}" if entry.ours else "", entry.row["value"])


def _caption(scale: Plan) -> str:
    what = (
        f"What the recipes have at the scale {printed.SCALE}; beside it, marked 'paper', what the paper "
        "prints. Without the paper's number: it prints none there."
    )
    if scale.scale.name == printed.SCALE:
        return what
    return (
        f"{what} The numbers on this page were made at the scale {scale.scale.name}, which changes settings "
        f"of its own ({scale.maker.where})."
    )


def _absent(entries: list[PrintedSetting]) -> list[str]:
    """Why the recipes have nothing in some places: datasets, with images per class where they have something
    at others."""
    about: dict[str, list[str]] = {}
    with_some = {entry.row["dataset"] for entry in entries if entry.ours}
    for entry in entries:
        if entry.reason:
            whole = entry.row["dataset"] not in with_some
            about.setdefault(entry.reason, []).append(_place(entry, with_ipc=not whole))
    return [
        f"{reason[:1].upper()}{reason[1:]}: {', '.join(dict.fromkeys(places))}."
        for reason, places in about.items()
    ]


def _place(entry: PrintedSetting, with_ipc: bool = True) -> str:
    ipc = entry.row["ipc"] if with_ipc else ""
    return " ".join([names.dataset(entry.row["dataset"]), *([names.ipc(ipc)] if ipc else [])])


def _remarks(entries: list[PrintedSetting]) -> Iterable[str]:
    """Distinct notes on the printed settings, with what they are about."""
    about: dict[str, list[PrintedSetting]] = {}
    for entry in entries:
        if entry.row["note"] and entry.row["note"] != "not reported":
            about.setdefault(entry.row["note"], []).append(entry)
    for remark, members in about.items():
        yield f"{', '.join(dict.fromkeys(map(_place, members)))}: {remark}"
