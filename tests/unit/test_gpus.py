"""What speaks for a GPU, and why none can be used, on machines that are made up of files, programs and
variables."""

import pytest

from condense.machine import gpus

OLD = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Sat Feb 17 22:55:48 UTC 2024\nGCC version: "
    "12\n"
)
ROWS = "NVIDIA H100 80GB HBM3, GPU-aaaa-1, 81559, 81000\nNVIDIA T4, GPU-bbbb-2, 15360, [N/A]\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine: the text of its driver, its device files, what its nvidia-smi prints and ends with,
    cards on its bus."""
    for name in ("devices", "programs", "bus"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "driver")
    monkeypatch.setattr(gpus, "DEVICES", tmp_path / "devices")
    monkeypatch.setattr(gpus, "BUS", tmp_path / "bus")
    monkeypatch.setattr(gpus, "torch_cuda", lambda: (13, 2))
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/bin:/bin")

    def make(driver="", devices=0, rows=None, status=0, cuda=None, card=False):
        if driver:
            (tmp_path / "driver").write_text(driver)
        for number in range(devices):
            (tmp_path / "devices" / f"nvidia{number}").touch()
        (tmp_path / "devices" / "nvidiactl").touch()
        if rows is not None:
            program = tmp_path / "programs" / "nvidia-smi"
            program.write_text(f"#!/bin/sh\nprintf '%s' '{rows}'\nexit {status}\n")
            program.chmod(0o755)
        if card:
            (tmp_path / "bus" / "0000:01:00.0").mkdir()
            (tmp_path / "bus" / "0000:01:00.0" / "vendor").write_text("0x10de\n")
            (tmp_path / "bus" / "0000:01:00.0" / "class").write_text("0x030000\n")
        monkeypatch.setattr(gpus, "driver_cuda", lambda: cuda)

    return make


def test_a_machine_without_any_sign_has_none(machine):
    machine()
    assert gpus.signs({}) == [] == gpus.visible_gpus({}) and gpus.why_none({}) == "this machine has none"


@pytest.mark.parametrize(
    ("signs", "variables", "told"),
    [
        ({"devices": 2}, {}, "nvidia0"),
        ({"driver": OLD}, {}, "driver"),
        ({"rows": ROWS}, {}, "nvidia-smi"),
        ({"rows": "no driver", "status": 9, "card": True}, {}, "nvidia-smi"),
        ({}, {"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES=0"),
        ({}, {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "1"}, "SLURM_JOB_GPUS=1"),
        ({}, {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "2"}, "SLURM_GPUS_ON_NODE=2"),
    ],
)
def test_each_sign_counts(signs, variables, told, machine):
    machine(**signs)
    assert told in " ".join(gpus.signs(variables))


def test_an_image_with_the_programs_and_no_card_is_no_sign(machine):
    machine(rows="NVIDIA-SMI has failed", status=9)
    assert gpus.signs({}) == []


@pytest.mark.parametrize("value", ["", " ", "-1", "NoDevFiles"])
def test_who_hides_the_gpus_wants_none(value, machine):
    machine(driver=OLD, devices=1, rows=ROWS, cuda=(13, 0))
    assert gpus.signs({"CUDA_VISIBLE_DEVICES": value}) == []
    assert "hides every GPU" in gpus.why_none({"CUDA_VISIBLE_DEVICES": value})
    assert "unset" in gpus.way_out({"CUDA_VISIBLE_DEVICES": value})


def test_a_job_of_slurm_that_asked_for_none_leaves_those_of_its_machine_alone(machine):
    machine(driver=OLD, devices=1, rows=ROWS, cuda=(13, 0))
    assert gpus.signs({"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "0"}) == [] and gpus.withheld(
        {"SLURM_JOB_ID": "7"}
    )
    assert not gpus.withheld({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}) and not gpus.withheld({})


def test_gpus_are_chosen_as_cuda_does_it(machine):
    machine(rows=ROWS, cuda=(13, 0))
    first, second = gpus.visible_gpus({})
    assert (first.name, first.memory, first.free, second.free) == (
        "NVIDIA H100 80GB HBM3",
        81559 << 20,
        81000 << 20,
        0,
    )
    for value, wanted in {
        "1": [second],
        "1,0": [second, first],
        "GPU-bbbb": [second],
        "0,7,1": [first],
        "9": [],
        "x": [],
    }.items():
        assert gpus.visible_gpus({"CUDA_VISIBLE_DEVICES": value}) == wanted, value
    assert gpus.why_none({}) == "" and "names none" in gpus.why_none({"CUDA_VISIBLE_DEVICES": "9"})
    assert "that this machine has" in gpus.way_out({"CUDA_VISIBLE_DEVICES": "9"})


def test_device_files_do_without_programs(machine):
    machine(driver=OLD, devices=2, cuda=(13, 2))
    assert len(gpus.visible_gpus({})) == 2 and gpus.why_none({}) == ""


WAYS = [
    ((12, 2), "CUDA=cu126"),
    ((12, 8), "CUDA=cu128"),
    ((12, 9), "CUDA=cu128"),
    ((11, 4), "update the driver"),
    (None, "container"),
]


@pytest.mark.parametrize(("cuda", "way"), WAYS)
def test_a_driver_that_does_not_fit_is_named_with_the_way_out(cuda, way, machine):
    machine(driver=OLD, devices=1, cuda=cuda)
    assert gpus.why_none({}) and way in gpus.way_out({})
    assert "535.161.08" in gpus.state() and "13.2" in gpus.state()


def test_a_minor_version_of_cuda_is_no_hindrance(machine):
    machine(driver=OLD, devices=1, cuda=(13, 0))
    assert gpus.why_none({}) == ""


def test_torch_without_cuda_is_named(machine, monkeypatch):
    machine(driver=OLD, devices=1, cuda=(13, 0))
    monkeypatch.setattr(gpus, "torch_cuda", lambda: None)
    assert "without CUDA" in gpus.why_none({}) and "CUDA=cu130" in gpus.way_out({})


def test_a_driver_that_hangs_is_not_waited_for(machine, monkeypatch, tmp_path):
    machine(rows="")
    (tmp_path / "programs" / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(gpus, "PATIENCE", 0.2)
    assert gpus.visible_gpus({}) == []


def test_the_cuda_of_torch_is_read_without_loading_it():
    import torch

    read = gpus.torch_cuda()
    assert (f"{read[0]}.{read[1]}" if read else None) == torch.version.cuda
