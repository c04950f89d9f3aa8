"""Classes of settings, and how several are told apart by a field that each has another value of."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any


def is_record(kind: object) -> typing.TypeGuard[type]:
    """Whether `kind` is a class of settings: a dataclass, not a value of one."""
    return isinstance(kind, type) and is_dataclass(kind)


@cache
def hints_of(kind: type) -> dict[str, Any]:
    """The types of the fields of a dataclass, worked out once: thousands of settings are read for one
    scale."""
    return typing.get_type_hints(kind)


@cache
def told_apart(kinds: tuple, key: str) -> Mapping[str, type]:
    """By the values that their field `key` can have, those of `kinds` that are dataclasses told apart by
    it."""
    named: dict[str, type] = {}
    for kind in kinds:
        hint = hints_of(kind).get(key) if is_record(kind) else None
        named |= dict.fromkeys(
            typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else (), kind
        )
    return named


def by_name(kinds: tuple[Any, ...], key: str) -> dict[str, Any]:
    """The same, of classes that all have a name. Raises TypeError for one that has none, or that of
    another."""
    named: dict[str, Any] = {}
    for kind in kinds:
        names = told_apart((kind,), key)
        if not names:
            raise TypeError(
                f"{kind.__name__}: has no name for YAML files to call it by; it needs a field such as "
                f'{key}: Literal["{kind.__name__.lower()}"] = "{kind.__name__.lower()}"'
            )
        for name in names.keys() & named.keys():
            raise TypeError(f"{kind.__name__}: {key} '{name}': {named[name].__name__} has it already")
        named |= names
    return named


@cache
def kinds_alone(kinds: tuple) -> Sequence[str]:
    """Of dataclasses told apart by their field `kind`, the kinds that need no further settings: a text alone
    may stand for these."""
    named = told_apart(kinds, "kind")
    alone = [
        name
        for name, kind in named.items()
        if all(has_default(entry) for entry in fields(kind) if entry.name != "kind")
    ]
    return alone if len(set(named.values())) > 1 else []


def has_default(entry: Field) -> bool:
    """Whether a setting may be left out."""
    return entry.default is not MISSING or entry.default_factory is not MISSING
