"""Where a job runs, and what it holds while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense.files.checkpoints import checkpoint_path
from condense.machine import locks, runtime
from condense.machine.drafts import require_place


@dataclass(frozen=True)
class Machine:
    """Where a job runs: '--device' and '--threads'."""

    device: str = "auto"
    threads: int | None = None


@contextmanager
def at_work(
    machine: Machine, *outputs: Path, beside: Callable[[Path], Path] | None = None
) -> Iterator[tuple[Any, runtime.Clock]]:
    """Inside, this process alone makes `outputs`, on the `torch.device` that is yielded, with the clock that
    is started.

    `beside` gives the file that is written with an output. Raises UserError if an output, its checkpoint or
    that file cannot be written where it goes, or if the device is not there.
    """
    for out in outputs:
        require_place(out)
        require_place(checkpoint_path(out))
        if beside is not None:
            require_place(beside(out))
    threads = runtime.set_threads(machine.threads)
    with ExitStack() as stack:
        for out in sorted(outputs):  # in one order, so that two jobs never wait for each other
            stack.enter_context(locks.only_maker(out))
        device = stack.enter_context(runtime.device(machine.device))
        yield device, runtime.Clock(device, threads)
