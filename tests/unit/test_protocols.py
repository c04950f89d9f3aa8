"""What protocols name: optimisers against torch's, schedules against closed forms, mixing, averages, stops,
and what is refused."""

import math
import typing
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import Stopping, until_done
from tape_helpers import TapeRecorder

from condense import kernels, models, specs
from condense.augment import mixing
from condense.augment.cutmix import Mixture
from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.files.checkpoints import Checkpoint
from condense.machine import fitting, runtime, seeds
from condense.specs import catalogue
from condense.training import together
from condense.training.loop import number_of_epochs, train
from condense.training.losses import LOSSES
from condense.training.optimizers import OF_NETWORKS, clipped, network_optimizer
from condense.training.schedules import SCHEDULES, course
from condense.training.sets import Targets, tensor_set
from condense.training.stacked import Stacked
from condense.training.together import train_together

NOWHERE = Checkpoint(None, "")
pytestmark = pytest.mark.usefixtures("one_thread")
SGD, NESTEROV = (
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True},
)
ADAM, ADAMW = ({"name": name, "lr": 0.01, "weight_decay": 0.1, "beta2": 0.99} for name in ("adam", "adamw"))
OPTIMIZERS = {"sgd": SGD, "nesterov": NESTEROV, "adam": ADAM, "adamw": ADAMW}


def torch_optimizer(tensors, settings):
    decay = {"weight_decay": settings.weight_decay}
    if settings.name == "sgd":
        return torch.optim.SGD(
            tensors, settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, **decay
        )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[settings.name](tensors, settings.lr, betas=(settings.beta1, settings.beta2), **decay)


def protocol(name="dc", **changes):
    base = {"epochs": 4, "batch": 16, "precision": "fp32"}
    return read(specs.Protocol, merged(asdict(catalogue.protocol(name)), base | changes), "test")


@pytest.fixture(scope="module")
def few(digits):
    """Forty training images, four a class, as a training set with soft labels, in double precision."""
    data = load(digits / "train.safetensors")
    chosen = torch.cat(
        [torch.arange(start, start + 4) for start in np.cumsum([0, *data.counts[:-1]]).tolist()]
    )
    logits = torch.randn(40, 10, generator=torch.Generator().manual_seed(0)).double() + 4 * F.one_hot(
        data.labels[chosen], 10
    )
    return tensor_set(
        data.normalise(data.images[chosen]).double(),
        data.labels[chosen],
        Targets(logits, "logits"),
        "these digits",
    )


def network(number=0, arch="convnet_bn", dtype=torch.float64):
    built = models.build(arch, channels=1, size=8, classes=10, depth=2, width=8).to(dtype)
    models.reinitialise(built, seeds.stream(0, "evaluation", number))
    return built


