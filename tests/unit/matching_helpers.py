"""What the tests of the matching engine share: small recipes of the digits, and the engine with a small network."""

from dataclasses import asdict

import torch

from condense import jobs, plan, recipes, specs
from condense.artifacts import read_tensors
from condense.checkpoints import Checkpoint
from condense.config import merged, read
from condense.engines.matching import Matching
from condense.engines.streams import RealStream

ARCH = {"arch": "convnet", "options": {"depth": 2, "width": 8}}
CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
METHODS = [name for name in recipes.names_in("methods") if recipes.recipe(name).engine != "whole" and not recipes.recipe(name).requires]
HERE = jobs.Machine("cpu", 1)


def recipe(name, **changes):
    """A recipe as the digits get it, made tiny."""
    changes = {"steps": 4, "batch_real": 16, "optimizer": {"lr": 1.0}, "precision": "fp32"} | changes
    return recipes.resolve(recipes.recipe(name), "digits", plan.data_cell("digits").spec.strategy, 1, [("test", changes)])


def tiny(method, **changes):
    """Any recipe as the digits get it at ipc 2, so short that a run takes a moment."""
    base = recipes.recipe(method)
    change = {"steps": 4, "batch_real": 32, "optimizer": {"lr": 1.0 if base.optimised == "normalised" else 0.05}, "precision": "fp32"}
    fewer = {"trained": {"count": min(2, getattr(base.networks, "count", 0))}, "queue": {"batch": 32}}
    change |= {"networks": fewer[base.networks.kind]} if base.networks.kind in fewer else {}
    changes = [("test", change | changes)] if base.engine == "matching" else []
    return recipes.resolve(base, "digits", plan.data_cell("digits").spec.strategy, 2, changes)


def protocol(**changes):
    return read(specs.Protocol, merged(asdict(recipes.protocol("critic")), {"epochs": 2} | changes), "test")


def engine(value, data, classes=None, *, ipc=2, seed=0, critic=None, checkpoint=NOWHERE):
    stream = RealStream(value, data, tuple(classes or data.classes), **ARCH, seed=seed, device=CPU)
    return Matching(value, stream, ipc=ipc, critic=critic, checkpoint=checkpoint)


def shard(out, digits, value, **settings):
    settings = {"ipc": 2, "seed": 0, "key": "k", **ARCH} | settings
    jobs.condense_shard(out, jobs.ShardJob(value, digits / "train.safetensors", **settings), HERE)
    return read_tensors(out, "shard")
