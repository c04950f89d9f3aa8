"""Soft labels made beforehand: replayed they are what the observers give, in half precision and of the
largest classes alone; one an image is their mean; and labels of other sets or batches are refused."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from bad_input_helpers import refused, run
from matching_helpers import HERE
from test_observers import KL, MSE, job_of, network, observers, protocol
from test_observers import few as few
from test_observers import synthetic as synthetic

from condense import jobs, load_synthetic, specs
from condense.config import UserError
from condense.estimate.work import work_of
from condense.evaluate.labelling import labeller_for
from condense.evaluate.synthetic import training_set
from condense.files import read_artifact, read_set
from condense.files.artifacts import bytes_of, canonical, read_json, read_tensors, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.files.relabels import read_relabels
from condense.machine import runtime
from condense.plan import Maker
from condense.plan.beside import Comparable
from condense.plan.parent import with_their_own
from condense.specs import catalogue
from condense.specs.tasks import Slimming, Snapshots
from condense.training import replay, storing
from condense.training.batches import batches
from condense.training.loop import train

CPU, NOWHERE = torch.device("cpu"), Checkpoint(None, "")
LABELS = {"name": "observers", "observers": [{"protocol": "plain_networks", "arch": "convnet"}]}
RULES = protocol(
    loss=KL,
    labels=LABELS,
    augment="all",
    siamese="crop_scale",
    views=[{"name": "resized_crop", "area": 0.5}],
    mixing={"name": "cutmix", "probability": 0.5},
    average={"decay": 0.9},
)
STRATEGY = "color_crop_scale"
pytestmark = pytest.mark.usefixtures("one_thread")


def tensors_of(few, top=None, epochs=3, labeller=None, checkpoint=None):
    """What a file with the labels of so many epochs would hold."""
    shapes = storing.shapes_of(epochs, len(few), 10, top)
    held = {name: np.zeros(shape, kind) for name, (kind, shape) in shapes.items()}
    asked = (few, RULES, STRATEGY, 5, labeller or observers(7, 8), shapes, checkpoint)
    for first, labels in storing.label_epochs(*asked):
        for name, values in labels.items():
            held[name][first : first + len(values)] = values
    return held


def stored(few, top=None, epochs=3):
    return replay.as_stored(tensors_of(few, top, epochs))


def replayed(held):
    return replay.Replay(held, STRATEGY, 5, 10, "labels.safetensors")


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_replay_gives_the_outputs_of_the_observers_for_the_images_that_are_seen(few, epoch):
    again, labeller = replayed(stored(few)), observers(7, 8)
    seen_all = []
    for batch in again.batches(few, RULES, "none", 99, ("evaluation", 4), epoch):
        (seen,) = batch.seen(few)
        wanted = labeller.logits(batch, seen)
        torch.testing.assert_close(again.logits(batch, seen).double(), wanted, rtol=1e-3, atol=1e-4)
        seen_all.append(batch.indices)
    assert sorted(torch.cat(seen_all).tolist()) == list(range(40))


def test_of_the_largest_logits_the_rest_of_the_probability_is_shared(few):
    whole, some = (replay.Replay(stored(few, top), STRATEGY, 5, 10, "x") for top in (None, 3))
    assert some.stored.logits.shape == (3, 40, 3) and some.stored.classes.dtype == np.int16
    for top, size in ((3, 40 * (3 * (2 + 2) + 2)), (None, 40 * 10 * 2)):
        assert bytes_of(storing.shapes_of(3, 40, 10, top)) == 3 * (size + 32)
    for one, other in zip(
        *(held.batches(few, RULES, "none", 0, ("x",), 1) for held in (whole, some)), strict=True
    ):
        full, cut = one.labels.double(), other.labels.double()
        for row, given in zip(full, cut, strict=True):
            first = row.argsort(descending=True)[:3]
            left = math.log(sum(math.exp(row[place]) for place in range(10) if place not in first) / 7)
            wanted = torch.full((10,), left, dtype=torch.float64)
            wanted[first] = row[first]
            torch.testing.assert_close(given, wanted, rtol=2e-3, atol=2e-3)
    assert "classes" not in tensors_of(few, 10), "all of them need no numbers"


def test_networks_become_the_same_by_a_replay_whatever_their_streams(few):
    """A replay gives every network the batches that were labelled; what it becomes is what the observers
    would have made of it, but for the rounding of the labels."""
    again = replayed(stored(few))

    def trained(labeller, seed, name, strategy="none"):
        made = network(0)
        settings = {"strategy": strategy, "seed": seed, "name": name, "checkpoint": NOWHERE}
        train(made, few, RULES, **settings, labeller=labeller)
        return torch.cat([value.flatten() for value in made.parameters()])

    first = trained(again, 1, ("evaluation", 0))
    assert torch.equal(first, trained(again, 2, ("evaluation", 1)))
    online = trained(observers(7, 8), 5, replay.STREAM, STRATEGY)
    torch.testing.assert_close(first, online, rtol=1e-3, atol=1e-5)
    start = torch.cat([value.flatten() for value in network(0).parameters()])
    assert (first - online).abs().max() < 0.02 * (online - start).abs().max()


def test_batches_of_another_seed_set_or_epoch_are_refused(few):
    held = stored(few, epochs=1)
    for wrong, epoch, images, said in (
        (replay.Replay(held, STRATEGY, 6, 10, "f"), 0, few, "f: other batches were labelled"),
        (replay.Replay(held, "color", 5, 10, "f"), 0, few, "f: other batches were labelled"),
        (replayed(held), 1, few, "1 epochs of 40 images, and epoch 2 of 40 images is trained"),
        (replayed(held), 0, few.part(torch.arange(30)), "and epoch 1 of 30 images is trained"),
    ):
        with pytest.raises(UserError, match=said):
            list(wrong.batches(images, RULES, "none", 0, ("x",), epoch))
    with pytest.raises(UserError, match="too large for half precision"):
        tensors_of(few, epochs=1, labeller=_Scaled(observers(7), 1e7))
    (batch, *_) = batches(few, RULES, STRATEGY, 0, ("x",), 0)
    with pytest.raises(ValueError, match="without stored labels"):
        replayed(held).logits(batch, few.fetch(batch.indices))


class _Scaled:
    """What another labeller gives, times a number."""

    def __init__(self, labeller, factor):
        self.labeller, self.factor, self.batches = labeller, factor, labeller.batches

    def logits(self, batch, seen):
        return self.factor * self.labeller.logits(batch, seen)


def test_one_label_an_image_is_the_mean_over_the_epochs_unmixed(few):
    found = storing.averaged(few, RULES, STRATEGY, 5, observers(7, 8), 2)
    unmixed, wanted = replace(RULES, mixing=None), torch.zeros(40, 10, dtype=torch.float64)
    for epoch in (0, 1):
        for batch in batches(few, unmixed, STRATEGY, 5, replay.STREAM, epoch):
            assert batch.mixture.other is None
            given = observers(7, 8).logits(batch, batch.seen(few)[0])
            for place, image in enumerate(batch.indices.tolist()):
                wanted[image] += given[place] / 2
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_averaged_labels_do_not_depend_on_what_the_loss_makes_of_mixed_images(few):
    mixed = protocol(loss=MSE, labels=LABELS, mixing={"name": "cutmix", "probability": 0.5})
    others = replace(RULES, loss=mixed.loss)
    found = [storing.averaged(few, rules, STRATEGY, 5, observers(7), 1) for rules in (RULES, others)]
    assert torch.equal(*found)


@pytest.fixture(scope="module")
def labelled(synthetic, digits, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "labels.safetensors"
    job = jobs.RelabelJob(synthetic, digits, RULES, STRATEGY, 0, {"observer": teacher})
    jobs.relabel(out, job, HERE)
    return out


def test_a_set_is_judged_by_its_stored_labels_as_by_its_observers(
    labelled, synthetic, digits, teacher, tmp_path
):
    tensors, known = read_relabels(labelled)
    assert tensors["logits"].shape == (3, 20, 10) and read_artifact(labelled)[1]["kind"] == "stored_labels"
    assert known.told == "3 epochs of 20 images, all 10 classes, 1,296 bytes"
    job = job_of(synthetic, digits, RULES, {"labels": labelled})
    jobs.evaluate_set(tmp_path / "m.json", job, HERE)
    metrics, file = read_json(tmp_path / "m.json"), read_tensors(labelled)[1]
    assert metrics["labels"] == "soft"
    assert metrics["observers"]["observer"]["sha256"] == read_tensors(teacher)[1]["content_sha256"]
    assert metrics["observers"]["observer"]["stored"] == file["content_sha256"]
    images = training_set(*read_set(synthetic), CPU, "the set")
    online = labeller_for(RULES, {"observer": teacher}, digits / "train.safetensors", CPU)
    again = labeller_for(
        RULES, {"labels": labelled}, digits / "train.safetensors", CPU, known.labelled_sha256
    )
    for batch in again.batches(images, RULES, "none", 9, ("x",), 2):
        (seen,) = batch.seen(images)
        torch.testing.assert_close(batch.labels, online.logits(batch, seen), rtol=1e-3, atol=1e-3)


def test_labels_of_another_set_or_protocol_are_refused(labelled, synthetic, digits, teacher, tmp_path):
    out = tmp_path / "x.json"
    other = tmp_path / "other.safetensors"
    tensors, header = read_tensors(synthetic)
    write_tensors(other, {**tensors, "images": tensors["images"] + 1}, header)
    both = {"labels": labelled, "observer": teacher}
    for judged, rules, parents, said in (
        (other, RULES, {"labels": labelled}, "the labels of another set than the one that is judged"),
        (
            synthetic,
            replace(RULES, batch=8),
            {"labels": labelled},
            "made by the protocol 'dc', whose 'batch' is not that of 'dc'",
        ),
        (synthetic, RULES, both, "unknown name 'observer'"),
        (
            synthetic,
            replace(RULES, epochs=4),
            {"labels": labelled},
            "3 epochs of 20 images, and 'dc' trains for 4",
        ),
        (synthetic, protocol(), {"labels": labelled}, "unknown name 'labels'"),
    ):
        with pytest.raises(UserError, match=said):
            jobs.evaluate_set(out, job_of(judged, digits, rules, parents), HERE)


@pytest.mark.parametrize("stored", [False, True])
def test_an_observer_that_is_not_of_the_architecture_that_judges_is_told(
    stored, labelled, synthetic, digits, teacher, caplog, monkeypatch
):
    """Where the protocol names none for it."""
    alone = replace(RULES.labels, observers=(replace(RULES.labels.observers[0], arch=None),))
    rules, train = replace(RULES, labels=alone), digits / "train.safetensors"
    given, sha256 = {"observer": teacher}, None
    if stored:
        given = {"labels": labelled.with_name("of_any.safetensors")}
        jobs.relabel(
            given["labels"],
            jobs.RelabelJob(synthetic, digits, rules, STRATEGY, 0, {"observer": teacher}),
            HERE,
        )
        sha256 = read_relabels(given["labels"])[1].labelled_sha256
    monkeypatch.setattr(runtime, "_notes", [])  # each is said once
    labeller_for(rules, given, train, CPU, sha256, "convnet")
    assert "names" not in caplog.text
    labeller_for(rules, given, train, CPU, sha256, "mlp")
    assert "is a convnet, where 'dc' names mlp" in caplog.text


def test_labels_of_fewer_classes_than_the_protocol_stores_are_refused(labelled, synthetic, digits, tmp_path):
    def judged(**labels):
        rules = replace(RULES, labels=replace(RULES.labels, **labels))
        jobs.evaluate_set(tmp_path / "m.json", job_of(synthetic, digits, rules, {"labels": labelled}), HERE)

    judged(stored=True)
    judged(stored=True, top=30)  # of ten classes: all
    with pytest.raises(UserError, match="holds the 10 largest logits of an image, where 'dc' asks for 3"):
        judged(stored=True, top=3)
    with pytest.raises(UserError, match="'dc' needs 'labels', the stored labels of the set"):
        rules = replace(RULES, labels=replace(RULES.labels, stored=True))
        jobs.evaluate_set(tmp_path / "m.json", job_of(synthetic, digits, rules, {}), HERE)
    with pytest.raises(UserError, match="top: is of stored labels"):
        replace(RULES.labels, top=3)


def stops_at(monkeypatch, epoch):
    """From now on labelling is killed as it begins the epoch of this number; the list of epochs begun."""
    made, begun = replay.drawn_sha256, []

    def counted(planned):
        begun.append(1)
        if len(begun) == epoch:
            raise KeyboardInterrupt
        return made(planned)

    monkeypatch.setattr(replay, "drawn_sha256", counted)
    return begun


@pytest.mark.parametrize("top", [None, 3])
@pytest.mark.parametrize("seconds", ["0", "1000"])
def test_labelling_that_was_stopped_goes_on_and_gives_the_same(few, tmp_path, monkeypatch, top, seconds):
    """By time or, where an epoch is more than is held in memory, before that."""
    whole = tensors_of(few, top, epochs=4)
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", seconds)
    monkeypatch.setattr(storing, "_HELD", 1)
    checkpoint, begun = Checkpoint(tmp_path / "x.resume", "k"), stops_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        tensors_of(few, top, 4, checkpoint=checkpoint)
    begun.extend([1] * 5)
    again = tensors_of(few, top, 4, checkpoint=checkpoint)
    assert len(begun) == 3 + 5 + 2, "the first two epochs are not labelled again"
    assert again.keys() == whole.keys() and all((again[name] == whole[name]).all() for name in whole)
    other = tensors_of(few, top, 4, checkpoint=Checkpoint(tmp_path / "x.resume", "other settings"))
    assert len(begun) == 3 + 5 + 2 + 4 and (other["logits"] == whole["logits"]).all()


def test_pieces_of_other_starts_are_taken_up_where_they_go_on_and_fit(few, tmp_path, monkeypatch):
    whole, path = tensors_of(few, epochs=4), tmp_path / "x.resume"
    monkeypatch.setattr(storing, "_HELD", 1)
    tensors_of(few, epochs=4, checkpoint=Checkpoint(path, "k"))
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"x.resume.{number}" for number in range(4)]
    (tmp_path / "x.resume.1").unlink()  # what follows it goes on nowhere
    (tmp_path / "x.resume.2").rename(tmp_path / "x.resume.1")
    begun = stops_at(monkeypatch, 0)
    again = tensors_of(few, epochs=4, checkpoint=Checkpoint(path, "k"))
    assert len(begun) == 3 and all((again[name] == whole[name]).all() for name in whole)
    with pytest.raises(UserError, match="its labels are not those of its epochs"):
        tensors_of(few, top=3, epochs=4, checkpoint=Checkpoint(path, "k"))
    with pytest.raises(UserError, match="its labels are not those of its epochs"):
        tensors_of(few, epochs=2, checkpoint=Checkpoint(path, "k"))


def test_labels_larger_than_the_memory_are_made_and_replayed(few, labelled, monkeypatch):
    """No array of all epochs is ever made: a file is filled piece by piece, and what is read is mapped."""
    tensors, _ = read_relabels(labelled)
    assert isinstance(tensors["logits"].base, np.memmap)
    (parts,) = {id(tensors["logits"].base)}
    held = replay.as_stored(tensors)
    assert id(held.logits.base) == parts and held.of_epoch(1, 10).shape == (20, 10)
    monkeypatch.setattr(storing, "_HELD", 1)
    sizes = []
    monkeypatch.setattr(np, "stack", lambda rows, made=np.stack: sizes.append(len(rows)) or made(rows))
    tensors_of(few, epochs=4, checkpoint=Checkpoint(labelled.with_name("y.resume"), "k"))
    assert sizes and max(sizes) == 1


def planned(protocols, method="random", seed=0, protocol="rded", task=specs.DEFAULT_TASK):
    maker = Maker(replace(catalogue.scale("quick"), protocols=protocols))
    return maker.metrics(
        maker.synthetic("digits", method, "convnet", 1, seed), "convnet", protocol, task=task
    )


STORE = {"rded": {"labels": {"stored": True}}}


def test_a_plan_makes_the_labels_of_a_set_between_it_and_its_evaluations():
    cell, live = planned(STORE), planned({})
    (name, labels), *none = cell.parents.items()
    assert name == "labels" and not none and labels.parents == live.parents
    observer = live.parents["observer"]
    assert labels.inputs == [cell.synthetic.path, cell.synthetic.data.train, observer.path]
    assert with_their_own(cell.parents.values()) == [observer, labels]
    assert cell.protocol.labels_from == "observers, stored" and live.protocol.labels_from == "observers"
    assert cell.judge != live.judge and cell.key != live.key
    other = planned(STORE, seed=1)
    assert other.parents["labels"].key != labels.key, "of another set"
    assert other.judge == cell.judge, "by the same observers"
    fewer = planned({"rded": {"labels": {"stored": True, "top": 3}}})
    assert fewer.protocol.labels_from == "observers, 3 largest stored"
    assert labels.work().bytes_out == 300 * 10 * 10 * 2
    assert fewer.parents["labels"].work().bytes_out == 300 * 10 * (3 * (2 + 2) + 2)
    alone, shared = (work_of(one, 5).flops_forward for one in (live, cell))
    assert alone - shared == pytest.approx(5 * labels.work().flops_forward)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"method": "whole"}, "'accuracy' of 'whole' trains networks on the whole training set"),
        ({"task": Snapshots()}, "'snapshots' of 'random' trains networks on snapshots of a set"),
    ],
)
def test_labels_of_what_is_no_finished_set_are_not_planned(asked, said):
    with pytest.raises(UserError, match=f"protocol rded: stores the labels of finished sets.*{said}"):
        planned(STORE, **asked)


def test_slimming_takes_no_stored_labels():
    with pytest.raises(
        UserError, match="stored labels are of one training.*trains each network on the set twice"
    ):
        planned(STORE, task=Slimming())


def test_what_stands_beside_a_set_under_stored_labels_is_never_the_whole_training_set():
    maker = Maker(replace(catalogue.scale("quick"), protocols=STORE))
    cell = planned(STORE)
    comparable = Comparable(maker, [cell, planned(STORE, protocol="dc", method="whole")])
    assert comparable.whole(cell, "rded") == () and len(comparable.whole(cell, "dc")) == 1
    assert comparable.judged([cell], "rded") == (cell,) and comparable.is_judged_by(cell, "rded")
    (whole,) = comparable.whole(cell, "dc")
    assert comparable.judged([whole], "rded") == () and not comparable.is_judged_by(whole, "rded")


def test_an_estimate_holds_all_observers():
    several = [{"protocol": "observer", "arch": arch} for arch in ("convnet", "resnet18_bn")]
    stored = {"rded": {"labels": {"stored": True, "observers": several}}}
    cell = planned(stored).parents["labels"]
    networks = [cell.data.profile(parent.arch, parent.options) for parent in cell.parents.values()]
    assert len(networks) == len(several) > 1
    assert cell.work().peak_bytes > 4 * sum(network.parameters for network in networks)


def test_the_rule_of_parents_makes_the_labels_that_the_verb_makes(synthetic, digits, teacher, tmp_path):
    cell = planned(STORE).parents["labels"]
    settings = json.loads(cell.settings) | {"synthetic": str(synthetic)}
    settings["protocol"] |= {"epochs": 2}
    given = ("--with", f"observer={teacher}")
    made, by_hand = tmp_path / "made" / "stored_labels.safetensors", tmp_path / "labels.safetensors"
    asked = ("parent", cell.kind, "--settings", canonical(settings), "--data", digits / "train.safetensors")
    asked += ("--arch", "convnet", "--seed", 0, "--key", "abc", *given, "--out", made)
    assert run(*asked)[0] == 0 and "kept: " in run(*asked, "--keep")[1]
    assert "give --with observer=FILE" in refused(*asked[:-4], "--out", tmp_path / "x.safetensors")
    data = ("--synthetic", synthetic, "--data", digits, "--strategy", settings["strategy"])
    asked = ("relabel", *data, "--protocol", canonical(settings["protocol"]), *given, "--out", by_hand)
    assert run(*asked)[0] == 0
    (first, header), (second, _) = read_tensors(made), read_tensors(by_hand)
    assert header["key"] == "abc" and all((first[name] == second[name]).all() for name in first)
    assert (made.parent / "stored_labels.run.json").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"logits": lambda held: held[:, :, :9]}, "its logits are of 9 classes, and it names 10"),
        ({"logits": lambda held: held.astype(np.float32)}, "it has no logits, float16"),
        ({"logits": lambda held: np.full_like(held, np.inf)}, "some of its logits are no numbers"),
        ({"draws": lambda held: held[:1]}, "no checksum of the draws of each epoch"),
        ({"rest": lambda held: np.zeros((3, 20), np.float16)}, "classes without the rest"),
    ],
)
def test_damaged_labels_are_told(labelled, tmp_path, change, said):
    tensors, header = read_tensors(labelled)
    for name, turn in change.items():
        tensors[name] = turn(tensors.get(name))
    write_tensors(tmp_path / "x.safetensors", tensors, header)
    with pytest.raises(UserError, match=said):
        read_artifact(tmp_path / "x.safetensors")


def test_the_verb_writes_both_forms_and_the_set_keeps_its_images(synthetic, digits, teacher, tmp_path):
    asked = ("relabel", "--synthetic", synthetic, "--data", digits, "--with", f"observer={teacher}")
    asked += ("--protocol", canonical(asdict(RULES)))
    status, told = run(*asked, "--epochs", 1, "--top", 2, "--out", tmp_path / "top.safetensors")
    assert status == 0, told
    assert read_relabels(tmp_path / "top.safetensors")[0]["classes"].shape == (1, 20, 2)
    assert run(*asked, "--epochs", 2, "--averaged", "--out", tmp_path / "one.safetensors")[0] == 0
    before, after = load_synthetic(synthetic), load_synthetic(tmp_path / "one.safetensors")
    assert torch.equal(before.images, after.images) and after.header["soft_labels"] == "logits"
    images = training_set(*read_set(synthetic), CPU, "the set")
    labeller = labeller_for(RULES, {"observer": teacher}, digits / "train.safetensors", CPU)
    strategy = after.header["labelled"]["strategy"]
    wanted = storing.averaged(images, RULES, strategy, 0, labeller, 2)
    torch.testing.assert_close(after.soft_labels, wanted)
    assert after.header["labelled"]["observers"]["observer"]["arch"] == "convnet"
    out = ("--out", tmp_path / "x.safetensors")
    assert "1 to 9 can be kept, found 10" in refused(*asked, "--top", 10, *out)
    assert "leave it out" in refused(*asked, "--top", 2, "--averaged", *out)
    assert "is the set itself" in refused(*asked, "--out", synthetic)
    plain = (*asked[:7], "--protocol", "dc")
    assert "'dc' has no observers" in refused(*plain, *out)
