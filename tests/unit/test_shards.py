"""Jobs that condense or select: shards, sets that share a pass, stops, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from interruption_helpers import stopped_after, until_done
from matching_helpers import ARCH, CPU, HERE, recipe, shard

from condense import jobs, load_synthetic, specs
from condense.command.show import describe
from condense.config import UserError
from condense.engines.selection import choose
from condense.files import read_set
from condense.files.artifacts import file_sha256, read_tensors, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks.pretrain import load_teacher
from condense.select import clustering, coreset, covering
from condense.specs import catalogue

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_shared_run_killed_anywhere_ends_the_same(digits, teacher, tmp_path, monkeypatch):
    """Each set keeps a checkpoint of its own, and they may be of different steps."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    settings = {"seed": 0, **ARCH, "data": digits / "train.safetensors"}

    def sets(folder):
        asked = [("dm", 1, None), ("ed", 2, None), ("cpdm", 1, teacher)]
        made = [
            jobs.ShardJob(
                recipe(name, steps=5),
                ipc=ipc,
                key=name,
                parents={"teacher": found} if found else {},
                **settings,
            )
            for name, ipc, found in asked
        ]
        return {tmp_path / folder / f"{job.key}.safetensors": job for job in made}

    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    jobs.condense_shards(sets("whole"), HERE)
    with monkeypatch.context() as patched:
        written = stopped_after(patched, 4)
        until_done(lambda: jobs.condense_shards(sets("killed"), HERE))
    assert len(written) > 4
    for out in sets("whole"):
        assert file_sha256(out) == file_sha256(tmp_path / "killed" / out.name)
    facts = json.loads((tmp_path / "whole" / "dm.run.json").read_text())
    assert (
        facts["shared_by"] == 3
        and facts["precision"] == {"real": "float32", "synthetic": "float32"}
        and facts["kernels"]
    )


def test_jobs_that_cannot_share_say_why(digits, tmp_path):
    def refused(first, second, match):
        shards = {tmp_path / f"{place}.safetensors": job for place, job in enumerate((first, second))}
        with pytest.raises(UserError, match=match):
            jobs.condense_shards(shards, HERE)

    settings = {"data": digits / "train.safetensors", **ARCH, "ipc": 1, "key": "k"}
    dm = jobs.ShardJob(recipe("dm"), seed=0, **settings)
    refused(
        dm,
        jobs.ShardJob(recipe("ed"), seed=1, **settings),
        "ed: sets condensed in one pass agree in .*; seed differs",
    )
    refused(
        dm,
        jobs.ShardJob(recipe("ed", batch_real=8), seed=0, **settings),
        "ed: its networks, batches, .* are not those of dm",
    )
    refused(dm, jobs.ShardJob(catalogue.recipe("random"), seed=0, **settings), "random: shares no real side")


def test_the_same_job_gives_the_same_bytes(digits, teacher, tmp_path):
    for name in ("first", "second"):
        shard(tmp_path / f"{name}.safetensors", digits, recipe("cpdm"), parents={"teacher": teacher})
    assert file_sha256(tmp_path / "first.safetensors") == file_sha256(tmp_path / "second.safetensors")
    shard(tmp_path / "third.safetensors", digits, recipe("cpdm"), parents={"teacher": teacher}, seed=1)
    assert file_sha256(tmp_path / "first.safetensors") != file_sha256(tmp_path / "third.safetensors")


