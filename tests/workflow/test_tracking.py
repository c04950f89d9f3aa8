"""MLflow ingestion against a real SQLite store, from small result trees."""

import fcntl
import subprocess
import sys
import time

import numpy as np
import pytest

from condense import tracking
from condense.artifacts import append_line, write_json, write_tensors
from condense.config import UserError
from condense.report import summary

pytestmark = pytest.mark.workflow
RUN = {"seconds": 2.5, "date": "2026-01-02", "device": "CPU: test", "threads": 1, "peak_memory_bytes": 1000, "code_version": "abc"}
RECIPE = {
    "name": "dm",
    "title": "Distribution matching",
    "engine": "matching",
    "terms": [{"name": "mean", "of": "embedding", "weight": 1.0}],
    "optimizer": {"lr": 0.5, "name": "sgd"},
    "tricks": [],
    "steps": 3,
}


def make_set(results, seed=0, rows=3):
    path = results / f"synthetic/digits/dm/convnet/ipc1/seed{seed}-0123456789a{seed}/synthetic.safetensors"
    header = {"kind": "synthetic", "dataset": "digits", "method": "dm", "arch": "convnet", "ipc": 1, "seed": seed, "recipe": RECIPE}
    write_tensors(path, {"images": np.zeros((2, 1), np.float32)}, header | {"key": f"0123456789a{seed}", "data_sha256": "d"})
    write_json(path.with_name("run.json"), RUN)
    path.with_name("grid.png").write_bytes(b"png")
    for step in range(rows):
        append_line(path.with_name("history.jsonl"), {"step": step, "loss": 1 / (step + 1), "mean": 2 / (step + 1)})
    return path


def make_metrics(results, task="condense", seed=0, **changes):
    path = results / f"metrics/{task}/digits/dm/convnet/ipc1/seed{seed}-0123456789a{seed}/convnet-dc-aaaaaaaaaaaa.json"
    values = {"schema": 1, "kind": "metrics", "task": task, "dataset": "digits", "method": "dm", "arch": "convnet", "ipc": 1, "seed": seed}
    values |= {"key": "aaaaaaaaaaaa", "eval_arch": "convnet", "protocol": {"name": "dc", "epochs": 5}, "n_networks": 2, "run": RUN}
    write_json(path, values | {"accuracies": [90.0, 92.0], "mean": 91.0, "std": 1.0} | changes)
    return path


@pytest.fixture
def place(tmp_path):
    """A results tree of two sets, three evaluations and a curve over snapshots, and how to ingest it."""
    results = tmp_path / "results"
    make_set(results), make_set(results, seed=1)
    make_metrics(results), make_metrics(results, seed=1), make_metrics(results, seed=2)
    make_metrics(results, "snapshots", steps=[10, 20], accuracies=[[50.0, 52.0], [60.0, 62.0]], mean=[51.0, 61.0], std=[1.0, 1.0])
    return results, f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts"


def counts(summary):
    return len(summary.added), len(summary.replaced), len(summary.unchanged), len(set(summary.digests))


def runs(store):
    from mlflow import MlflowClient

    client = MlflowClient(store)
    names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    return client, {
        (names[run.info.experiment_id], run.data.tags["source"]): run for run in client.search_runs(list(names), max_results=1000)
    }


