"""The process that tells MLflow of runs while others are made: beside a workflow, beside `condense run`, and
when its head is killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from project_helpers import copy_project, snakemake, write_scale
from test_tracking import METRICS, SET, make_metrics, make_set, runs

from condense.command import cli
from condense.config import UserError
from condense.tracking.follower import Follower
from condense.tracking.ingestion import Ingestion
from hang_helpers import HUNG

pytestmark = pytest.mark.workflow
STORE = "sqlite:///mlflow.db"  # of another process; in this one MLflow keeps a store open under its name
HEAD = """
import os, sys, time
from pathlib import Path
from condense.tracking.follower import Follower
follower = Follower("sqlite:///mlflow.db", Path("results"), Path("follower.log"))
follower.start()
print(follower.process.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def head(folder):
    """A process that has started a follower in `folder`; yields it and the follower's number."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def store():
    """The store of this folder, by its whole path."""
    return f"sqlite:///{os.getcwd()}/mlflow.db"


def tracked():
    """The sources that have a finished run."""
    if not os.path.exists("mlflow.db"):
        return set()
    return {source for (_, source), run in runs(store())[1].items() if "source.digest" in run.data.tags}


def wait_for(condition):
    until = time.monotonic() + HUNG
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.5)


def is_gone(number):
    try:
        return os.waitpid(number, os.WNOHANG)[0] == number
    except ChildProcessError:  # its parent was another process
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{number}/stat", encoding="utf-8") as stat:  # nobody may have waited for it
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"


def test_runs_appear_within_a_minute_and_a_killed_head_takes_the_follower_along_after_a_last_pass(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path / "results")
    with head(tmp_path) as (process, number):
        wait_for(lambda: tracked() == {SET.format(0)})
        assert process.poll() is None
        make_metrics(tmp_path / "results")
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: is_gone(number))
    assert tracked() == {SET.format(0), METRICS.format(0)}


def test_what_is_still_being_written_waits_and_what_is_damaged_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    make_set(results)
    ingestion = Ingestion(results, store())
    assert ingestion.bring(settled=True).added == [], "it may change until the next look"
    make_set(results, rows=4)
    make_metrics(results, seed=1).write_text("{", encoding="utf-8")
    assert ingestion.bring(settled=True).added == []
    with pytest.raises(UserError, match="damaged"):
        ingestion.bring(settled=True)
    assert tracked() == {SET.format(0)}
    make_metrics(results)
    ingestion.bring(settled=True)
    assert ingestion.bring(settled=True).added == [METRICS.format(0)], "what is damaged is named once"
    make_metrics(results, seed=1)
    ingestion.bring(settled=True)
    assert ingestion.bring(settled=True).added == [METRICS.format(1)]
    with open(tmp_path / "mlartifacts" / ".lock") as lock:
        assert lock.read() == ""


def test_a_store_that_cannot_be_used_is_told_when_the_follower_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path / "results")
    (tmp_path / "mlflow.db").mkdir()
    process = Follower(STORE, tmp_path / "results", tmp_path / "follower.log")
    process.start()
    assert "mlflow.db: is a folder" in process.stop()


def test_a_failed_cell_keeps_no_other_out_and_runs_say_which_table_they_are_for(tmp_path, monkeypatch):
    root = copy_project(tmp_path / "project")
    write_scale(
        root,
        methods=["random", "dm"],
        recipes={"matching": {"steps": 3, "batch_real": 8, "optimizer": {"lr": 1e30}}},
    )
    said = snakemake(
        root, "--retries", "0", "--keep-going", "--config", "scale=tiny", f"mlflow={STORE}", fails=True
    )
    monkeypatch.chdir(root)
    assert not (root / "results/tracking/ingested.json").exists() and "MLflow" not in said
    _, found = runs(store())
    assert len(found) == 2 and {run.data.tags["method"] for run in found.values()} == {"random"}
    for (experiment, _), run in found.items():
        assert experiment == "condense-tiny" and run.info.start_time % 86_400_000
        assert (run.data.tags["paper"], run.data.tags["table"], run.data.tags["scale"]) == (
            "cpdm",
            "cpdm/table1",
            "tiny",
        )


def test_a_run_of_ones_own_is_logged_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "digits", "--method", "random", "--ipc", "1", "--epochs", "1", "--threads", "1"]
    for _ in range(2):  # what is made and tracked is not tracked again
        assert cli.main([*arguments, "--out", "own", "--mlflow", store()]) == 0
        _, found = runs(store())
        assert sorted(source.rpartition("/")[2] for _, source in found) == [
            "metrics.json",
            "synthetic.safetensors",
        ]
    parent = next(run for (_, source), run in found.items() if source.endswith(".safetensors"))
    child = next(run for (_, source), run in found.items() if source.endswith(".json"))
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (
        parent.data.metrics["accuracy"] == child.data.metrics["accuracy"]
        and parent.data.params["recipe.engine"] == "select"
    )
    (tmp_path / "folder").mkdir()
    assert cli.main([*arguments, "--out", "other", "--mlflow", "sqlite:///folder"]) == 2
    assert not (tmp_path / "other").exists(), "it is said before the work"
