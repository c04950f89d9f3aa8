"""Labels that observers give each batch as it is seen: against plain loops of torch, over interruptions, from
the protocol to the metrics, in the plan, and what is refused."""

from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import Stopping, until_done
from matching_helpers import ARCH, HERE

from condense import jobs, models, specs
from condense.augment.cutmix import Mixture
from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.estimate.work import work_of
from condense.evaluate.labelling import labeller_for
from condense.files.artifacts import read_json, read_tensors, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.machine import runtime, seeds
from condense.networks.pretrain import load_teacher
from condense.plan import Maker
from condense.specs import catalogue
from condense.specs.tasks import GradientSimilarity, Landscape, Sharpness
from condense.training.batches import batches
from condense.training.loop import train
from condense.training.observers import Observers, compared_with
from condense.training.sets import tensor_set

CPU, NOWHERE = torch.device("cpu"), Checkpoint(None, "")
NET = {"depth": 1, "width": 4}
KL, MSE = (
    {"name": "distillation", "temperature": 20.0},
    {"name": "mse", "hard_weight": 0.025, "hard_labels": "own"},
)
ONE = {"name": "observers", "observers": [{"protocol": "plain_networks", "arch": "convnet"}]}
TWO = {"name": "observers", "observers": [*ONE["observers"], {"protocol": "plain_networks", "arch": "mlp"}]}
VIEWS = [{"name": "resized_crop", "area": 0.5}, {"name": "shuffled_patches", "factor": 2}]
pytestmark = pytest.mark.usefixtures("one_thread")


def protocol(**changes):
    base = {"epochs": 3, "batch": 16, "precision": "fp32", "augment": "none"}
    base |= {"schedule": {"kind": "constant"}, "optimizer": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.0}}
    return read(specs.Protocol, merged(asdict(catalogue.protocol("dc")), base | changes), "test")


def network(number):
    built = models.build("convnet_nonorm", channels=1, size=8, classes=10, **NET).double()
    models.reinitialise(built, seeds.stream(0, "evaluation", number))
    return built


