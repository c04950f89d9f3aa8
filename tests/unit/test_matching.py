"""The matching engine against a plain loop, and what it promises of shards, resumption, small classes and divergence."""

import json
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from condense import jobs, models, plan, recipes, seeds, specs
from condense.artifacts import file_sha256, read_tensors, write_tensors
from condense.augment import siamese
from condense.checkpoints import Checkpoint
from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.engines.matching import Matching, RealBatches, initial_images
from condense.engines.selection import choose
from condense.select import coreset
from condense.teachers.pretrain import load_teacher

ARCH = {"arch": "convnet", "options": {"depth": 2, "width": 8}}
CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
HERE = jobs.Machine("cpu", 1)
pytestmark = pytest.mark.usefixtures("one_thread")


def recipe(name, **changes):
    """A recipe as the digits get it, made tiny."""
    changes = {"steps": 4, "batch_real": 16, "optimizer": {"lr": 1.0}} | changes
    return recipes.resolve(recipes.recipe(name), "digits", plan.data_cell("digits").spec.strategy, 1, [("test", changes)])


def protocol(**changes):
    return read(specs.Protocol, merged(asdict(recipes.protocol("critic")), {"epochs": 2} | changes), "test")


@pytest.fixture(scope="module")
def train(digits):
    return load(digits / "train.safetensors")


