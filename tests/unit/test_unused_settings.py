"""A setting that nothing would read is refused by its name where it is read, with the reason; at its default
it may stand."""

from dataclasses import asdict

import pytest

from condense import specs
from condense.config import UserError, convert, merged
from condense.specs import catalogue

PROTOCOL = catalogue.protocol("dc")
DISTILLED = {"name": "distillation", "temperature": 4.0, "hard_weight": 0.5, "hard_labels": "own"}
QUEUE = {"kind": "queue", "trained": 0}


def recipe(name, change):
    """The recipe with `change` laid over it; without overrides where it changes these to None."""
    base = asdict(catalogue.recipe(name))
    if change.get("overrides", ()) is None:
        base, change = base | {"overrides": {}}, {**change, "overrides": {}}
    return convert(specs.AnyRecipe, merged(base, change), "x.yaml")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "dsa",
            {"loop": {"outer": 1, "inner": 3}},
            "loop: inner: with `outer: 1` no network is trained between two steps; leave it out, or at 1",
        ),
        (
            "dsa",
            {"overrides": None, "network_optimizer": {"lr": 0.5}},
            "network_optimizer: with `loop: {outer: 1}`, .* no network is trained; leave it out",
        ),
        (
            "dsa",
            {"overrides": None, "batch_network": 8},
            "batch_network: .*; leave it out, or at 256",
        ),
        (
            "dsa",
            {"overrides": None, "augment_network": False},
            "augment_network: .*; leave it out, or at true",
        ),
        (
            "dm",
            {"augment": {"siamese": "none", "mode": "all"}},
            'augment: mode: without operations .* leave it out, or at "one"',
        ),
        ("dm", {"decode": {"factor": 1, "order": "columns"}}, "decode: order: a single cell has no order"),
        (
            "dm",
            {"steps": 10, "snapshots": 11},
            "snapshots: the set is never kept in 10 steps .* every 11; give at most 10, or leave it out",
        ),
        ("dsa", {"steps": 5, "loop": {"outer": 2}, "snapshots": 11}, "never kept in 10 steps"),
        (
            "cpdm",
            {"terms": [{"name": "classifier_critic"}], "networks": QUEUE},
            "networks: none of its terms sees the network of a step; leave it out",
        ),
        (
            "dm",
            {"networks": {**QUEUE, "batch": 8}},
            "networks: batch: with `trained: 0` no network is trained; leave it out, or at 256",
        ),
        (
            "dm",
            {"networks": {**QUEUE, "accuracy_over": 5}},
            "networks: accuracy_over: with `trained: 0` no network is trained",
        ),
        (
            "minimum_covering",
            {"covering": {"largest": 9}},
            "covering: largest: it limits `candidates: all` alone; .*, or at 500",
        ),
        (
            "ncfm",
            {"terms": {"characteristic_function": {"repeats": 4}}},
            "repeats: it is of a sampler that learns .*, or at 16",
        ),
        (
            "ncfm",
            {"terms": {"characteristic_function": {"sampler_lr": 0.1}}},
            "sampler_lr: it is of a sampler that learns",
        ),
    ],
)
def test_of_a_recipe(name, change, said):
    with pytest.raises(UserError, match=said):
        recipe(name, change)


def test_what_is_read_at_some_numbers_of_images_a_class_may_stand():
    """`dsa` trains networks from two images a class on, by its overrides."""
    assert recipe("dsa", {"batch_network": 8}).loop.outer == 1
    looped = {"overrides": None, "loop": {"outer": 2}, "batch_network": 8, "augment_network": False}
    assert recipe("dsa", looped).batch_network == 8


def test_what_stands_at_its_default_may_stand():
    assert recipe("dsa", {"loop": {"outer": 1, "inner": 1}}).loop.inner == 1
    assert recipe("dsa", {"steps": 5, "loop": {"outer": 2}, "snapshots": 10}).number_of_snapshots == 1
    assert recipe("dm", {"networks": QUEUE}).networks.trained == 0
    assert recipe("minimum_covering", {"covering": {"candidates": "all", "largest": 9}}).covering.largest == 9


def test_an_accuracy_that_no_network_ever_has_weighs_no_term():
    with pytest.raises(
        UserError, match="'cross_entropy' by accuracy needs networks that are trained as it goes"
    ):
        recipe("dm", {"networks": QUEUE, "terms": [{"name": "cross_entropy", "by_accuracy": True}]})


def test_operations_that_a_dataset_takes_away_leave_no_mode():
    """A recipe that takes all operations is one of a dataset that has none of them, too."""
    plain = catalogue.resolve(catalogue.recipe("dsdm"), "digits", "none", 1, [])
    assert catalogue.recipe("dsdm").augment.mode == "all" and plain.augment == specs.Augment("none", "one")
    assert catalogue.resolve(catalogue.recipe("dsdm"), "digits", "color", 1, []).augment == specs.Augment(
        "color", "all"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"augment": "none", "siamese": "color"},
            "siamese: with `augment: none` no operation is used; leave it out",
        ),
        ({"schedule": {"kind": "step"}}, "schedule: the key 'at' is missing"),
        (
            {"schedule": {"kind": "step", "at": []}},
            r"schedule: at: without a fraction .* write `schedule: {kind: constant}`",
        ),
        (
            {"loss": DISTILLED, "cutmix": 0.0, "mixing": None},
            "loss: hard_labels: .* nothing mixes them; leave it out, or give `mixing`",
        ),
    ],
)
def test_of_a_protocol(change, said):
    with pytest.raises(UserError, match=said):
        convert(specs.Protocol, merged(asdict(PROTOCOL), {"siamese": ""} | change), "x.yaml")
    mixed = merged(asdict(PROTOCOL), {"loss": DISTILLED, "cutmix": 0.5})
    assert convert(specs.Protocol, mixed, "x.yaml").loss.hard_labels == "own"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x_label": "x"}, "x_label: only"),
        ({"log": True}, "log: only"),
        ({"features": "style"}, "features: only"),
    ],
)
def test_of_a_figure(change, said):
    images = {
        "kind": "figure",
        "paper": "p",
        "figure": "1",
        "title": "t",
        "draw": "images",
        "dataset": "cifar10",
        "methods": ["dm"],
        "ipc": [1],
    }
    assert convert(specs.FigureSpec, images, "x.yaml").draw == "images"
    with pytest.raises(UserError, match=said):
        convert(specs.FigureSpec, images | change, "x.yaml")


def test_of_a_table_that_does_not_run():
    with pytest.raises(UserError, match="n_sets: with `run: false` nothing of it runs; leave it out"):
        specs.TableLimits(run=False, n_sets=3)
    assert not specs.TableLimits(run=False).run
