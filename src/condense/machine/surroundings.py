"""What a program may have set in torch before it calls us, and what our jobs set for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def as_in_own_process() -> Iterator[None]:
    """Inside, torch is as it is in a new process, where jobs run otherwise, so that results do not hang on
    who calls: numbers of 32 bits made on the CPU and multiplied in full, gradients, no autocast. Afterwards
    all is put back, with torch's threads and its random state.
    """
    kind, place = torch.get_default_dtype(), torch.get_default_device()
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.callback(torch.set_num_threads, threads)
        stack.callback(torch.set_float32_matmul_precision, precision)
        stack.callback(torch.set_default_dtype, kind)
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)
        if place != torch.device("cpu"):
            stack.callback(torch.set_default_device, place)
            torch.set_default_device(None)
        yield
