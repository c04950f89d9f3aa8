"""MLflow ingestion against a real SQLite store, from small result trees."""

import fcntl
import http.server
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from condense import tracking
from condense.config import UserError
from condense.files.artifacts import append_line, write_json, write_tensors
from condense.report import summary
from condense.tracking.stores import named_store
from hang_helpers import HUNG

pytestmark = pytest.mark.workflow
RUN = {
    "seconds": 2.5,
    "date": "2026-01-02",
    "device": "CPU: test",
    "threads": 1,
    "peak_memory_bytes": 1000,
    "code_version": "abcdef0123+",
    "started": "2026-01-02T10:20:30+00:00",
}
RECIPE = {
    "name": "dm",
    "title": "Distribution matching",
    "engine": "matching",
    "terms": [{"name": "mean", "of": "embedding", "weight": 1.0}],
    "optimizer": {"lr": 0.5, "name": "sgd"},
    "tricks": [],
    "steps": 3,
}


def make_set(results, seed=0, rows=3, run=RUN):
    path = results / f"synthetic/digits/dm/convnet/ipc1/seed{seed}-0123456789a{seed}/synthetic.safetensors"
    header = {
        "kind": "synthetic",
        "dataset": "digits",
        "method": "dm",
        "arch": "convnet",
        "ipc": 1,
        "seed": seed,
        "recipe": RECIPE,
    }
    header |= {
        "key": f"0123456789a{seed}",
        "data_sha256": "d",
        "class_names": ["a", "b"],
        "mean": [0.5],
        "std": [0.5],
    }
    write_tensors(path, {"images": np.zeros((2, 1, 2, 2), np.float32), "labels": np.arange(2)}, header)
    write_json(path.with_name("run.json"), run)
    path.with_name("grid.png").write_bytes(b"png")
    path.with_name("history.jsonl").unlink(missing_ok=True)
    for step in range(rows):
        append_line(
            path.with_name("history.jsonl"), {"step": step, "loss": 1 / (step + 1), "mean": 2 / (step + 1)}
        )
    return path


def make_metrics(results, task="condense", seed=0, **changes):
    path = (
        results
        / f"metrics/{task}/digits/dm/convnet/ipc1/seed{seed}-0123456789a{seed}/convnet-dc-aaaaaaaaaaaa.json"
    )
    values = {
        "schema": 1,
        "kind": "metrics",
        "task": task,
        "dataset": "digits",
        "method": "dm",
        "arch": "convnet",
        "ipc": 1,
        "seed": seed,
    }
    values |= {
        "key": "aaaaaaaaaaaa",
        "eval_arch": "convnet",
        "protocol": {"name": "dc", "epochs": 5},
        "n_networks": 2,
        "run": RUN,
    }
    mean = changes.get("mean", 91.0)
    accuracies = {} if task == "snapshots" else {"accuracies": [mean - 1, mean + 1], "mean": mean, "std": 1.0}
    write_json(path, values | accuracies | changes)
    return path


@pytest.fixture
def place(tmp_path):
    """A results tree of two sets, three evaluations and a curve over snapshots, and how to ingest it."""
    results = tmp_path / "results"
    make_set(results), make_set(results, seed=1)
    make_metrics(results), make_metrics(results, seed=1), make_metrics(results, seed=2)
    make_metrics(
        results,
        "snapshots",
        steps=[10, 20],
        accuracies=[[50.0, 52.0], [60.0, 62.0]],
        mean=[51.0, 61.0],
        std=[1.0, 1.0],
    )
    return results, f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts"


def counts(summary):
    return len(summary.added), len(summary.replaced), len(summary.unchanged), len(set(summary.digests))


def runs(store):
    from mlflow import MlflowClient

    client = MlflowClient(store)
    names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    return client, {
        (names[run.info.experiment_id], run.data.tags["source"]): run
        for run in client.search_runs(list(names), max_results=1000)
    }


SET = "synthetic/digits/dm/convnet/ipc1/seed{0}-0123456789a{0}/synthetic.safetensors"
METRICS = "metrics/condense/digits/dm/convnet/ipc1/seed{0}-0123456789a{0}/convnet-dc-aaaaaaaaaaaa.json"
SNAPSHOTS = METRICS.replace("condense", "snapshots", 1).format(0)


