"""A real MLflow tracking server: ingestion over HTTP, by several at once, with the server away, and from the
workflow."""

import hashlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from project_helpers import copy_project, snakemake, write_scale
from test_tracking import make_metrics, make_set

from condense.files.artifacts import read_json
from hang_helpers import HUNG

pytestmark = pytest.mark.workflow
FILES = 6


@pytest.fixture(scope="module", autouse=True)
def direct():
    """No proxy between here and here, for this process and all that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@contextmanager
def serving(folder, port):
    """The server over the store in `folder`; yields its process."""
    named = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    named["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--workers",
        "1",
    ]
    command += [
        "--artifacts-destination",
        str(folder / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(
            command, env=os.environ | named, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + HUNG
        while not listens(port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield process
    finally:
        stop(process)


def stop(process):
    """Kills the server with its workers, which are in a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait(timeout=HUNG)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    port = free_port()
    with serving(tmp_path_factory.mktemp("server"), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def results(tmp_path, request):
    """Two sets, three evaluations and a curve, of a method of its own, since the tests share a server."""
    folder = tmp_path / "results"
    make_set(folder), make_set(folder, seed=1)
    for seed in range(3):
        make_metrics(folder, seed=seed)
    make_metrics(
        folder,
        "snapshots",
        steps=[10, 20],
        accuracies=[[50.0, 52.0], [60.0, 62.0]],
        mean=[51.0, 61.0],
        std=[1.0, 1.0],
    )
    own = f"dm{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
    for parent in [path for path in folder.rglob("dm")]:
        parent.rename(parent.with_name(own))
    return folder


def track(results, store, place="here", wait=True):
    """`condense track` as the workflow calls it, from a machine called `place`."""
    command = [
        sys.executable,
        "-m",
        "condense.command.cli",
        "track",
        "--results",
        str(results),
        "--store",
        store,
    ]
    command += ["--artifacts", str(results.parent / place), "--out", str(results.parent / f"{place}.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not wait:
        return process
    said = process.communicate(timeout=HUNG)[0]
    return process.returncode, said


def runs(store, results):
    """The runs, finished or not, that came from files of `results`."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    sources = {path.relative_to(results).as_posix() for path in results.rglob("*.*")}
    return client, [
        run
        for run in client.search_runs(experiments, max_results=5000)
        if run.data.tags.get("source") in sources
    ]


def assert_each_once(store, results, expected=FILES):
    _, found = runs(store, results)
    assert Counter(Counter(run.data.tags["source"] for run in found).values()) == {1: expected}
    assert all("source.digest" in run.data.tags and run.info.status == "FINISHED" for run in found)


def fingerprint(folder):
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_runs_and_artifacts_go_through_the_server_once(server, results):
    status, said = track(results, server)
    assert (status, said.splitlines()[-1]) == (0, f"{FILES} runs added, 0 replaced, 0 unchanged")
    assert track(results, server)[1].splitlines()[-1] == f"0 runs added, 0 replaced, {FILES} unchanged"
    assert_each_once(server, results)
    client, found = runs(server, results)
    run = next(
        run for run in found if run.data.tags["source"].endswith("seed0-0123456789a0/synthetic.safetensors")
    )
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [
        1.0,
        0.5,
        pytest.approx(1 / 3),
    ]
    assert Path(client.download_artifacts(run.info.run_id, "grid.png")).read_bytes() == b"png"
    assert [path.name for path in (results.parent / "here").iterdir()] == [".lock"], (
        "nothing but the lock is kept here"
    )
    assert len(read_json(results.parent / "here.json")) == FILES


@pytest.mark.parametrize(
    "places", [["here"] * 3, ["one", "two", "three"]], ids=["one machine", "three machines"]
)
def test_several_ingestions_at_once_leave_one_run_a_file(server, results, places):
    processes = [track(results, server, place, wait=False) for place in places]
    said = [process.communicate(timeout=HUNG)[0] for process in processes]
    # Without a shared lock one may find its unfinished run replaced by another, and says so; the other brings
    # in everything.
    assert {process.returncode for process in processes} <= ({0} if len(set(places)) == 1 else {0, 2}), said
    _, found = runs(server, results)
    finished = Counter(run.data.tags["source"] for run in found if "source.digest" in run.data.tags)
    assert set(finished.values()) == {1} and len(finished) == FILES, said
    assert track(results, server)[0] == 0
    assert_each_once(server, results)


def work(folder, worker, count):
    for place in range(count):
        make_metrics(Path(folder), seed=100 * worker + place, mean=50.0 + place)


def test_jobs_that_finish_during_ingestions_are_all_brought_in(server, tmp_path):
    """Eight jobs at once write their files; they neither wait for MLflow nor disturb the ingestion that runs
    meanwhile."""
    results = tmp_path / "results"
    make_metrics(results, seed=9999)
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        pending = pool.starmap_async(work, [(str(results), worker, 5) for worker in range(1, 9)])
        assert track(results, server)[0] == 0
        pending.get(timeout=HUNG)
    assert track(results, server)[0] == 0
    assert_each_once(server, results, expected=41)


def test_a_server_that_is_down_is_one_message_and_everything_comes_later_once(results, tmp_path):
    port, folder = free_port(), tmp_path / "server"
    folder.mkdir()
    store, before = f"http://127.0.0.1:{port}", fingerprint(results)
    status, said = track(results, store)
    assert status == 2, said
    (message,) = [line for line in said.splitlines() if line.startswith("condense: ")]
    # Words of the project's own look at the server: MLflow would have tried for minutes
    assert f"{store}: the server cannot be reached (connection refused); the results are unharmed" in message
    assert "Traceback" not in said
    assert fingerprint(results) == before and not (tmp_path / "here.json").exists()
    for seed in range(100, 140):
        make_metrics(results, seed=seed)
    with serving(folder, port) as server:  # and now it dies in the middle
        ingestion = track(results, store, wait=False)
        while len(runs(store, results)[1]) < 5:
            assert ingestion.poll() is None
        stop(server)
        said = ingestion.communicate(timeout=HUNG)[0]
        assert ingestion.returncode == 2 and "the results are unharmed" in said and "Traceback" not in said
    with serving(folder, port):
        status, said = track(results, store)
        assert status == 0 and not said.splitlines()[-1].startswith(f"{FILES + 40} runs added")
        assert_each_once(store, results, expected=FILES + 40)


def test_a_store_of_an_unknown_kind_is_one_message(results):
    status, said = track(results, "ftp://127.0.0.1/x")
    assert (
        status == 2
        and said.splitlines()[-1].startswith("condense: MLflow store ftp://127.0.0.1/x: ")
        and "Traceback" not in said
    )


def test_the_workflow_makes_everything_else_when_tracking_fails_and_tracks_later(server, tmp_path):
    root = copy_project(tmp_path / "project")
    write_scale(root, methods=["random"])
    said = snakemake(root, "--config", "scale=tiny", f"mlflow=http://127.0.0.1:{free_port()}", fails=True)
    assert said.count("FAILED:") == 1 and "FAILED: track" in said
    last = said.split("Exiting because a job execution failed")[1]
    assert "the server cannot be reached" in last, "the process beside the workflow says so too, in one line"
    assert "the results are unharmed" in (root / "results/logs/track.log").read_text()
    for name in ("tables/cpdm/table1.csv", "report.html", "summary/accuracy.json"):
        assert (root / "results" / name).stat().st_size > 0
    before = fingerprint(root / "results/metrics") | fingerprint(root / "results/synthetic")
    said = snakemake(root, "--config", "scale=tiny", f"mlflow={server}")
    assert re.search(r"^track +1\nall +1\ntotal +2$", said, re.MULTILINE), "tracking alone was left to do"
    assert fingerprint(root / "results/metrics") | fingerprint(root / "results/synthetic") == before
    (stamp,) = (root / "results/tracking").rglob("ingested.json")
    assert len(read_json(stamp)) == 2
    assert_each_once(server, root / "results", expected=2)
