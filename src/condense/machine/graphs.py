"""CUDA graphs: work over fixed tensors, recorded once and repeated in one launch.

Small networks leave a GPU idle between the hundreds of launches of a step, which a graph does without. A
graph may neither stop a run nor change what comes out: before it is used, it is compared with the plain work,
and where it cannot be recorded or differs, the plain work is done, which the log and `run.json` say.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from condense.machine.runtime import note

T = TypeVar("T")
# How far plain and recorded work may be apart, as a share of what they give: sums on a GPU come in any order,
# and in TF32.
ROUNDING = {torch.float32: 5e-3, torch.float64: 1e-9, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_SAMPLED = 1 << 16  # values of a tensor that are compared at most
_GENERATORS = {"cpu": torch, "cuda": torch.cuda}


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

    Its graphs take their memory from one pool: what one needs while it runs serves the next. So no two of
    them run at once, and what one gives is used before another, recorded later, runs again or is held by the
    caller.
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
        """Raises CannotRecord where the work waits for the GPU, reads memory of the host, or does not fit
        into the memory."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        # What Python would find to be unused within the work is freed now, as a graph must free nothing but
        # its own
        gc.collect()
        try:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            with torch.cuda.graph(graph, pool=self._pool):
                results = work()
        except RuntimeError as error:
            self._give_up(stream)
            hint = (
                "it may wait for the GPU or read from the host: .item(), a mask as an index, a new tensor of "
                "numbers"
            )
            # The error would keep the memory of the work
            raise CannotRecord(f"{str(error).splitlines()[0]} ({hint})") from None
        return graph, results

    def _give_up(self, stream: torch.cuda.Stream) -> None:
        """Undoes what a capture that failed leaves behind before torch 2.15, so that the plain work goes on
        and others are recorded.

        That is the stream of the capture as the current one, the pool as one that is being recorded to, and
        generators that take part in a capture: the next draw would raise an error. A capture that succeeds
        gives these back.
        """
        torch.cuda.set_stream(stream)
        pool, self._pool = self._pool, None
        end = getattr(torch._C, "_cuda_endAllocateToPool", None)
        if end is not None and pool is not None:
            with contextlib.suppress(RuntimeError):  # it is not being recorded to
                end(stream.device_index, pool)
        with contextlib.suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.zeros(1, device="cuda")
        torch.cuda.set_stream(stream)


