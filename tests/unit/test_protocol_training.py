"""Every optimiser, schedule, loss and mixing that a protocol may name, and the average of weights, against a
plain loop of torch.

The loop shares with the training only its random numbers and the augmentation, which has tests of its own.
"""

import math
import typing
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F

from condense import models, specs
from condense.augment import mixing, siamese
from condense.config import merged, read
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.specs import catalogue
from condense.training.loop import train
from condense.training.sets import Targets, tensor_set

IMAGES, BATCH, CLASSES, SIDE, SEED = 20, 8, 10, 8, 3  # the last batch of an epoch has four
pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
NESTEROV = SGD | {"nesterov": True}
ADAM, ADAMW = (
    {"name": name, "lr": 0.003, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95}
    for name in ("adam", "adamw")
)
STEP = {"kind": "step", "at": [0.34, 0.67], "factor": 0.2}
CUTMIX, MIXUP = {"name": "cutmix", "probability": 0.7}, {"name": "mixup", "probability": 0.7, "beta": 0.8}
DISTILLATION = {"name": "distillation", "temperature": 3.0, "scaled": True, "hard_weight": 0.3}
WAYS = {
    "sgd, dc": {"optimizer": SGD},
    "nesterov, dc": {"optimizer": NESTEROV},
    "adam, dc": {"optimizer": ADAM},
    "adamw, dc": {"optimizer": ADAMW},
    "sgd, step": {"optimizer": SGD, "schedule": STEP},
    "nesterov, step, warmup": {"optimizer": NESTEROV, "schedule": STEP | {"warmup": 2}},
    "adamw, step, cutmix": {"optimizer": ADAMW, "schedule": STEP, "mixing": CUTMIX},
    "adam, constant, warmup": {"optimizer": ADAM, "schedule": {"kind": "constant", "warmup": 3}},
    "sgd, cosine": {"optimizer": SGD, "schedule": {"kind": "cosine", "floor": 0.1, "warmup": 1}},
    "adamw, cosine": {"optimizer": ADAMW, "schedule": {"kind": "cosine", "stretch": 2.0}},
    "adamw, ssrs": {"optimizer": ADAMW, "schedule": {"kind": "ssrs"}},
    "sgd, ssrs, mixup": {"optimizer": SGD, "schedule": {"kind": "ssrs", "stretch": 1.5}, "mixing": MIXUP},
    "hard, mixup": {"mixing": MIXUP},
    "hard, cutmix": {"mixing": CUTMIX, "augment": "all"},
    "soft": {"loss": {"name": "soft"}},
    "soft, cutmix": {"loss": {"name": "soft"}, "mixing": CUTMIX},
    "distillation": {"loss": {"name": "distillation", "temperature": 20.0}},
    "distillation, mixup": {"loss": DISTILLATION, "mixing": MIXUP},
    "distillation, own classes": {"loss": DISTILLATION | {"hard_labels": "own"}, "mixing": CUTMIX},
    "mse": {"loss": {"name": "mse"}},
    "mse, own classes": {"loss": {"name": "mse", "hard_weight": 0.15, "hard_labels": "own"}, "mixing": MIXUP},
    "average": {"average": {"decay": 0.9}},
    "adamw, cutmix, average": {"optimizer": ADAMW, "mixing": CUTMIX, "average": {"decay": 0.5}},
}


def protocol(**changes):
    base = {"epochs": 6, "batch": BATCH, "precision": "fp32", "optimizer": SGD, "augment": "dataset"}
    return read(specs.Protocol, merged(asdict(catalogue.protocol("dc")), base | changes), "test")


def network():
    built = models.build("convnet_nonorm", channels=1, size=SIDE, classes=CLASSES, depth=1, width=4).double()
    models.reinitialise(built, seeds.stream(SEED, "evaluation", 0))
    return built