@pytest.mark.parametrize("clip", [None, 2.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_equal_torch_step_by_step(name, clip):
    settings = protocol(optimizer=OPTIMIZERS[name]).optimizer
    rng = torch.Generator().manual_seed(0)
    ours = torch.nn.ParameterList(
        [torch.randn(3, 2, generator=rng).double(), torch.randn(4, generator=rng).double()]
    )
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    own, other, norms = network_optimizer(ours, settings, clip), torch_optimizer(theirs, settings), []
    for step in range(7):
        if step == 3:
            own.lr = other.param_groups[0]["lr"] = 0.02
        if step == 5:
            own.forget()
            other = torch_optimizer(theirs, replace(settings, lr=0.02))
        for optimizer, tensors in ((own, ours), (other, theirs)):
            optimizer.zero_grad()
            ((tensors[0] ** 3).sum() + (tensors[1] ** 2).sum()).backward()
            norms.append(float(torch.cat([tensor.grad.flatten() for tensor in tensors]).norm()))
            if optimizer is other and clip:
                torch.nn.utils.clip_grad_norm_(tensors, clip)
            optimizer.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    assert max(norms) > 2.5, "some gradients have to be clipped"


def test_gradients_of_a_small_norm_stay_as_they_are():
    few = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    assert all(torch.equal(a, b) for a, b in zip(clipped(few, 5.1), few, strict=True))
    torch.testing.assert_close(torch.cat(clipped(few, 2.5)), torch.tensor([1.5, 0.0, 2.0]))
    assert clipped([], 1.0) == []


def test_networks_whose_gradients_are_clipped_are_trained_one_by_one():
    assert protocol().trains_together and not protocol(clip=5.0).trains_together
    assert "clip" not in protocol().computed_part() and protocol(clip=5.0).computed_part()["clip"] == 5.0
    for wrong in (0.0, -1.0):
        with pytest.raises(UserError, match="clip: must lie above 0"):
            protocol(clip=wrong)


def test_a_training_with_clipped_gradients_is_a_plain_loop_of_torch(few):
    rules = protocol("plain_networks", epochs=2, optimizer=SGD, clip=0.05)
    ours, theirs = (network(arch="convnet_nonorm") for _ in range(2))
    train(ours, few, rules, strategy="none", seed=3, name=("x",), checkpoint=NOWHERE)
    optimizer = torch_optimizer(theirs.parameters(), rules.optimizer)
    for epoch, factor in enumerate(course(rules, 40).factors):
        optimizer.param_groups[0]["lr"] = rules.optimizer.lr * factor
        for chosen in torch.randperm(40, generator=seeds.generator(3, "x", "order", epoch)).split(16):
            optimizer.zero_grad()
            F.cross_entropy(theirs(few.fetch(chosen)), few.labels[chosen]).backward()
            assert torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.05) > 0.05
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_a_tensor_without_a_gradient_stays():
    for name in OPTIMIZERS:
        both = moved, still = torch.nn.ParameterList([torch.ones(2), torch.ones(2)])
        optimizer = network_optimizer(both, protocol(optimizer=OPTIMIZERS[name]).optimizer)
        moved.sum().backward()
        optimizer.step()
        assert (moved != 1).all() and torch.equal(still, torch.ones(2)), name


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("count", [1, 2])
def test_biases_and_scales_of_norms_decay_only_where_all_do(name, count, few):
    """Beside torch's optimiser with two groups, as the codes of RDED and EDC have it; alone and together."""
    settings = {**OPTIMIZERS[name], "weight_decay": 0.5}
    rules = protocol("plain_networks", epochs=2, optimizer={**settings, "decay_of": "weights"})
    ours = [network(number, "convnet") for number in range(count)]
    theirs = [network(number, "convnet") for number in range(count)]
    trained = {"strategy": "none", "seed": 3, "checkpoint": NOWHERE}
    if count == 1:
        train(ours[0], few, rules, name=("x", 0), **trained)
    else:
        stacked = Stacked(ours)
        train_together(stacked, few, rules, names=[("x", 0), ("x", 1)], **trained)
        for number, one in enumerate(ours):
            stacked.copy_to(number, one)
    plain = protocol("plain_networks", optimizer=settings).optimizer
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        optimizer = torch_optimizer(other.parameters(), plain)
        named = dict(other.named_parameters())
        pulled = [value for name, value in named.items() if "weight" in name and value.dim() > 1]
        rest = [value for value in named.values() if not any(value is one for one in pulled)]
        assert len(pulled) == 3 and len(rest) == 7
        optimizer.param_groups[0]["params"] = pulled
        optimizer.add_param_group({"params": rest, "weight_decay": 0.0})
        for epoch, factor in enumerate(course(rules, 40).factors):
            for group in optimizer.param_groups:
                group["lr"] = plain.lr * factor
            generator = seeds.generator(3, "x", number, "order", epoch)
            for chosen in torch.randperm(40, generator=generator).split(16):
                optimizer.zero_grad()
                F.cross_entropy(other(few.fetch(chosen)), few.labels[chosen]).backward()
                optimizer.step()
        for (key, a), b in zip(mine.named_parameters(), other.parameters(), strict=True):
            if "conv" not in key or "bias" not in key:  # before a norm its gradient is rounding
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_what_decays_is_asked_only_where_something_does():
    with pytest.raises(UserError, match="decay_of: nothing decays without a weight_decay"):
        protocol(optimizer={**ADAMW, "weight_decay": 0.0, "decay_of": "weights"})
    assert "decay_of" not in protocol(optimizer=ADAMW).computed_part()["optimizer"]


def test_a_training_under_another_optimiser_and_schedule_is_a_plain_loop_of_torch(few):
    rules = protocol("plain_networks", epochs=6, optimizer=ADAMW, schedule={"kind": "cosine", "stretch": 2.0})
    # Adam makes steps of the rounding of what a norm takes away
    ours, theirs = (network(arch="convnet_nonorm") for _ in range(2))
    train(ours, few, rules, strategy="none", seed=3, name=("x",), checkpoint=NOWHERE)
    optimizer = torch_optimizer(theirs.parameters(), rules.optimizer)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / 12))
    )
    for epoch in range(6):
        for chosen in torch.randperm(40, generator=seeds.generator(3, "x", "order", epoch)).split(16):
            optimizer.zero_grad()
            F.cross_entropy(theirs(few.fetch(chosen)), few.labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    for a, b, c in zip(
        ours.parameters(), theirs.parameters(), network(arch="convnet_nonorm").parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
        assert not torch.equal(a, c)


SOFT = {"name": "distillation", "temperature": 4.0, "hard_weight": 0.5}
WAYS = {
    "sgd, nesterov, soft": {"optimizer": NESTEROV, "loss": {"name": "soft"}},
    "adam, distillation, warm-up": {
        "optimizer": ADAM,
        "loss": SOFT,
        "schedule": {"kind": "cosine", "warmup": 2},
    },
    "adamw, average": {"optimizer": ADAMW, "average": {"decay": 0.9}, "schedule": {"kind": "ssrs"}},
    "logits, restarts": {
        "optimizer": ADAMW,
        "loss": {"name": "mse", "hard_weight": 0.15},
        "average": {"decay": 0.5},
    },
}
MIXED = {
    "mixup": {"mixing": {"name": "mixup"}, "loss": SOFT, "optimizer": ADAM},
    "cutmix, own classes": {
        "mixing": {"name": "cutmix", "beta": 0.3},
        "loss": SOFT | {"hard_labels": "own"},
        "average": {"decay": 0.9},
    },
    "adaptive rate": {
        "schedule": {"kind": "adaptive", "factor": 0.5, "share": 10.0, "change": 0.4},
        "optimizer": ADAMW,
        "epochs": 6,
    },
}


def test_a_rate_falls_where_the_loss_stays():
    """By hand: from 1000 to 2.3, by 0.3, by less than 0.02, by less than 0.02 but for more than a fiftieth of
    it, and not at all."""
    rules = protocol(schedule={"kind": "adaptive", "factor": 0.5}, epochs=6)
    rates = course(rules, 40)
    assert rates.factors == [1.0] * 6 and not rules.trains_together
    found = []
    for losses in ((2.2, 2.5), (2.0, 2.0), (2.0, 1.98), (0.1, 0.1), (0.09, 0.09), (0.09, 0.09)):
        for loss, images in zip(losses, (24, 16), strict=True):
            rates.adapts.see(torch.tensor(loss), images)
        rates.adapts.end()
        found.append(rates.adapts.factor)
    assert found == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    assert float(rates.adapts.state["loss"]) == pytest.approx(0.09)


def test_a_rate_that_losses_decide_is_that_of_a_plain_loop(few):
    rules = protocol(
        "plain_networks", epochs=5, optimizer=SGD, batch=16, schedule=MIXED["adaptive rate"]["schedule"]
    )
    ours, theirs = (network(arch="convnet_nonorm") for _ in range(2))
    train(ours, few, rules, strategy="none", seed=3, name=("x",), checkpoint=NOWHERE)
    optimizer, before, rates = torch_optimizer(theirs.parameters(), rules.optimizer), 1e3, []
    for epoch in range(5):
        total = 0.0
        for chosen in torch.randperm(40, generator=seeds.generator(3, "x", "order", epoch)).split(16):
            optimizer.zero_grad()
            loss = F.cross_entropy(theirs(few.fetch(chosen)), few.labels[chosen])
            loss.backward()
            optimizer.step()
            total += len(chosen) * loss.item() / 40
        if abs(total - before) < 0.4 and abs(total - before) < 10 * total:
            optimizer.param_groups[0]["lr"] *= 0.5
        before = total
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[-1] < rates[0]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("way", [*WAYS, *MIXED])
def test_a_training_stopped_after_every_epoch_ends_with_the_same_bytes(way, few, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    rules, settings = protocol(**(WAYS | MIXED)[way]), {"strategy": "color_crop", "seed": 0, "name": ("x",)}
    whole = network()
    train(whole, few, rules, **settings, checkpoint=NOWHERE)

    def go():
        broken = network(number=0 if not (tmp_path / "x.resume").exists() else 1)
        train(broken, few, rules, **settings, checkpoint=Stopping(tmp_path / "x.resume", "k"))
        return broken

    calls, broken = until_done(go)
    assert calls == number_of_epochs(rules, 40) > 1
    assert all(torch.equal(value, broken.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("way", WAYS)
def test_networks_at_once_become_what_each_becomes_alone(way, few, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    rules, names = protocol(**WAYS[way]), [("evaluation", number) for number in range(3)]
    settings, alone = (
        {"strategy": "color_crop", "seed": 3},
        [network(number, "convnet_nonorm") for number in range(3)],
    )
    stacked = Stacked(alone)
    train_together(stacked, few, rules, names=names, checkpoint=NOWHERE, **settings)

    def go():
        broken = Stacked([network(number, "convnet_nonorm") for number in range(3)])
        train_together(
            broken, few, rules, names=names, checkpoint=Stopping(tmp_path / "x.resume", "k"), **settings
        )
        return broken

    _, broken = until_done(go)
    assert all(torch.equal(value, broken.state_dict()[name]) for name, value in stacked.state_dict().items())
    for place, (net, name) in enumerate(zip(alone, names, strict=True)):
        train(net, few, rules, name=name, checkpoint=NOWHERE, **settings)
        taken = network(arch="convnet_nonorm")
        stacked.copy_to(place, taken)
        for part, value in net.state_dict().items():
            torch.testing.assert_close(taken.state_dict()[part], value, rtol=1e-7, atol=1e-9)


def test_recorded_steps_read_a_rate_that_changes_with_every_epoch(few, monkeypatch):
    """Twenty rates are too many to record a step for each: it is recorded once for each size of a batch."""
    monkeypatch.setattr(runtime, "_notes", [])
    rules = protocol(epochs=20, optimizer=ADAMW, loss=SOFT, schedule={"kind": "cosine"})
    names = [("evaluation", number) for number in (0, 1)]
    images = tensor_set(
        few.fetch(torch.arange(40)).float(), few.labels, Targets(few.targets.values.float(), "logits")
    )
    settings, both, recorder = (
        {"strategy": "crop", "seed": 0, "names": names, "checkpoint": NOWHERE},
        [],
        TapeRecorder(),
    )
    for found in (None, recorder):
        monkeypatch.setattr(together, "recorder_for", lambda device, found=found: found)
        both.append(Stacked([network(number, "convnet_nonorm", torch.float32) for number in (0, 1)]))
        with kernels.plain():  # as on a GPU
            train_together(both[-1], images, rules, **settings)
    assert recorder.captures == 2 and not runtime._notes
    for name, value in both[0].state_dict().items():
        torch.testing.assert_close(both[1].state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_schedules_have_their_closed_forms():
    def factors(kind, images=16, epochs=12, **settings):
        return course(protocol(schedule={"kind": kind, **settings}, epochs=epochs), images).factors

    epochs = np.arange(12)
    np.testing.assert_allclose(factors("cosine"), 0.5 * (1 + np.cos(np.pi * epochs / 12)))
    np.testing.assert_allclose(factors("cosine", floor=0.1), 0.1 + 0.45 * (1 + np.cos(np.pi * epochs / 12)))
    smooth, slowed = factors("cosine", stretch=2.0), factors("ssrs")
    assert slowed[:11] == smooth[:11] and smooth[10] / slowed[11] > 10
    rising = [0.01 + 0.99 * epoch / 5 for epoch in range(5)]
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(7) / 7))
    np.testing.assert_allclose(factors("cosine", warmup=5, rises_from=0.01), [*rising, *falling])
    for wrong in ({"rises_from": 0.1}, {"warmup": 2, "rises_from": 0.0}):
        with pytest.raises(UserError, match="rises_from: a part of the rate"):
            factors("cosine", **wrong)
    assert factors("constant", warmup=4) == [0.25, 0.5, 0.75, *[1.0] * 9]
    np.testing.assert_allclose(factors("step", at=[0.5], factor=0.2, warmup=2), [0.5, *[1.0] * 5, *[0.2] * 6])
    found = course(protocol(epochs=12), 16)
    assert found.factors == [1.0] * 8 + [0.1] * 5 and found.restarts == {7} and found.drops == [7]


def test_the_average_of_weights_is_that_of_a_plain_loop(few):
    """Seen through a watch before every step but the first, and once at the end."""
    rules = protocol(epochs=2, optimizer=SGD, average={"decay": 0.8})
    plain, judged, mean = network(), network(), None
    states = []

    class Watching:
        state = {}

        def see(self, indices, logits):
            states.append([parameter.detach().clone() for parameter in plain.parameters()])

    start = [parameter.detach().clone() for parameter in plain.parameters()]
    settings = {"strategy": "crop", "seed": 0, "name": ("x",), "checkpoint": NOWHERE}
    train(plain, few, replace(rules, average=None), **settings, watch=Watching())
    train(judged, few, rules, **settings)
    mean = start
    for weights in states:
        mean = [0.8 * one + 0.2 * weight for one, weight in zip(mean, weights, strict=True)]
    assert len(states) == 3 * 3
    for found, wanted, last in zip(judged.parameters(), mean, plain.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        assert not torch.equal(found, last)
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, judged.get_buffer(name)), "running statistics are the last ones"


def test_mixup_mixes_images_and_labels_in_the_same_shares():
    settings = protocol(mixing={"name": "mixup", "beta": 0.8}).mixed_by
    images, labels = torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    mixture = mixing.draw(settings, 6, 4, torch.Generator().manual_seed(0))
    wanted = mixture.share * images + (1 - mixture.share) * images[mixture.other]
    torch.testing.assert_close(mixture.images(images), wanted)
    vectors, logits = F.one_hot(labels, 3).float(), torch.randn(6, 3)
    torch.testing.assert_close(
        F.cross_entropy(logits, mixture.vectors(vectors)), mixture.loss(logits, labels)
    )
    drawn = [mixing.draw(settings, 6, 4, torch.Generator().manual_seed(seed)).share for seed in range(800)]
    # Of Beta(.8, .8)
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.04) and np.var(drawn) == pytest.approx(
        1 / (4 * 2.6), abs=0.01
    )
    seldom = replace(settings, probability=0.25)
    mixed = [
        mixing.draw(seldom, 6, 4, torch.Generator().manual_seed(seed)).other is not None
        for seed in range(800)
    ]
    assert np.mean(mixed) == pytest.approx(0.25, abs=0.04)


def test_a_probability_of_cutmix_is_short_for_a_mixing():
    short, full = (
        protocol("ncfm_networks").mixed_by,
        protocol(mixing={"name": "cutmix", "probability": 0.5}).mixed_by,
    )
    assert short == full and protocol().mixed_by is None
    first, second = (
        mixing.draw(settings, 4, 8, torch.Generator().manual_seed(3)) for settings in (short, full)
    )
    assert (first.share, first.edges) == (second.share, second.edges)
    assert mixing.draw(None, 4, 8, torch.Generator()) == Mixture()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"optimizer": ADAMW | {"momentum": 0.9}}, "optimizer: unknown key 'momentum'"),
        ({"optimizer": SGD | {"plateau": {"patience": 5}}}, "optimizer: unknown key 'plateau'"),
        ({"optimizer": SGD | {"class_turns": True}}, "optimizer: unknown key 'class_turns'"),
        ({"optimizer": SGD | {"beta1": 0.5}}, "optimizer: unknown key 'beta1' \\(known: decay_of, lr"),
        ({"optimizer": {"name": "adamm", "lr": 1.0}}, "unknown value 'adamm'; did you mean 'adam'"),
        ({"optimizer": {"lr": 0.1, "momentum": 0.0, "nesterov": True}}, "nesterov: needs a momentum"),
        ({"schedule": {"kind": "constant", "at": [0.5]}}, "schedule: unknown key 'at'"),
        ({"schedule": {"kind": "constant", "warmup": 5}}, "warmup: must be at most the 4 epochs"),
        ({"schedule": {"kind": "dc", "at": [0.5]}}, "schedule: unknown key 'at'"),
        ({"schedule": {"kind": "cosin"}}, "unknown value 'cosin'; did you mean 'cosine'"),
        ({"loss": {"name": "distillation"}}, "the key 'temperature' is missing"),
        ({"loss": {"name": "mse", "hard_labels": "own"}}, "hard_labels: say nothing without a hard_weight"),
        ({"cutmix": 0.5, "mixing": {"name": "mixup"}}, "cutmix: is short for a mixing"),
        ({"average": {"decay": 1.0}}, "decay: must lie between 0 and 1"),
    ],
)
def test_a_setting_that_would_not_be_used_is_refused_by_name(changes, said):
    with pytest.raises(UserError, match=said):
        protocol(**changes)


