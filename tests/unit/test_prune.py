"""What `condense prune` removes, and above all what it leaves."""

import functools
import os
import time

import pytest

from condense.command import prune
from condense.config import UserError
from condense.plan import Maker
from condense.plan.ranges import Share
from condense.plan.tables import Plan
from condense.specs.catalogue import scale

STALE = "0123456789ab"
# All scales are planned once and not in every test
_asked = functools.cache(lambda weights, asked=prune._asked: asked())


@pytest.fixture(autouse=True)
def planned_once(monkeypatch):
    monkeypatch.setattr(prune, "_asked", lambda: _asked(os.environ.get("CONDENSE_CLIP")))


def make(path, age_days=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    then = time.time() - age_days * 86400
    os.utime(path, (then, then))
    return path


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two cells of the quick scale with all their files, and the same files under keys that nothing asks
    for."""
    monkeypatch.delenv("CONDENSE_CLIP", raising=False)
    plan = Plan("quick")
    metrics = next(cell for cell in plan.metrics.values() if "teacher" in cell.synthetic.parents)
    synthetic = metrics.synthetic
    asked = [
        synthetic.data.train,
        synthetic.data.test,
        synthetic.parents["teacher"].path,
        synthetic.path,
        metrics.path,
    ]
    kept = {make(tmp_path / path) for path in asked}
    teacher = synthetic.parents["teacher"]
    keys = [synthetic.data.key, synthetic.data.key, teacher.key, synthetic.key, metrics.key, synthetic.key]
    stored = zip([*asked, synthetic.shard_path(Share("classes", "0-9"))], keys, strict=True)
    stale = {make(tmp_path / path.replace(key, STALE)) for path, key in stored}
    return tmp_path / "results", synthetic, metrics, kept, stale


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_what_a_scale_asks_for_stays_and_the_rest_goes(tree):
    results, _, _, kept, stale = tree
    said = prune.prune_results(results, dry=False)
    assert files(results) == kept and not stale & kept
    assert said.splitlines()[-1] == f"6 files, 0.0 MB removed from {results}"
    assert not list(results.rglob(f"*{STALE}*"))  # no empty folder is left either
    assert prune.prune_results(results, dry=False) == f"0 files, 0.0 MB removed from {results}"


def test_a_dry_run_names_everything_and_removes_nothing(tree):
    results, _, _, kept, stale = tree
    said = prune.prune_results(results, dry=True)
    assert files(results) == kept | stale
    assert (
        all(str(path) in said or str(path.parent) in said for path in stale)
        and "6 files, 0.0 MB would be removed" in said
    )
    assert not any(str(path) in said for path in kept)


def test_every_scale_counts(tree):
    results, _, _, kept, _ = tree
    paper = next(iter(Plan("paper").synthetic.values()))
    other = make(results.parent / paper.path)
    prune.prune_results(results, dry=False)
    assert files(results) == kept | {other}


def test_files_that_are_not_at_a_path_of_the_workflow_are_never_touched(tree):
    results, synthetic, _, kept, _ = tree
    others = [
        "tables/cpdm/table1.csv",
        "figures/cpdm/figure1.png",
        "tracking/ingested.json",
        "report.html",
        "synthetic/notes.txt",
    ]
    others += [
        f"synthetic/mine/{STALE}/synthetic.safetensors",
        f"synthetic/digits/ed/convnet/ipc10/seed0-{STALE}x/a.safetensors",
    ]
    others += [
        f"metrics/digits/ed/convnet/ipc10/seed0-{STALE}/convnet-dc-{STALE}.json",
        f"logs/teach/digits-{STALE}.log",
    ]
    others += [
        f"plan/{STALE}.json.resume",
        "data/digits/old.resume",
        f"benchmarks/synthesize/{STALE}.tsv",
        "data/digits/raw.part",
    ]
    made = {make(results / other, age_days=9) for other in others}
    prune.prune_results(results, dry=False)
    assert files(results) == kept | made


def test_shards_go_once_their_set_is_whole(tree):
    results, synthetic, _, kept, _ = tree
    for classes in ("0-4", "5-9"):
        make(results.parent / synthetic.shard_path(Share("classes", classes)))
    waiting = next(cell for cell in Plan("quick").synthetic.values() if cell.key != synthetic.key)
    lone = make(results.parent / waiting.shard_path(Share("classes", "0-4")))
    said = prune.prune_results(results, dry=False)
    assert files(results) == kept | {lone} and "its set is whole, 2 files" in said


def test_parts_go_once_their_metrics_are_whole(tree):
    results, _, metrics, kept, _ = tree
    waiting = next(cell for cell in Plan("quick").metrics.values() if cell.key != metrics.key)
    done = [make(results.parent / metrics.part_path(part)) for part in ("0-0", "1-2")]
    lone, stale = (
        make(results.parent / waiting.part_path("0-0").replace(waiting.key, key))
        for key in (waiting.key, STALE)
    )
    prune.sweep(results)
    assert not any(path.exists() for path in done) and lone.exists() and stale.exists()
    make(done[0])
    said = prune.prune_results(results, dry=False)
    assert (
        files(results) == kept | {lone}
        and "its metrics are whole, 1 file," in said
        and f"{STALE}  no scale asks for it" in said
    )


def test_leftovers_of_jobs_go_after_a_day_unless_the_job_is_to_be_finished(tree):
    results, synthetic, metrics, kept, _ = tree
    waiting = next(cell for cell in Plan("quick").synthetic.values() if cell.key != synthetic.key)
    to_finish = make(results.parent / f"{waiting.shard_path(Share('classes', '0-9'))}.resume", age_days=9)
    draft = f".synthetic.safetensors.{'0' * 32}.part"
    fresh = make((results.parent / synthetic.path).with_name(draft.replace("0000", "1111")), age_days=0.5)
    gone = [
        make(results.parent / f"{metrics.path}.resume{part}", age_days=2)
        for part in ("", ".network3", ".40.network0")
    ]
    gone.append(make((results.parent / synthetic.path).with_name(draft), age_days=2))
    gone.append(
        make((results.parent / waiting.shard_path(Share("classes", "0-9"))).with_name(draft), age_days=2)
    )
    gone.append(
        make(results.parent / f"{metrics.path.replace(metrics.key, STALE)}.resume.network1", age_days=2)
    )
    prune.prune_results(results, dry=False)
    assert files(results) == kept | {to_finish, fresh}


def test_sets_of_a_method_that_needs_absent_weights_stay(tree, tmp_path, monkeypatch):
    results, _, _, kept, _ = tree
    cell = Maker(scale("quick")).synthetic("digits16", "dm_clip", "convnet", 10, 0)
    clip = make(results.parent / cell.path)
    prune.prune_results(results, dry=False)
    assert files(results) == kept | {clip}
    stale = make(results.parent / cell.path.replace(cell.key, STALE))
    monkeypatch.setenv("CONDENSE_CLIP", str(make(tmp_path / "weights")))
    prune.prune_results(results, dry=False)
    assert files(results) == kept | {clip} and not stale.exists()


def test_links_are_not_followed(tree, tmp_path):
    results, _, _, kept, _ = tree
    outside = make(tmp_path / "elsewhere" / "digits" / STALE / "train.safetensors")
    (results / "data" / "linked").symlink_to(tmp_path / "elsewhere" / "digits")
    (results / "shards").mkdir(exist_ok=True)
    prune.prune_results(results, dry=False)
    assert outside.exists() and (results / "data" / "linked").is_symlink()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        prune.prune_results(tmp_path / "nowhere", dry=True)


def test_a_sweep_takes_what_lies_beside_finished_files_and_nothing_else(tree):
    results, synthetic, metrics, kept, _ = tree
    done, unfinished = results.parent / metrics.path, results.parent / (metrics.path + "x")
    draft = "." + "0" * 32 + ".part"
    left = [".resume", ".resume.0.network1"]
    gone = {make(done.with_name(done.name + end)) for end in left} | {
        make(done.with_name(f".{done.name}{draft}"))
    }
    gone |= {make(done.with_name(f".{done.name}.resume{draft}")), make(done.with_name(f".{done.name}.lock"))}
    stay = {make(unfinished.with_name(unfinished.name + end)) for end in left} | {
        make(results / ".gitignore")
    }
    stay |= {
        make(unfinished.with_name(f".{unfinished.name}.lock")),
        make(done.with_name(f"{done.name}.mine")),
    }
    make(results.parent / synthetic.shard_path(Share("classes", "0-9")))
    make(
        (results.parent / synthetic.shard_path(Share("classes", "0-9"))).with_name(
            ".classes0-9.safetensors.lock"
        )
    )
    prune.sweep(results)
    assert not [path for path in gone if path.exists()] and all(path.exists() for path in stay | kept)
    assert not (results / "shards" / synthetic.subpath).exists()
