"""Killed at any moment and run again, a job ends with the files of the unbroken run; nothing half-written
ever bears the final name."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from condense.command import cli
from condense.config import merged
from condense.engines.matching import Matching
from condense.files.artifacts import file_sha256, read_json, read_tensors, write_tensors
from condense.specs import catalogue
from hang_helpers import HUNG

pytestmark = pytest.mark.workflow
ARCH = ["--arch", "convnet", "--options", '{"depth": 2, "width": 8}', "--device", "cpu", "--threads", "1"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CONDENSE_CHECKPOINT_SECONDS": "0.2"}


def settings(value, **changes):
    return json.dumps(merged(asdict(value), changes))


def synthesize(digits, out, steps=400, **changes):
    recipe = settings(catalogue.recipe("dm"), steps=steps, batch_real=16, snapshots=steps // 2, **changes)
    data = ["--data", str(digits / "train.safetensors"), "--classes", "0-3", "--ipc", "2"]
    return ["synthesize", *data, "--recipe", recipe, *ARCH, "--out", str(out)]


def teach(digits, out):
    protocol = settings(catalogue.protocol("selection"), epochs=24)
    strategy = ["--strategy", "color_crop_cutout"]
    return [
        "teach",
        "--data",
        str(digits / "train.safetensors"),
        "--protocol",
        protocol,
        *strategy,
        *ARCH,
        "--out",
        str(out),
    ]


def evaluate(digits, out, synthetic):
    protocol = settings(catalogue.protocol("dc"), epochs=60)
    what = ["--synthetic", str(synthetic), "--data", str(digits), "--method", "dm", "--networks", "4"]
    return [
        "evaluate",
        *what,
        "--protocol",
        protocol,
        "--strategy",
        "color_crop_cutout",
        *ARCH,
        "--out",
        str(out),
    ]


def start(arguments):
    command = [sys.executable, "-m", "condense.command.cli", *arguments]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def state(folder):
    """What of checkpoints and drafts lies in a folder, with the times of their changes."""
    found = set()
    for entry in os.scandir(folder):
        if ".resume" in entry.name:
            try:
                found.add((entry.name, entry.stat().st_mtime_ns))
            except FileNotFoundError:
                continue  # it was just renamed or removed
    return found


def killed(arguments, folder, out, rng, at):
    """Kills a job in its first second, some time after a checkpoint, or (if caught) the moment a draft
    appears. True if it was done."""
    job, before, began = start(arguments), state(folder), time.monotonic()
    limit = rng.uniform(0.1, 1.0) if at == "start" else None
    while job.poll() is None:
        new = state(folder) - before
        if limit is None and at == "draft" and any(name.endswith(".part") for name, _ in new):
            limit = 0.0
        elif limit is None and at != "start" and any(not name.endswith(".part") for name, _ in new):
            # Also where no draft was caught until then
            limit = time.monotonic() - began + rng.uniform(0, 0.4)
        if limit is not None and time.monotonic() - began >= limit:
            job.kill()
            job.wait()
            if out.exists():  # then only because all of it was written
                read_json(out) if out.suffix == ".json" else read_tensors(out)
            return False
        time.sleep(0.0005)
    assert job.returncode == 0, job.stderr.read()
    return True


def finished(arguments):
    done = start(arguments)
    _, text = done.communicate(timeout=HUNG)
    assert done.returncode == 0, text


def kill_until_done(arguments, folder, out):
    """Kills the job at each kind of moment; then lets it end. How often the kill came in time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, kills = random.Random(0), 0
    for at in ("start", "checkpoint", "draft"):
        if killed(arguments, folder, out, rng, at):
            break
        kills += 1
    finished(arguments)
    return kills


def leftovers(folder):
    """Checkpoints that stayed. Drafts of killed writers may stay; their names say that they are drafts."""
    return [
        path.name for path in folder.rglob("*") if ".resume" in path.name and not path.name.endswith(".part")
    ]


def test_synthesize_survives_kills(digits, tmp_path):
    finished(synthesize(digits, tmp_path / "whole" / "x.safetensors"))
    out = tmp_path / "broken" / "x.safetensors"
    assert kill_until_done(synthesize(digits, out), out.parent, out) >= 2
    assert file_sha256(out) == file_sha256(tmp_path / "whole" / "x.safetensors")
    assert (tmp_path / "broken" / "x.run.json").exists() and leftovers(tmp_path) == []


def test_teach_survives_kills(digits, tmp_path):
    finished(teach(digits, tmp_path / "whole" / "x.safetensors"))
    out = tmp_path / "broken" / "x.safetensors"
    assert kill_until_done(teach(digits, out), out.parent, out) >= 2
    assert file_sha256(out) == file_sha256(tmp_path / "whole" / "x.safetensors")
    assert leftovers(tmp_path) == []


