"""Steps recorded once and repeated, as CUDA graphs do it: here by a tape of torch's operations, which runs on
any machine."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from matching_helpers import ARCH, CPU, METHODS, NOWHERE, tiny
from tape_helpers import TapeRecorder
from torch.utils._pytree import tree_leaves

from condense import kernels, models, specs
from condense.augment import siamese
from condense.augment.selected import Selected, as_tensors
from condense.data import dataset
from condense.engines.matching import Matching, run_together
from condense.engines.streams import RealStream
from condense.files.checkpoints import Checkpoint
from condense.machine import graphs, runtime, seeds
from condense.machine.graphs import CannotRecord, CudaRecorder, Recorded
from condense.machine.transfer import Ahead, Slots
from condense.networks.pretrain import load_teacher
from condense.networks.sources import RandomNetworks
from condense.specs import catalogue


@pytest.fixture
def without_kernels(monkeypatch):
    """As on a GPU: torch's operations alone, and the constants of normalisation made once."""
    monkeypatch.setattr(kernels, "available", lambda images: False)
    monkeypatch.setattr(dataset, "_made", cache(dataset._made))


def test_tape():
    fixed = torch.tensor([1.0, 2.0])
    recorder = TapeRecorder()
    recorded = Recorded(lambda: (fixed * 2).sum(), recorder, state=lambda: [fixed])
    for value in (1.0, 2.0, 3.0, 4.0):
        fixed.fill_(value)
        assert recorded().item() == 4 * value
    assert (recorder.plain, recorder.captures) == (1, 1)


def run(value, train, teacher, bank, recorder=None, ipc=2, device=CPU):
    stream = RealStream(
        value, train, train.classes, **ARCH, seed=3, device=device, bank=bank, recorder=recorder
    )
    critic = load_teacher(teacher, train, device)[0] if value.teacher else None
    return Matching(value, stream, ipc=ipc, critic=critic, checkpoint=NOWHERE).run()


# Of these the real side alone is recorded: the host draws for a term or counts steps, or a term keeps
# something from step to step.
PLAIN = {"cfd_cpdm", "dm_regularised", "dsdm", "ncfm", "ncfm_cpdm", "ncfm_plus_cpdm", "ncfm_sampler", "wmdd"}
MATCHING = [name for name in METHODS if isinstance(catalogue.recipe(name), specs.MatchingRecipe)]


