"""Protocols of the papers: optimiser, rates in closed form, operations and lengths, each as its source has
them."""

from dataclasses import dataclass, field

import pytest
import torch

from condense import specs
from condense.augment import siamese
from condense.specs import catalogue, number_of_epochs
from condense.specs.training import CutMix
from condense.training.schedules import course

ALL = "color_crop_cutout_flip_scale_rotate"
SGD = specs.NetworkSGD(lr=0.01, momentum=0.9, weight_decay=5e-4)
DSA = [("color", "crop", "cutout", "flip", "scale", "rotate")]
IDC = [("flip",), ("color",), ("crop", "scale", "rotate")]


@dataclass
class Facts:
    """`run`: epochs that are run. `falls`: first epoch, from 0, at a lower rate -> the rate from there on.
    `stages`: of what operations each image of the papers' RGB sets has one, one stage after the other."""

    run: int
    batch: int
    falls: dict[int, float]
    stages: list[tuple[str, ...]]
    optimizer: specs.AnyNetworkOptimizer = SGD
    cutmix: float = 0.0
    restarts: set[int] = field(default_factory=set)


# The division of an epoch is that of Python's integers, as in the authors' code.
def thirds(epochs: int) -> dict[int, float]:
    return {2 * epochs // 3: 0.01 * 0.2, 5 * epochs // 6: 0.01 * 0.04}


def halved(epochs: int) -> dict[int, float]:
    """Of epochs from 0 to `epochs`; after that of half of them and one."""
    return {epochs // 2 + 2: 0.001}


FACTS = {
    "dc": Facts(1001, 256, halved(1000), DSA, restarts={501}),
    "dc_plain": Facts(301, 256, halved(300), [], restarts={151}),
    "dc_unaugmented": Facts(1001, 256, halved(1000), [], restarts={501}),
    "dc_bench_adam": Facts(1001, 256, {}, DSA, specs.NetworkAdam("adam", 0.003)),
    "dc_bench_cifar": Facts(1001, 256, halved(1000), [("flip",), ("crop",), ("cutout",)], restarts={501}),
    "idc": Facts(1000, 64, thirds(1000), IDC, cutmix=0.5),
    "idc_long": Facts(1500, 64, thirds(1500), IDC, cutmix=0.5),
    "idm": Facts(1001, 256, halved(1000), DSA, restarts={501}),
    "ncfm": Facts(
        2000,
        128,
        {part * 2000 // 5: 0.001 * 0.5**part for part in range(1, 5)},
        IDC,
        specs.NetworkAdam("adamw", 0.001, weight_decay=0.01),
        0.5,
    ),
    "ncfm_networks": Facts(60, 128, thirds(60), [("color",), ("crop",)], cutmix=0.5),
}


def judge(name, dataset, ipc):
    return catalogue.resolve_protocol(catalogue.protocol(name), dataset, ipc, "convnet")


def test_ncfm_has_fewer_epochs_on_tiny_imagenet():
    epochs = {ipc: judge("ncfm", "tinyimagenet", ipc).epochs for ipc in (1, 10, 50)}
    assert epochs == {1: 2000, 10: 300, 50: 40}


def test_idc_crops_and_flips_alone_on_cifar100():
    """Each image by itself, both of them always."""
    on = {dataset: judge("idc", dataset, 10) for dataset in ("cifar10", "cifar100")}
    assert {
        name: rules.operations_of("color_crop_cutout_flip_scale_rotate") for name, rules in on.items()
    } == {
        "cifar10": "color_crop_flip_scale_rotate",
        "cifar100": "crop_flip",
    }
    assert {rules.augment for rules in on.values()} == {"all"}


@pytest.mark.parametrize("name", FACTS)
def test_a_protocol_has_the_facts_of_its_source(name):
    rules, facts = judge(name, "cifar10", 10), FACTS[name]
    assert (rules.batch, rules.optimizer, rules.loss, rules.average) == (
        facts.batch,
        facts.optimizer,
        specs.HardLoss(),
        None,
    )
    assert rules.mixed_by == (CutMix("cutmix", facts.cutmix) if facts.cutmix else None)
    assert number_of_epochs(rules, 100) == facts.run and rules.least_updates == 0
    mode = "all" if rules.augment == "all" else "one"
    assert siamese.stages(rules.operations_of(ALL), mode) == facts.stages


@pytest.mark.parametrize("name", FACTS)
def test_the_rate_falls_when_the_source_says(name):
    rules, facts = judge(name, "cifar10", 10), FACTS[name]
    found = course(rules, 100)
    wanted = [
        [facts.optimizer.lr, *(rate for start, rate in facts.falls.items() if start <= epoch)][-1]
        for epoch in range(facts.run)
    ]
    torch.testing.assert_close([rules.optimizer.lr * factor for factor in found.factors], wanted)
    assert found.restarts == facts.restarts


def test_every_judge_names_its_source():
    """What the file says beside its settings is where they stand, and where paper and code differ."""
    for name in FACTS:
        source = catalogue.protocol(name).source
        assert source.paper and source.note, name