@pytest.fixture(scope="module")
def few(digits):
    """Forty training images in double precision."""
    data = load(digits / "train.safetensors")
    chosen = torch.arange(0, len(data), len(data) // 40)[:40]
    return tensor_set(data.normalise(data.images[chosen]).double(), data.labels[chosen], name="these digits")


def observers(*numbers):
    networks = [network(number).eval().requires_grad_(False) for number in numbers]
    return Observers(networks, [torch.float64] * len(networks))


@pytest.mark.parametrize("loss", [KL, MSE], ids=["distillation", "mse"])
def test_a_training_with_observers_is_a_plain_loop_of_torch(loss, few):
    rules = protocol(
        loss=loss,
        labels=TWO,
        views=VIEWS,
        augment="all",
        siamese="flip",
        mixing={"name": "cutmix", "probability": 1.0},
    )
    ours, theirs, labeller = network(0), network(0), observers(7, 8)
    train(ours, few, rules, strategy="flip", seed=3, name=("x",), checkpoint=NOWHERE, labeller=labeller)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.5)
    for epoch in range(3):
        for batch in batches(few, rules, "flip", 3, ("x",), epoch):
            (seen,) = batch.seen(few)
            assert batch.mixture.other is not None and len(batch.viewed.draws) == 2
            with torch.no_grad():
                wanted = (labeller.networks[0](seen) + labeller.networks[1](seen)) / 2
            logits = theirs(seen)
            if loss is KL:
                value = F.kl_div(
                    F.log_softmax(logits / 20, 1), F.softmax(wanted / 20, 1), reduction="batchmean"
                )
            else:
                value = F.mse_loss(logits, wanted) + 0.025 * F.cross_entropy(
                    logits, few.labels[batch.indices]
                )
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    for a, b, c in zip(ours.parameters(), theirs.parameters(), network(0).parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert not torch.equal(a, c)


def test_the_batches_are_those_of_a_training_without_views_and_observers(few):
    """What is drawn for views takes nothing from the streams that were there before them."""
    plain = protocol(augment="all", siamese="crop_flip", mixing={"name": "mixup"})
    viewed = replace(plain, views=protocol(views=VIEWS).views)
    for one, other in zip(
        *(batches(few, rules, "crop_flip", 0, ("x",), 1) for rules in (plain, viewed)), strict=True
    ):
        assert torch.equal(one.indices, other.indices) and one.mixture.share == other.mixture.share
        assert str(one.augmented) == str(other.augmented)


def test_a_training_stopped_after_every_epoch_ends_with_the_same_bytes(few, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    rules = protocol(
        loss=KL, labels=ONE, views=VIEWS, mixing={"name": "mixup"}, optimizer={"name": "adamw", "lr": 0.01}
    )
    settings = {"strategy": "none", "seed": 0, "name": ("x",), "labeller": observers(7)}
    whole = network(0)
    train(whole, few, rules, **settings, checkpoint=NOWHERE)

    def go():
        broken = network(0 if not (tmp_path / "x.resume").exists() else 1)
        train(broken, few, rules, **settings, checkpoint=Stopping(tmp_path / "x.resume", "k"))
        return broken

    calls, broken = until_done(go)
    assert calls == 3
    assert all(torch.equal(value, broken.state_dict()[name]) for name, value in whole.state_dict().items())


def test_fewer_images_go_through_observers_where_the_memory_does_not_suffice(few, monkeypatch):
    labeller, seen = observers(7), few.fetch(torch.arange(7))
    whole, asked = labeller.logits(None, seen), []
    mean = labeller._mean

    def scarce(images):
        asked.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return mean(images)

    monkeypatch.setattr(labeller, "_mean", scarce)
    torch.testing.assert_close(labeller.logits(None, seen), whole)
    assert asked == [7, 3, 1, 1, 1, 1, 1, 1, 1] and not whole.requires_grad


@pytest.fixture(scope="module")
def synthetic(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    job = jobs.ShardJob(catalogue.recipe("random"), digits / "train.safetensors", "none", {}, 2, 0, "by-hand")
    jobs.condense_shard(folder / "all.safetensors", job, HERE)
    jobs.gather(folder / "synthetic.safetensors", [folder / "all.safetensors"], digits / "train.safetensors")
    return folder / "synthetic.safetensors"


def job_of(path, digits, rules, parents, **changes):
    settings = {"arch": "convnet", "options": NET, "strategy": "none", "n_networks": 2, "seed": 0, "key": "k"}
    job = jobs.EvaluationJob(specs.DEFAULT_TASK, path, digits, None, protocol=rules, **settings)
    return replace(job, parents=parents, **changes)


def test_metrics_tell_of_the_observers_and_parts_give_what_the_whole_gives(
    synthetic, digits, teacher, tmp_path
):
    rules = protocol(loss=KL, labels=ONE)
    whole = job_of(synthetic, digits, rules, {"observer": teacher})
    jobs.evaluate_set(tmp_path / "m.json", whole, HERE)
    metrics = read_json(tmp_path / "m.json")
    header = read_tensors(teacher)[1]
    assert metrics["labels"] == "soft" and metrics["observers"] == {
        "observer": {
            "arch": ARCH["arch"],
            "protocol": "plain_networks",
            "key": "t",
            "sha256": header["content_sha256"],
        }
    }
    assert "condense" not in metrics
    parts = [tmp_path / f"{number}.json" for number in (0, 1)]
    for number, part in enumerate(parts):
        jobs.evaluate_set(part, replace(whole, share=range(number, number + 1)), HERE)
    jobs.join_parts(tmp_path / "joined.json", parts)
    joined = read_json(tmp_path / "joined.json")
    assert joined["accuracies"] == metrics["accuracies"] and joined["observers"] == metrics["observers"]
    # The whole training set learns from them too, and so do all images that others stand beside
    jobs.evaluate_set(tmp_path / "w.json", replace(whole, synthetic=None, method="whole"), HERE)
    assert read_json(tmp_path / "w.json")["labels"] == "soft"


def test_an_observer_that_is_missing_or_of_other_images_is_refused(synthetic, digits, teacher, tmp_path):
    rules, judged = protocol(loss=KL, labels=ONE), partial(job_of, synthetic, digits)
    for parents, said in (
        (
            {},
            r"NAME=FILE: the protocol 'dc' needs 'observer', a pretrained classifier; .*condense teach",
        ),
        ({"observer": teacher, "bank": teacher}, "unknown name 'bank'"),
        ({"observer": synthetic}, "teacher"),
    ):
        with pytest.raises(UserError, match=said):
            jobs.evaluate_set(tmp_path / "x.json", judged(rules, parents), HERE)
    with pytest.raises(UserError, match="unknown name 'observer'"):
        jobs.evaluate_set(tmp_path / "x.json", judged(protocol(), {"observer": teacher}), HERE)
    tensors, header = read_tensors(teacher)
    foreign = tmp_path / "foreign.safetensors"
    write_tensors(foreign, dict(tensors), {**header, "data_sha256": "0" * 64})
    with pytest.raises(UserError, match="was trained on other images than those of digits"):
        jobs.evaluate_set(tmp_path / "x.json", judged(rules, {"observer": foreign}), HERE)


def test_an_observer_of_another_protocol_is_told_of(teacher, digits, monkeypatch):
    monkeypatch.setattr(runtime, "_notes", [])
    named = {"name": "observers", "observers": [{"protocol": "selection"}]}
    labeller = labeller_for(
        protocol(loss=KL, labels=named), {"observer": teacher}, digits / "train.safetensors", CPU
    )
    (said,) = runtime._notes
    assert "by the protocol 'plain_networks', where 'dc' names 'selection'" in said
    data = load(digits / "train.safetensors")
    images = data.normalise(data.images[:20])
    wanted = load_teacher(teacher, data, CPU)[0](images)
    torch.testing.assert_close(labeller.logits(None, images), wanted)
    assert labeller_for(protocol(), {}, digits / "train.safetensors", CPU) is None


def test_what_is_made_beforehand_takes_no_labels_of_observers(few):
    with pytest.raises(
        UserError, match="takes its labels from 'observers', which only evaluations are given"
    ):
        train(
            network(0),
            few,
            protocol(loss=KL, labels=ONE),
            strategy="none",
            seed=0,
            name=("x",),
            checkpoint=NOWHERE,
        )
    with pytest.raises(ValueError, match="takes no labels, and was given some"):
        train(
            network(0),
            few,
            protocol(),
            strategy="none",
            seed=0,
            name=("x",),
            checkpoint=NOWHERE,
            labeller=observers(7),
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ONE}, "labels: the loss 'hard' compares with the classes alone"),
        ({"loss": KL, "labels": {"name": "observers", "observers": []}}, "1 to 50 are needed"),
        (
            {"loss": KL, "labels": {"name": "observers", "observers": ONE["observers"] * 2}},
            "two of them are the same network",
        ),
    ],
)
def test_labels_that_could_not_be_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        protocol(**changes)


