"""What layers of a network are given while images go through it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from condense.config import UserError


class LayerInputs:
    """The inputs of all layers of a kind, or of several, in the order in which the network has them, from the
    passes in its context.

    `taken()` gives those of the last pass, with their gradients, and forgets them.
    """

    def __init__(self, network: nn.Module, kinds: Sequence[type[nn.Module]]):
        """Raises UserError for a network without any such layer."""
        self.layers: list[Any] = [layer for layer in network.modules() if isinstance(layer, tuple(kinds))]
        if not self.layers:
            names = " and no ".join(kind.__name__ for kind in kinds)
            raise UserError(
                f"a network of kind {type(network).__name__} has no {names}, whose statistics are asked for: "
                "use an architecture with batch norm, such as 'resnet18_bn'"
            )
        self._given: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> LayerInputs:
        for place, layer in enumerate(self.layers):

            def take(module: nn.Module, given: tuple[Tensor, ...], place: int = place) -> None:
                self._given[place] = given[0]

            self._handles.append(layer.register_forward_pre_hook(take))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._handles:
            self._handles.pop().remove()

    def taken(self) -> list[Tensor]:
        """The inputs (n, c, h, w), one a layer. Raises UserError if a pass went around a layer."""
        given, self._given = self._given, {}
        if len(given) < len(self.layers):
            raise UserError(
                f"{len(self.layers) - len(given)} of {len(self.layers)} layers of the network, whose "
                "statistics are asked for, see no image; use another architecture, such as 'resnet18_bn'"
            )
        return [given[place] for place in range(len(self.layers))]
