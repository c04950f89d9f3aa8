"""Networks without the channels whose batch norms scale them least.

Source: Liu et al. 2017 (Learning Efficient Convolutional Networks through Network Slimming), section 3: the
scales of all batch norms are ranked together, and the channels below a percentile of them are taken out, with
the filters that make them and the weights that read them. Which layers a channel runs through is found by
torch-pruning (Fang et al. 2023, DepGraph); channels that can only go together, as those of both branches of a
residual block, count as one, whose scale is the mean of theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense import kernels
from condense.config import UserError
from condense.models.base import Network


def pruning_library() -> Any:
    """The package torch_pruning. Raises UserError where it is not installed."""
    try:
        import torch_pruning
    except ImportError:
        raise UserError(
            "task slimming needs the package torch-pruning: run 'make env', or install condense with its "
            "extra 'slimming'"
        ) from None
    return torch_pruning


@dataclass(frozen=True)
class Channels:
    """The channels of a network that can be taken out, group by group: `scales` holds a tensor (channels,)
    for each."""

    graph: Any
    groups: Sequence[Any]
    scales: Sequence[Tensor]

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(map(len, self.scales))

    def left(self) -> list[int]:
        """How many channels each group has now."""
        return [self.graph.get_out_channels(group[0].dep.target.module) for group in self.groups]


def channels_of(network: Network, image: Tensor) -> Channels:
    """The channels behind batch norms, found by a pass of an image (1, C, H, W), all but the classes.

    The scale of a channel is the size of its weight in the batch norm. Raises UserError for a network without
    batch norm, and where torch-pruning is not installed.
    """
    library, trained = pruning_library(), network.training
    # Looked for first: of networks of many tokens the library takes minutes to find that there is none
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise _without_norms()
    # It follows the gradients of torch's own operations, and warns of parameters that no layer has
    with kernels.plain(), torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unwrapped parameters detected", UserWarning)
        try:
            graph = library.DependencyGraph().build_dependency(network, example_inputs=image)
        except Exception as error:
            raise _unable(str(error)) from error
    network.train(trained)
    # Scales as they are: by default they would be divided by the mean of their layer
    scale = library.importance.BNScaleImportance(group_reduction="mean", normalizer=None)
    found = [(group, scale(group)) for group in graph.get_all_groups(ignored_layers=[network.classifier])]
    kept = [(group, scales.detach().cpu()) for group, scales in found if scales is not None]
    if not kept:
        raise _without_norms()
    return Channels(graph, *map(list, zip(*kept, strict=True)))


def smallest(scales: Sequence[Tensor], percent: int) -> list[list[int]]:
    """Of the channels of every group, (channels,) each, the places of those of the smallest scales: so many
    percent of all, rounded down, of equal ones the first.

    The largest of each group stays, since a layer needs a channel; then the next smallest goes in its place.
    Raises UserError where that leaves too few.
    """
    total = sum(map(len, scales))
    wanted = total * percent // 100
    spared = {(group, int(values.argmax())) for group, values in enumerate(scales)}
    ranked = sorted(
        (value, group, place)
        for group, values in enumerate(scales)
        for place, value in enumerate(values.tolist())
        if (group, place) not in spared
    )
    if wanted > len(ranked):
        raise UserError(
            f"percents: {percent} % of the {total} channels of this network are {wanted}, and {len(ranked)} "
            f"can be taken out, since each of its {len(scales)} groups keeps one: ask for at most "
            f"{(100 * (len(ranked) + 1) - 1) // total} %, or choose a wider network"
        )
    chosen: list[list[int]] = [[] for _ in scales]
    for _, group, place in ranked[:wanted]:
        chosen[group].append(place)
    return [sorted(places) for places in chosen]


def slim(network: Network, image: Tensor, percent: int) -> tuple[int, int]:
    """Takes so many percent of the channels of smallest scale out of `network`, in place; `image` (1, C, H,
    W) is one that it takes. Returns how many channels went, and of how many.

    Raises UserError as `channels_of` and `smallest` do, and where torch-pruning does not take out these very
    channels.
    """
    channels = channels_of(network, image)
    chosen = smallest(channels.scales, percent)
    wanted = [len(scales) - len(places) for scales, places in zip(channels.scales, chosen, strict=True)]
    try:
        for group, places in zip(channels.groups, chosen, strict=True):
            if places:
                first = group[0].dep
                channels.graph.get_pruning_group(first.target.module, first.handler, places).prune()
        with torch.no_grad(), kernels.plain():
            network.eval()(image)
    except Exception as error:
        raise _unable(str(error)) from error
    if channels.left() != wanted:
        raise _unable(f"of {wanted} channels {channels.left()} are left")
    return sum(map(len, chosen)), channels.total


def _without_norms() -> UserError:
    return UserError(
        "slimming ranks channels by the scales of their batch norms, of which this network has none: choose "
        "an architecture with batch norm, such as 'vgg11_bn'"
    )


def _unable(why: str) -> UserError:
    return UserError(
        f"torch-pruning cannot take channels out of this network ({why}): choose another architecture, such "
        "as 'vgg11_bn'"
    )