def test_every_file_becomes_one_run_with_its_curves_and_repeating_adds_none(place):
    results, store, _ = place
    assert counts(tracking.ingest(*place)) == (6, 0, 0, 6)
    assert counts(tracking.ingest(*place)) == (0, 0, 6, 6)
    client, found = runs(store)
    assert {experiment for experiment, _ in found} == {"condense"}
    run = found["condense", SET.format(0)]
    curve = [
        (point.step, point.value, point.timestamp - run.info.start_time)
        for point in client.get_metric_history(run.info.run_id, "loss")
    ]
    assert curve == [(0, 1.0, 0), (1, 0.5, 1250), (2, pytest.approx(1 / 3), 2500)]
    place_of_set = {"dataset": "digits", "method": "dm", "arch": "convnet", "ipc": "1", "seed": "0"}
    settings = {
        "terms.mean.of": "embedding",
        "terms.mean.weight": "1.0",
        "optimizer.lr": "0.5",
        "optimizer.name": "sgd",
    }
    settings |= {"engine": "matching", "steps": "3"}
    expected = place_of_set | {f"recipe.{name}": value for name, value in settings.items()}
    assert run.data.params == expected
    cost = {
        "seconds": 2.5,
        "peak_memory_bytes": 1000,
        "system/seconds": 2.5,
        "system/peak_memory_megabytes": 0.001,
        "system/threads": 1,
    }
    accuracies = {
        "accuracy": 91.0,
        "accuracy_std": 1.0,
        "accuracy/convnet-dc": 91.0,
        "accuracy_std/convnet-dc": 1.0,
    }
    assert run.data.metrics | {"loss": 0, "mean": 0} == {"loss": 0, "mean": 0} | cost | accuracies
    assert (run.data.tags["key"], run.data.tags["code_version"]) == ("0123456789a0", "abcdef0123+")
    assert (run.info.status, run.info.end_time - run.info.start_time, run.info.start_time) == (
        "FINISHED",
        2500,
        1767349230000,
    )
    files = {file.path: file.file_size for file in client.list_artifacts(run.info.run_id)}
    assert sorted(files) == ["grid.png", "history.jsonl", "run.json", "synthetic.safetensors"]
    assert files["synthetic.safetensors"] == (place[0] / SET.format(0)).stat().st_size
    evaluation = found["condense", METRICS.format(1)]
    assert evaluation.data.metrics["accuracy"] == 91.0 and evaluation.data.params["protocol.epochs"] == "5"
    assert [
        point.value for point in client.get_metric_history(evaluation.info.run_id, "accuracy_of_network")
    ] == [90.0, 92.0]
    curve = client.get_metric_history(found["condense", SNAPSHOTS].info.run_id, "accuracy")
    assert [(point.step, point.value) for point in curve] == [(10, 51.0), (20, 61.0)]


def test_the_number_of_a_single_network_has_no_deviation(place):
    results, store, _ = place
    make_metrics(results, seed=1, accuracies=[90.0], mean=90.0, std=0.0, n_networks=1)
    tracking.ingest(*place)
    _, found = runs(store)
    for run in (found["condense", METRICS.format(1)], found["condense", SET.format(1)]):
        assert run.data.metrics["accuracy"] == 90.0
        assert not [name for name in run.data.metrics if "_std" in name]
    assert "accuracy_std" in found["condense", SET.format(0)].data.metrics


def test_runs_have_names_of_their_own_parents_tags_and_the_images_they_read(place):
    tracking.ingest(*place)
    client, found = runs(place[1])
    names = [run.info.run_name for run in found.values()]
    assert len(set(names)) == 6 and all("dm digits ipc1 convnet seed" in name for name in names)
    for seed in (0, 1):
        parent = found["condense", SET.format(seed)]
        assert found["condense", METRICS.format(seed)].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (
        found["condense", SNAPSHOTS].data.tags["mlflow.parentRunId"]
        == found["condense", SET.format(0)].info.run_id
    )
    assert "mlflow.parentRunId" not in found["condense", METRICS.format(2)].data.tags, "its set is not here"
    tags = found["condense", METRICS.format(0)].data.tags
    wanted = {
        "method": "dm",
        "dataset": "digits",
        "ipc": "1",
        "key": "aaaaaaaaaaaa",
        "eval_arch": "convnet",
        "task": "evaluate",
    }
    assert wanted.items() <= tags.items() and tags["mlflow.source.git.commit"] == "abcdef0123"
    (images,) = found["condense", SET.format(0)].inputs.dataset_inputs
    assert (images.dataset.name, images.dataset.digest, images.tags[0].value) == ("digits", "d", "training")
    experiment = client.get_experiment_by_name("condense")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_set_that_comes_after_its_evaluation_becomes_its_parent_and_a_new_accuracy_is_shown(place):
    path, aside = place[0] / SET.format(0), place[0] / "aside"
    path.rename(aside)
    tracking.ingest(*place)
    aside.rename(path)
    assert counts(tracking.ingest(*place)) == (1, 0, 5, 6)
    _, found = runs(place[1])
    parent = found["condense", SET.format(0)]
    assert found["condense", METRICS.format(0)].data.tags["mlflow.parentRunId"] == parent.info.run_id
    make_metrics(place[0], mean=70.0)
    tracking.ingest(*place)
    after = runs(place[1])[1]["condense", SET.format(0)]
    assert (after.info.run_id, after.data.metrics["accuracy"]) == (parent.info.run_id, 70.0)