def test_shards_join_to_the_set_made_in_one_piece(digits, tmp_path):
    value = recipe("dm", snapshots=2)
    parts = [tmp_path / f"classes{first}-{first + 4}.safetensors" for first in (0, 5)]
    for path, first in zip(parts, (0, 5), strict=True):
        shard(path, digits, value, classes=tuple(range(first, first + 5)))
    shard(tmp_path / "all.safetensors", digits, value)
    for name, shards in (("joined", parts[::-1]), ("one", [tmp_path / "all.safetensors"])):
        jobs.gather(tmp_path / name / "synthetic.safetensors", shards, digits / "train.safetensors")
    (joined, header), (one, other) = (
        read_tensors(tmp_path / name / "synthetic.safetensors", "synthetic") for name in ("joined", "one")
    )
    assert (
        joined["labels"].tolist()
        == one["labels"].tolist()
        == [label for label in range(10) for _ in range(2)]
    )
    torch.testing.assert_close(
        torch.from_numpy(joined["images"]), torch.from_numpy(one["images"]), rtol=1e-4, atol=1e-5
    )
    assert {k: v for k, v in header.items() if k != "content_sha256"} == {
        k: v for k, v in other.items() if k != "content_sha256"
    }
    history = [
        [json.loads(line) for line in open(tmp_path / name / "history.jsonl")] for name in ("joined", "one")
    ]
    assert [row["loss"] for row in history[0]] == pytest.approx([row["loss"] for row in history[1]], rel=1e-4)
    snapshots, note = read_tensors(tmp_path / "joined" / "snapshots.safetensors", "snapshots")
    assert note["snapshot_steps"] == [2, 4] and snapshots["images"].shape == (2, *joined["images"].shape)
    assert (snapshots["images"][-1] == joined["images"].astype("float16")).all()


def test_a_set_stored_in_half_precision_is_read_as_it_was_rounded(digits, tmp_path):
    value = recipe("dm", snapshots=2)
    shard(tmp_path / "all.safetensors", digits, value)
    sets = {stored: tmp_path / stored / "synthetic.safetensors" for stored in ("float32", "float16")}
    for stored, path in sets.items():
        jobs.gather(path, [tmp_path / "all.safetensors"], digits / "train.safetensors", stored)
    (whole, _), (half, header) = read_set(sets["float32"]), read_set(sets["float16"])
    assert header["stored"] == "float16" and half["images"].dtype == whole["images"].dtype == "float32"
    assert (half["images"] == whole["images"].astype("float16")).all() and (
        half["images"] != whole["images"]
    ).any()
    assert read_tensors(sets["float16"])[0]["images"].dtype == "float16"
    assert sets["float16"].stat().st_size < 0.75 * sets["float32"].stat().st_size
    snapshots, _ = read_set(sets["float16"].with_name("snapshots.safetensors"), "snapshots")
    assert (snapshots["images"][-1] == half["images"]).all()
    assert load_synthetic(sets["float16"]).images.dtype == torch.float32
    assert "float16" in describe(sets["float16"])


def test_pixels_too_large_for_half_precision_are_refused(digits, tmp_path):
    shard(tmp_path / "all.safetensors", digits, recipe("random"))
    tensors, header = read_tensors(tmp_path / "all.safetensors")
    tensors["images"][0] = 1e6
    header = {name: value for name, value in header.items() if name not in ("schema", "content_sha256")}
    write_tensors(tmp_path / "all.safetensors", tensors, header)
    with pytest.raises(UserError, match="too large for float16; write `stored: float32`"):
        jobs.gather(
            tmp_path / "set" / "synthetic.safetensors",
            [tmp_path / "all.safetensors"],
            digits / "train.safetensors",
            "float16",
        )


def test_shards_that_do_not_make_a_set_are_refused(digits, tmp_path):
    first, again, other = (tmp_path / f"{name}.safetensors" for name in "abc")
    shard(first, digits, recipe("random"), classes=tuple(range(5)))
    shard(again, digits, recipe("random"), classes=tuple(range(4, 10)))
    shard(other, digits, recipe("random"), classes=tuple(range(5, 10)), key="another")
    data = digits / "train.safetensors"
    for shards, message in (
        ([first], "instead of each of 10 once"),
        ([first, again], "instead"),
        ([first, other], "belongs to the set"),
    ):
        with pytest.raises(UserError, match=message):
            jobs.gather(tmp_path / "set" / "synthetic.safetensors", shards, data)
    assert not (tmp_path / "set" / "synthetic.safetensors").exists()