@pytest.fixture(scope="module")
def few():
    """Images (20, 1, 8, 8), labels (20,) and logits (20, 10), in double precision."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 1, SIDE, SIDE, generator=rng, dtype=torch.float64)
    labels = torch.arange(IMAGES) % CLASSES
    logits = 2 * torch.randn(IMAGES, CLASSES, generator=rng, dtype=torch.float64) + 3 * F.one_hot(
        labels, CLASSES
    )
    return images, labels, logits


def rates(schedule, epochs):
    """What the rate is multiplied by in each epoch, from the definitions."""
    if schedule.kind == "dc":
        return [schedule.factor if epoch > epochs // 2 + 1 else 1.0 for epoch in range(epochs + 1)]

    def cosine(epoch, stretch):
        return (1 + math.cos(math.pi * epoch / (stretch * epochs))) / 2

    def slowed(epoch):
        joint = 5 * epochs / 6
        late = cosine(joint, schedule.stretch) * (1 - epoch / epochs)
        return late if epoch > joint else cosine(epoch, schedule.stretch)

    by_kind = {
        "constant": lambda epoch: 1.0,
        "step": lambda epoch: schedule.factor ** sum(epoch >= round(part * epochs) for part in schedule.at),
        "cosine": lambda epoch: schedule.floor + (1 - schedule.floor) * cosine(epoch, schedule.stretch),
        "ssrs": slowed,
    }
    rising = [min((epoch + 1) / schedule.warmup, 1.0) if schedule.warmup else 1.0 for epoch in range(epochs)]
    return [by_kind[schedule.kind](epoch) * share for epoch, share in enumerate(rising)]


def of_torch(weights, settings, lr):
    decay = {"weight_decay": settings.weight_decay}
    if settings.name == "sgd":
        return torch.optim.SGD(weights, lr, settings.momentum, nesterov=settings.nesterov, **decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
    return kind(weights, lr, betas=(settings.beta1, settings.beta2), **decay)


def mixed(images, drawn, name):
    """The images of a batch mixed as was drawn."""
    if drawn.other is None:
        return images
    others = images[drawn.other]
    if name == "mixup":
        return drawn.share * images + (1 - drawn.share) * others
    top, left, bottom, right = drawn.edges
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert 1 - drawn.share == pytest.approx(inside.double().mean().item())
    return torch.where(inside, others, images)


def wanted_loss(loss, logits, labels, given, drawn):
    """The loss of logits (b, k) against the classes of the images and the logits `given` (b, k)."""
    own = F.one_hot(labels, CLASSES).double()

    def both(vectors):
        return (
            vectors
            if drawn.other is None
            else drawn.share * vectors + (1 - drawn.share) * vectors[drawn.other]
        )

    if loss.name == "hard":
        return F.cross_entropy(logits, both(own))
    if loss.name == "soft":
        return F.cross_entropy(logits, both(given.softmax(1)))
    if loss.name == "mse":
        value = F.mse_loss(logits, both(given))
    else:
        at = loss.temperature
        divergence = F.kl_div(
            (logits / at).log_softmax(1), both((given / at).softmax(1)), reduction="batchmean"
        )
        value = divergence * (at**2 if loss.scaled else 1)
    classes = own if loss.hard_labels == "own" else both(own)
    return value + loss.hard_weight * F.cross_entropy(logits, classes)


def plain(net, few, rules, strategy):
    """Trains `net`; returns how many batches were mixed, and how many were not."""
    images, labels, logits = few
    weights, settings, mixes = list(net.parameters()), rules.optimizer, rules.mixing
    optimizer, means, count = of_torch(weights, settings, 0.1), [w.detach().clone() for w in weights], [0, 0]
    factors = rates(rules.schedule, rules.epochs)
    for epoch, factor in enumerate(factors):
        if rules.schedule.kind == "dc" and epoch == rules.epochs // 2 + 2:
            optimizer = of_torch(weights, settings, 0.1)
        optimizer.param_groups[0]["lr"] = settings.lr * factor
        order = torch.randperm(IMAGES, generator=seeds.generator(SEED, "x", "order", epoch))
        augment = seeds.generator(SEED, "x", "augment", epoch)
        stream = seeds.generator(SEED, "x", mixes.name if mixes else "unmixed", epoch)
        for chosen in order.split(BATCH):
            mode = "all" if rules.augment == "all" else "one"
            seen = siamese.apply(
                images[chosen], siamese.draw_each(strategy, SIDE, len(chosen), augment, mode)
            )
            drawn = mixing.draw(mixes, len(chosen), SIDE, stream)
            count[drawn.other is None] += 1
            out = net(mixed(seen, drawn, mixes and mixes.name))
            optimizer.zero_grad()
            wanted_loss(rules.loss, out, labels[chosen], logits[chosen], drawn).backward()
            optimizer.step()
            decay = rules.average.decay if rules.average else 0.0
            means = [decay * mean + (1 - decay) * w.detach() for mean, w in zip(means, weights, strict=True)]
    for weight, mean in zip(weights, means, strict=True):
        weight.data.copy_(mean)
    return count


@pytest.mark.parametrize("way", WAYS)
def test_what_a_protocol_names_trains_as_a_plain_loop_of_torch(way, few):
    rules, strategy = protocol(**WAYS[way]), "color_crop_flip_scale"
    images, labels, logits = few
    ours, theirs, start = network(), network(), network()
    found = tensor_set(images, labels, Targets(logits, "logits"))
    train(ours, found, rules, strategy=strategy, seed=SEED, name=("x",), checkpoint=Checkpoint(None, ""))
    mixed_batches, others = plain(theirs, few, rules, strategy)
    assert others and bool(mixed_batches) == (rules.mixing is not None)
    for a, b, c in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
        assert not torch.allclose(a, c, rtol=0, atol=1e-4)


def test_the_ways_name_all_that_a_protocol_may():
    used = [protocol(**changes) for changes in WAYS.values()]

    def allowed(union, key):
        # A rate that follows the loss is compared with a loop of its own, in test_protocols
        kinds = [kind for kind in union.__args__ if not getattr(kind, "adapts", False)]
        return {name for kind in kinds for name in typing.get_args(typing.get_type_hints(kind)[key])}

    for union, key, part in (
        (specs.AnyNetworkOptimizer, "name", "optimizer"),
        (specs.AnySchedule, "kind", "schedule"),
        (specs.AnyLoss, "name", "loss"),
        (specs.AnyMixing, "name", "mixing"),
    ):
        assert {getattr(getattr(rules, part), key) for rules in used if getattr(rules, part)} == allowed(
            union, key
        )
    fields = {key for changes in WAYS.values() for key in changes}
    assert fields >= {"average", "augment"} and any(getattr(one.optimizer, "nesterov", False) for one in used)
