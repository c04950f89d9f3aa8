"""Siamese draws as tensors: the host decides nothing, so that a step with any draws is the same work for a
GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condense.augment import siamese
from condense.augment.siamese import OPERATIONS, Draw, apply, stages


def as_tensors(draws: Sequence[Draw], strategy: str, mode: str = "one") -> list[Tensor]:
    """One draw a class: for every stage which of its operations, and the parameters of all of them; each
    (C,)."""
    tensors = []
    # As many stages as the strategy has; without operations the draws have one, which does nothing.
    for names, left in zip(stages(strategy, mode), zip(*map(_in_order, draws), strict=True), strict=False):
        tensors.append(torch.tensor([names.index(drawn.operation) for drawn in left]))
        for name in names:
            for parameter in _parameters(name):
                # Of classes under another operation any value does, as long as it is one of the parameter's
                # type.
                kind = torch.float32 if parameter in OPERATIONS[name].uniforms else torch.int64
                tensors.append(
                    torch.cat(
                        [
                            drawn.parameters[parameter]
                            if drawn.operation == name
                            else torch.zeros(1, dtype=kind)
                            for drawn in left
                        ]
                    )
                )
    return tensors


def _in_order(draw: Draw) -> list[Draw]:
    """A draw and all that come after it."""
    return [draw, *(_in_order(draw.then) if draw.then else [])]


def _parameters(name: str) -> list[str]:
    return [*OPERATIONS[name].integers, *OPERATIONS[name].uniforms]


@dataclass(frozen=True)
class Selected:
    """The draws of C classes, as `as_tensors` gives them, on the device of the images.

    Every operation is applied to all images and each class takes the result of its own: more arithmetic,
    which a GPU has to spare, and always the same launches.
    """

    strategy: str
    mode: str
    classes: int
    tensors: Sequence[Tensor]

    def __len__(self) -> int:
        return self.classes

    def __getitem__(self, classes: slice) -> Selected:
        count = len(range(self.classes)[classes])
        return Selected(self.strategy, self.mode, count, [tensor[classes] for tensor in self.tensors])

    def apply(self, images: Tensor) -> Tensor:
        """`images` (C, n, c, h, w), every class under its own draw."""
        count, result = images.shape[1], images.flatten(0, 1)
        left = (tensor[:, None].expand(-1, count).flatten() for tensor in self.tensors)
        for names in stages(self.strategy, self.mode):
            before, chosen = result, next(left)
            for index, name in enumerate(names):
                moved = apply(before, Draw(name, {parameter: next(left) for parameter in _parameters(name)}))
                result = torch.where((chosen == index).view(-1, 1, 1, 1), moved, result)
        return result.unflatten(0, images.shape[:2])


def apply_each_class(images: Tensor, draws: Sequence[Draw] | Selected) -> Tensor:
    """`images` (C, n, c, h, w), every class under its own draw, of either form. Raises ValueError if there
    are not C draws."""
    if not isinstance(draws, Selected):
        return siamese.apply_each_class(images, draws)
    if len(images) != len(draws):
        raise ValueError(f"{len(draws)} draws for {len(images)} classes")
    return draws.apply(images)
