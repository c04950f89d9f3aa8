"""The 720 ConvNets that differ in width, depth, norm, activation and pooling. Source: DC (Zhao et al. 2021),
Appendix; DSA, DM and ddm search them too."""

from __future__ import annotations

from typing import Any

from condense.specs.spaces.base import Space, digits, number_of

# By option of the architecture 'convnet'; the last one runs fastest
CHOICES: dict[str, list[Any]] = {
    "width": [32, 64, 128, 256],
    "depth": [1, 2, 3, 4],
    "norm": ["none", "batch", "layer", "instance", "group"],
    "act": ["sigmoid", "relu", "leaky_relu"],
    "pool": ["none", "max", "average"],
}
_BASES = [len(values) for values in CHOICES.values()]


def settings_of(candidate: int) -> dict[str, Any]:
    """The options of the ConvNet that is the candidate of this number."""
    places = digits(candidate, _BASES)
    return {name: values[place] for (name, values), place in zip(CHOICES.items(), places, strict=True)}


def candidate_of(settings: dict[str, Any]) -> int:
    """The number of the ConvNet with these options."""
    return number_of([values.index(settings[name]) for name, values in CHOICES.items()], _BASES)


def told(candidate: int) -> str:
    """What a candidate is called: 'w128 d3 instance relu average'."""
    width, depth, *others = settings_of(candidate).values()
    return " ".join([f"w{width}", f"d{depth}", *others])


CONVNETS = Space("convnet_search_space", "720 ConvNets", 720, "candidate", told)
