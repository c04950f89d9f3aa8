"""Training, pretraining and evaluation: against torch.optim, against the published schedule written out, and
resumed anywhere."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import Stopping, until_done

from condense import jobs, models, specs
from condense.augment import siamese
from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.evaluate.protocols import evaluate
from condense.files import spread
from condense.files.artifacts import file_sha256, read_json, read_tensors, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks import making
from condense.networks import pretrain as teachers
from condense.networks.making import Making
from condense.select import coreset
from condense.specs import Optimizer, catalogue
from condense.training.loop import accuracy, number_of_epochs, train
from condense.training.optimizers import SGD
from condense.training.schedules import course
from condense.training.sets import pixel_set, tensor_set

ARCH = {"arch": "convnet", "options": {"depth": 2, "width": 8}}
CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
HERE = jobs.Machine("cpu", 1)
pytestmark = pytest.mark.usefixtures("one_thread")


def protocol(name="dc", **changes):
    return read(specs.Protocol, merged(asdict(catalogue.protocol(name)), {"epochs": 4} | changes), "test")


@pytest.fixture(scope="module")
def few(digits):
    """Forty training images, four a class, as a training set, and the test images."""
    data = load(digits / "train.safetensors")
    chosen = torch.cat(
        [torch.arange(start, start + 4) for start in np.cumsum([0, *data.counts[:-1]]).tolist()]
    )
    return tensor_set(data.normalise(data.images[chosen]), data.labels[chosen]), load(
        digits / "test.safetensors"
    )


def network(seed=0, dtype=torch.float32, **changes):
    torch.manual_seed(seed)
    return models.build(ARCH["arch"], channels=1, size=8, classes=10, **ARCH["options"] | changes).to(dtype)


@pytest.mark.parametrize("momentum, weight_decay", [(0.0, 0.0), (0.9, 0.0), (0.9, 5e-4), (0.5, 0.1)])
def test_sgd_equals_torch_step_by_step(momentum, weight_decay):
    rng = torch.Generator().manual_seed(0)
    ours = [torch.randn(3, 2, generator=rng).requires_grad_(), torch.randn(4, generator=rng).requires_grad_()]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    own = SGD(ours, Optimizer(lr=0.1, momentum=momentum, weight_decay=weight_decay))
    other = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, weight_decay=weight_decay)
    for step in range(6):
        if step == 3:
            own.lr = other.param_groups[0]["lr"] = 0.02
        for optimizer, tensors in ((own, ours), (other, theirs)):
            optimizer.zero_grad()
            # At step 1 the second has no gradient
            loss = (tensors[0] ** 3).sum() + (0.0 if step == 1 else (tensors[1] ** 2).sum())
            loss.backward()
            optimizer.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_forgotten_momentum_is_that_of_a_new_optimiser():
    ours, theirs = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    own = SGD([ours], Optimizer(lr=0.1, momentum=0.9))
    for step in range(4):
        if step in (0, 2):
            other = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
            own.forget()
        for optimizer, tensor in ((own, ours), (other, theirs)):
            optimizer.zero_grad()
            (tensor**2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def plain_training(net, images, labels, rules, drops, restart, epochs, strategy, seed, name, mode="one"):
    """The training loop of the papers, with torch.optim: `drops` are epochs after which the rate falls,
    `restart` forgets momentum."""
    lr, settings = (
        rules.optimizer.lr,
        {
            "momentum": rules.optimizer.momentum,
            "weight_decay": rules.optimizer.weight_decay,
            "nesterov": rules.optimizer.nesterov,
        },
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, **settings)
    net.train()
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=seeds.generator(seed, *name, "order", epoch))
        augment = seeds.generator(seed, *name, "augment", epoch)
        for start in range(0, len(order), rules.batch):
            chosen = order[start : start + rules.batch]
            drawn = siamese.draw_each(strategy, 8, len(chosen), augment, mode)
            loss = F.cross_entropy(net(siamese.apply(images[chosen], drawn)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch in drops:
            lr *= rules.schedule.factor
            if restart:
                optimizer = torch.optim.SGD(net.parameters(), lr=lr, **settings)
            else:
                optimizer.param_groups[0]["lr"] = lr


SCHEDULES = {
    "dc": ("dc", {"epochs": 6}, [4], True, 7),  # epochs 0..N; after N // 2 + 1
    "dc, odd": ("dc", {"epochs": 5}, [3], True, 6),
    "step": ("plain_networks", {"epochs": 4}, [1], False, 4),  # half of the epochs at the full rate
    "two steps": (
        "dc",
        {"epochs": 8, "schedule": {"kind": "step", "at": [0.5, 0.75], "factor": 0.1}},
        [3, 5],
        False,
        8,
    ),
    "critic": ("critic", {"epochs": 6}, [4], True, 7),  # as "dc"
    "selection": ("selection", {"epochs": 3}, [], False, 3),
    "constant": ("dc", {"epochs": 3, "schedule": {"kind": "constant"}}, [], False, 3),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_training_equals_a_plain_loop(case, few):
    name, changes, drops, restart, epochs = SCHEDULES[case]
    rules = protocol(name, batch=16, **changes)
    assert number_of_epochs(rules, 40) == epochs
    images = few[0].fetch(torch.arange(40))
    ours, theirs = network(dtype=torch.float64), network(dtype=torch.float64)
    double = tensor_set(images.double(), few[0].labels)
    strategy = "color_crop_cutout_scale_rotate"
    train(ours, double, rules, strategy=strategy, seed=3, name=("x", 1), checkpoint=NOWHERE)
    used = {"plain_networks": "none", "selection": "crop"}.get(
        name, strategy
    )  # flip and crop, without a flip
    mode = "all" if name == "selection" else "one"
    plain_training(
        theirs, images.double(), few[0].labels, rules, drops, restart, epochs, used, 3, ("x", 1), mode
    )
    start = network(dtype=torch.float64)
    for a, b, c in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        assert not torch.equal(a, c)


def test_a_critic_is_trained_as_the_networks_that_judge():
    """cpdm, section 6.1; on Tiny-ImageNet in the batches of its Table 12."""
    judge = catalogue.protocol("dc").computed_part()
    assert catalogue.protocol("critic").computed_part() == judge | {"name": "critic"}
    assert catalogue.protocol("critic_tiny").computed_part() == judge | {"name": "critic_tiny", "batch": 32}
    changed = [("test", {"teacher": {"protocol": "critic_plain"}})]
    cpdm = catalogue.resolve(catalogue.recipe("cpdm"), "cifar10", "color_crop", 10, changed)
    assert catalogue.protocol(cpdm.teacher.protocol).augment == "none"


def test_a_small_set_is_trained_for_the_least_number_of_updates():
    """40 images in batches of 16 are 3 updates an epoch; the drop moves with the epochs."""
    rules = protocol("plain_networks", epochs=4, batch=16, least_updates=25)
    assert [number_of_epochs(rules, images) for images in (16, 40, 400)] == [25, 9, 4]
    assert number_of_epochs(protocol(batch=16, least_updates=25), 40) == 10
    assert course(rules, 16).drops == [11] and course(rules, 400).drops == [1]


def test_a_step_schedule_over_one_epoch_keeps_the_full_rate(few):
    ours, theirs = network(), network()
    for net, changes in ((ours, {}), (theirs, {"schedule": {"kind": "constant"}})):
        train(
            net,
            few[0],
            protocol("plain_networks", **{"epochs": 1} | changes),
            strategy="none",
            seed=0,
            name=("x",),
            checkpoint=NOWHERE,
        )
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("arch", [{}, {"norm": "batch"}])
def test_training_resumed_after_every_epoch_is_the_unbroken_one(few, tmp_path, monkeypatch, arch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    rules, settings = protocol(batch=16), {"strategy": "color_crop", "seed": 0, "name": ("x",)}
    whole = network(**arch)
    train(whole, few[0], rules, **settings, checkpoint=NOWHERE)
    broken = None

    def go():
        nonlocal broken
        broken = network(seed=1, **arch)
        if not (tmp_path / "x.resume").exists():
            broken = network(**arch)
        train(broken, few[0], rules, **settings, checkpoint=Stopping(tmp_path / "x.resume", "k"))

    calls, _ = until_done(go)
    assert calls == number_of_epochs(rules, 40)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, broken.state_dict()[name]), name


def test_diverging_training_is_an_error(few):
    with pytest.raises(UserError, match="loss is .* after epoch .*learning rate"):
        train(
            network(),
            few[0],
            protocol(optimizer={"lr": 1e12}),
            strategy="none",
            seed=0,
            name=("x",),
            checkpoint=NOWHERE,
        )


def test_pretraining_resumed_anywhere_gives_the_same_bytes(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    data = load(digits / "train.safetensors")
    settings = {**ARCH, "seed": 2, "key": "k", "device": CPU}
    rules = protocol("selection", epochs=4)
    teachers.pretrain(Making(tmp_path / "whole.safetensors", data, **settings), rules, "color_crop")
    broken = Making(tmp_path / "broken.safetensors", data, **settings)
    with monkeypatch.context() as patched:
        patched.setattr(making, "Checkpoint", Stopping)
        calls, _ = until_done(lambda: teachers.pretrain(broken, rules, "color_crop"))
    assert calls == 4
    assert file_sha256(tmp_path / "whole.safetensors") == file_sha256(tmp_path / "broken.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.safetensors", "whole.safetensors"]


def test_forgetting_events_are_those_of_the_recorded_correctness(digits, tmp_path, monkeypatch):
    """Every image is seen once an epoch; the counts follow from a table of who was right when."""
    data, table = load(digits / "train.safetensors"), []

    class Recording(teachers.ForgettingEvents):
        def see(self, indices, logits):
            super().see(indices, logits)
            if not table or table[-1].min() >= 0:
                table.append(np.full(len(data), -1))
            table[-1][indices] = logits.argmax(1) == data.labels[indices]

    monkeypatch.setattr(teachers, "ForgettingEvents", Recording)
    path = tmp_path / "teacher.safetensors"
    rules = protocol("selection", epochs=5, optimizer={"lr": 0.2})
    teachers.pretrain(Making(path, data, **ARCH, seed=0, key="k", device=CPU), rules, "color_crop_cutout")
    counts = read_tensors(path, "teacher")[0]["forgetting_events"]
    assert len(table) == 5 and counts.sum() > 0
    assert (counts == coreset.forgetting_counts(np.array(table, dtype=bool))).all()


def test_a_stored_teacher_is_the_trained_network(digits, tmp_path):
    data, path = load(digits / "train.safetensors"), tmp_path / "teacher.safetensors"
    teachers.pretrain(
        Making(path, data, **ARCH, seed=0, key="k", device=CPU), protocol("plain_networks"), "none"
    )
    net, _ = teachers.load_teacher(path, data, CPU)
    assert not net.training and not any(parameter.requires_grad for parameter in net.parameters())
    held = read_tensors(path, "teacher")[1]["train_accuracy"]
    assert accuracy(net, pixel_set(data, CPU)) == held > 20


def test_a_teacher_whose_outputs_are_other_classes_is_refused(digits, tmp_path):
    """Or the same in another order: by their names, whatever the images."""
    data, path = load(digits / "train.safetensors"), tmp_path / "teacher.safetensors"
    brief = protocol("plain_networks", epochs=1)
    teachers.pretrain(Making(path, data, **ARCH, seed=0, key="k", device=CPU), brief, "none")
    tensors, header = read_tensors(path, "teacher")
    assert header["class_names"] == list(data.class_names)
    turned = list(reversed(data.class_names))
    write_tensors(path, dict(tensors), header | {"class_names": turned})
    with pytest.raises(UserError, match=r"its outputs are 9, 8, .* and the classes of digits are 0, 1, "):
        teachers.load_teacher(path, data, CPU)
    write_tensors(path, dict(tensors), header | {"class_names": turned[1:]})
    with pytest.raises(UserError, match="it names 9 classes, and tells 10 apart"):
        teachers.load_teacher(path, data, CPU)


def test_accuracy_counts_what_is_right(few):
    net, (images, _) = network(), few
    right = sum(int(net(images.fetch(torch.tensor([i]))).argmax() == images.labels[i]) for i in range(40))
    assert accuracy(net, images, batch=7) == pytest.approx(100 * right / 40)


def judge(few, n_networks, checkpoint=NOWHERE, seed=0, rules=None):
    settings = {**ARCH, "strategy": "color_crop_cutout_scale_rotate", "seed": seed, "device": CPU}
    return evaluate(
        few[0],
        few[1],
        rules or protocol(epochs=8),
        **settings,
        networks=range(n_networks),
        checkpoint=checkpoint,
    )


def test_a_networks_accuracy_does_not_depend_on_how_many_there_are(few):
    four = judge(few, 4)
    assert four[:2] == judge(few, 2) and len(set(four)) > 1
    assert judge(few, 2, seed=1) != four[:2]


def test_evaluation_is_what_training_and_testing_say(few):
    net = network()
    models.reinitialise(net, seeds.stream(0, "evaluation", 1))
    rules = protocol(epochs=8)
    train(
        net,
        few[0],
        rules,
        strategy="color_crop_cutout_scale_rotate",
        seed=0,
        name=("evaluation", 1),
        checkpoint=NOWHERE,
    )
    assert accuracy(net, pixel_set(few[1], CPU)) == judge(few, 2)[1]


def test_evaluation_resumed_anywhere_gives_the_same_accuracies(few, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    rules = protocol(epochs=2)
    calls, found = until_done(lambda: judge(few, 3, Stopping(tmp_path / "x.resume", "k"), rules=rules))
    assert calls == 3 * 2 + 2 + 1  # after each epoch but a network's last, after each network but the last
    assert found == judge(few, 3, rules=rules)


def test_spread_is_the_population_value():
    values = [90.0, 91.5, 97.25]
    assert spread(values) == pytest.approx((np.mean(values), np.std(values)), rel=1e-14)
    assert spread([50.0]) == (50.0, 0.0)


@pytest.fixture(scope="module")
def set_with_snapshots(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    changes = [("test", {"steps": 6, "batch_real": 16, "snapshots": 2})]
    value = catalogue.resolve(catalogue.recipe("dm"), "digits", "color_crop", 1, changes)
    job = jobs.ShardJob(value, digits / "train.safetensors", **ARCH, ipc=1, seed=0, key="k")
    jobs.condense_shard(folder / "shard.safetensors", job, HERE)
    jobs.gather(
        folder / "synthetic.safetensors", [folder / "shard.safetensors"], digits / "train.safetensors"
    )
    return folder


def evaluation(folder, digits, task=specs.DEFAULT_TASK, **changes):
    settings = {
        "protocol": protocol(epochs=3),
        "strategy": "color_crop",
        "n_networks": 2,
        "seed": 0,
        "key": "k",
    } | changes
    return jobs.EvaluationJob(task, folder / f"{task.reads}.safetensors", digits, "dm", **ARCH, **settings)


def test_metrics_of_a_set_and_of_its_snapshots_agree(set_with_snapshots, digits, tmp_path):
    jobs.evaluate_set(tmp_path / "set.json", evaluation(set_with_snapshots, digits), HERE)
    jobs.evaluate_set(
        tmp_path / "curve.json", evaluation(set_with_snapshots, digits, specs.Snapshots()), HERE
    )
    one, curve = read_json(tmp_path / "set.json"), read_json(tmp_path / "curve.json")
    assert curve["steps"] == [2, 4, 6] and len(curve["accuracies"]) == 3
    assert (
        curve["accuracies"][2] == one["accuracies"]
        and curve["mean"][2] == one["mean"]
        and curve["std"][2] == one["std"]
    )
    assert (
        one["mean"] == pytest.approx(np.mean(one["accuracies"]))
        and one["n_networks"] == len(one["accuracies"]) == 2
    )


@pytest.mark.parametrize(
    "task, calls", [(specs.DEFAULT_TASK, 3 + 3 + 1 + 1), (specs.Snapshots(), 3 * (3 + 3 + 1) + 2 + 1)]
)
def test_metrics_resumed_anywhere_are_the_same_and_leave_nothing_behind(
    set_with_snapshots, digits, tmp_path, monkeypatch, task, calls
):
    """Two networks of four epochs: 3 + 3 saves within and 1 between them; for each of three snapshots, and 2
    between those."""
    job = evaluation(set_with_snapshots, digits, task)
    jobs.evaluate_set(tmp_path / "whole.json", job, HERE)
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("condense.jobs.judging.Checkpoint", Stopping)
    assert until_done(lambda: jobs.evaluate_set(tmp_path / "broken.json", job, HERE))[0] == calls
    whole, broken = (read_json(tmp_path / f"{name}.json") for name in ("whole", "broken"))
    assert {k: v for k, v in whole.items() if k != "run"} == {k: v for k, v in broken.items() if k != "run"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.json", "whole.json"]


def test_evaluations_that_cannot_work_say_so(set_with_snapshots, digits, tmp_path):
    job = evaluation(set_with_snapshots, digits)
    with pytest.raises(UserError, match="networks: at least 1"):
        jobs.evaluate_set(tmp_path / "x.json", replace(job, n_networks=0), HERE)
    with pytest.raises(UserError, match="holds 'synthetic', but a file with 'snapshots'"):
        jobs.evaluate_set(tmp_path / "x.json", replace(job, task=specs.Snapshots()), HERE)
    assert not (tmp_path / "x.json").exists()
