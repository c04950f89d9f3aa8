"""Drawing the parameters of an existing network anew."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from condense.machine.transfer import sent


def reinitialise(model: nn.Module, seed: int) -> None:
    """Draws all parameters of `model` anew, in place, and resets the running statistics of its batch norms.

    The values are bit for bit those of `build` after `torch.manual_seed(seed)`, then cast to the model's
    type, also for models on an accelerator or in another memory format, where drawing in place would give
    other numbers. Global random state is not touched.
    """
    take(model, Drawing(model)(seed))


class Drawing:
    """What `reinitialise` puts into networks like `model`, on the CPU; threads may call it, one of them at a
    time goes on.

    While a thread does, nobody else may draw from torch's global generator: what is drawn beside it takes a
    generator of its own.
    """

    # Torch's layers draw from the global generator, which is set and put back
    _global_state = threading.Lock()

    def __init__(self, model: nn.Module):
        self._twin = _twin(model)

    def __call__(self, seed: int) -> list[Tensor]:
        """Parameters and buffers, in their order in the model, drawn with a seed."""
        with self._global_state, torch.no_grad(), torch.random.fork_rng(devices=[]), torch.device("cpu"):
            # not torch.manual_seed: that seeds the accelerators too, whose state is not restored here
            torch.random.default_generator.manual_seed(seed)
            _reset(self._twin)
            return [
                tensor.detach().clone() for tensor in chain(self._twin.parameters(), self._twin.buffers())
            ]


@torch.no_grad()
def take(model: nn.Module, drawn: Sequence[Tensor]) -> None:
    """Puts what a `Drawing` gave into `model`."""
    tensors = list(chain(model.parameters(), model.buffers()))
    for tensor, new in zip(tensors, sent(drawn, tensors[0].device), strict=True):
        tensor.copy_(new)


def _twin(model: nn.Module) -> nn.Module:
    """A copy of `model` as if just built; parameters are left unset, because all are drawn anew, buffers keep
    their values."""
    memo: dict[int, Tensor] = {
        id(parameter): nn.Parameter(_unset(parameter), requires_grad=False)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): _unset(buffer).copy_(buffer) for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def _unset(tensor: Tensor) -> Tensor:
    """An unset tensor of the same shape where and how a new network has it: on the CPU, in the default type,
    contiguous."""
    return torch.empty(
        tensor.shape,
        device="cpu",
        dtype=torch.get_default_dtype() if tensor.is_floating_point() else tensor.dtype,
    )


def _reset(module: nn.Module) -> None:
    """Resets modules in the order in which they were built; one with `reset_parameters` answers for all it
    holds."""
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    if list(module.parameters(recurse=False)):
        raise TypeError(f"{type(module).__name__} has parameters of its own, but no reset_parameters")
    for child in module.children():
        _reset(child)