def test_jobs_that_cannot_work_say_so(digits, teacher, tmp_path):
    out = tmp_path / "x.safetensors"
    for name in ("cpdm", "herding"):
        with pytest.raises(UserError, match="teacher"):
            shard(out, digits, recipe(name))
    with pytest.raises(UserError, match="whole"):
        shard(out, digits, recipe("whole"))
    with pytest.raises(UserError, match="batch_real"):
        shard(out, digits, recipe("dm_kl", batch_real=4), ipc=5, parents={"teacher": teacher})
    assert not out.exists()


def test_a_checkpoint_of_other_settings_under_the_same_key_is_left_aside(digits, tmp_path, monkeypatch):
    """By hand every job has the key 'by-hand'."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    out = tmp_path / "x.safetensors"

    def stop(self, tensors, state):
        save(self, tensors, state)
        raise KeyboardInterrupt

    save = Checkpoint.write
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "write", stop)
        shard(out, digits, recipe("ed"), key="by-hand")
    assert (tmp_path / "x.safetensors.resume").exists()
    shard(out, digits, recipe("dm"), key="by-hand")
    shard(tmp_path / "y.safetensors", digits, recipe("dm"), key="by-hand")
    assert file_sha256(out) == file_sha256(tmp_path / "y.safetensors")
    assert not (tmp_path / "x.safetensors.resume").exists()


@pytest.mark.parametrize("name", specs.SELECTIONS)
def test_selections_take_the_images_that_the_rules_choose(name, train, teacher):
    network, events = load_teacher(teacher, train, CPU)
    found = choose(recipe(name), train, (2, 7), ipc=4, seed=5, teacher=(network, events), device=CPU)
    for place, label in enumerate((2, 7)):
        images, generator = train.of_class(label), seeds.generator(5, "select", label)
        features = network.embed(images).detach()
        if name == "random":
            order = coreset.random_choice(len(images), 4, generator)
        elif name == "herding":
            order = coreset.herding(features, 4)
        elif name == "forgetting":
            order = coreset.forgetting(events[train.class_slice(label)], 4)
        elif name == "k_means":
            order = clustering.k_means(features, 4, generator)
        elif name == "minimum_covering":
            first = int(torch.randint(len(features), (1,), generator=generator))
            order = covering.minimum_covering(features, 4, first, recipe(name).covering)
        else:
            assert name == "k_center"
            order = coreset.k_center(
                features, 4, int(torch.randint(len(features), (1,), generator=generator))
            )
        assert torch.equal(found.images[place], images[order.copy()])


def test_a_teacher_of_other_images_is_refused(train, teacher):
    with pytest.raises(UserError, match="other images .*; give the classifier of these"):
        load_teacher(teacher, replace(train, data_sha256="0" * 64), CPU)


def test_a_damaged_checkpoint_is_named(digits, tmp_path):
    write_tensors(tmp_path / "x.safetensors.resume", {}, {"kind": "checkpoint", "key": "k", "state": {}})
    path = tmp_path / "x.safetensors.resume"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="x.safetensors.resume: damaged"):
        shard(tmp_path / "x.safetensors", digits, recipe("dm"))


def test_a_job_goes_on_where_only_what_describes_its_recipe_changed(digits, tmp_path, monkeypatch, caplog):
    """A later version may tell of a method in other words, and have settings at defaults that it had not."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    caplog.set_level("INFO")
    value = recipe("dm", steps=6)
    for words, rate, told in [
        ({"title": "Otherwise", "overrides": {"any": {"ipc>5": {"steps": 3}}}}, 1.0, "resumed from step"),
        ({}, 2.0, "belongs to other settings"),
    ]:
        stopped_after(monkeypatch, 2)
        with pytest.raises(KeyboardInterrupt):
            shard(tmp_path / f"{rate}.safetensors", digits, value)
        monkeypatch.undo()
        caplog.clear()
        changed = replace(value, optimizer=replace(value.optimizer, lr=rate), **words)
        shard(tmp_path / f"{rate}.safetensors", digits, changed)
        assert told in caplog.text
        monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