def test_a_moved_folder_takes_its_artifacts_along(tmp_path, monkeypatch):
    before, after = tmp_path / "before", tmp_path / "after"
    make_set(before / "results")
    monkeypatch.chdir(before)
    tracking.ingest(Path("results"), "sqlite:///mlflow.db")
    monkeypatch.chdir(tmp_path)
    before.rename(after)
    monkeypatch.chdir(after)
    client, found = runs("sqlite:///mlflow.db")
    (run,) = found.values()
    assert all(
        not experiment.artifact_location.startswith(("/", "file:"))
        for experiment in client.search_experiments()
    )
    assert Path(client.download_artifacts(run.info.run_id, "grid.png")).read_bytes() == b"png"
    make_set(Path("results"), seed=1)
    tracking.ingest(Path("results"), f"sqlite:///{after}/mlflow.db")  # the same store by its whole path
    client, found = runs(f"sqlite:///{after}/mlflow.db")
    assert len(found) == 2 and not before.exists()
    assert all(client.list_artifacts(run.info.run_id) for run in found.values())


def test_runs_of_the_older_form_are_replaced(place):
    from mlflow import MlflowClient

    tracking.ingest(*place)
    client, found = runs(place[1])
    old = client.create_experiment("evaluate")
    run = client.create_run(old, tags={"source": METRICS.format(0), "source.digest": "0" * 32})
    client.delete_run(found["condense", METRICS.format(0)].info.run_id)
    assert counts(tracking.ingest(*place)) == (0, 1, 5, 6)
    assert MlflowClient(place[1]).get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    assert {experiment for experiment, _ in runs(place[1])[1]} == {"condense"}


def spoil_text(store):
    store.write_text("no database", encoding="utf-8")


def spoil_half(store):
    store.write_bytes(b"SQLite format 3\0" + b"x" * 5000)


def spoil_folder(store):
    store.mkdir()


def spoil_other(store):
    with closing(sqlite3.connect(store)) as database:
        database.execute("CREATE TABLE notes (text)")


@pytest.fixture
def never_asked(monkeypatch):
    """MLflow would try a store out of reach for minutes: it must not be asked."""

    def asked(*_, **__):
        raise AssertionError("MLflow is asked")

    monkeypatch.setattr("mlflow.MlflowClient", asked)


@pytest.mark.parametrize("spoil", [spoil_text, spoil_half, spoil_folder, spoil_other])
def test_a_store_that_cannot_be_used_is_one_sentence_before_mlflow_is_asked(never_asked, place, spoil):
    store = place[2].parent / "mlflow.db"
    spoil(store)
    with pytest.raises(UserError, match="mlflow.db: .*the results are unharmed"):
        tracking.ingest(*place)


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("postgresql://user@127.0.0.1:1/x", "driver is not installed|cannot be reached"),
        ("mysql+nodriver://user@127.0.0.1/x", "plugin|driver"),
        ("sqlite://", "names no file, so that all would be lost"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////dev/null", "is a pipe or a device"),
    ],
)
def test_stores_out_of_reach_are_one_sentence_before_mlflow_is_asked(never_asked, place, store, why):
    with pytest.raises(UserError, match=why):
        tracking.ingest(place[0], store, place[2])


@pytest.mark.parametrize(
    ("store", "why"), [("ftp://127.0.0.1/x", "ftp"), ("sqlite:////proc/no/mlflow.db", "/proc/no")]
)
def test_stores_that_only_mlflow_can_refuse_are_one_sentence(place, store, why):
    with pytest.raises(UserError, match=why):
        tracking.ingest(place[0], store, place[2])


class Failing(http.server.BaseHTTPRequestHandler):
    """A server that is well, but answers every request of MLflow with 503."""

    def answer(self):
        self.server.asked.append(self.path)
        self.send_response(200 if self.path == "/health" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_):
        pass


