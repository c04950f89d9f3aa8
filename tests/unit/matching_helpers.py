"""What the tests of the matching engine share: small recipes of the digits, and the engine with a small
network."""

from dataclasses import asdict

import torch
import torch.nn.functional as F

from condense import jobs, models, plan, specs
from condense.augment import siamese
from condense.config import merged, read
from condense.engines.matching import Matching
from condense.engines.starts import initial_images
from condense.engines.streams import RealStream
from condense.files.artifacts import read_tensors
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.specs import catalogue

ARCH = {"arch": "convnet", "options": {"depth": 2, "width": 8}}
CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
METHODS = [
    name
    for name in catalogue.names_in("methods")
    if catalogue.recipe(name).makes_set and not catalogue.recipe(name).requires
]
HERE = jobs.Machine("cpu", 1)


def recipe(name, **changes):
    """A recipe as the digits get it, made tiny."""
    base = catalogue.recipe(name)
    small = {"steps": 4, "batch_real": 16, "optimizer": {"lr": 1.0}, "precision": "fp32"}
    small = {key: change for key, change in small.items() if hasattr(base, key)}
    return catalogue.resolve(
        base, "digits", plan.data_cell("digits").spec.strategy, 1, [("test", small | changes)]
    )


def tiny(method, **changes):
    """Any recipe as the digits get it at ipc 2, so short that a run takes a moment."""
    base = catalogue.recipe(method)
    # Of others their class knows how to make them short
    if not isinstance(base, (specs.MatchingRecipe, specs.GradientRecipe)):
        return catalogue.resolve(
            base,
            "digits",
            plan.data_cell("digits").spec.strategy,
            2,
            [("test", dict(base.trials[0]) | changes)],
        )
    change = {
        "steps": 4,
        "batch_real": 32,
        "optimizer": {"lr": 1.0 if base.optimised == "normalised" else 0.05},
        "precision": "fp32",
    }
    networks = getattr(base, "networks", specs.Networks())
    fewer = {"trained": {"count": min(2, getattr(networks, "count", 0))}, "queue": {"batch": 32}}
    change |= {"networks": fewer[networks.kind]} if networks.kind in fewer else {}
    # Long trainings at a high rate turn the rounding of float32 into other images
    if isinstance(base, specs.GradientRecipe):
        change |= {"loop": {"outer": 2, "inner": 2}, "optimizer": {"lr": 0.1}}
    return catalogue.resolve(
        base, "digits", plan.data_cell("digits").spec.strategy, 2, [("test", change | changes)]
    )


def protocol(**changes):
    return read(
        specs.Protocol, merged(asdict(catalogue.protocol("plain_networks")), {"epochs": 2} | changes), "test"
    )


def engine(value, data, classes=None, *, ipc=2, seed=0, critic=None, checkpoint=NOWHERE):
    stream = RealStream(value, data, tuple(classes or data.classes), **ARCH, seed=seed, device=CPU)
    return Matching(value, stream, ipc=ipc, critic=critic, checkpoint=checkpoint)


def shard(out, digits, value, **settings):
    settings = {"ipc": 2, "seed": 0, "key": "k", **ARCH} | settings
    jobs.condense_shard(out, jobs.ShardJob(value, digits / "train.safetensors", **settings), HERE)
    return read_tensors(out, "shard")


def reference(value, data, label, *, ipc, seed, critic):
    """One class condensed by itself, written down from the papers: (ipc, ...) normalised images.

    DM, algorithm 1: a fresh network and a fresh siamese draw a step; cpdm, eq. (6) and (7).
    """
    own = data.of_class(label)
    order = torch.randperm(len(own), generator=seeds.generator(seed, "init", label))
    images = own[order[:ipc]].clone().requires_grad_(True)
    optimizer = torch.optim.SGD([images], lr=value.optimizer.lr, momentum=value.optimizer.momentum)
    network = models.build(
        ARCH["arch"], channels=data.channels, size=data.size, classes=len(data.counts), **ARCH["options"]
    )
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


def equals_the_plain_loop(value, train, critic, tolerance):
    """Asserts that the engine makes what one class after another gives."""
    found = engine(value, train, critic=critic, ipc=3, seed=7).run().images
    start = initial_images(train, train.classes, 3, "real", 7)
    for place, label in enumerate(train.classes):
        wanted = reference(value, train, label, ipc=3, seed=7, critic=critic)
        torch.testing.assert_close(found[place], wanted, rtol=tolerance, atol=tolerance)
        assert (found[place] - start[place]).abs().max() > 0.01, (
            "the images have to move for the comparison to mean anything"
        )
