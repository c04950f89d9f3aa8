"""CUDA graphs: work over fixed tensors, recorded once and repeated in one launch.

Small networks leave a GPU idle between the hundreds of launches of a step, which a graph does without.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

from condense.config import UserError

T = TypeVar("T")


class Graph(Protocol):
    """Recorded work."""

    def replay(self) -> None:
        """Repeats it on what its tensors hold now."""


class Recorder(Protocol):
    """How work is recorded."""

    def plainly(self, work: Callable[[], T]) -> T:
        """Does the work as it is, before it may be recorded."""

    def captured(self, work: Callable[[], T]) -> tuple[Graph, T]:
        """Records the work without doing it: the graph, and what each replay writes its results to."""


class CudaRecorder:
    """The `Recorder` of GPUs. Not tested where there is no GPU, which is where it was written.

    Its graphs take their memory from one pool: what one needs while it runs serves the next. So no two of them run at once, and what
    one gives is used before another, recorded later, runs again or is held by the caller.
    """

    def __init__(self) -> None:
        self._pool: Any = None

    def plainly(self, work: Callable[[], T]) -> T:
        """On a stream beside the main one, as capture asks for."""
        main, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(main)
        with torch.cuda.stream(beside):
            done = work()
        main.wait_stream(beside)
        return done

    def captured(self, work: Callable[[], T]) -> tuple[Graph, T]:
        """Raises UserError where the work waits for the GPU or reads memory of the host."""
        graph = torch.cuda.CUDAGraph()
        try:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            with torch.cuda.graph(graph, pool=self._pool):
                results = work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            hint = "Does it wait for the GPU or read from the host (.item(), a mask as an index, a new tensor of numbers)?"
            raise UserError(
                f"a step cannot be recorded as a CUDA graph: {error}\n{hint} CONDENSE_GRAPHS=off does without graphs"
            ) from error
        return graph, results


class Recorded:
    """Work that is done plainly when first called, recorded at the second call, and replayed then and from there on.

    What it gives is overwritten by the next call. Whatever the host decides in it is decided twice, and never again.
    """

    def __init__(self, work: Callable[[], Any], recorder: Recorder, warm: bool = False):
        """`warm`: work like it was done before, so that it is recorded at the first call."""
        self.work, self.recorder, self._warm = work, recorder, warm
        self._graph, self._results = None, None

    def __call__(self) -> Any:
        if not self._warm:
            self._warm = True
            return self.recorder.plainly(self.work)
        if self._graph is None:
            self._graph, self._results = self.recorder.captured(self.work)
        self._graph.replay()
        return self._results


def recorder_for(device: torch.device) -> Recorder | None:
    """CUDA graphs on a GPU, unless CONDENSE_GRAPHS=off; None elsewhere."""
    return CudaRecorder() if device.type == "cuda" and os.environ.get("CONDENSE_GRAPHS") != "off" else None
