"""What one image costs in a network: from the table of those that the scales use, or counted when it is asked
for."""

from __future__ import annotations

from functools import cache

from condense.config import UserError
from condense.specs.costs.networks import counted_networks, listed_architectures
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


def require_architecture(name: str, where: str, options: str = "") -> None:
    """Raises UserError, beginning with `where`, for a name that no architecture has, and for options, as
    JSON, that it has not."""
    if not options and name in listed_architectures():
        return
    if any(name == arch and options == given for arch, given, *_ in counted_networks()):
        return
    from condense.training.counting import check_options  # with torch: of networks of one's own alone

    try:
        check_options(name, options or "{}")
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
