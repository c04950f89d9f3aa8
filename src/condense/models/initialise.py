"""Drawing the parameters of an existing network anew."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn


def reinitialise(model: nn.Module, seed: int) -> None:
    """Draws all parameters of `model` anew, in place, and resets the running statistics of its batch norms.

    The values are bit for bit those of `build` after `torch.manual_seed(seed)`, then cast to the model's type, also for models on an
    accelerator or in another memory format, where drawing in place would give other numbers. Global random state is not touched.
    """
    twin = _twin(model)
    with torch.no_grad():
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            # not torch.manual_seed: that seeds the accelerators too, whose state is not restored here
            torch.random.default_generator.manual_seed(seed)
            _reset(twin)
        drawn = chain(twin.parameters(), twin.buffers())
        for own, new in zip(chain(model.parameters(), model.buffers()), drawn, strict=True):
            # To a GPU from pinned memory: the copy then waits in its queue, and this process goes on.
            own.copy_(new.pin_memory() if own.is_cuda else new, non_blocking=True)


def _twin(model: nn.Module) -> nn.Module:
    """A copy of `model` as if just built; parameters are left unset, because all are drawn anew, buffers keep their values."""
    memo: dict[int, Tensor] = {id(own): nn.Parameter(_unset(own), requires_grad=False) for own in model.parameters()}
    memo |= {id(own): _unset(own).copy_(own) for own in model.buffers()}
    return copy.deepcopy(model, memo)


def _unset(tensor: Tensor) -> Tensor:
    """An unset tensor of the same shape where and how a new network has it: on the CPU, in the default type, contiguous."""
    return torch.empty(tensor.shape, device="cpu", dtype=torch.get_default_dtype() if tensor.is_floating_point() else tensor.dtype)


def _reset(module: nn.Module) -> None:
    """Resets modules in the order in which they were built; one with `reset_parameters` answers for all it holds."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
        return
    if list(module.parameters(recurse=False)):
        raise TypeError(f"{type(module).__name__} has parameters of its own, but no reset_parameters")
    for child in module.children():
        _reset(child)
