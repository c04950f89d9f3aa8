"""What there is by name: `condense list`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, get_args

from condense.config import unknown
from condense.plan import brought_for, data_cell
from condense.plan.tables import Plan
from condense.specs import TERMS, AnyTask, catalogue

_WIDEST = 60  # signs up to which entries of a column are brought to one width


def listing(kind: str) -> str:
    """The methods, terms, datasets, protocols, tasks, tables, architectures or scales there are, one a line.
    Raises UserError for another word."""
    if kind not in _LISTINGS:
        raise unknown("list", kind, _LISTINGS)
    rows = [tuple(map(str, row)) for row in _LISTINGS[kind]()]
    widths = [min(_WIDEST, max(map(len, column))) + 2 for column in zip(*rows, strict=True)]
    return "\n".join(
        "".join(f"{entry:<{width - 2}}  " for entry, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _methods() -> Iterable[tuple[Any, ...]]:
    yield "name", "title", "source", "needs"
    for name in catalogue.names_in("methods"):
        recipe = catalogue.recipe(name)
        needs = [f"{name}: {parent.what}" for name, parent in recipe.parents().items() if parent.needed]
        needs += [entry.told for entry in brought_for(recipe)]
        yield name, recipe.title, f"{recipe.source.paper} {recipe.source.equation}", ", ".join(needs)


def _terms() -> Iterable[tuple[Any, ...]]:
    yield "name", "options", "what it is"
    for name, kind in TERMS.items():
        options = ", ".join(entry.name for entry in fields(kind) if entry.name != "name")
        first, *_ = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
        yield name, options, " ".join(first.split())


def _datasets() -> Iterable[tuple[Any, ...]]:
    yield "name", "title", "size", "classes", "train", "test"
    for name in catalogue.names_in("datasets"):
        spec = data_cell(name).spec
        train = f"{'>= ' if spec.counts == 'at_least' else ''}{spec.train}"
        yield name, spec.title, f"{spec.channels}x{spec.size}x{spec.size}", spec.classes, train, spec.test


def _protocols() -> Iterable[tuple[Any, ...]]:
    yield "name", "title", "epochs", "batch", "source"
    for name in catalogue.names_in("protocols"):
        protocol = catalogue.protocol(name)
        # What it is by default, where it changes with the set that it judges
        varies = " by default" if protocol.overrides else ""
        yield name, protocol.title, protocol.epochs, f"{protocol.batch}{varies}", protocol.source.paper


def _tasks() -> Iterable[tuple[Any, ...]]:
    yield "name", "title", "metrics", "settings", "further sets"
    for task in get_args(AnyTask):
        settings = ", ".join(entry.name for entry in fields(task) if entry.name != "kind")
        metrics = ", ".join(about.label for about in task.metrics.values())
        yield (
            next(entry.default for entry in fields(task) if entry.name == "kind"),
            task.title,
            metrics,
            settings,
            ", ".join(task.further),
        )


def _tables() -> Iterable[tuple[Any, ...]]:
    yield "name", "title", "scales"
    made = {scale: Plan(scale).targets for scale in catalogue.names_in("scales")}
    for name, spec in Plan.specs_by_path().items():
        yield name, spec.title, ", ".join(scale for scale, names in made.items() if name in names)


def _architectures() -> Iterable[tuple[Any, ...]]:
    """With the parameters for 10 classes of 32 x 32 colour images, '-' where those do not fit."""
    import torch

    from condense import models

    yield "name", "parameters"
    for name, builder in sorted(models.ARCHITECTURES.items()):
        count = "-"
        if builder.fits(builder.defaults, 3, builder.defaults.enlarge or 32):
            with torch.device("meta"):
                count = f"{models.count_parameters(models.build(name, channels=3, size=32, classes=10)):,}"
        yield name, count


def _scales() -> Iterable[tuple[Any, ...]]:
    yield "name", "title", "sets", "networks", "tables and figures"
    for name in catalogue.names_in("scales"):
        plan = Plan(name)
        yield (
            name,
            plan.scale.title,
            plan.scale.n_sets,
            plan.scale.n_networks,
            len(plan.targets),
        )


_LISTINGS: dict[str, Callable[[], Iterable[tuple[Any, ...]]]] = {
    "methods": _methods,
    "terms": _terms,
    "datasets": _datasets,
    "protocols": _protocols,
    "tasks": _tasks,
    "tables": _tables,
    "architectures": _architectures,
    "scales": _scales,
}
