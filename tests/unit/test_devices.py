"""Jobs on a machine with several GPUs: each gets one of its own. The GPUs are made up, the processes and
their locks are real."""

import multiprocessing
import queue
import tempfile
import warnings
from types import SimpleNamespace

import pytest
import torch

from condense.config import UserError
from condense.machine import gpus, runtime
from hang_helpers import HUNG

FORK = multiprocessing.get_context("fork")  # torch is there already, which saves seconds a process


def fake(patch, names):
    """Torch on a machine that shows the GPUs `names`, in this order; returns the numbers that were set as the
    current one."""
    chosen = []
    patch.setattr(torch.cuda, "is_available", lambda: bool(names))
    patch.setattr(torch.cuda, "device_count", lambda: len(names))
    patch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=names[number]))
    patch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def job(names, wanted, folder, told, done):
    """One job: says which GPU it has, and holds it until it may end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        chosen = fake(patch, names)
        with runtime.device(wanted) as device:
            assert chosen == [device.index]
            told.put(names[device.index])
            done.wait(30)


@pytest.fixture
def start(tmp_path):
    """Starts a job among those of this machine; the queue of what they say, and the jobs, which end with the
    test."""
    told, started = FORK.Queue(), []

    def begin(names, wanted="auto"):
        done = FORK.Event()
        process = FORK.Process(target=job, args=(names, wanted, tmp_path, told, done))
        process.start()
        started.append((process, done))
        return process, done

    yield begin, lambda: told.get(timeout=HUNG), told
    for process, _ in started:
        process.kill()
        process.join()


GPUS = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]


def test_as_many_jobs_as_gpus_have_one_each(start):
    begin, hear, _ = start
    for _ in GPUS:
        begin(GPUS)
    assert sorted(hear() for _ in GPUS) == GPUS


def test_jobs_that_see_the_gpus_under_other_numbers_do_not_meet(start):
    """As with CUDA_VISIBLE_DEVICES: number 0 is another GPU in every job."""
    begin, hear, _ = start
    for names in (["GPU-b", "GPU-a"], ["GPU-a", "GPU-b"], ["GPU-c", "GPU-a", "GPU-b"]):
        begin(names)
    assert sorted(hear() for _ in range(3)) == GPUS[:3]


def test_a_job_waits_for_the_gpu_it_names_and_takes_it_over_when_the_other_is_killed(start):
    begin, hear, told = start
    first, _ = begin(GPUS, "cuda:2")
    assert hear() == "GPU-c"
    begin(GPUS, "cuda:2")
    with pytest.raises(queue.Empty):
        told.get(timeout=1)
    begin(GPUS, "cuda")
    assert hear() == "GPU-a", "the others are free"
    first.kill()
    assert hear() == "GPU-c"


def test_more_jobs_than_gpus_take_turns(start):
    begin, hear, told = start
    jobs = [begin(GPUS[:2]) for _ in range(5)]
    held = {hear(), hear()}
    assert held == set(GPUS[:2])
    with pytest.raises(queue.Empty):
        told.get(timeout=1)
    for _, done in jobs:
        done.set()
    assert {hear() for _ in range(3)} <= held
    assert [process.join(20) or process.exitcode for process, _ in jobs] == [0] * 5


@pytest.mark.parametrize(
    ("wanted", "told"), [("cuda:4", "there are 4 GPUs"), ("cuda:", "is needed"), ("cuda:-1", "is needed")]
)
def test_a_gpu_that_is_not_there(wanted, told, monkeypatch):
    fake(monkeypatch, GPUS)
    with pytest.raises(UserError, match=told), runtime.device(wanted):
        pass


def test_without_a_gpu_auto_is_the_cpu(monkeypatch):
    fake(monkeypatch, [])
    monkeypatch.setattr(gpus, "signs", lambda: [])
    with runtime.device() as device:
        assert device.type == "cpu"
    with pytest.raises(UserError, match="shows no GPU"), runtime.device("cuda"):
        pass


@pytest.mark.parametrize("wanted", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_torch_cannot_use_is_no_reason_for_the_cpu(wanted, monkeypatch):
    fake(monkeypatch, [])
    monkeypatch.setattr(gpus, "signs", lambda: ["/dev/nvidia0"])
    monkeypatch.setattr(gpus, "driver_version", lambda: "535.161.08")
    monkeypatch.setattr(gpus, "driver_cuda", lambda: (12, 2))
    monkeypatch.setattr(gpus, "torch_cuda", lambda: (13, 2))
    too_old = RuntimeError(
        "The NVIDIA driver on your system is too old (found version 12020). Please update it."
    )
    monkeypatch.setattr(torch.cuda, "init", lambda: (_ for _ in ()).throw(too_old))
    with pytest.raises(UserError) as refused, runtime.device(wanted):
        pass
    for words in (
        "/dev/nvidia0",
        "too old (found version 12020)",
        "535.161.08",
        "CUDA 13.2",
        "`make env CUDA=cu126`",
        "--device cpu",
    ):
        assert words in str(refused.value)
    with runtime.device("cpu") as device:
        assert device.type == "cpu"


def test_what_torch_warns_of_is_the_reason(monkeypatch):
    fake(monkeypatch, [])
    monkeypatch.setattr(
        torch.cuda,
        "is_available",
        lambda: bool(warnings.warn("CUDA initialization: unknown error", stacklevel=1)),
    )
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(gpus, "signs", lambda: ["CUDA_VISIBLE_DEVICES=0"])
    with pytest.raises(UserError, match="CUDA initialization: unknown error"), runtime.device():
        pass


BUILT = ["sm_75", "sm_80", "sm_86", "sm_90a", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 0), False),
        ((7, 5), True),
        ((8, 9), True),
        ((9, 0), True),
        ((9, 5), False),
        ((10, 3), True),
        ((12, 1), True),
        ((13, 0), True),
    ],
)
def test_code_runs_on_gpus_of_its_generation(capability, runs):
    assert gpus.has_code_for(capability, BUILT) == runs


@pytest.mark.parametrize(("capability", "way"), [((6, 1), "`make env CUDA=cu126`"), ((9, 9), "--device cpu")])
def test_a_gpu_that_torch_has_no_code_for_is_refused_before_the_work(capability, way, monkeypatch, tmp_path):
    fake(monkeypatch, ["GPU-a"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    about = SimpleNamespace(uuid="GPU-a", name="GTX 1080", major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: about)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: BUILT)
    with pytest.raises(
        UserError, match=f"GTX 1080 has the compute capability {capability[0]}.{capability[1]}.*sm_75"
    ) as refused:
        with runtime.device():
            pass
    assert way in str(refused.value)


def test_a_driver_that_fails_after_torch_counted_its_gpus_is_named(monkeypatch):
    def fails(number):
        raise RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.")

    fake(monkeypatch, ["GPU-a"])
    monkeypatch.setattr(torch.cuda, "get_device_properties", fails)
    with pytest.raises(UserError, match="driver initialization failed.*To mend it"), runtime.device("cuda"):
        pass
