"""CUDA graphs: work over fixed tensors, recorded once and repeated in one launch.

Small networks leave a GPU idle between the hundreds of launches of a step, which a graph does without. A graph may neither stop a run
nor change what comes out: before it is used, it is compared with the plain work, and where it cannot be recorded or differs, the
plain work is done, which the log and `run.json` say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from condense.runtime import note

T = TypeVar("T")
# How far plain and recorded work may be apart, as a share of what they give: sums on a GPU come in any order, and in TF32.
ROUNDING = {torch.float32: 5e-3, torch.float64: 1e-9, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_SAMPLED = 1 << 16  # values of a tensor that are compared at most


class CannotRecord(Exception):
    """Work that a recorder cannot record, with the reason."""


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
        """Raises CannotRecord where the work waits for the GPU, reads memory of the host, or does not fit into the memory."""
        graph = torch.cuda.CUDAGraph()
        try:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            with torch.cuda.graph(graph, pool=self._pool):
                results = work()
        except RuntimeError as error:
            hint = "it may wait for the GPU or read from the host: .item(), a mask as an index, a new tensor of numbers"
            raise CannotRecord(f"{str(error).splitlines()[0]} ({hint})") from error
        return graph, results


class Recorded:
    """Work that is done plainly when first called, recorded at the second call, and replayed then and from there on.

    What it gives is overwritten by the next call. Whatever the host decides in it is decided a few times at the start, and never again.
    `refused` says why the work is not recorded after all; '' as long as it is.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        recorder: Recorder,
        *,
        state: Callable[[], Iterable[Tensor]],
        computed_in: torch.dtype = torch.float32,
        name: str = "a step",
        known: bool = False,
    ):
        """`state` gives the tensors that the work reads and changes, of which copies are put back after the comparison.

        `computed_in` is the type of the work with the coarsest rounding. `known`: work like it was done and compared before, so
        that it is recorded at the first call, without comparing it again.
        """
        self.work, self.recorder, self.state, self.name = work, recorder, state, name
        self.rounding = ROUNDING[computed_in]
        self.refused = ""
        self._warm = self._compared = known
        self._graph, self._results = None, None

    def __call__(self) -> Any:
        if not self._warm:
            self._warm = True
            return self.recorder.plainly(self.work)
        if self._graph is None and not self.refused:
            self._record()
        if self._graph is None:
            return self.work()
        self._graph.replay()
        return self._results

    def _record(self) -> None:
        """Records the work and compares it with the plain one; leaves all tensors as they are."""
        kept = _Kept(list(self.state()))
        try:
            graph, results = self.recorder.captured(self.work)
            why = "" if self._compared else self._difference(graph, results, kept)
        except (CannotRecord, torch.OutOfMemoryError) as error:
            graph, results, why = None, None, f"cannot be recorded: {error}"
        kept.put_back()
        self._compared = True
        if why:
            self.refused = why
            note(f"{self.name} is done without a CUDA graph, which takes longer: it {why}")
        else:
            self._graph, self._results = graph, results

    def _difference(self, graph: Graph, results: Any, kept: _Kept) -> str:
        """What the recorded work does otherwise than the plain one; '' if nothing."""

        def replayed() -> Any:
            graph.replay()
            return results

        plain, recorded = _trial(self.work, kept), _trial(replayed, kept)
        for (when, given, changes), (_, other_given, other_changes) in zip(plain, recorded, strict=True):
            for what, wanted, found in (("gives", given, other_given), ("changes", changes, other_changes)):
                if not all(_alike(one, other, self.rounding) for one, other in zip(wanted, found, strict=True)):
                    return f"{what} something else when it is recorded ({when})"
        return ""


class _Kept:
    """Copies of tensors and of the states of the generators, to go back to."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.tensors = tensors
        self._copies = [tensor.detach().clone() for tensor in tensors]
        self._generators = _generators()

    @torch.no_grad()
    def put_back(self) -> None:
        for tensor, value in zip(self.tensors, self._copies, strict=True):
            tensor.copy_(value)
        torch.set_rng_state(self._generators[0])
        if len(self._generators) > 1:
            torch.cuda.set_rng_state(self._generators[1])

    @torch.no_grad()
    def turn_over(self) -> None:
        """Other values that are as good as these: each tensor of numbers with a fraction holds its own from last to first."""
        for tensor, value in zip(self.tensors, self._copies, strict=True):
            tensor.copy_(value.flatten().flip(0).view_as(value) if value.is_floating_point() else value)


def _generators() -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


def _trial(work: Callable[[], Any], kept: _Kept) -> list[tuple[str, list[Tensor], list[Tensor]]]:
    """Samples of what work gives and how it changes the tensors: at once, once more from there, and from other values."""
    kept.put_back()
    trials = []
    for when in ("at the first step", "at a second step", "from other values"):
        if when == "from other values":
            kept.put_back()
            kept.turn_over()
        before = _samples(kept.tensors)
        given = _samples(leaf for leaf in tree_leaves(work()) if isinstance(leaf, Tensor))
        changes = [after - value for after, value in zip(_samples(kept.tensors), before, strict=True)]
        trials.append((when, given, [torch.stack([change, value]) for change, value in zip(changes, before, strict=True)]))
    return trials


def _samples(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Up to `_SAMPLED` values of each tensor, evenly spread, in double precision on the CPU."""
    flat = [tensor.detach().flatten() for tensor in tensors]
    return [values[:: max(1, len(values) // _SAMPLED)].double().cpu() for values in flat]


def _alike(one: Tensor, other: Tensor, rounding: float) -> bool:
    """Whether two samples differ by rounding alone: (n,) values, or (2, n) changes and the values that were changed."""
    (one, size), (other, _) = (tuple(one), tuple(other)) if one.dim() == 2 else ((one, one), (other, one))
    if one.shape != other.shape or not torch.equal(one.isfinite(), other.isfinite()):
        return False
    one, other, size = one.nan_to_num(0, 0, 0), other.nan_to_num(0, 0, 0), size.nan_to_num(0, 0, 0)
    smallest = 16 * torch.finfo(torch.float32).eps * float(size.norm())  # a change of this size is rounding of the values themselves
    return float((one - other).norm()) <= rounding * max(float(one.norm()), float(other.norm())) + smallest


def recorder_for(device: torch.device) -> Recorder | None:
    """CUDA graphs on a GPU, unless CONDENSE_GRAPHS=off; None elsewhere."""
    return CudaRecorder() if device.type == "cuda" and os.environ.get("CONDENSE_GRAPHS") != "off" else None