@pytest.fixture(scope="module")
def teacher(digits, tmp_path_factory):
    """A small classifier of the digits, in its file."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    jobs.pretrain_teacher(path, digits / "train.safetensors", protocol(), **ARCH, strategy="none", seed=0, key="t", machine=HERE)
    return path


@pytest.fixture(scope="module")
def critic(teacher, train):
    return load_teacher(teacher, train, CPU)[0]


def engine(value, data, classes=None, *, ipc=2, seed=0, critic=None, checkpoint=NOWHERE):
    classes = tuple(classes or data.classes)
    return Matching(value, data, classes, **ARCH, ipc=ipc, seed=seed, device=CPU, critic=critic, checkpoint=checkpoint)


def reference(value, data, label, *, ipc, seed, critic):
    """One class condensed by itself, written down from the papers: (ipc, ...) normalised images.

    DM, algorithm 1: a fresh network and a fresh siamese draw a step; cpdm, eq. (6) and (7).
    """
    own = data.of_class(label)
    order = torch.randperm(len(own), generator=seeds.generator(seed, "init", label))
    images = own[order[:ipc]].clone().requires_grad_(True)
    optimizer = torch.optim.SGD([images], lr=value.optimizer.lr, momentum=value.optimizer.momentum)
    network = models.build(ARCH["arch"], channels=data.channels, size=data.size, classes=len(data.counts), **ARCH["options"])
    for step in range(value.steps):
        models.reinitialise(network, seeds.stream(seed, "network", step))
        order = torch.randperm(len(own), generator=seeds.generator(seed, "real-batch", label, step))
        drawn = siamese.draw(value.augment.siamese, data.size, seeds.generator(seed, "augment", label, step))
        real = network.embed(siamese.apply(own[order[: value.batch_real]], drawn)).detach()
        synthetic = network.embed(siamese.apply(images, drawn))
        if value.name == "dm":
            loss = ((real.mean(0) - synthetic.mean(0)) ** 2).sum()
        else:
            attraction = (real[:, None] - synthetic[None]).norm(dim=2).mean()
            pairs = [(synthetic[i] - synthetic[j]).norm() for i in range(ipc) for j in range(ipc) if i != j]
            loss = 2 * attraction - sum(pairs) / ipc**2
        if value.name == "cpdm":
            share = (value.steps - step) / value.steps
            loss = loss + share * F.cross_entropy(critic(images), torch.full((ipc,), label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return images.detach()


@pytest.mark.parametrize("name", ["dm", "ed", "cpdm"])
def test_engine_equals_a_plain_loop_over_classes(name, train, critic):
    value = recipe(name, steps=5)
    found = engine(value, train, critic=critic, ipc=3, seed=7).run().images
    start = initial_images(train, train.classes, 3, "real", 7)
    for place, label in enumerate(train.classes):
        wanted = reference(value, train, label, ipc=3, seed=7, critic=critic)
        torch.testing.assert_close(found[place], wanted, rtol=1e-4, atol=1e-4)
        assert (found[place] - start[place]).abs().max() > 0.01, "the images have to move for the comparison to mean anything"


@pytest.mark.parametrize("name", ["dm", "ed", "cpdm"])
def test_a_class_is_the_same_alone_in_a_shard_and_with_all(name, train, critic):
    value = recipe(name, steps=20, batch_real=32)
    together = engine(value, train, critic=critic).run().images
    for classes in [(4,), (3, 4, 5), tuple(range(5))]:
        found = engine(value, train, classes, critic=critic).run().images
        wanted = together[list(classes)]
        assert (found - wanted).norm() <= 1e-4 * wanted.norm()


def test_a_class_keeps_its_draws_whatever_shard_it_is_in(train):
    alone, shard = RealBatches(train, (6,), 9, 3, CPU), RealBatches(train, (2, 6), 9, 3, CPU)
    for step in (0, 5):
        assert torch.equal(alone.at(step)[0], shard.at(step)[1])
    assert not torch.equal(alone.at(0), alone.at(1))
    assert torch.equal(initial_images(train, (6,), 4, "noise", 1)[0], initial_images(train, (0, 6), 4, "noise", 1)[1])


def test_a_real_start_consists_of_distinct_images_of_the_class(train):
    start = initial_images(train, (0, 9), 20, "real", 0)
    for images, label in zip(start, (0, 9), strict=True):
        own = {image.numpy().tobytes() for image in train.of_class(label)}
        chosen = [image.numpy().tobytes() for image in images]
        assert set(chosen) <= own and len(set(chosen)) == 20


def small_first_class(train, keep):
    """The digits with only `keep` images of class 0."""
    kept = torch.cat([torch.arange(keep), torch.arange(train.counts[0], len(train))])
    counts = (keep, *train.counts[1:])
    return replace(train, images=train.images[kept], labels=train.labels[kept], counts=counts)


@pytest.mark.parametrize("name", ["dm", "ed", "cpdm"])
def test_a_class_smaller_than_the_batch_gives_each_image_once(name, train, critic):
    value, data = recipe(name, steps=5), small_first_class(train, 6)
    found = engine(value, data, (0, 1, 2), critic=critic).run().images
    for place in (0, 1):
        wanted = reference(value, data, place, ipc=2, seed=0, critic=critic)
        torch.testing.assert_close(found[place], wanted, rtol=1e-4, atol=1e-4)
    batches = RealBatches(data, (0, 1), 16, 0, CPU)
    assert batches.mask.sum(1).tolist() == [6, 16]
    shown = {image.numpy().tobytes() for image in batches.at(3)[0][:6]}
    assert shown == {image.numpy().tobytes() for image in data.of_class(0)}


def test_more_images_than_the_smallest_class_has_are_refused(train):
    with pytest.raises(UserError, match="ipc 7 asked for, but a class has only 6"):
        engine(recipe("dm"), small_first_class(train, 6), ipc=7)
    engine(recipe("dm"), small_first_class(train, 6), (1, 2), ipc=7)
    for ipc in (0, -1):
        with pytest.raises(UserError, match=f"ipc {ipc}"):
            engine(recipe("dm"), train, ipc=ipc)
    with pytest.raises(UserError, match="class 12"):
        engine(recipe("dm"), train, (8, 12))


def test_the_critics_weight_decays_linearly_to_one_part_of_the_steps(train, critic):
    """With the critic alone and the real images' gradient left out, step t moves the images by lr * (T - t) / T * gradient."""
    terms = [{"name": "classifier_critic", "sees": "plain", "weight": {"schedule": "linear_decay", "start": 2.0}}]
    value = recipe("cpdm", terms=terms, steps=3, optimizer={"lr": 0.5, "momentum": 0.0})
    images = initial_images(train, (3,), 2, "real", 0)[0].requires_grad_(True)
    for step in range(3):
        (gradient,) = torch.autograd.grad(F.cross_entropy(critic(images), torch.tensor([3, 3])), images)
        images = (images - 0.5 * 2.0 * (3 - step) / 3 * gradient).detach().requires_grad_(True)
    found = engine(value, train, (3,), critic=critic).run().images[0]
    torch.testing.assert_close(found, images.detach(), rtol=1e-5, atol=1e-6)