def test_every_file_becomes_one_run_with_its_curves_and_repeating_adds_none(place):
    results, store, _ = place
    assert counts(tracking.ingest(*place)) == (6, 0, 0, 6)
    assert counts(tracking.ingest(*place)) == (0, 0, 6, 6)
    client, found = runs(store)
    assert sorted(experiment for experiment, _ in found) == ["condense"] * 2 + ["evaluate"] * 3 + ["evaluate-snapshots"]
    run = found["condense", "synthetic/digits/dm/convnet/ipc1/seed0-0123456789a0/synthetic.safetensors"]
    curve = [
        (point.step, point.value, point.timestamp - run.info.start_time) for point in client.get_metric_history(run.info.run_id, "loss")
    ]
    assert curve == [(0, 1.0, 0), (1, 0.5, 1250), (2, pytest.approx(1 / 3), 2500)]
    place_of_set = {"dataset": "digits", "method": "dm", "arch": "convnet", "ipc": "1", "seed": "0"}
    settings = {"terms.mean.of": "embedding", "terms.mean.weight": "1.0", "optimizer.lr": "0.5", "optimizer.name": "sgd"}
    settings |= {"engine": "matching", "steps": "3"}
    expected = place_of_set | {f"recipe.{name}": value for name, value in settings.items()}
    assert run.data.params == expected
    assert run.data.metrics | {"loss": 0, "mean": 0} == {"loss": 0, "mean": 0, "seconds": 2.5, "peak_memory_bytes": 1000}
    assert (run.data.tags["key"], run.data.tags["code_version"]) == ("0123456789a0", "abc")
    assert (run.info.status, run.info.end_time - run.info.start_time, run.info.start_time) == ("FINISHED", 2500, 1767312000000)
    assert sorted(file.path for file in client.list_artifacts(run.info.run_id)) == ["grid.png", "history.jsonl", "run.json"]
    evaluation = found["evaluate", "metrics/condense/digits/dm/convnet/ipc1/seed1-0123456789a1/convnet-dc-aaaaaaaaaaaa.json"]
    assert evaluation.data.metrics["accuracy_mean"] == 91.0 and evaluation.data.params["protocol.epochs"] == "5"
    assert [point.value for point in client.get_metric_history(evaluation.info.run_id, "accuracy")] == [90.0, 92.0]
    snapshots = next(run for (experiment, _), run in found.items() if experiment == "evaluate-snapshots")
    assert [(point.step, point.value) for point in client.get_metric_history(snapshots.info.run_id, "accuracy_mean")] == [
        (10, 51.0),
        (20, 61.0),
    ]


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
    assert len(found) == 6 and all(run.info.status == "FINISHED" and "source.digest" in run.data.tags for run in found.values())


def test_a_changed_file_replaces_its_run_alone_and_a_run_deleted_by_hand_comes_back(place):
    first = tracking.ingest(*place)
    make_metrics(place[0], seed=1, mean=50.0)
    second = tracking.ingest(*place)
    assert counts(second) == (0, 1, 5, 6) and len(set(first.digests) & set(second.digests)) == 5
    client, found = runs(place[1])
    changed = found["evaluate", second.replaced[0]]
    assert len(found) == 6 and changed.data.metrics["accuracy_mean"] == 50.0
    client.delete_run(changed.info.run_id)
    assert tracking.ingest(*place).added == second.replaced


def test_two_ingestions_at_once_leave_one_run_a_file(place):
    results, store, artifacts = place
    code = "import sys; from pathlib import Path; from condense.tracking import ingest; a, b, c = sys.argv[1:]; ingest(Path(a), b, Path(c))"
    command = [sys.executable, "-c", code, str(results), store, str(artifacts)]
    artifacts.mkdir()
    with open(artifacts / ".lock", "w") as lock:  # both wait here, so that both truly run at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [subprocess.Popen(command) for _ in range(2)]
        time.sleep(0.5)
        assert [process.poll() for process in both] == [None, None] and not (artifacts.parent / "mlflow.db").exists()
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert counts(tracking.ingest(*place)) == (0, 0, 6, 6) and len(runs(store)[1]) == 6


def test_a_damaged_metrics_file_is_named(place):
    path = make_metrics(place[0], seed=3)
    write_json(path, {"kind": "metrics"})
    with pytest.raises(UserError, match=r"seed3-.*json: damaged"):
        tracking.ingest(*place)


def test_without_mlflow_the_message_says_what_to_install(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="MLflow is not installed: .*make env"):
        tracking.ingest(*place)


def test_condense_imports_without_mlflow():
    code = "import sys; import condense.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_long_histories_are_thinned_to_evenly_spaced_rows_with_both_ends():
    assert tracking.thinned(list(range(9)), 5) == [0, 2, 4, 6, 8]
    assert tracking.thinned([1, 2], 5) == [1, 2]
    kept = tracking.thinned(list(range(40000)))
    assert len(set(kept)) == 1000 and kept[0] == 0 and kept[-1] == 39999


def test_the_summary_for_dvc_has_each_measured_cell_once(tmp_path):
    head = "dataset,ipc,method,train_arch,eval_arch,metric,setting,measured\n"
    (tmp_path / "a.csv").write_text(head + "cifar10,1,dm,,convnet,test_accuracy,,\ndigits,1,dm,,convnet,test_accuracy,,91.5\n")
    (tmp_path / "b.csv").write_text(head + "digits,1,dm,,convnet,test_accuracy,,91.5\ndigits,1,dm,,convnet,test_accuracy,no_critic,80\n")
    rows = summary.accuracy_rows([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert summary.accuracy_tree(rows) == {"digits": {"ipc1": {"dm": {"none-convnet": 91.5}}}}