def test_evaluate_survives_kills(digits, tmp_path):
    finished(synthesize(digits, tmp_path / "shard.safetensors", steps=2))
    tensors, header = read_tensors(tmp_path / "shard.safetensors", "shard")
    write_tensors(tmp_path / "set.safetensors", tensors, {**header, "kind": "synthetic"})
    metrics = []
    for name in ("whole", "broken"):
        out = tmp_path / name / "x.json"
        arguments = evaluate(digits, out, tmp_path / "set.safetensors")
        if name == "whole":
            finished(arguments)
        else:
            assert kill_until_done(arguments, out.parent, out) >= 2
        metrics.append({key: value for key, value in read_json(out).items() if key != "run"})
    assert metrics[0] == metrics[1] and len(metrics[0]["accuracies"]) == 4
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_leaves_a_checkpoint_and_says_how_to_go_on(digits, tmp_path, number):
    out = tmp_path / "x.safetensors"
    job = start(synthesize(digits, out, steps=100_000))
    while not (tmp_path / "x.safetensors.resume").exists():
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.01)
    job.send_signal(number)
    _, text = job.communicate(timeout=HUNG)
    assert job.returncode == 130 and "run the same command again" in text and "Traceback" not in text
    assert read_tensors(tmp_path / "x.safetensors.resume", "checkpoint")[1]["state"]["done"] > 0
    assert sorted(os.listdir(tmp_path)) == ["x.safetensors.resume"]


def inside(monkeypatch, number, action):
    """Does `action` before the step `number` of the engine, in this process."""
    step = Matching.advance

    def stepped(self, side):
        if self.done == number:
            action()
        step(self, side)

    monkeypatch.setattr(Matching, "advance", stepped)


def test_the_stop_itself_saves_whatever_the_interval(digits, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "3600")
    assert cli.main(synthesize(digits, tmp_path / "whole.safetensors", steps=20)) == 0
    with monkeypatch.context() as patched:
        inside(patched, 7, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert cli.main(synthesize(digits, tmp_path / "x.safetensors", steps=20)) == 130
    assert "stopping at the next checkpoint" in capfd.readouterr().err
    assert read_tensors(tmp_path / "x.safetensors.resume", "checkpoint")[1]["state"]["done"] == 8
    with monkeypatch.context() as patched:
        inside(patched, 7, lambda: pytest.fail("it starts again from the beginning"))
        assert cli.main(synthesize(digits, tmp_path / "x.safetensors", steps=20)) == 0
    assert file_sha256(tmp_path / "x.safetensors") == file_sha256(tmp_path / "whole.safetensors")


def test_what_keeps_no_checkpoint_stops_at_once(tmp_path, monkeypatch, capsys):
    def download(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        pytest.fail("it goes on")

    monkeypatch.setattr("condense.data.prepare.open_source", download)
    assert cli.main(["data", "--dataset", "digits", "--out", str(tmp_path / "data")]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_checkpoint_of_another_key_or_recipe_is_ignored(digits, tmp_path, monkeypatch):
    finished(synthesize(digits, tmp_path / "x.safetensors", steps=20))
    wanted = file_sha256(tmp_path / "x.safetensors")
    for arguments in (["--key", "another"], []):
        monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
        with monkeypatch.context() as patched:
            inside(patched, 7, lambda: os.kill(os.getpid(), signal.SIGTERM))
            other = synthesize(
                digits, tmp_path / "x.safetensors", steps=20, optimizer={"lr": 1.0 if arguments else 5.0}
            )
            assert cli.main([*other, *arguments]) == 130
        assert (tmp_path / "x.safetensors.resume").exists()
        assert cli.main(synthesize(digits, tmp_path / "x.safetensors", steps=20)) == 0
        assert file_sha256(tmp_path / "x.safetensors") == wanted and leftovers(tmp_path) == []


def test_a_damaged_checkpoint_is_an_error_that_names_it(digits, tmp_path, capsys):
    path = Path(tmp_path / "x.safetensors.resume")
    write_tensors(path, {}, {"kind": "checkpoint", "key": "k", "state": {"done": 3}})
    for damage in (path.read_bytes()[:-3], b"", path.read_bytes().replace(b'"done\\":3', b'"done\\":4')):
        path.write_bytes(damage)
        assert cli.main(synthesize(digits, tmp_path / "x.safetensors", steps=20)) == 2
        message = capsys.readouterr().err
        assert "x.safetensors.resume: damaged" in message and "delete it" in message
    assert not (tmp_path / "x.safetensors").exists()


def test_a_wrong_interval_is_named(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "soon")
    assert cli.main(synthesize(digits, tmp_path / "x.safetensors", steps=20)) == 2
    assert (
        "CONDENSE_CHECKPOINT_SECONDS: a number of seconds is needed, found 'soon'" in capsys.readouterr().err
    )