def test_weight_zero_is_the_method_without_the_term(train, critic):
    without = engine(recipe("ed"), train, (0, 1)).run()
    silent = engine(recipe("cpdm", terms={"classifier_critic": {"weight": 0.0}}), train, (0, 1), critic=critic).run()
    assert torch.equal(without.images, silent.images)
    assert [row["classifier_critic"] for row in silent.history] == [0.0] * 4


def test_history_holds_the_terms_and_their_weighted_sum(train, critic):
    value = recipe("cpdm", steps=4, terms={"classifier_critic": {"weight": 0.25}})
    history = engine(value, train, critic=critic).run().history
    assert [row["step"] for row in history] == [1, 2, 3, 4]
    for row in history:
        assert row["loss"] == pytest.approx(row["energy_distance"] + 0.25 * row["classifier_critic"], rel=1e-5)
    short = engine(recipe("cpdm", steps=2, terms={"classifier_critic": {"weight": 0.25}}), train, critic=critic).run().history
    assert short == history[:2]


def test_a_long_history_has_rows_of_means(train, monkeypatch):
    monkeypatch.setattr("condense.engines.matching._ROWS", 2)
    value = recipe("dm", steps=7)
    coarse = engine(value, train, (0,)).run().history
    monkeypatch.setattr("condense.engines.matching._ROWS", 200)
    fine = engine(value, train, (0,)).run().history
    assert [row["step"] for row in coarse] == [3, 6, 7]
    assert coarse[0]["loss"] == pytest.approx(sum(row["loss"] for row in fine[:3]) / 3)
    assert coarse[2]["loss"] == pytest.approx(fine[6]["loss"])


def test_snapshots_are_the_sets_of_shorter_runs(train):
    """Nothing in DM depends on the number of steps, so a snapshot is the result of a run that stops there."""
    found = engine(recipe("dm", steps=5, snapshots=2), train, (0, 1)).run()
    assert sorted(found.snapshots) == [2, 4]
    for step, images in found.snapshots.items():
        assert torch.equal(images, engine(recipe("dm", steps=step), train, (0, 1)).run().images)


def test_divergence_stops_with_step_term_and_hint(train, critic):
    with pytest.raises(UserError, match=r"cpdm: .* at step \d+.*learning rate"):
        engine(recipe("cpdm", steps=400, optimizer={"lr": 1e6}), train, critic=critic).run()
    broken = replace(train, mean=(float("nan"),))
    with pytest.raises(UserError, match="dm: 'mean' is nan at step 1; .*learning rate"):
        engine(recipe("dm"), broken).run()


def test_a_run_resumed_anywhere_ends_with_the_same_images(train, critic, tmp_path, monkeypatch):
    monkeypatch.setattr("condense.engines.matching._ROWS", 4)
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    value = recipe("cpdm", steps=9, snapshots=3)
    whole = engine(value, train, (0, 1), critic=critic).run()
    saves = []

    class Stopping(Checkpoint):
        def save(self, tensors, state):
            super().save(tensors, state)
            saves.append(state["done"])
            raise KeyboardInterrupt

    runs = 0
    while True:
        runs += 1
        try:
            found = engine(value, train, (0, 1), critic=critic, checkpoint=Stopping(tmp_path / "x.resume", "k")).run()
            break
        except KeyboardInterrupt:
            continue
    assert saves == [2, 4, 6, 8] and runs == 5
    assert torch.equal(found.images, whole.images) and found.history == whole.history
    assert found.snapshots.keys() == whole.snapshots.keys() == {3, 6, 9}
    assert all(torch.equal(found.snapshots[step], whole.snapshots[step]) for step in whole.snapshots)


def shard(out, digits, value, **settings):
    settings = {"ipc": 2, "seed": 0, "key": "k", **ARCH} | settings
    jobs.condense_shard(out, jobs.ShardJob(value, digits / "train.safetensors", **settings), HERE)
    return read_tensors(out, "shard")