def test_a_loss_that_needs_soft_labels_says_where_they_are_missing(few):
    plain = replace(few, targets=None)
    for name, settings in {"soft": {}, "distillation": {"temperature": 2.0}, "mse": {}}.items():
        rules = protocol(loss={"name": name, **settings})
        with pytest.raises(
            UserError, match=f"protocol 'dc': its loss '{name}' .*soft labels, and these digits has none"
        ):
            train(network(), plain, rules, strategy="none", seed=0, name=("x",), checkpoint=NOWHERE)
    uneven, rules = (
        replace(few, targets=Targets(torch.full((40, 10), 0.1), "probabilities")),
        protocol(loss={"name": "mse"}),
    )
    with pytest.raises(UserError, match="these digits has probabilities, no logits"):
        train_together(
            Stacked([network()]), uneven, rules, strategy="none", seed=0, names=[("x",)], checkpoint=NOWHERE
        )


def test_another_kind_laid_over_a_protocol_replaces_the_settings_of_the_former():
    changed = catalogue.laid_over(
        catalogue.protocol("dc"),
        {"optimizer": {"name": "adamw", "lr": 0.001}, "schedule": {"kind": "cosine"}},
        "x",
    )
    assert changed.optimizer == specs.NetworkAdam("adamw", 0.001) and changed.schedule.kind == "cosine"
    kept = catalogue.laid_over(catalogue.protocol("dc"), {"optimizer": {"lr": 0.5}}, "x").optimizer
    assert (kept.lr, kept.momentum, kept.weight_decay) == (0.5, 0.9, 5e-4)
    with pytest.raises(UserError, match="x: optimizer: the key 'lr' is missing"):
        catalogue.laid_over(catalogue.protocol("dc"), {"optimizer": {"name": "adamw"}}, "x")


