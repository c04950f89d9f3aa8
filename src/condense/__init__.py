"""Reproducible dataset condensation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense.evaluate.synthetic import load_synthetic

__all__ = ["load_synthetic"]


def __getattr__(name: str) -> Any:
    # On demand, since it needs torch and most of our commands do not.
    if name == "load_synthetic":
        from condense.evaluate.synthetic import load_synthetic

        return load_synthetic
    raise AttributeError(f"module 'condense' has no attribute '{name}'")
