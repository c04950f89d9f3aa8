"""What the head of the workflow says and decides, without a workflow: settings, failed jobs, a SLURM that is
silent."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from condense.config import UserError
from condense.machine import slurm
from condense.specs import workflow_settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

import failures  # noqa: E402  they lie beside the rules


def test_settings_are_words_of_the_command_line():
    settings = workflow_settings({"scale": "laptop", "anew": "TRUE", "mlflow": "off", "max_runtime": 60})
    assert (settings.scale, settings.anew, settings.store, settings.max_runtime) == (
        "laptop",
        True,
        "off",
        60,
    )
    assert (
        workflow_settings({}).store == "sqlite:///mlflow.db"
        and workflow_settings({"mlflow": "http://x:1"}).store == "http://x:1"
    )
    wrong_ones = [
        ("max_mem_mb", -1),
        ("anew", "perhaps"),
        ("mlflow", ""),
        ("mlflow", "on"),
        ("mlflow", "http://$(touch x)"),
    ]
    wrong_ones += [("scale", 3), ("device", "tpu"), ("threads", 2)]
    for wrong in map(dict, zip(wrong_ones, strict=True)):
        with pytest.raises(UserError, match="--config: "):
            workflow_settings(wrong)


DEVICES = [("auto", 1, 1, "cuda"), ("auto", 0, 0, "auto"), ("cpu", 1, 0, "cpu"), ("cuda", 0, 0, "cuda")]


@pytest.mark.parametrize(("device", "gpus", "asks", "gets"), DEVICES)
def test_a_job_that_asks_for_a_gpu_gets_one_unless_the_user_says_otherwise(device, gpus, asks, gets):
    settings = workflow_settings({"device": device})
    assert (settings.gpus(gpus), settings.device_of(gpus)) == (asks, gets)


def told(tmp_path, capsys, **record):
    handler = failures.FailedJobs()
    values = logging.makeLogRecord(
        {"msg": "Error in rule x", "event": SimpleNamespace(name="JOB_ERROR"), **record}
    )
    assert handler.filter(values)
    handler.emit(values)
    return capsys.readouterr().err


def test_a_failed_job_is_told_with_the_end_of_its_log(tmp_path, capsys):
    log = tmp_path / "x.log"
    log.write_text(
        "\n".join([*(f"line {number}" for number in range(40)), "y" * 9000, "condense: the disk is full"])
    )
    said = told(
        tmp_path,
        capsys,
        rule_name="gather",
        output=["results/a (update)"],
        log=[f"{log} (send to storage)"],
        aux={},
    )
    assert "FAILED: gather, which makes results/a\n" in said and f"log: {log}\n" in said
    assert "line 30" in said and "line 20" not in said and "condense: the disk is full" in said
    assert max(map(len, said.splitlines())) < 500


def test_a_job_that_a_signal_ended_is_told_as_stopped(tmp_path, capsys):
    log = tmp_path / "x.log"
    log.write_text(
        "epoch 3/20\ncondense: interrupted; run the same command again to go on from the last checkpoint\n"
    )
    said = told(tmp_path, capsys, rule_name="teach", output=["results/a"], log=[str(log)], aux={})
    assert "STOPPED: teach, which makes results/a\n" in said and "FAILED" not in said
    assert "run the same command again" in said


def test_what_a_cluster_says_of_a_job_is_told_and_a_lost_log_is_no_fault(tmp_path, capsys):
    message = (
        "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: x'\nFor "
        "further error details see"
    )
    said = told(
        tmp_path,
        capsys,
        rule_name="data",
        output=[],
        log=["nowhere.log"],
        rule_msg=message,
        aux={"external_jobid": "7"},
    )
    assert (
        "invalid partition specified: x" in said
        and "For further" not in said
        and "log: nowhere.log (nothing in it)" in said
    )


def test_a_failed_group_names_each_of_its_jobs(tmp_path, capsys):
    jobs = [{"rule_name": name, "output": [f"results/{name}"], "log": []} for name in ("table", "figure")]
    said = told(
        tmp_path,
        capsys,
        event=SimpleNamespace(name="GROUP_ERROR"),
        job_error_info=jobs,
        aux_logs=["group.log"],
    )
    assert "FAILED: table" in said and "FAILED: figure" in said and "group.log" in said


def test_a_silence_is_said_at_its_begin_now_and_then_and_at_its_end():
    now, said = [0.0], []
    silence = slurm.Silence(said.append, lambda: now[0])
    silence.ends()
    for seconds in (0, 5, slurm.REMINDER - 1, slurm.REMINDER + 1, slurm.REMINDER + 10):
        now[0] = float(seconds)
        silence.goes_on()
    silence.ends()
    silence.ends()
    assert (
        len(said) == 3
        and "does not answer" in said[0]
        and "10 minutes" in said[1]
        and "answers again after 610 s" in said[2]
    )


def test_a_job_counts_as_lost_only_when_it_was_unknown_for_long(monkeypatch):
    monkeypatch.setattr(slurm, "_in_accounts", lambda number: number == "4")
    now = [0.0]
    absences = slurm.Absences(lambda: now[0])
    assert absences.lost(["1", "2", "3_7", "4"], {"1": "RUNNING", "3_[7-9]": "PENDING"}) == set()
    now[0] = slurm.FORGOTTEN - 1
    assert absences.lost(["1", "2", "4"], {"1": "RUNNING"}) == set()
    now[0] = slurm.FORGOTTEN
    assert absences.lost(["1", "2", "4"], {"1": "RUNNING"}) == {"2"}, "accounting knows the other"
    assert absences.lost(["2"], {"2": "RUNNING"}) == set(), "it is back"
    now[0] += slurm.FORGOTTEN - 1
    assert absences.lost(["2"], {}) == set(), "and counts from anew"


def test_a_command_of_slurm_that_is_not_there_is_a_silence(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert not slurm.answers() and slurm.known("x") is None


def test_a_job_that_slurm_holds_is_told_once_a_hold():
    said = []
    holds = slurm.Holds(said.append)
    waits, runs = slurm.Known("PENDING", "Resources"), slurm.Known("RUNNING", "None")
    held = slurm.Known("PENDING", "launch_failed_requeued_held")
    again = slurm.Known("PENDING", "JobHeldUser")
    for jobs in (
        {"1": waits, "2": runs},
        {"1": held, "2": runs, "9": held},
        {"1": held},
        {"1": runs},
        {"1": again},
    ):
        holds.look(["1", "2"], jobs)
    assert (
        len(said) == 2
        and "job 1 (launch_failed_requeued_held)" in said[0]
        and "`scontrol release 1`" in said[1]
    )