@pytest.mark.parametrize("method", MATCHING)
def test_recorded_steps_end_where_plain_ones_do(method, train, teacher, bank_of, without_kernels, one_thread):
    value = tiny(method, steps=6)
    bank, recorder = bank_of(value.networks), TapeRecorder()
    plain, recorded = run(value, train, teacher, bank), run(value, train, teacher, bank, recorder)
    torch.testing.assert_close(recorded.images, plain.images, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(recorded.history, plain.history, strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert recorder.captures == (1 if method in PLAIN else 2)


def test_formations_that_do_not_divide_the_side_are_recorded(train, without_kernels, one_thread):
    value, recorder = tiny("idm", steps=5, decode={"factor": 3, "order": "rows"}), TapeRecorder()
    plain, recorded = run(value, train, None, None), run(value, train, None, None, recorder)
    torch.testing.assert_close(recorded.images, plain.images, rtol=1e-4, atol=1e-5)
    assert recorder.captures == 2 and recorded.recorded and not plain.recorded


def test_a_second_network_is_that_of_the_step_for_every_set(train, without_kernels, one_thread):
    """The first set that asks for it has it drawn; the others, which go on longer, must not repeat what it
    was."""
    values = [tiny("dm_regularised", steps=3), tiny("dm_regularised", steps=8)]
    stream = RealStream(values[0], train, train.classes, **ARCH, seed=3, device=CPU, recorder=TapeRecorder())
    sets = [Matching(value, stream, ipc=2, critic=None, checkpoint=NOWHERE) for value in values]
    together = run_together(sets)
    torch.testing.assert_close(
        together[1].images, run(values[1], train, None, None).images, rtol=1e-4, atol=1e-5
    )


def test_a_set_joins_a_recorded_stream_only_with_statistics_that_it_has(train, without_kernels):
    value = tiny("dm_mm", steps=3)
    stream = RealStream(value, train, train.classes, **ARCH, seed=3, device=CPU, recorder=TapeRecorder())
    Matching(value, stream, ipc=1, critic=None, checkpoint=NOWHERE)
    stream.at(0)
    Matching(value, stream, ipc=1, critic=None, checkpoint=NOWHERE)
    with pytest.raises(ValueError, match="before its first step"):
        Matching(tiny("dm_cm", steps=3), stream, ipc=1, critic=None, checkpoint=NOWHERE)


def test_slots_take_tensors_of_their_shapes_alone():
    slots = Slots([torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64), torch.zeros(1)], CPU)
    slots.fill([torch.ones(2, 3), torch.arange(4), torch.full((1,), 5.0)])
    assert [tensor.sum().item() for tensor in slots.tensors] == [6, 6, 5]
    for wrong in (torch.ones(3, 2), torch.ones(2, 3).double(), torch.ones(1)):
        with pytest.raises(ValueError, match="other shapes"):
            slots.fill([wrong, torch.arange(4), torch.ones(1)])


def test_sets_that_share_a_recorded_stream_end_as_alone(train, without_kernels, one_thread):
    values = [tiny("dm_sm", steps=6), tiny("dm", steps=4), tiny("dm_mm", steps=5)]
    recorder = TapeRecorder()
    stream = RealStream(values[0], train, train.classes, **ARCH, seed=3, device=CPU, recorder=recorder)
    sets = [
        Matching(value, stream, ipc=ipc, critic=None, checkpoint=NOWHERE)
        for ipc, value in enumerate(values, 1)
    ]
    together = run_together(sets)
    for ipc, (value, outcome) in enumerate(zip(values, together, strict=True), 1):
        torch.testing.assert_close(
            outcome.images, run(value, train, None, None, ipc=ipc).images, rtol=1e-4, atol=1e-5
        )
    assert recorder.captures == 1 + len(sets)


def test_a_killed_recorded_run_ends_the_same(train, tmp_path, without_kernels, one_thread):
    """Steps are recorded anew after the checkpoint, and go on from it."""
    value = tiny("cpdm", steps=7)
    value = replace(value, terms=[term for term in value.terms if not term.needs_teacher], teacher=None)
    whole = run(value, train, None, None, TapeRecorder())
    stream = RealStream(value, train, train.classes, **ARCH, seed=3, device=CPU, recorder=TapeRecorder())
    first = Matching(value, stream, ipc=2, critic=None, checkpoint=Checkpoint(tmp_path / "x.resume", "key"))
    for step in range(3):
        first.advance(stream.at(step))
    first.save()
    stream = RealStream(value, train, train.classes, **ARCH, seed=3, device=CPU, recorder=TapeRecorder())
    resumed = Matching(
        value, stream, ipc=2, critic=None, checkpoint=Checkpoint(tmp_path / "x.resume", "key")
    ).run()
    assert torch.equal(resumed.images, whole.images)


def test_work_that_waits_or_reads_from_the_host_is_not_recorded():
    fixed = torch.ones(3)
    for work in (
        lambda: fixed.sum().item(),
        lambda: fixed + torch.tensor([1.0, 2.0, 3.0]),
        lambda: fixed[fixed > 0],
    ):
        recorded = Recorded(work, TapeRecorder(), state=lambda: [fixed])
        recorded()
        with pytest.raises(AssertionError, match="aten"):
            recorded()


class Raising(TapeRecorder):
    """As a GPU that cannot capture, or has no memory for it."""

    error = CannotRecord("the stream cannot be captured")

    def captured(self, work):
        raise self.error


class OutOfMemory(Raising):
    error = torch.OutOfMemoryError("CUDA out of memory")


class Wrong(TapeRecorder):
    """A graph whose results are a little off, from replay number `since` on."""

    since = 1

    def captured(self, work):
        graph, results = super().captured(work)
        replay, count = graph.replay, iter(range(1, 1000))

        def off():
            replay()
            if next(count) >= self.since:
                with torch.inference_mode():
                    for leaf in tree_leaves(results):
                        leaf.detach().mul_(1.05) if isinstance(
                            leaf, torch.Tensor
                        ) and leaf.is_floating_point() else None

        graph.replay = off
        return graph, results


class WrongLater(Wrong):
    since = 2


class Stale(TapeRecorder):
    """A graph that reads what its tensors held when it was recorded, not what they hold now."""

    def captured(self, work):
        graph, results = super().captured(work)
        replay = graph.replay
        old = [(tensor, tensor.detach().clone()) for tensor in self.read]

        def stale():
            now = [tensor.detach().clone() for tensor, _ in old]
            with torch.no_grad():
                for tensor, value in old:
                    tensor.copy_(value)
            replay()
            with torch.no_grad():  # the change is that of the old values, added to the new ones
                for (tensor, value), current in zip(old, now, strict=True):
                    tensor.copy_(current + (tensor - value))

        graph.replay = stale
        return graph, results


@pytest.mark.parametrize("kind", [Raising, OutOfMemory, Wrong, WrongLater, Stale])
def test_a_graph_that_fails_or_differs_is_not_used(
    kind, train, without_kernels, one_thread, monkeypatch, caplog
):
    monkeypatch.setattr(runtime, "_notes", [])
    value, recorder = tiny("ed", steps=6), kind()
    plain = run(value, train, None, None)
    stream = RealStream(value, train, train.classes, **ARCH, seed=3, device=CPU, recorder=recorder)
    one = Matching(value, stream, ipc=2, critic=None, checkpoint=NOWHERE)
    recorder.read = [one.values]
    outcome = one.run()
    # The engine's own rounding: draws as tensors are applied in another order of operations.
    torch.testing.assert_close(outcome.images, plain.images, rtol=1e-4, atol=1e-5)
    assert not outcome.recorded
    said = [record.message for record in caplog.records if "without a CUDA graph" in record.message]
    assert said and runtime.Clock(CPU, 1).facts()["notes"] == said
    reason = "cannot be recorded" if issubclass(kind, Raising) else "something else when it is recorded"
    assert all(reason in sentence for sentence in said) and any(
        sentence.startswith("ed: a step") for sentence in said
    )


def test_comparing_a_graph_leaves_values_and_generators_as_they_are():
    torch.manual_seed(5)
    values = torch.arange(4.0)

    def work():
        values.add_(torch.rand(4))
        return values.sum()

    class Plain(TapeRecorder):
        def captured(self, work):
            class Graph:
                def replay(self):
                    results.copy_(work())

            results = torch.zeros(())
            return Graph(), results

    recorded = Recorded(work, Plain(), state=lambda: [values])
    given = [float(recorded()) for _ in range(4)]
    torch.manual_seed(5)
    wanted, own = [], torch.arange(4.0)
    for _ in range(4):
        own.add_(torch.rand(4))
        wanted.append(float(own.sum()))
    assert given == wanted and not recorded.refused


def test_generators_of_other_devices_are_left_alone_while_a_graph_is_compared():
    """Beside work on a GPU a thread draws networks from the generator of the CPU."""
    kept = graphs._Kept([torch.zeros(2, device="meta")])
    drawn = torch.rand(3)
    kept.put_back()
    assert not torch.equal(torch.rand(3), drawn)


def test_the_plain_work_is_over_before_a_graph_takes_memory():
    fixed, done = torch.ones(2), []

    class Listening(TapeRecorder):
        def captured(self, work):
            done.append("recorded")
            return super().captured(work)

    def work():
        done.append("done")
        return fixed * 2

    recorded = Recorded(work, Listening(), state=lambda: [fixed])
    assert not recorded.replays
    recorded(), recorded()
    assert recorded.replays and done == ["done"] * 4 + ["recorded", "done"]


def test_a_run_that_ends_before_a_step_is_recorded_says_so(train, without_kernels, one_thread):
    assert [run(tiny("ed", steps=steps), train, None, None, TapeRecorder()).recorded for steps in (1, 2)] == [
        False,
        True,
    ]


class Cuda:
    """torch.cuda as far as a capture needs it, where the first one fails as torch before 2.15 leaves it."""

    def __init__(self, patch, failing):
        self.stream, self.pools, self.captures, self.failing = (
            SimpleNamespace(device_index=0),
            [],
            [],
            failing,
        )
        self.ended = []
        patch.setattr(torch.cuda, "CUDAGraph", SimpleNamespace)
        patch.setattr(torch.cuda, "graph", self.graph)
        patch.setattr(torch.cuda, "current_stream", lambda: self.stream)
        patch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self, "stream", stream))
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: (len(self.captures), 1))
        patch.setattr(
            torch._C, "_cuda_endAllocateToPool", lambda device, pool: self.ended.append(pool), raising=False
        )

    @contextmanager
    def graph(self, graph, pool=None):
        before, self.stream = self.stream, "that of the capture"
        self.captures.append(pool)
        yield
        if len(self.captures) <= self.failing:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.stream = before


