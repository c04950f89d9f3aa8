"""What one image costs in a network. No torch here: the Snakefile asks in every job of a cluster.

The networks of the scales were counted before and stand in `networks.csv`, which `python -m condense.estimate.counting` writes;
others are counted when they are asked for.
"""

from __future__ import annotations

from functools import cache

from condense.estimate.counted import Profile, counted_networks


@cache
def profile(arch: str, options: str, channels: int, size: int, classes: int) -> Profile:
    """The profile of a network for images of `size` pixels a side. Raises UserError as `models.build` does."""
    counted = counted_networks().get((arch, options, channels, size, classes))
    if counted is None:
        from condense.estimate.counting import count  # with torch

        counted = count(arch, options, channels, size, classes)
    return counted
