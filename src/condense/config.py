"""Strict reading of settings: a value has the type its field names, and a wrong name is answered with the
right one.

Floor 0: imports neither torch nor numpy, because every cluster job reads the Snakefile, and with it this
module, anew.
"""

from __future__ import annotations

import difflib
import math
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import yaml


class UserError(Exception):
    """A fault the user can mend. The message says what is wrong, where, and what to do; no traceback is
    shown."""


def unknown(kind: str, name: object, known: typing.Iterable[str], where: str = "") -> UserError:
    """The error for a name that is not known: says where it stands, the nearest known name, and all of them
    if few."""
    known = sorted(str(entry) for entry in known)
    name = " ".join((name[:80] if isinstance(name, str) else reprlib.repr(name)).split())
    near = _nearest(name, known)
    hint = f"; did you mean '{near}'?" if near else ""
    if not near or len(known) <= 8:
        hint += f" (known: {', '.join(known) or 'none'})"
    return UserError(f"{where + ': ' if where else ''}unknown {kind} '{name}'{hint}")


def _nearest(name: str, known: Sequence[str]) -> str:
    """The known name that `name` was most likely meant to be, whatever its case; '' if none is near."""
    plain: dict[str, str] = {entry.lower(): entry for entry in reversed(known)}
    near = difflib.get_close_matches(name.lower(), plain, n=20, cutoff=_NEAR)
    # Of names as like, the one of about as many letters
    best = max(near, key=lambda entry: _likeness(name.lower(), entry), default="")
    return plain.get(best, "")


def _likeness(name: str, entry: str) -> float:
    begins = entry[:1] == name[:1]
    return (
        difflib.SequenceMatcher(None, entry, name).ratio() + 0.1 * begins - 0.05 * abs(len(entry) - len(name))
    )


def without_function(kind: str, name: str, registry: str, settings: str) -> UserError:
    """The error for a name of an engine, task or term that has its class of `settings`, and no function in
    `registry`."""
    return UserError(
        f"{kind} '{name}' has {settings} but no function in {registry}; add `\"{name}\": FUNCTION` there"
    )


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Inside, the message of a UserError that names no file of settings begins with `path`."""
    try:
        yield
    except UserError as error:
        if ".yaml" in str(error):
            raise
        raise UserError(f"{path}: {error}") from None


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises UserError if it is absent, unreadable, not YAML or not a
    mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}") from None
    try:
        values = yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError, *_YAML_FAULTS) as error:
        told = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise UserError(f"{path}: not valid YAML: {told[:300]}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {_shown(values)}")
    return values


# What PyYAML raises for values that do not fit their explicit tag, such as `!!bool maybe`.
_YAML_FAULTS = (TypeError, AttributeError, LookupError, ArithmeticError)
_DIGITS = 15  # of a number that is written out
_NEAR = 0.5  # of `difflib`'s likeness of two names, from which one may be meant
# Whole numbers from here on are no settings, and longer ones can be neither printed nor made floating
_LARGEST = 1 << 63
_DEEPEST = 20  # levels of nesting in a free value


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, of which YAML would silently keep the last, and what could
    grow without end."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not used here", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        if abs(value) >= _LARGEST:
            raise yaml.constructor.ConstructorError(
                None, None, "a whole number is too large", node.start_mark
            )
        return value


def _mapping_without_repeats(loader: _StrictLoader, node: yaml.MappingNode) -> dict:
    loader.flatten_mapping(node)
    seen: set = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, (list, dict, set)):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a plain value", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands here twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


def read(kind: type, values: object, where: str) -> Any:
    """`values` as an instance of the dataclass `kind`, nested dataclasses included.

    Raises UserError naming `where`, the key and the nearest valid key for an unknown key, a missing one or a
    wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where}: expected a mapping with the keys {', '.join(f.name for f in fields(kind))}; found "
            f"{_shown(values)}"
        )
    known = {field.name: field for field in fields(kind) if field.init}
    hints = _hints(kind)
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