class Recorded:
    """Work that is done plainly when first called, recorded at the second call, and replayed then and from
    there on.

    What it gives is overwritten by the next call. Whatever the host decides in it is decided a few times at
    the start, and never again. `refused` says why the work is not recorded after all; '' as long as it is.
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
        """`state` gives the tensors that the work reads and changes, of which copies are put back after the
        comparison.

        `computed_in` is the type of the work with the coarsest rounding. `known`: work like it was done and
        compared before, so that it is recorded at the first call, without comparing it again.
        """
        self.work, self.recorder, self.state, self.name = work, recorder, state, name
        self.rounding = ROUNDING[computed_in]
        self.refused = ""
        self._warm = self._compared = known
        self._graph: Graph | None = None
        self._results: Any = None

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

    @property
    def replays(self) -> bool:
        """Whether the work has been recorded and is repeated from there."""
        return self._graph is not None

    def _record(self) -> None:
        """Records the work and compares it with the plain one; leaves all tensors as they are."""
        kept = _Kept(list(self.state()))
        try:
            # The plain work comes first and leaves samples alone: its memory is free again before a graph
            # takes some for good.
            plain = None if self._compared else _trial(self.work, kept)
            kept.put_back()
            graph, results = self.recorder.captured(self.work)
            why = "" if plain is None else self._difference(plain, graph, results, kept)
        except (CannotRecord, torch.OutOfMemoryError) as error:
            graph, results, why = None, None, f"cannot be recorded: {error}"
        kept.put_back()
        self._compared = True
        if why:
            self.refused = why
            note(f"{self.name} is done without a CUDA graph, which takes longer: it {why}")
        else:
            self._graph, self._results = graph, results

    def _difference(self, plain: _Trial, graph: Graph, results: Any, kept: _Kept) -> str:
        """What the recorded work does otherwise than the plain one; '' if nothing."""

        def replayed() -> Any:
            graph.replay()
            return results

        for (when, given, changes), (_, other_given, other_changes) in zip(
            plain, _trial(replayed, kept), strict=True
        ):
            for verb, wanted, recorded in (
                ("gives", given, other_given),
                ("changes", changes, other_changes),
            ):
                if not all(
                    _alike(first, second, self.rounding)
                    for first, second in zip(wanted, recorded, strict=True)
                ):
                    return f"{verb} something else when it is recorded ({when})"
        return ""


class _Kept:
    """Copies of tensors and of the states of the generators of their devices, to go back to.

    The generator of another device is left alone: beside work on a GPU a thread may be drawing from the one
    of the CPU.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        self.tensors = tensors
        self._copies = [tensor.detach().clone() for tensor in tensors]
        devices = {tensor.device.type for tensor in tensors}
        self._states = {
            kind: generator.get_rng_state() for kind, generator in _GENERATORS.items() if kind in devices
        }

    @torch.no_grad()
    def put_back(self) -> None:
        for tensor, value in zip(self.tensors, self._copies, strict=True):
            tensor.copy_(value)
        for kind, state in self._states.items():
            _GENERATORS[kind].set_rng_state(state)

    @torch.no_grad()
    def turn_over(self) -> None:
        """Other values that are as good as these: each tensor of numbers with a fraction holds its own from
        last to first."""
        for tensor, value in zip(self.tensors, self._copies, strict=True):
            tensor.copy_(value.flatten().flip(0).view_as(value) if value.is_floating_point() else value)


_Trial = list[tuple[str, list[Tensor], list[Tensor]]]


def _trial(work: Callable[[], Any], kept: _Kept) -> _Trial:
    """Samples of what work gives and how it changes the tensors: at once, once more from there, and from
    other values."""
    kept.put_back()
    trials = []
    for when in ("at the first step", "at a second step", "from other values"):
        if when == "from other values":
            kept.put_back()
            kept.turn_over()
        before = _samples(kept.tensors)
        given = _samples(leaf for leaf in tree_leaves(work()) if isinstance(leaf, Tensor))
        changes = [after - value for after, value in zip(_samples(kept.tensors), before, strict=True)]
        trials.append(
            (
                when,
                given,
                [torch.stack([change, value]) for change, value in zip(changes, before, strict=True)],
            )
        )
    return trials


def _samples(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Up to `_SAMPLED` values of each tensor, evenly spread, in double precision on the CPU."""
    flat = [tensor.detach().flatten() for tensor in tensors]
    return [values[:: max(1, len(values) // _SAMPLED)].double().cpu() for values in flat]


def _alike(first: Tensor, second: Tensor, rounding: float) -> bool:
    """Whether two samples differ by rounding alone: (n,) values, or (2, n) changes and the values that were
    changed."""
    (first, size), (second, _) = (
        (tuple(first), tuple(second)) if first.dim() == 2 else ((first, first), (second, first))
    )
    if first.shape != second.shape or not torch.equal(first.isfinite(), second.isfinite()):
        return False
    first, second, size = first.nan_to_num(0, 0, 0), second.nan_to_num(0, 0, 0), size.nan_to_num(0, 0, 0)
    # A change of this size is rounding of the values themselves
    smallest = 16 * torch.finfo(torch.float32).eps * float(size.norm())
    return (
        float((first - second).norm()) <= rounding * max(float(first.norm()), float(second.norm())) + smallest
    )


def recorder_for(device: torch.device) -> Recorder | None:
    """CUDA graphs on a GPU, unless CONDENSE_GRAPHS=off; None elsewhere."""
    return CudaRecorder() if device.type == "cuda" and os.environ.get("CONDENSE_GRAPHS") != "off" else None
