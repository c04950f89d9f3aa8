"""Kept results travel through DVC and git: real `dvc` and `git` in small repositories that carry the project's own DVC files."""

import json
import shutil
from pathlib import Path

import pytest
from dvc_helpers import CPDM, DATA, DM, METRICS, clone, dvc, make_metrics, make_set, publish, repository, sh

from condense import store
from condense.artifacts import read_tensors, write_json
from condense.config import UserError

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A repository whose maintainer kept two sets, one metrics file and the data, and pushed."""
    root = repository(tmp_path_factory.mktemp("origin"))
    publish(root)
    return root


def test_a_fresh_clone_pulls_and_takes_the_sets_with_their_very_bytes(origin, tmp_path):
    here = clone(origin, tmp_path / "clone")
    assert not (here / "results").exists() and not store.reusable(DM, here)
    tracked = sh("git", "ls-files", "kept/*.dvc", cwd=here).split()
    assert tracked == ["kept/data/digits.dvc", "kept/sets/digits/cpdm.dvc", "kept/sets/digits/dm.dvc"]
    dvc("pull", cwd=here)
    assert store.restore_all([DM, CPDM, METRICS, DATA, DM.replace("ab/", "ff/")], here) == [DM, CPDM, METRICS, DATA]
    for folder in (Path(DM).parent, Path(CPDM).parent, Path(METRICS).parent, Path(DATA).parent):
        files = sorted(path.name for path in (origin / folder).iterdir())
        assert files == sorted(path.name for path in (here / folder).iterdir())
        assert all((here / folder / name).read_bytes() == (origin / folder / name).read_bytes() for name in files)
    assert sh("git", "status", "--short", cwd=here) == ""
    shutil.rmtree(here / "kept/sets/digits/dm")  # what was pulled is writable and may be deleted like anything else
    (here / DM).write_bytes(b"mine")


def test_local_sets_survive_a_pull_of_newer_ones_and_are_not_replaced(origin, tmp_path):
    team = clone(origin, tmp_path / "team")
    here = clone(origin, tmp_path / "clone")
    dvc("pull", cwd=here), dvc("pull", cwd=team)
    mine = DM.replace("seed0-0123456789ab", "seed1-111111111111")
    make_set(here, mine), make_set(here, DM, fill=0.25)  # one of another key, and one of a key that is kept with other bytes
    newer = DM.replace("seed0-0123456789ab", "seed2-222222222222")
    make_set(team, newer)
    store.keep([newer], team)
    publish(team)
    sh("git", "pull", "-q", str(team), "main", cwd=here)
    dvc("pull", cwd=here)
    assert store.restore_all([DM, mine, newer], here) == [newer]
    assert read_tensors(here / mine)[0]["images"].min() == 0.5 and read_tensors(here / DM)[0]["images"].max() == 0.25


def test_one_method_of_one_dataset_can_be_pulled_alone(origin, tmp_path):
    here = clone(origin, tmp_path / "clone")
    dvc("pull", "kept/sets/digits/dm", cwd=here)
    assert store.reusable(DM, here) and store.reusable(METRICS, here)
    assert not store.reusable(CPDM, here) and not (here / "kept/sets/digits/cpdm").exists()
    with pytest.raises(UserError, match="nothing is kept under this key"):
        store.restore(CPDM, here)


def test_a_corrupted_object_in_the_remote_stops_only_its_own_group(origin, tmp_path):
    here = clone(origin, tmp_path / "clone")
    good = (here / "kept/sets/digits/dm.dvc").read_text()
    victim = next(path for path in (here / "dvcstore").rglob("*") if path.is_file() and b"grid of " + DM.encode() == path.read_bytes())
    victim.write_bytes(b"GRID" + victim.read_bytes()[4:])
    assert "kept/sets/digits/dm" in dvc("pull", cwd=here, fails=True)
    assert not store.reusable(DM, here) and store.reusable(CPDM, here)
    assert (here / "kept/sets/digits/dm.dvc").read_text() == good


def test_a_changed_kept_file_is_named_and_nothing_is_taken(origin, tmp_path):
    here = clone(origin, tmp_path / "clone")
    dvc("pull", "kept/sets/digits/dm", cwd=here)
    grid = here / "kept/sets/digits/dm/synthetic/convnet/ipc1/seed0-0123456789ab/grid.png"
    grid.write_bytes(b"GRID" + grid.read_bytes()[4:])
    with pytest.raises(UserError, match=r"grid\.png: damaged .*dvc pull kept/sets/digits/dm"):
        store.restore(DM, here)
    assert list((here / DM).parent.iterdir()) == []
    shutil.rmtree(here / "kept/sets/digits/dm")
    dvc("pull", "kept/sets/digits/dm", cwd=here)
    store.restore(DM, here)


def test_keeping_in_a_clone_that_was_not_pulled_is_refused(origin, tmp_path):
    here = clone(origin, tmp_path / "clone")
    make_set(here, DM)
    with pytest.raises(UserError, match="holds 0 of the 6 files .*dvc pull"):
        store.keep([DM], here)


def test_the_pipeline_shows_metrics_and_plots_and_git_sees_them(origin, tmp_path):
    here = clone(origin, tmp_path / "clone")
    summary = here / "results/summary"
    write_json(summary / "accuracy.json", {"digits": {"ipc1": {"dm": 90.0}}})
    (summary / "accuracy.csv").write_text("method,ipc,accuracy\ndm,1,90.0\ncpdm,1,91.0\n")
    for name in ("params/scales/quick.yaml", "requirements.lock", "Snakefile", "workflow/rules/a.smk", "src/condense/a.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("name: quick\n")
    (here / "Makefile").write_text("tables:\n\t@test ! -e count && touch count\n")
    dvc("repro", cwd=here)
    assert "didn't change, skipping" in dvc("repro", cwd=here)
    shown = json.loads(dvc("metrics", "show", "--json", cwd=here))
    assert shown[""]["data"]["results/summary/accuracy.json"]["data"] == {"digits": {"ipc1": {"dm": 90.0}}}
    dvc("plots", "show", "-o", "plots", cwd=here)
    assert "cpdm" in (here / "plots/index.html").read_text()
    seen = sh("git", "ls-files", "--others", "--exclude-standard", cwd=here).split()
    assert {"results/summary/accuracy.json", "results/summary/accuracy.csv", "dvc.lock"} <= set(seen)


def test_keep_repeats_without_change_replaces_other_numbers_and_skips_the_unfinished(tmp_path):
    make_set(tmp_path, DM), make_metrics(tmp_path, METRICS)
    store.keep([DM, METRICS], tmp_path)
    write_json((tmp_path / DM).parent / "run.json", {"seconds": 2.0})
    make_metrics(tmp_path, METRICS, seconds=2.0)
    again = store.keep([DM, METRICS, CPDM], tmp_path)
    assert (again.added, again.unchanged, again.absent) == ([], [DM, METRICS], [CPDM])
    make_metrics(tmp_path, METRICS, mean=91.0), make_set(tmp_path, DM, fill=0.75)
    assert store.keep([DM, METRICS], tmp_path).added == [DM, METRICS]
    shutil.rmtree(tmp_path / "results")
    store.restore_all([DM, METRICS], tmp_path)
    assert json.loads((tmp_path / METRICS).read_text())["mean"] == 91.0 and read_tensors(tmp_path / DM)[0]["images"].max() == 0.75


def test_keep_refuses_a_damaged_set_and_one_under_a_wrong_key(tmp_path):
    make_set(tmp_path, DM)
    whole = (tmp_path / DM).read_bytes()
    (tmp_path / DM).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="synthetic.safetensors: damaged"):
        store.keep([DM], tmp_path)
    (tmp_path / CPDM).parent.mkdir(parents=True)
    (tmp_path / CPDM).write_bytes(whole)
    with pytest.raises(UserError, match="belongs to the key 0123456789ab"):
        store.keep([CPDM], tmp_path)
    assert not (tmp_path / "kept").exists()


def test_dropping_others_leaves_what_is_wanted(tmp_path):
    make_set(tmp_path, DM), make_set(tmp_path, CPDM), make_metrics(tmp_path, METRICS)
    store.keep([DM, CPDM, METRICS], tmp_path)
    removed = store.drop_others([DM], tmp_path)
    assert len(removed) == 5 and store.kept_path(METRICS) in removed and store.kept_path(CPDM) in removed
    assert store.reusable(DM, tmp_path) and not store.reusable(METRICS, tmp_path) and not store.reusable(CPDM, tmp_path)
    assert [path.name for path in (tmp_path / "kept/sets/digits/cpdm").iterdir()] == ["manifest.json"]