def test_the_same_job_gives_the_same_bytes(digits, teacher, tmp_path):
    for name in ("first", "second"):
        shard(tmp_path / f"{name}.safetensors", digits, recipe("cpdm"), teacher=teacher)
    assert file_sha256(tmp_path / "first.safetensors") == file_sha256(tmp_path / "second.safetensors")
    shard(tmp_path / "third.safetensors", digits, recipe("cpdm"), teacher=teacher, seed=1)
    assert file_sha256(tmp_path / "first.safetensors") != file_sha256(tmp_path / "third.safetensors")


def test_shards_join_to_the_set_made_in_one_piece(digits, tmp_path):
    value = recipe("dm", snapshots=2)
    parts = [tmp_path / f"classes{first}-{first + 4}.safetensors" for first in (0, 5)]
    for path, first in zip(parts, (0, 5), strict=True):
        shard(path, digits, value, classes=tuple(range(first, first + 5)))
    shard(tmp_path / "all.safetensors", digits, value)
    for name, shards in (("joined", parts[::-1]), ("one", [tmp_path / "all.safetensors"])):
        jobs.gather(tmp_path / name / "synthetic.safetensors", shards, digits / "train.safetensors")
    (joined, header), (one, other) = (read_tensors(tmp_path / name / "synthetic.safetensors", "synthetic") for name in ("joined", "one"))
    assert joined["labels"].tolist() == one["labels"].tolist() == [label for label in range(10) for _ in range(2)]
    torch.testing.assert_close(torch.from_numpy(joined["images"]), torch.from_numpy(one["images"]), rtol=1e-4, atol=1e-5)
    assert {k: v for k, v in header.items() if k != "content_sha256"} == {k: v for k, v in other.items() if k != "content_sha256"}
    history = [[json.loads(line) for line in open(tmp_path / name / "history.jsonl")] for name in ("joined", "one")]
    assert [row["loss"] for row in history[0]] == pytest.approx([row["loss"] for row in history[1]], rel=1e-4)
    snapshots, note = read_tensors(tmp_path / "joined" / "snapshots.safetensors", "snapshots")
    assert note["snapshot_steps"] == [2, 4] and snapshots["images"].shape == (2, *joined["images"].shape)
    assert (snapshots["images"][-1] == joined["images"]).all()


def test_shards_that_do_not_make_a_set_are_refused(digits, tmp_path):
    first, again, other = (tmp_path / f"{name}.safetensors" for name in "abc")
    shard(first, digits, recipe("random"), classes=tuple(range(5)))
    shard(again, digits, recipe("random"), classes=tuple(range(4, 10)))
    shard(other, digits, recipe("random"), classes=tuple(range(5, 10)), key="another")
    data = digits / "train.safetensors"
    for shards, message in (([first], "instead of each of 10 once"), ([first, again], "instead"), ([first, other], "belongs to the set")):
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
        shard(out, digits, recipe("dm_kl", batch_real=4), ipc=5, teacher=teacher)
    assert not out.exists()


def test_a_checkpoint_of_other_settings_under_the_same_key_is_left_aside(digits, tmp_path, monkeypatch):
    """By hand every job has the key 'by-hand'."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    out = tmp_path / "x.safetensors"

    def stop(self, tensors, state):
        save(self, tensors, state)
        raise KeyboardInterrupt

    save = Checkpoint.save
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "save", stop)
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
        else:
            assert name == "k_center"
            order = coreset.k_center(features, 4, int(torch.randint(len(features), (1,), generator=generator)))
        assert torch.equal(found.images[place], images[order.copy()])


def test_a_teacher_of_other_images_is_refused(train, teacher):
    with pytest.raises(UserError, match="other images"):
        load_teacher(teacher, replace(train, data_sha256="0" * 64), CPU)


def test_a_damaged_checkpoint_is_named(digits, tmp_path):
    write_tensors(tmp_path / "x.safetensors.resume", {}, {"kind": "checkpoint", "key": "k", "state": {}})
    path = tmp_path / "x.safetensors.resume"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="x.safetensors.resume: damaged"):
        shard(tmp_path / "x.safetensors", digits, recipe("dm"))