def test_the_plan_makes_the_observers_and_their_settings_are_part_of_the_judge():
    def cell(**changed):
        maker = Maker(replace(catalogue.scale("quick"), **changed))
        return maker.metrics(maker.synthetic("digits", "random", "convnet", 2, 0), "convnet", "rded", 1)

    named, plain = cell(), cell()
    (parent,) = named.parents.values()
    # Of the network that makes such sets, whichever is judged
    assert list(named.parents) == ["observer"] and (parent.kind, parent.arch) == ("teacher", "resnet18_bn")
    free = cell(protocols={"rded": {"labels": {"observers": [{"protocol": "observer"}]}}})
    assert free.parents["observer"].arch == "convnet"
    assert list(catalogue.protocol("edc").observers) == [f"observer{number}" for number in range(1, 9)]
    assert named.key == plain.key and named.judge == plain.judge
    shorter = cell(protocols={"observer": {"epochs": 1}})
    assert shorter.protocol == named.protocol
    assert shorter.key != named.key and shorter.judge != named.judge
    unobserved = replace(named, protocol=replace(named.protocol, labels=None), parents={})
    assert work_of(named).flops_forward > work_of(unobserved).flops_forward
    assert work_of(named).flops_training == work_of(unobserved).flops_training


def test_settings_at_their_default_are_in_no_key_and_others_are():
    plain = protocol(loss=KL)
    assert not {"views", "labels"} & plain.computed_part().keys()
    told = protocol(loss=KL, labels=ONE, views=VIEWS).computed_part()
    assert told["views"] == VIEWS
    assert told["labels"] == ONE
    assert not protocol(loss=KL, labels=ONE).trains_together and not protocol(views=VIEWS).trains_together


