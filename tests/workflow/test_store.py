"""What is kept, without DVC: what is added, what is left alone, and what is refused."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc_helpers import (
    CPDM,
    DATA,
    DM,
    METRICS,
    clone,
    dvc,
    make_data,
    make_metrics,
    make_set,
    make_summary,
    publish,
    repository,
    sh,
)

from condense.config import UserError
from condense.files import store
from condense.files.artifacts import read_tensors, write_json, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.files.dvcfiles import listing, notes, pointer
from condense.files.kept import unit_of
from condense.report.summary import keep_summary


@dataclass(frozen=True)
class Progressed:
    """What the checkpoints here say."""

    done: int


pytestmark = pytest.mark.workflow
GROUP = unit_of(DM).group
TEN = [DM.replace("seed0-0123456789ab", f"seed{seed}-{12 * str(seed)}") for seed in range(10)]


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
    assert (
        json.loads((tmp_path / METRICS).read_text())["mean"] == 91.0
        and read_tensors(tmp_path / DM)[0]["images"].max() == 0.75
    )


SHARDS = DM.replace("/synthetic/", "/shards/", 1).removesuffix("/synthetic.safetensors")
KEY = SHARDS.rsplit("-", 1)[1]


def begin_set(root: Path, key: str = KEY) -> list[str]:
    """A finished shard and the checkpoint of another, with what else lies beside them while a job runs."""
    folder = root / SHARDS
    folder.mkdir(parents=True)
    images = {"images": np.full((1, 1, 4, 4), 0.5, np.float32)}
    about = {"kind": "shard", "dataset": "digits", "method": "dm", "key": KEY, "arch": "convnet"}
    about |= {"data_sha256": 64 * "5", "class_names": ["a", "b"], "mean": [0.5], "std": [0.5]}
    about |= {"ipc": 1, "seed": 0, "classes": [0], "steps": 0, "history": []}
    write_tensors(folder / "classes0-4.safetensors", {**images, "labels": np.arange(1)}, about)
    write_json(folder / "classes0-4.run.json", {"seconds": 1.0})
    (folder / ".classes5-9.safetensors.lock").write_text("")
    Checkpoint.beside(folder / "classes5-9.safetensors", f"{key}-0").write(images, {"done": 3})
    names = ("classes0-4.run.json", "classes0-4.safetensors", "classes5-9.safetensors.resume")
    return [f"{SHARDS}/{name}" for name in names]


def test_an_unfinished_set_is_kept_as_far_as_it_is_and_taken_where_nothing_of_it_is_there(tmp_path):
    files = begin_set(tmp_path)
    assert store.shard_files(DM, tmp_path) == files
    assert store.keep(files, tmp_path).added == files and store.keep(files, tmp_path).unchanged == files
    before = {name: (tmp_path / name).read_bytes() for name in files}
    assert store.restore_unfinished([DM], tmp_path) == [], "what is here goes before what is kept"
    shutil.rmtree(tmp_path / "results")
    assert store.restore_unfinished([CPDM, DM], tmp_path) == [DM]
    assert {name: (tmp_path / name).read_bytes() for name in files} == before
    assert Checkpoint.beside(tmp_path / SHARDS / "classes5-9.safetensors", f"{KEY}-0").load(Progressed)


def test_sets_of_a_method_whose_files_are_called_alike_are_all_kept(tmp_path):
    files = begin_set(tmp_path)
    folder, other = tmp_path / SHARDS, tmp_path / store.shard_folder(TEN[1])
    shutil.copytree(folder, other)
    key = other.name.rsplit("-", 1)[1]
    Checkpoint.beside(other / "classes5-9.safetensors", f"{key}-0").write({}, {"done": 2})
    for name in ("classes0-4.safetensors", "classes0-4.run.json"):
        (other / name).unlink()
    both = [*files, *store.shard_files(TEN[1], tmp_path)]
    assert len(both) == 4 and store.keep(both, tmp_path).added == both
    sets = [DM, TEN[1]]
    assert sorted(store.unfinished(sets, tmp_path)) == sorted(both)
    assert store.drop_others([*sets, *store.unfinished(sets, tmp_path)], tmp_path) == []
    shutil.rmtree(tmp_path / "results")
    assert store.restore_unfinished(sets, tmp_path) == sets


def test_what_was_begun_is_kept_until_the_set_is(tmp_path):
    store.keep(begin_set(tmp_path), tmp_path)
    assert store.drop_others([DM, *store.unfinished([DM], tmp_path)], tmp_path) == []
    make_set(tmp_path, DM)
    assert store.shard_files(DM, tmp_path) == [], "a finished set needs no shards"
    store.keep([DM], tmp_path)
    removed = store.drop_others([DM, *store.unfinished([DM], tmp_path)], tmp_path)
    assert len(removed) == 3 and all("/shards/" in name for name in removed), removed
    assert not [name for name in listing(GROUP, tmp_path) if name.startswith("shards")]


def test_what_has_only_begun_may_be_twice_as_large_for_git_and_no_more(tmp_path, monkeypatch):
    files = begin_set(tmp_path)
    largest = max((tmp_path / name).stat().st_size for name in files)
    monkeypatch.setattr(store, "LARGE", 1)
    monkeypatch.setattr(store, "LARGE_UNFINISHED", largest)
    make_set(tmp_path, CPDM)
    done = store.keep([*files, CPDM], tmp_path)
    assert done.added == files and done.large == [CPDM]
    kept = set(store.tracked(tmp_path))
    assert all(str(store.kept_path(name)) in kept for name in files)
    monkeypatch.setattr(store, "LARGE_UNFINISHED", largest - 1)
    assert set(store.tracked(tmp_path)) < kept, "git leaves out what is larger"


def test_a_checkpoint_in_the_folder_of_another_set_is_not_kept(tmp_path):
    *_, checkpoint = begin_set(tmp_path, key="ba9876543210")
    with pytest.raises(UserError, match="belongs to the key ba9876543210"):
        store.keep([checkpoint], tmp_path)
    (tmp_path / checkpoint).write_bytes((tmp_path / checkpoint).read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        store.keep([checkpoint], tmp_path)


def test_only_what_changed_enters_the_store_and_what_is_needed_no_more_leaves_it(tmp_path):
    for path in TEN:
        make_set(tmp_path, path)
    store.keep(TEN, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dvcstore").rglob("*") if path.is_file()}
    make_set(tmp_path, TEN[3], fill=0.25)
    store.keep(TEN, tmp_path)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "dvcstore").rglob("*") if path.is_file()}
    # The set and the list of the folder
    assert len(after.keys() - before.keys()) == len(before.keys() - after.keys()) == 2
    assert all(after[path] == before[path] for path in after.keys() & before.keys())
    assert {str(path.relative_to(tmp_path)) for path in after} == {
        path for path in store.tracked(tmp_path) if path.startswith("dvcstore")
    }


def test_a_kept_copy_is_not_newer_than_the_result_so_that_nothing_is_taken_again(tmp_path):
    make_set(tmp_path, DM)
    os.utime(tmp_path / DM, (1e9, 1e9))
    store.keep([DM], tmp_path)
    assert (tmp_path / store.kept_path(DM)).stat().st_mtime == 1e9


def test_the_workflow_is_offered_what_is_kept_unless_everything_is_to_be_made(tmp_path, monkeypatch):
    make_set(tmp_path, DM)
    store.keep([DM], tmp_path)
    assert store.offered(DM, tmp_path) and not store.offered(CPDM, tmp_path)
    monkeypatch.setenv("CONDENSE_KEPT", "off")
    assert not store.offered(DM, tmp_path)


def test_a_dvc_file_that_another_command_wrote_anew_gets_its_form_back(tmp_path):
    make_set(tmp_path, DM)
    store.keep([DM], tmp_path)
    path = tmp_path / pointer(GROUP)
    before, value = path.read_bytes(), yaml.safe_load(path.read_text())
    # As `dvc commit` leaves it
    del value["outs"][0]["md5"], value["outs"][0]["size"], value["outs"][0]["nfiles"]
    path.write_text(yaml.safe_dump(value))
    assert store.keep([DM], tmp_path).unchanged == [DM] and path.read_bytes() == before


def test_grids_are_not_kept(tmp_path):
    make_set(tmp_path, DM)
    store.keep([DM], tmp_path)
    assert sorted(name.rsplit("/", 1)[1] for name in listing(GROUP, tmp_path)) == [
        "history.jsonl",
        "run.json",
        "synthetic.safetensors",
    ]


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


def test_a_kept_file_that_was_changed_is_refused_before_git_gets_it_and_mended_where_the_result_is_here(
    tmp_path,
):
    make_set(tmp_path, DM), make_metrics(tmp_path, METRICS)
    store.keep([DM, METRICS], tmp_path)
    kept = tmp_path / store.kept_path(DM)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + b"!")
    assert store.keep([DM, METRICS], tmp_path).added == [DM] and kept.read_bytes() == whole
    kept.write_bytes(whole[:-1] + b"!")
    shutil.rmtree((tmp_path / DM).parent)
    with pytest.raises(
        UserError, match="kept/sets/.*safetensors: damaged .its checksum differs from that of kept/sets/.*dvc"
    ):
        store.keep([DM, METRICS], tmp_path)


def test_keeping_completes_a_group_from_the_store_and_refuses_where_that_lacks_something(tmp_path):
    make_set(tmp_path, DM), make_set(tmp_path, TEN[1])
    store.keep([DM], tmp_path)
    shutil.rmtree(tmp_path / GROUP)
    store.keep([TEN[1]], tmp_path)
    assert (
        store.reusable(DM, tmp_path)
        and (tmp_path / store.kept_path(DM)).read_bytes() == (tmp_path / DM).read_bytes()
    )
    shutil.rmtree(tmp_path / GROUP), shutil.rmtree(tmp_path / "dvcstore")
    make_set(tmp_path, TEN[2])
    with pytest.raises(
        UserError,
        match="is listed in kept/sets/digits/dm.dvc but not here; run 'dvc pull kept/sets/digits/dm' first",
    ):
        store.keep([TEN[2]], tmp_path)


def test_dropping_others_leaves_what_is_wanted(tmp_path):
    make_set(tmp_path, DM), make_set(tmp_path, CPDM), make_metrics(tmp_path, METRICS), make_data(tmp_path)
    store.keep([DM, CPDM, METRICS, DATA], tmp_path)
    removed = store.drop_others([DM], tmp_path)
    assert len(removed) == 7 and store.kept_path(METRICS) in removed and store.kept_path(CPDM) in removed
    assert (
        store.reusable(DM, tmp_path)
        and not store.reusable(METRICS, tmp_path)
        and not store.reusable(CPDM, tmp_path)
    )
    left = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(left) == 4 and {str(path.relative_to(tmp_path)) for path in left} < set(
        store.tracked(tmp_path)
    )
    assert len([path for path in (tmp_path / "dvcstore").rglob("*") if path.is_file()]) == 4


BENT = [
    "outs: [{path: dm}]",
    "outs: [{path: other, files: []}]",
    "outs: 3",
    "[",
    "outs: [{path: dm, files: [{relpath: a}]}]",
]


@pytest.mark.parametrize("text", BENT)
def test_a_bent_dvc_file_is_named(tmp_path, text):
    (tmp_path / "kept/sets/digits").mkdir(parents=True)
    (tmp_path / f"{GROUP}.dvc").write_text(text)
    with pytest.raises(UserError, match=r"dm\.dvc: "):
        store.restore(DM, tmp_path)


def test_what_is_large_goes_to_a_remote_when_asked_and_never_to_git(tmp_path, monkeypatch):
    (tmp_path / "origin").mkdir()
    root = repository(tmp_path / "origin")
    publish(root)
    monkeypatch.setattr(store, "LARGE", 100)
    pets, of_pets = "results/data/pets/eeeeeeeeeeee/dataset.json", DM.replace("digits", "pets")
    make_data(root, pets), make_set(root, of_pets), make_metrics(root, METRICS.replace("digits", "pets"))
    everything = [pets, of_pets, METRICS.replace("digits", "pets")]
    done = store.keep(everything, root, with_bytes=["digits"])
    group = unit_of(pets).group
    assert (
        (done.large, done.added) == ([*everything], [])
        and listing(group, root) == {}
        and not (root / group).exists()
    )
    said = notes(group, root)["condense"]["eeeeeeeeeeee"]
    assert said["source"] == {"some.tar": "md5:" + 32 * "0"} and said["prepared"]["train"]["images"] == 2
    sh("git", "add", f"{group}.dvc", cwd=root), sh("git", "commit", "-q", "-m", "Data described", cwd=root)
    assert "up to date" in dvc("status", cwd=root) and sh("git", "status", "--short", cwd=root) == ""
    dvc("remote", "add", "-q", "-d", "team", str(tmp_path / "team"), cwd=root)
    assert store.keep(everything, root, with_bytes=["pets"]).added == everything
    publish(root)
    dvc("push", "-q", cwd=root)
    tracked = sh("git", "ls-files", cwd=root).split()
    assert {f"{group}.dvc", "kept/sets/pets/dm.dvc", "kept/data/.gitignore"} <= set(tracked)
    assert not [path for path in tracked if "pets/dm/synthetic" in path or path.startswith(f"{group}/")]
    here = clone(root, tmp_path / "clone")
    assert not (here / store.kept_path(of_pets)).exists()
    dvc("pull", cwd=here)
    assert (
        store.restore_all(everything, here) == everything and sh("git", "status", "--short", cwd=here) == ""
    )
    for path in (
        of_pets,
        *(
            str(Path(pets).with_name(name))
            for name in ("train.safetensors", "test.safetensors", "dataset.json")
        ),
    ):
        assert (here / path).read_bytes() == (root / path).read_bytes()
    assert store.keep(everything, here).unchanged == everything, (
        "once kept, the bytes stay without asking again"
    )
    store.drop_others(everything[1:], here)
    assert not (here / f"{group}.dvc").exists() and "kept/data/pets" not in "".join(store.tracked(here))
    assert not (here / "kept/data/.gitignore").exists()


def test_the_kept_summary_takes_over_the_datasets_that_were_measured_here(tmp_path):
    made, kept = tmp_path / "results/summary/accuracy.json", tmp_path / "kept/accuracy.json"
    assert keep_summary(made, kept) == []
    make_summary(tmp_path), make_summary(tmp_path, "80.0", "kept")
    kept.with_suffix(".csv").write_text(
        kept.with_suffix(".csv").read_text() + "cifar10,1,dm,convnet,convnet,26.5\n"
    )
    assert keep_summary(made, kept) == [kept, kept.with_suffix(".csv")]
    values = json.loads(kept.read_text())
    assert values["digits"]["ipc1"]["dm"] == {"convnet-convnet": 90.0} and values["cifar10"]["ipc1"][
        "dm"
    ] == {"convnet-convnet": 26.5}