def test_keys_hold_what_they_held_before_there_were_such_settings():
    """Written out as the first keys were made; what came later enters only where it differs from its
    default."""
    wanted = {
        "name": "dc",
        "epochs": 1000,
        "batch": 256,
        "augment": "dataset",
        "siamese": "",
        "cutmix": 0.0,
        "precision": "mixed",
    }
    wanted |= {"least_updates": 0, "schedule": {"kind": "dc", "at": [], "factor": 0.1}}
    wanted["optimizer"] = {
        "lr": 0.01,
        "name": "sgd",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "beta1": 0.9,
        "beta2": 0.999,
    }
    wanted["optimizer"] |= {"class_turns": False, "plateau": None}
    dc = catalogue.protocol("dc")
    assert dc.computed_part() == wanted
    assert catalogue.protocol("idm_networks").computed_part()["schedule"] == {
        "kind": "constant",
        "at": [],
        "factor": 0.1,
    }
    told = [
        replace(dc, loss=protocol(loss=SOFT).loss),
        replace(dc, average=specs.WeightAverage(0.9)),
        protocol(mixing={"name": "mixup"}),
    ]
    told += [
        replace(dc, optimizer=replace(dc.optimizer, nesterov=True)),
        protocol(epochs=1000, schedule={"kind": "cosine"}),
    ]
    assert len({str(one.computed_part()) for one in [dc, *told]}) == 6


def test_memory_is_reckoned_with_for_what_an_optimiser_and_an_average_keep():
    asked = [
        {},
        {"optimizer": ADAMW},
        {"average": {"decay": 0.9}},
        {"optimizer": ADAM, "average": {"decay": 0.9}},
    ]
    assert [protocol(**changes).copies_held for changes in asked] == [5, 6, 6, 7]
    assert [fitting.networks_at_once(100, 0, 1, 8 * 4200, held) for held in (5, 6, 7)] == [8, 7, 6]


def test_every_name_that_a_protocol_may_use_is_registered():
    def names(union, key):
        return {
            value for kind in union.__args__ for value in typing.get_args(typing.get_type_hints(kind)[key])
        }

    assert names(specs.AnyNetworkOptimizer, "name") == OF_NETWORKS.keys()
    assert names(specs.AnySchedule, "kind") == SCHEDULES.keys()
    assert names(specs.AnyLoss, "name") == LOSSES.keys()
    assert names(specs.AnyMixing, "name") == mixing.MIXINGS.keys()
