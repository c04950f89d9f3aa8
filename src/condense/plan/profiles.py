"""What one image costs in a network: from the table of those that the scales use, or counted when it is asked
for."""

from __future__ import annotations

from functools import cache

from condense.specs.costs.networks import counted_networks
from condense.specs.costs.profile import Profile


@cache
def profile(arch: str, options: str, channels: int, size: int, classes: int) -> Profile:
    """The profile of a network for images of `size` pixels a side; `options` is JSON. Raises UserError as
    `models.build` does."""
    counted = counted_networks().get((arch, options, channels, size, classes))
    if counted is None:
        from condense.training.counting import count  # with torch

        counted = count(arch, options, channels, size, classes)
    return counted
