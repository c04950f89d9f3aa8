"""Kept results travel through DVC and git: real `dvc` and `git` in small repositories that carry the
project's own DVC files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc_helpers import (
    CPDM,
    DATA,
    DM,
    METRICS,
    PROJECT,
    clone,
    dvc,
    make_set,
    make_summary,
    publish,
    repository,
    sh,
)

from condense.config import UserError
from condense.files import store
from condense.files.artifacts import read_tensors
from condense.files.dvcfiles import listing, stored
from hang_helpers import HUNG

pytestmark = pytest.mark.workflow
CLEAN = "Data and pipelines are up to date."
GROUP = "kept/sets/digits/dm"


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A repository whose maintainer kept two sets, one metrics file and the data, and committed them."""
    root = repository(tmp_path_factory.mktemp("origin"))
    publish(root)
    assert sh("git", "status", "--short", cwd=root) == "" and CLEAN in dvc("status", cwd=root)
    return root


@pytest.fixture
def here(origin, tmp_path):
    """A fresh clone."""
    return clone(origin, tmp_path / "clone")


@pytest.fixture(scope="module")
def address(origin, tmp_path_factory):
    """A git address, behind which there is no checkout."""
    bare = tmp_path_factory.mktemp("served") / "origin.git"
    sh("git", "clone", "-q", "--bare", str(origin), str(bare), cwd=origin)
    return f"file://{bare}"


def test_a_fresh_clone_is_clean_for_dvc_and_git_and_gives_the_sets_with_their_very_bytes(origin, here):
    assert CLEAN in dvc("status", cwd=here) and "up to date" in dvc("pull", cwd=here)
    assert store.restore_all([DM, CPDM, METRICS, DATA, DM.replace("ab/", "ff/")], here) == [
        DM,
        CPDM,
        METRICS,
        DATA,
    ]
    for folder in (Path(DM).parent, Path(CPDM).parent, Path(METRICS).parent, Path(DATA).parent):
        files = sorted(path.name for path in (origin / folder).iterdir() if path.name != "grid.png")
        assert files == sorted(path.name for path in (here / folder).iterdir())
        assert all(
            (here / folder / name).read_bytes() == (origin / folder / name).read_bytes() for name in files
        )
    assert CLEAN in dvc("status", cwd=here) and sh("git", "status", "--short", cwd=here) == ""


def test_dvc_brings_back_what_was_deleted_from_the_store_one_method_or_all(here):
    shutil.rmtree(here / "kept/sets/digits/dm"), shutil.rmtree(here / "kept/sets/digits/cpdm")
    assert "deleted" in dvc("status", cwd=here)
    dvc("pull", GROUP, cwd=here)
    assert (here / store.kept_path(DM)).is_file() and not (here / "kept/sets/digits/cpdm").exists()
    dvc("pull", cwd=here)
    assert CLEAN in dvc("status", cwd=here) and sh("git", "status", "--short", cwd=here) == ""


def test_a_git_address_gives_methods_sets_and_data(origin, address, tmp_path):
    dvc("get", address, GROUP, cwd=tmp_path)
    dvc("get", address, store.kept_path(DM), cwd=tmp_path)
    dvc("get", address, "kept/data/digits", "--rev", "main", cwd=tmp_path)
    assert (tmp_path / "synthetic.safetensors").read_bytes() == (origin / DM).read_bytes()
    assert {str(path.relative_to(tmp_path / "dm")) for path in (tmp_path / "dm").rglob("*.*")} == set(
        listing(Path(GROUP), origin)
    )
    assert len(list((tmp_path / "digits").rglob("*.safetensors"))) == 2
    (tmp_path / "project").mkdir()
    sh("git", "init", "-q", cwd=tmp_path / "project")
    dvc("init", "-q", cwd=tmp_path / "project")
    dvc("import", address, GROUP, cwd=tmp_path / "project")
    assert CLEAN in dvc("status", cwd=tmp_path / "project")
    shutil.rmtree(tmp_path / "project/dm"), shutil.rmtree(tmp_path / "project/.dvc/cache")
    dvc("pull", cwd=tmp_path / "project")
    inner = store.kept_path(DM).removeprefix(f"{GROUP}/")
    assert (tmp_path / "project/dm" / inner).read_bytes() == (origin / DM).read_bytes()
    program = (
        "import sys, dvc.api\nwith dvc.api.open(*sys.argv[1:], mode='rb') as file: "
        "sys.stdout.buffer.write(file.read())"
    )
    called = [sys.executable, "-c", program, store.kept_path(DM), address]
    read = subprocess.run(called, cwd=tmp_path, capture_output=True, check=True, timeout=HUNG)
    assert read.stdout == (origin / DM).read_bytes()
    assert "accuracy.json" in dvc("list", address, "kept", cwd=tmp_path)


