"""What is done where the memory of a GPU does not suffice: the same work in smaller parts, where that gives
the same."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

T = TypeVar("T")


def release() -> None:
    """Gives back what nobody uses any more, such as the memory of work that ended for want of it. To be
    called outside its `except`."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def whole_batch_for(network: nn.Module) -> str:
    """What of a network would do something else if a batch went through it in parts; '' if nothing."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            return "its batch norm is over the whole batch"
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            return "its dropout would draw other masks"
        if not type(module).__module__.startswith(("torch.nn.", "condense.")):
            return f"nothing is known of its layers of kind {type(module).__name__}"
    return ""


def in_smaller_batches(work: Callable[[int], T], batch: int) -> T:
    """What `work` gives for a size of batches: `batch`, or the largest half, quarter, ... of it that fits.
    For work on single images.

    Raises torch.OutOfMemoryError where a single image does not fit.
    """
    while True:
        try:
            return work(batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2
        release()