def test_labels_of_unmixed_images_are_those_of_the_images_themselves(few):
    rules = protocol(loss=KL, labels=ONE)
    (first, *_) = batches(few, rules, "none", 0, ("x",), 0)
    assert first.mixture == Mixture()
    labeller, seen = observers(7), first.seen(few)[0]
    np.testing.assert_array_equal(seen.numpy(), few.fetch(first.indices).numpy())
    torch.testing.assert_close(labeller.logits(first, seen), labeller.networks[0](seen))


@pytest.mark.parametrize(
    ("task", "why"),
    [("drift", "drift after they were labelled"), ("continual", "know classes that have not come")],
)
def test_tasks_whose_batches_observers_cannot_label_refuse_them(task, why):
    kind = specs.task_class(task)
    with pytest.raises(UserError, match=f"task {task}: the protocol 'dc' has observers .* {why}"):
        kind.check_parents(kind, ["observer"], protocol(labels=ONE, loss=KL))
    if task == "continual":
        kind(steps=2).check_parents([], protocol())


@pytest.mark.parametrize("loss", [KL, MSE], ids=["kl", "mse"])
def test_losses_of_images_as_they_are_take_the_labels_of_these(few, loss):
    """As landscapes and sharpness measure them, whatever the protocol does to batches."""
    rules = protocol(
        loss=loss,
        labels=ONE,
        batch=7,
        augment="all",
        views=VIEWS,
        mixing={"name": "cutmix", "probability": 1.0},
    )
    frozen, other = network(7).eval(), network(3).eval()
    compared, wanted = compared_with(rules, few, Observers([frozen], [torch.float64]))
    with torch.no_grad():
        given, logits = (one(few.fetch(torch.arange(40))) for one in (frozen, other))
    found = compared.of_networks(logits[None], few.labels[None], wanted[None].double())
    if loss is KL:
        plain = F.kl_div((logits / 20).log_softmax(-1), (given / 20).softmax(-1), reduction="batchmean")
    else:
        plain = F.mse_loss(logits, given) + 0.025 * F.cross_entropy(logits, few.labels)
    torch.testing.assert_close(found[0], plain, rtol=1e-4, atol=1e-7)
    with pytest.raises(UserError, match="which only evaluations are given"):
        compared_with(rules, few, None)


def test_tasks_say_which_labels_do_not_serve_them():
    rules = protocol(loss=KL, labels=ONE)
    for task, names, told in (
        (GradientSimilarity(), [], "compared untrained"),
        (Landscape(), ["labels"], "augmented by nothing"),
        (Sharpness(), ["labels"], "augmented by nothing"),
    ):
        with pytest.raises(UserError, match=told):
            task.check_parents(names, rules)