def test_a_capture_that_fails_leaves_stream_pool_and_generators_for_others(monkeypatch):
    cuda = Cuda(monkeypatch, failing=1)
    own, recorder, made = cuda.stream, CudaRecorder(), []
    monkeypatch.setattr(torch, "zeros", lambda *size, device: made.append(device))
    with pytest.raises(CannotRecord, match="previous error"):
        recorder.captured(lambda: 5)
    assert cuda.stream is own and cuda.ended == [(0, 1)] and made == ["cuda"] and len(cuda.captures) == 2
    _, results = recorder.captured(lambda: 7)
    assert results == 7 and cuda.captures[-1] == (2, 1), "another pool"


def test_an_error_that_is_not_of_the_recording_is_not_hidden(monkeypatch):
    Cuda(monkeypatch, failing=0)

    def work():
        raise ValueError("of the work itself")

    with pytest.raises(ValueError):
        CudaRecorder().captured(work)


@pytest.mark.parametrize("mode", siamese.MODES)
@pytest.mark.parametrize(
    "strategy", ["color_crop_cutout_flip_scale_rotate", "color_crop_cutout", "flip", "none"]
)
def test_draws_as_tensors_do_the_same(strategy, mode):
    images = torch.rand(4, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for seed in range(8):
        draws = [
            siamese.draw(strategy, 16, torch.Generator().manual_seed(10 * seed + place), mode)
            for place in range(4)
        ]
        selected = Selected(strategy, mode, 4, as_tensors(draws, strategy, mode))
        torch.testing.assert_close(
            selected.apply(images), siamese.apply_each_class(images, draws), rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(selected[1:3].apply(images[1:3]), selected.apply(images)[1:3])


def test_what_is_made_ahead_is_what_is_made_when_asked():
    made = []

    def make(step):
        made.append(step)
        if step == 9:
            raise ValueError("nine")
        return step**2

    ahead = Ahead(make, 3)
    assert [ahead.at(step) for step in (0, 1, 2, 5, 6)] == [0, 1, 4, 25, 36]
    assert sorted(made)[:7] == [0, 1, 2, 3, 4, 5, 6] and len(made) == len(set(made))
    with pytest.raises(ValueError, match="nine"):
        ahead.at(9)
    ahead.close()
    count = len(made)
    assert ahead._pool is None and ahead.at(3) == 9 and len(made) > count  # and begins again
    ahead.close()


def test_networks_drawn_ahead_are_those_of_their_step(train):
    networks = [models.build("convnet", channels=1, size=8, classes=10, depth=1, width=4) for _ in range(2)]
    source, drawing = RandomNetworks(networks[0], 5), models.Drawing(networks[0])
    source._drawn = Ahead(lambda step: drawing(seeds.stream(5, "network", step)), 3)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    for step in range(6):  # here the global generator is the thread's
        source.at(step)
        models.reinitialise(networks[1], seeds.stream(5, "network", step))
        assert all(
            torch.equal(a, b) for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True)
        )
    source.close()
    assert torch.equal(torch.rand(3), expected)  # the global generator is as it was


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("method", ["dm", "cpdm", "ddm", "idm", "m3d", "ncfm"])
def test_on_a_gpu_graphs_end_where_plain_steps_do(method, train, teacher, bank_of):
    value, device = tiny(method, steps=20), torch.device("cuda")
    plain, repeated = (
        run(value, train, teacher, bank_of(value.networks), recorder, device=device)
        for recorder in (None, CudaRecorder())
    )
    assert repeated.recorded, "the comparison found no difference"
    # Sums of gradients on GPUs come in any order
    torch.testing.assert_close(repeated.images, plain.images, rtol=1e-2, atol=1e-3)