def test_a_server_that_fails_is_asked_twice_again_and_given_up(place, monkeypatch):
    """By itself MLflow asks seven times again, which takes minutes."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match="the results are unharmed"):
            tracking.ingest(place[0], f"http://127.0.0.1:{server.server_port}", place[2])
        server.shutdown()
    health, *further = server.asked
    assert health == "/health" and len(further) == 3 and len(set(further)) == 1, server.asked


def test_a_silent_server_is_given_up(never_asked, place, monkeypatch):
    monkeypatch.setattr("condense.tracking.stores.PATIENCE", 1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(UserError, match="does not answer within 1 seconds; the results are unharmed"):
            tracking.ingest(place[0], f"http://127.0.0.1:{silent.getsockname()[1]}", place[2])


@pytest.mark.parametrize("setting", ["off", False, "none", "", None])
def test_tracking_can_be_turned_off(setting):
    assert named_store(setting) is None


def test_what_names_no_store_is_refused_with_the_form_that_does():
    assert named_store("http://127.0.0.1:1") == "http://127.0.0.1:1"
    with pytest.raises(UserError, match=r"sqlite:///runs\.db"):
        named_store("runs.db")


def test_the_store_is_where_mlflow_looks(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert named_store("on") == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert named_store("on") == "http://127.0.0.1:1"


@pytest.mark.parametrize("step", ["log_batch", "log_artifact", "set_terminated", "set_tag"])
def test_an_interrupted_ingestion_is_mended_not_doubled(place, monkeypatch, step):
    import mlflow

    whole, calls = getattr(mlflow.MlflowClient, step), []

    def killed(self, *arguments, **named):
        calls.append(step)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mlflow.MlflowClient, step, killed)
        tracking.ingest(*place)
    added, replaced, unchanged, total = counts(tracking.ingest(*place))
    assert (added + replaced + unchanged, replaced, total) == (6, 1, 6)
    _, found = runs(place[1])
    assert len(found) == 6 and all(
        run.info.status == "FINISHED" and "source.digest" in run.data.tags for run in found.values()
    )


def test_a_changed_file_replaces_its_run_alone_and_a_run_deleted_by_hand_comes_back(place):
    first = tracking.ingest(*place)
    make_metrics(place[0], seed=1, mean=50.0)
    second = tracking.ingest(*place)
    assert counts(second) == (0, 1, 5, 6) and len(set(first.digests) & set(second.digests)) == 5
    client, found = runs(place[1])
    changed = found["condense", second.replaced[0]]
    assert len(found) == 6 and changed.data.metrics["accuracy"] == 50.0
    client.delete_run(changed.info.run_id)
    assert tracking.ingest(*place).added == second.replaced


def test_two_ingestions_at_once_leave_one_run_a_file(place):
    results, store, artifacts = place
    code = (
        "import sys; from pathlib import Path; from condense.tracking import ingest; a, b, c = sys.argv[1:]; "
        "ingest(Path(a), b, Path(c))"
    )
    command = [sys.executable, "-c", code, str(results), store, str(artifacts)]
    artifacts.mkdir()
    with open(artifacts / ".lock", "w") as lock:  # both wait here, so that both truly run at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [subprocess.Popen(command) for _ in range(2)]
        time.sleep(0.5)
        assert [process.poll() for process in both] == [None, None] and not (
            artifacts.parent / "mlflow.db"
        ).exists()
    assert [process.wait(timeout=HUNG) for process in both] == [0, 0]
    assert counts(tracking.ingest(*place)) == (0, 0, 6, 6) and len(runs(store)[1]) == 6


def test_a_damaged_metrics_file_is_named(place):
    path = make_metrics(place[0], seed=3)
    write_json(path, {"kind": "metrics"})
    with pytest.raises(UserError, match=r"seed3-.*json: damaged"):
        tracking.ingest(*place)
    assert len(runs(place[1])[1]) == 6, "all others are brought in"


def test_without_mlflow_the_message_says_what_to_install(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="MLflow is not installed: .*make env"):
        tracking.ingest(*place)


def test_condense_imports_without_mlflow():
    code = (
        "import sys; import condense.tracking, condense.tracking.follower; sys.exit('mlflow' in sys.modules "
        "or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_long_histories_are_thinned_to_evenly_spaced_rows_with_both_ends():
    assert tracking.thinned(list(range(9)), 5) == [0, 2, 4, 6, 8]
    assert tracking.thinned([1, 2], 5) == [1, 2]
    kept = tracking.thinned(list(range(40000)))
    assert len(set(kept)) == 1000 and kept[0] == 0 and kept[-1] == 39999


def test_the_summary_for_dvc_has_each_measured_cell_once(tmp_path):
    head = "dataset,ipc,method,train_arch,eval_arch,metric,setting,measured\n"
    (tmp_path / "a.csv").write_text(
        head + "cifar10,1,dm,,convnet,test_accuracy,,\ndigits,1,dm,,convnet,test_accuracy,,91.5\n"
    )
    (tmp_path / "b.csv").write_text(
        head + "digits,1,dm,,convnet,test_accuracy,,91.5\ndigits,1,dm,,convnet,test_accuracy,no_critic,80\n"
    )
    rows = summary.accuracy_rows([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert summary.accuracy_tree(rows) == {"digits": {"ipc1": {"dm": {"none-convnet": 91.5}}}}
