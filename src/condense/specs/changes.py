"""Changes laid over a recipe or a protocol, which say all that they change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

from condense.config import UserError, merged, read
from condense.config.merging import TAGS

_FIXED = ("name", "engine")  # decide paths and what else a setting means


def laid_over(base: Any, change: Any, where: str) -> Any:
    """A recipe or protocol with `change` laid over it. Raises UserError, beginning with `where`, for a change
    that does not fit."""
    if not isinstance(change, Mapping):
        raise UserError(f"{where}: a mapping of changes is needed, found {change!r}")
    for key in _FIXED:
        if key in change and change[key] != getattr(base, key, None):
            raise UserError(
                f"{where}: {key}: cannot be changed here; a recipe or protocol of another {key} needs a file "
                "of its own"
            )
    try:
        values = merged(asdict(base), dict(change))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    value = read(type(base), values, where)
    _require_said(base, value, change, where)
    return value


def _require_said(before: Any, after: Any, change: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a change to another `kind` or `name` of settings that have the same class under
    both, if it says nothing of one that `before` sets: that would go back to its default without a word."""
    for key, said in change.items():
        old, new = getattr(before, key, None), getattr(after, key, None)
        if not isinstance(said, Mapping) or not is_dataclass(old) or type(old) is not type(new):
            continue
        tags = [tag for tag in TAGS if hasattr(old, tag)]
        if all(getattr(old, tag) == getattr(new, tag) for tag in tags):
            _require_said(old, new, said, f"{where}: {key}")
            continue
        for name, value in _set_in(old).items():
            left = getattr(new, name)
            if name not in said and value != left:
                raise UserError(
                    f"{where}: {key}: {name}: was {_told(value)}, and nothing is said of it beside the other "
                    f"{' or '.join(tags)}; write it, or `{name}: {_told(left)}`"
                )


def _set_in(settings: Any) -> dict[str, Any]:
    """What is set in settings to something else than its default."""
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(settings)
    }
    values = {name: getattr(settings, name) for name in defaults}
    return {name: value for name, value in values.items() if value != defaults[name]}


def _told(value: Any) -> str:
    return json.dumps(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value)