def test_an_unpacked_archive_gives_the_same_without_dvc_and_git(origin, tmp_path):
    sh("git", "archive", "--output", str(tmp_path / "a.tar"), "HEAD", cwd=origin)
    (tmp_path / "archive").mkdir()
    sh("tar", "xf", "../a.tar", cwd=tmp_path / "archive")
    assert store.restore_all([DM, CPDM, METRICS, DATA], tmp_path / "archive") == [DM, CPDM, METRICS, DATA]
    assert (tmp_path / "archive" / DM).read_bytes() == (origin / DM).read_bytes()
    shutil.rmtree(tmp_path / "archive/results"), shutil.rmtree(tmp_path / "archive" / GROUP)
    assert store.restore_all([DM, METRICS], tmp_path / "archive") == [DM, METRICS], (
        "what the store holds needs no copy in kept/"
    )
    assert (tmp_path / "archive" / DM).read_bytes() == (origin / DM).read_bytes()


def test_the_checksum_of_a_folder_is_the_one_that_dvc_gives_it(origin, tmp_path):
    sh("git", "init", "-q", cwd=tmp_path)
    dvc("init", "-q", cwd=tmp_path)
    shutil.copytree(origin / GROUP, tmp_path / "dm")
    dvc("add", "-q", "dm", cwd=tmp_path)
    theirs = (tmp_path / "dm.dvc").read_text().splitlines()
    ours = (origin / f"{GROUP}.dvc").read_text().splitlines()
    assert theirs == ours[: len(theirs)] and "files:" in ours[len(theirs)]
    objects = [
        path.relative_to(tmp_path / ".dvc/cache")
        for path in (tmp_path / ".dvc/cache").rglob("*")
        if path.is_file()
    ]
    assert len(objects) == 5 and all((origin / "dvcstore" / path).is_file() for path in objects)


def test_local_sets_survive_a_pull_of_newer_ones_and_are_not_replaced(origin, here, tmp_path):
    team = clone(origin, tmp_path / "team")
    mine = DM.replace("seed0-0123456789ab", "seed1-111111111111")
    # One of another key, and one of a key that is kept with other bytes
    make_set(here, mine), make_set(here, DM, fill=0.25)
    newer = DM.replace("seed0-0123456789ab", "seed2-222222222222")
    make_set(team, newer)
    store.keep([newer], team)
    publish(team)
    sh("git", "pull", "-q", str(team), "main", cwd=here)
    dvc("pull", cwd=here)
    assert store.restore_all([DM, mine, newer], here) == [newer]
    assert (
        read_tensors(here / mine)[0]["images"].min() == 0.5
        and read_tensors(here / DM)[0]["images"].max() == 0.25
    )


def test_two_members_who_keep_sets_of_one_method_meet_in_a_list_that_is_made_anew(origin, here, tmp_path):
    sets = [DM.replace("seed0-0123456789ab", f"seed{seed}-{12 * str(seed)}") for seed in (1, 2)]
    other = clone(origin, tmp_path / "other")
    for root, path in ((here, sets[0]), (other, sets[1])):
        make_set(root, path)
        store.keep([path], root)
        publish(root)
    sh("git", "pull", "-q", "--no-rebase", str(other), "main", cwd=here, fails=True)
    sh("git", "checkout", "-q", "--theirs", f"{GROUP}.dvc", cwd=here)
    assert store.keep(sets, here).added == [sets[0]]
    publish(here)
    assert CLEAN in dvc("status", cwd=here) and all(
        store.reusable(path, clone(here, tmp_path / "third")) for path in [sets[0]]
    )


