"""Spaces of networks that a search ranks. One file a space, named in `SPACES`; the architecture of the same
name builds its candidates."""

from __future__ import annotations

from condense.config import unknown
from condense.specs.spaces.base import Space
from condense.specs.spaces.convnets import CONVNETS
from condense.specs.spaces.nas201 import NAS201

SPACES: dict[str, Space] = {space.name: space for space in (CONVNETS, NAS201)}


def space_of(arch: str) -> Space:
    """The space whose candidates an architecture builds. Raises UserError for one that is none."""
    if arch not in SPACES:
        raise unknown("space of networks", arch, SPACES)
    return SPACES[arch]


__all__ = ["SPACES", "Space", "space_of"]
