"""What torch hands to both passes of an operation."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Context(Protocol):
    """Keeps things from the forward pass for the backward one. Torch's own type leaves out some of this."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]  # of each argument behind the context

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors; None stands for one that is not needed."""

    def set_materialize_grads(self, value: bool) -> None:
        """Whether the backward pass is given zeros, and not None, for results without a gradient."""