def test_an_object_damaged_in_the_store_is_noticed_before_anything_is_used_and_stops_only_its_own_set(here):
    victim = stored(
        listing(Path(GROUP), here)[f"{Path(store.kept_path(DM)).parent.relative_to(GROUP)}/history.jsonl"].md5
    )
    (here / victim).write_bytes((here / victim).read_bytes().replace(b"loss", b"LOSS"))
    shutil.rmtree(here / GROUP), shutil.rmtree(here / "kept/sets/digits/cpdm")
    dvc("pull", cwd=here)  # it copies what its cache holds without looking
    assert "not in cache:       kept/sets/digits/dm" in dvc("status", cwd=here)
    with pytest.raises(
        UserError, match=rf"history\.jsonl: damaged .*; if damaged again, the same for {victim}"
    ):
        store.restore(DM, here)
    assert store.restore_all([CPDM, METRICS], here) == [CPDM, METRICS] and not (here / DM).exists()
    sh("git", "checkout", "--", GROUP, str(victim), cwd=here)
    store.restore(DM, here)
    assert CLEAN in dvc("status", cwd=here) and sh("git", "status", "--short", cwd=here) == ""


def test_a_changed_kept_file_is_named_nothing_is_taken_and_the_way_out_works(here):
    history = here / Path(store.kept_path(DM)).with_name("history.jsonl")
    history.write_bytes(history.read_bytes().replace(b"loss", b"LOSS"))
    with pytest.raises(
        UserError,
        match=r"history\.jsonl: damaged .*'dvc pull kept/sets/digits/dm' or 'git checkout -- kept/sets/dig",
    ):
        store.restore(DM, here)
    assert list((here / DM).parent.iterdir()) == []
    history.unlink()
    dvc("pull", GROUP, cwd=here)
    store.restore(DM, here)


def test_metrics_and_plots_are_shown_on_a_fresh_clone_and_after_a_run_that_git_does_not_see(here):
    def shown(*targets):
        return json.loads(dvc("metrics", "show", "--json", *targets, cwd=here))[""]["data"]

    assert shown()["kept/accuracy.json"]["data"]["digits"]["ipc1"]["dm"] == {"convnet-convnet": 90.0}
    make_summary(here, "91.5")
    assert shown()["kept/accuracy.json"]["data"]["digits"]["ipc1"]["dm"] == {"convnet-convnet": 90.0}
    made = shown("results/summary/accuracy.json")["results/summary/accuracy.json"]["data"]
    assert made["digits"]["ipc1"]["dm"] == {"convnet-convnet": 91.5}
    dvc("plots", "show", "-o", "plots", cwd=here)
    assert "90.0" in (here / "plots/index.html").read_text()
    dvc(
        "plots",
        "show",
        "results/summary/accuracy.csv",
        "-x",
        "method",
        "-y",
        "accuracy",
        "-t",
        "scatter",
        "-o",
        "plots",
        cwd=here,
    )
    assert "91.5" in (here / "plots/index.html").read_text()
    shutil.rmtree(here / "plots")
    assert sh("git", "status", "--short", cwd=here) == "" and CLEAN in dvc("status", cwd=here)


def test_what_else_dvc_puts_into_the_store_is_not_seen_by_git(here):
    (here / "mine.bin").write_bytes(b"large")
    dvc("add", "-q", "mine.bin", cwd=here)
    assert "dvcstore" not in sh("git", "status", "--short", "--untracked-files=all", cwd=here)


def test_the_project_itself_is_clean_when_cloned_and_gives_what_it_lists(tmp_path):
    if not (PROJECT / ".git").exists():
        pytest.skip("no git checkout")
    here = clone(PROJECT, tmp_path / "clone")
    assert CLEAN in dvc("status", cwd=here)
    tracked = set(sh("git", "ls-files", "kept", "dvcstore", cwd=here).split())
    assert tracked == set(store.tracked(here)) | {"kept/accuracy.json", "kept/accuracy.csv"}
    assert all((here / path).stat().st_size <= store.LARGE_UNFINISHED for path in tracked)
    finished = [path for path in store.tracked(here) if path.startswith("kept/") and "/shards/" not in path]
    assert all((here / path).stat().st_size <= store.LARGE for path in finished)
    # What lies in kept/ and in the store is one object of git, which a clone fetches once: half as much as
    # the files take together
    staged = sh("git", "ls-files", "--stage", "kept", "dvcstore", cwd=here).splitlines()
    sizes = {line.split()[1]: (here / line.split("\t")[1]).stat().st_size for line in staged}
    assert sum(sizes.values()) <= 48_000_000, "a clone is made quickly"
