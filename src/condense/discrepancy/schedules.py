"""Weights that change over the steps of a run."""

from __future__ import annotations


def linear_decay(step: int, steps: int) -> float:
    """The factor (steps - step) / steps: 1 at step 0, 1 / steps at the last one.

    Source: cpdm, lambda of eq. (7).
    """
    return (steps - step) / steps