def is_record(kind: object) -> typing.TypeGuard[type]:
    """Whether `kind` is a class of settings: a dataclass, not a value of one."""
    return isinstance(kind, type) and is_dataclass(kind)


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
        return _free(value, where)
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
            raise UserError(f"{where}: a list is needed, found {_shown(value)}{form}")
        return origin(convert(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: a mapping is needed, found {_shown(value)}")
        return {
            convert(arguments[0], key, where): convert(arguments[1], entry, f"{where}: {key}")
            for key, entry in value.items()
        }
    return _plain(kind, value, where)


def _free(value: object, where: str, depth: int = 0) -> object:
    """A value of any kind that JSON can hold: it enters keys and command lines."""
    if depth > _DEEPEST:
        raise UserError(f"{where}: nested more than {_DEEPEST} levels deep")
    if isinstance(value, (list, tuple)):
        return [_free(entry, f"{where}[{index}]", depth + 1) for index, entry in enumerate(value)]
    if isinstance(value, dict):
        return {
            _plain(str, key, where): _free(entry, f"{where}: {key}", depth + 1)
            for key, entry in value.items()
        }
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return _plain(type(value), value, where)
    raise UserError(
        f"{where}: a number, a text, true, false, a list or a mapping is needed, found {_shown(value)}"
    )


def _plain(kind: type, value: object, where: str) -> Any:
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise UserError(f"{where}: the number is too large")
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UserError(f"{where}: a finite number is needed, found {value}")
        return float(value)
    if kind in (float, int) and isinstance(value, str):
        raise UserError(f"{where}: a number is needed, found {_shown(value)}{_as_number(kind, value)}")
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        dict: "a mapping",
        type(None): "nothing",
    }
    whole = (
        f": write {int(value)}" if kind is int and isinstance(value, float) and value == int(value) else ""
    )
    raise UserError(f"{where}: {names.get(kind, kind.__name__)} is needed, found {_shown(value)}{whole}")


def _as_number(kind: type, text: str) -> str:
    """How the number that a text spells is written: neither YAML nor JSON reads one in quotes, and YAML none
    such as 1e-3."""
    try:
        value = Decimal(text)
    except ArithmeticError:
        return ""
    fits = value.is_finite() and abs(value.adjusted()) < _DIGITS and (kind is float or value == int(value))
    return f": write {int(value) if value == int(value) else format(value, 'f')}" if fits else ""


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
        needed = [
            entry.name for entry in fields(named[word]) if entry.name != key and not _has_default(entry)
        ]
        form = ", ".join([f"{key}: {word}", *(f"{name}: ..." for name in needed)])
        raise UserError(f"{where}: a mapping is needed, found the text '{word}': write {{{form}}}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of the fields of a dataclass, worked out once: thousands of settings are read for one
    scale."""
    return typing.get_type_hints(kind)


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
                and sum(_has_default(kind.__dataclass_fields__[key]) for kind in kinds) != 1
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


@cache
def told_apart(kinds: tuple, key: str) -> Mapping[str, type]:
    """By the values that their field `key` can have, those of `kinds` that are dataclasses told apart by
    it."""
    named: dict[str, type] = {}
    for kind in kinds:
        hint = _hints(kind).get(key) if is_record(kind) else None
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
        if all(_has_default(entry) for entry in fields(kind) if entry.name != "kind")
    ]
    return alone if len(set(named.values())) > 1 else []


def _has_default(entry: Field) -> bool:
    return entry.default is not MISSING or entry.default_factory is not MISSING


_NOUNS = {
    str: "the text",
    bool: "",
    int: "the number",
    float: "the number",
    list: "the list",
    tuple: "the list",
}


def _shown(value: object) -> str:
    """A value as a message shows what it found."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else reprlib.repr(value)
    noun = "the mapping" if isinstance(value, dict) else _NOUNS.get(type(value), type(value).__name__)
    return f"{noun} {text if len(text) < 60 else text[:57] + '...'}".strip()


def labels_of(names: Sequence[str]) -> list[str]:
    """Names of which each stands once: one that comes again is numbered, ["mean", "gram", "mean"] -> ["mean",
    "gram", "mean 2"]."""
    return [
        name if names.index(name) == index else f"{name} {names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def merged(base: Any, change: Any) -> Any:
    """`base` with `change` laid over it: mappings merge by key; a list of named entries takes a mapping by
    name; all else is replaced.

    A mapping under a key is replaced too where `change` has another `kind` or `name` for it: what is set for
    one means nothing to another. Of entries with one name the second is called "name 2", and so on; see
    `labels_of`.
    """
    if isinstance(base, dict) and isinstance(change, dict):
        return {
            **base,
            **{
                key: value if _renamed(base.get(key), value) else merged(base.get(key), value)
                for key, value in change.items()
            },
        }
    if (
        isinstance(base, list)
        and isinstance(change, dict)
        and base
        and all(isinstance(entry, dict) and "name" in entry for entry in base)
    ):
        names = labels_of([entry["name"] for entry in base])
        for name in change:
            if name not in names:
                raise unknown("entry", name, names)
        return [merged(entry, change.get(name, {})) for name, entry in zip(names, base, strict=True)]
    return change


def _renamed(base: Any, change: Any) -> bool:
    both = isinstance(base, dict) and isinstance(change, dict)
    return both and any(tag in base and change.get(tag, base[tag]) != base[tag] for tag in ("kind", "name"))
