"""Values as what their fields name: plain types, dataclasses, lists, mappings, unions of these."""

from __future__ import annotations

import difflib
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from condense.config.faults import UserError, unknown
from condense.config.kinds import has_default, hints_of, is_record, kinds_alone, told_apart
from condense.config.plain import free, plain, shown


def read(kind: type, values: object, where: str) -> Any:
    """`values` as an instance of the dataclass `kind`, nested dataclasses included.

    Raises UserError naming `where`, the key and the nearest valid key for an unknown key, a missing one or a
    wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where}: expected a mapping with the keys {', '.join(f.name for f in fields(kind))}; found "
            f"{shown(values)}"
        )
    known = {field.name: field for field in fields(kind) if field.init}
    hints = hints_of(kind)
    for key in values:
        if key not in known:
            raise unknown("key", key, known, where)
    ready = {}
    for name, field in known.items():
        if name in values:
            ready[name] = convert(hints[name], values[name], f"{where}: {name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{where}: the key '{name}' is missing{_form(hints[name])}")
    try:
        return kind(**ready)
    except UserError as error:
        # A class that knows what its field is called says so, too
        told = str(error).removeprefix(f"{where.rsplit(': ', 1)[-1]}: ")
        raise UserError(f"{where}: {told}") from None


def _form(kind: Any) -> str:
    """How a missing value is to be written, where that is not plain from its name."""
    if is_dataclass(kind):
        keys = (
            f.name if f.default is MISSING and f.default_factory is MISSING else f"[{f.name}]"
            for f in fields(kind)
        )
        return f": a mapping with the keys {', '.join(keys)}"
    return (
        f": one of {', '.join(map(str, typing.get_args(kind)))}"
        if typing.get_origin(kind) is typing.Literal
        else ""
    )


def convert(kind: Any, value: object, where: str) -> Any:
    """`value` as `kind`: a plain type, a dataclass, list[X], dict[str, X], tuple[X, ...], Literal or a union
    of these."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return free(value, where)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            raise unknown("value", value, arguments, where)
        return value
    if is_record(kind):
        return value if isinstance(value, kind) else read(kind, value, where)
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            form = f": write [{value}]" if isinstance(value, str) and value.isidentifier() else ""
            raise UserError(f"{where}: a list is needed, found {shown(value)}{form}")
        return origin(convert(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: a mapping is needed, found {shown(value)}")
        return {
            convert(arguments[0], key, where): convert(arguments[1], entry, f"{where}: {key}")
            for key, entry in value.items()
        }
    return plain(kind, value, where)


def _first_that_fits(kinds: tuple, value: object, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    # A kind that needs no further settings may be given by its name alone.
    if isinstance(value, str) and kinds_alone(kinds):
        value = {"kind": value}
    if isinstance(value, str) and all(map(is_dataclass, kinds)):
        _refuse_word(kinds, value, where)
    kinds = _of_that_kind(kinds, value, where)
    problems = []
    for kind in kinds:
        try:
            return convert(kind, value, where)
        except UserError as error:
            problems.append((is_dataclass(kind) == isinstance(value, dict), error))
    raise max(problems, key=lambda problem: problem[0])[1]


def _refuse_word(kinds: tuple, word: str, where: str) -> None:
    """Raises UserError for a text in place of settings that are told apart by a name: with the form that it
    stands for."""
    for key in ("engine", "kind", "name"):
        named = told_apart(kinds, key)
        if len(set(named.values())) < 2:
            continue
        if word not in named:
            raise unknown("value", word, named, f"{where}: {key}")
        needed = [entry.name for entry in fields(named[word]) if entry.name != key and not has_default(entry)]
        form = ", ".join([f"{key}: {word}", *(f"{name}: ..." for name in needed)])
        raise UserError(f"{where}: a mapping is needed, found the text '{word}': write {{{form}}}")


def _of_that_kind(kinds: tuple, value: object, where: str) -> tuple:
    """Of dataclasses that differ in the values of their field `engine`, `kind` or `name`, the one that the
    mapping `value` names; else all.

    Raises UserError for a value that none of them has, and for a mapping without the field unless it has a
    default in just one.
    """
    for key in ("engine", "kind", "name"):
        named = told_apart(kinds, key)
        if len(set(named.values())) < 2 or not isinstance(value, dict):
            continue
        if key not in value:
            # Where just one of them has its name by default, a mapping without a name is of that one.
            if (
                all(map(is_dataclass, kinds))
                and sum(has_default(kind.__dataclass_fields__[key]) for kind in kinds) != 1
            ):
                known = [name for kind in kinds for name in kind.__dataclass_fields__]
                for meant in difflib.get_close_matches(
                    key, [str(given) for given in value if given not in known], n=1, cutoff=0.5
                ):
                    raise unknown("key", meant, set(known), where)
                raise UserError(f"{where}: the key '{key}' is missing: one of {', '.join(map(str, named))}")
            continue
        if not isinstance(value[key], str) or value[key] not in named:
            raise unknown("value", value[key], named, f"{where}: {key}")
        return (named[value[key]],)
    return kinds
