"""What is recorded of a result that several jobs made."""

from dataclasses import dataclass

import torch

from condense import kernels
from condense.files import facts_of
from condense.files.checkpoints import Checkpoint
from condense.jobs.facts import joined_facts
from condense.machine import runtime, spent
from condense.tracking.records import _cost


@dataclass(frozen=True)
class Reached:
    epoch: int


JOB = {"seconds": 1.5, "peak_memory_bytes": 10, "device": "GPU: A", "graphs": True}
JOB |= {"precision": {"real": "bfloat16", "synthetic": "float32"}}


def test_notes_and_graphs_are_those_of_all_jobs():
    second = JOB | {
        "seconds": 2.0,
        "peak_memory_bytes": 30,
        "graphs": False,
        "notes": ["dm: a step is done without a CUDA graph"],
    }
    found = joined_facts([JOB, second, second])
    assert (found["seconds"], found["peak_memory_bytes"], found["jobs"]) == (5.5, 30, 3)
    assert found["graphs"] is False and found["notes"] == ["dm: a step is done without a CUDA graph"]
    assert joined_facts([JOB, JOB])["graphs"] is True and "notes" not in joined_facts([JOB, JOB])


def test_jobs_that_were_done_by_other_means_are_told():
    second = JOB | {"device": "CPU: B", "precision": {"real": "float32", "synthetic": "float32"}}
    found = joined_facts([JOB, second])
    assert found["device"] == "GPU: A"
    assert found["notes"] == [
        "precision was not the same for all jobs: real bfloat16, synthetic float32; real float32, synthetic "
        "float32",
    ]


def test_what_metrics_say_of_themselves_stays_as_it_is():
    plain = {"seconds": 1, "peak_memory_bytes": 2}
    assert joined_facts([plain, plain]) == {"seconds": 2, "peak_memory_bytes": 2, "jobs": 2}


def test_kernels_are_those_of_the_device():
    assert kernels.done_by(torch.device("cpu")) == kernels.state()
    assert kernels.done_by(torch.device("cuda")) == "torch on cuda"


def test_the_seconds_of_a_job_are_those_of_all_its_starts(monkeypatch, tmp_path):
    """Also where one checkpoint lies in another; none is counted that this start wrote itself."""
    now, path = [0.0], tmp_path / "m.json"
    monkeypatch.setattr(spent.time, "monotonic", lambda: now[0])

    def start():
        clock, outer = runtime.Clock(torch.device("cpu"), 1), Checkpoint.beside(path, "key")
        return clock, outer, outer.part("network")

    clock, outer, inner = start()
    now[0] = 10
    outer.write({}, {"epoch": 1})
    now[0] = 30
    inner.write({}, {"epoch": 2})
    now[0] = 35  # killed: what came after the last checkpoint is done anew
    begun = clock.facts()
    assert begun["seconds"] == 35 and "starts" not in begun

    now[0] = 1000
    clock, outer, inner = start()
    assert outer.load(Reached) and inner.load(Reached)
    now[0] = 1004
    inner.write({}, {"epoch": 3})
    now[0] = 1007
    assert inner.load(Reached)  # as where fewer networks are trained at once
    gone_on = clock.facts()
    assert (gone_on["seconds"], gone_on["starts"], gone_on["started"]) == (37, 2, begun["started"])

    now[0] = 0.0  # another machine
    clock, outer, inner = start()
    assert inner.load(Reached) and outer.load(Reached)
    now[0] = 2.0
    assert (clock.facts()["seconds"], clock.facts()["starts"]) == (36, 3)
    assert clock.facts(shared_by=2)["seconds"] == 18
    assert joined_facts([begun, gone_on])["starts"] == 3


def test_a_checkpoint_that_is_left_aside_adds_no_seconds(tmp_path):
    runtime.Clock(torch.device("cpu"), 1)
    Checkpoint.beside(tmp_path / "m.json", "another key").write({}, {"epoch": 1})
    clock = runtime.Clock(torch.device("cpu"), 1)
    assert Checkpoint.beside(tmp_path / "m.json", "key").load(Reached) is None
    assert "starts" not in clock.facts()


def test_a_job_that_is_done_leaves_no_part_of_its_checkpoint(tmp_path):
    whole = Checkpoint.beside(tmp_path / "m[1].json", "key")
    for checkpoint in (whole, whole.part(1), whole.part(10), whole.part(1).part("network0-2")):
        checkpoint.write({}, {"epoch": 1})
    other = Checkpoint.beside(tmp_path / "m1.json", "key")
    other.write({}, {"epoch": 1})
    whole.part(1).remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("m1.json.resume", "m[1].json.resume", "m[1].json.resume.10"),
    ]
    whole.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["m1.json.resume"]


def test_a_job_says_how_many_its_process_did_before(monkeypatch):
    """The peak memory of a process does not go down again."""
    monkeypatch.setattr(runtime.Clock, "begun", 0)
    first, second = (runtime.Clock(torch.device("cpu"), 1) for _ in range(2))
    assert "after" not in first.facts() and second.facts()["after"] == 1
    joined = joined_facts([{"seconds": 1, "peak_memory_bytes": 2}, second.facts()])
    assert joined["after"] == 1


def test_a_set_that_shared_one_of_its_jobs_with_others_says_so_whichever_job_it_was(tmp_path):
    """Neither its seconds nor the peak memory are its own then."""
    alone, shared = ({"seconds": 1, "peak_memory_bytes": 2} | more for more in ({}, {"shared_by": 3}))
    for parts in ([alone, shared], [shared, alone]):
        found = joined_facts(parts)
        assert found["shared_by"] == 3
        assert facts_of(found, tmp_path).own_peak_memory_bytes is None
    assert facts_of(joined_facts([alone, alone]), tmp_path).own_peak_memory_bytes == 2
    costs = dict((name, value) for name, value, _ in _cost(shared))
    assert (
        costs["shared_by"] == 3
        and "peak_memory_bytes" not in costs
        and "shared_by" not in dict((name, value) for name, value, _ in _cost(alone))
    )
