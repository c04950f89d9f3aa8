"""Plain values: numbers, texts, and what JSON can hold; and how a message shows them."""

from __future__ import annotations

import math
import reprlib
from decimal import Decimal
from typing import Any

from condense.config.faults import UserError

_DIGITS = 15  # of a number that is written out
# Whole numbers from here on are no settings, and longer ones can be neither printed nor made floating
LARGEST = 1 << 63
_DEEPEST = 20  # levels of nesting in a free value


def free(value: object, where: str, depth: int = 0) -> object:
    """A value of any kind that JSON can hold: it enters keys and command lines."""
    if depth > _DEEPEST:
        raise UserError(f"{where}: nested more than {_DEEPEST} levels deep")
    if isinstance(value, (list, tuple)):
        return [free(entry, f"{where}[{index}]", depth + 1) for index, entry in enumerate(value)]
    if isinstance(value, dict):
        return {
            plain(str, key, where): free(entry, f"{where}: {key}", depth + 1) for key, entry in value.items()
        }
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return plain(type(value), value, where)
    raise UserError(
        f"{where}: a number, a text, true, false, a list or a mapping is needed, found {shown(value)}"
    )


def plain(kind: type, value: object, where: str) -> Any:
    """`value`, which has to be of the plain type `kind`; a whole number is a number, too. Raises UserError,
    beginning with `where`, for another."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise UserError(f"{where}: the number is too large")
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UserError(f"{where}: a finite number is needed, found {value}")
        return float(value)
    if kind in (float, int) and isinstance(value, str):
        raise UserError(f"{where}: a number is needed, found {shown(value)}{_as_number(kind, value)}")
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
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < LARGEST
    whole = f": write {int(value)}" if kind is int and isinstance(value, float) and is_whole else ""
    raise UserError(f"{where}: {names.get(kind, kind.__name__)} is needed, found {shown(value)}{whole}")


def _as_number(kind: type, text: str) -> str:
    """How the number that a text spells is written: neither YAML nor JSON reads one in quotes, and YAML none
    such as 1e-3."""
    try:
        value = Decimal(text)
    except ArithmeticError:
        return ""
    fits = value.is_finite() and abs(value.adjusted()) < _DIGITS and (kind is float or value == int(value))
    return f": write {int(value) if value == int(value) else format(value, 'f')}" if fits else ""


_NOUNS = {
    str: "the text",
    bool: "",
    int: "the number",
    float: "the number",
    list: "the list",
    tuple: "the list",
}


def shown(value: object) -> str:
    """A value as a message shows what it found."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else reprlib.repr(value)
    noun = "the mapping" if isinstance(value, dict) else _NOUNS.get(type(value), type(value).__name__)
    return f"{noun} {text if len(text) < 60 else text[:57] + '...'}".strip()
