"""Changes that are laid over settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from condense.config.faults import unknown

TAGS = ("kind", "name")  # settings that say what the others beside them mean


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
    return both and any(tag in base and change.get(tag, base[tag]) != base[tag] for tag in TAGS)
