"""Reproducible dataset condensation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense.command.calling import UserError, condense, load_synthetic

__all__ = ["UserError", "condense", "load_synthetic"]

_HOMES = {
    "condense": "condense.command.calling",
    "UserError": "condense.config",
    "load_synthetic": "condense.evaluate.synthetic",
}


def __getattr__(name: str) -> Any:
    # On demand, since they need torch and most of our commands do not.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'condense' has no attribute '{name}'")
