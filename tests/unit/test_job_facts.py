"""What is recorded of a result that several jobs made."""

import torch

from condense import kernels
from condense.jobs.facts import joined_facts

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
