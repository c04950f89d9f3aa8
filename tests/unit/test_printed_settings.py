"""Recipes and protocols beside the settings that papers print: `params/published/hyperparameters.csv`."""

import csv

import pytest

from condense import plan
from condense.specs import catalogue

FILE = catalogue.params_folder() / "published" / "hyperparameters.csv"
with FILE.open(encoding="utf-8", newline="") as file:
    PRINTED = [row for row in csv.DictReader(file) if row["value"] and row["dataset"] != "celeba"]
# What a table says of the networks -> what a protocol calls it
OF_NETWORKS = {
    "batch_size": lambda protocol: protocol.batch,
    "epochs": lambda protocol: protocol.epochs,
    "learning_rate": lambda protocol: protocol.optimizer.lr,
    "momentum": lambda protocol: protocol.optimizer.momentum,
    "weight_decay": lambda protocol: protocol.optimizer.weight_decay,
}


def of(paper, table, *names):
    return [row for row in PRINTED if (row["paper"], row["table"]) == (paper, table) and row["name"] in names]


def named(row):
    return "-".join(row[key] for key in ("dataset", "ipc", "name") if row[key])


def resolved(method, dataset, ipc):
    return catalogue.resolve(
        catalogue.recipe(method), dataset, plan.data_cell(dataset).spec.strategy, ipc, []
    )


@pytest.mark.parametrize("row", of("cpdm", "11", "real_batch_size"), ids=named)
@pytest.mark.parametrize("method", ["cpdm", "ed", "ed_kl", "diversity_classifier", "cfd_cpdm"])
def test_batches_are_those_of_table_11(method, row):
    assert resolved(method, row["dataset"], int(row["ipc"])).batch_real == int(row["value"])


@pytest.mark.parametrize("row", of("cpdm", "12", *OF_NETWORKS), ids=named)
@pytest.mark.parametrize("method", ["cpdm", "cfd_cpdm", "m3d_cpdm", "ncfm_cpdm"])
def test_critics_are_trained_by_table_12(method, row):
    protocol = catalogue.protocol(resolved(method, row["dataset"], 10).teacher.protocol)
    assert OF_NETWORKS[row["name"]](protocol) == float(row["value"])
    assert protocol.optimizer.name == "sgd" and protocol.augment == "dataset"


def test_the_tables_are_there():
    counts = [len(of("cpdm", "11", "real_batch_size")), len(of("cpdm", "12", *OF_NETWORKS))]
    assert counts == [13 + 3 + 3, 3 * len(OF_NETWORKS)]


def test_rates_above_300_images_are_those_of_the_caption_of_table_10():
    (caption,) = [row for row in of("cpdm", "10", "image_learning_rate") if row["ipc"] == ">=300"]
    rates = [resolved("cpdm", "cifar10", ipc).optimizer.lr for ipc in (200, 300, 400, 1000)]
    assert rates == [1.0, 5.0, float(caption["value"]), float(caption["value"])]


@pytest.mark.parametrize("method", ["dm_classifier", "dm_kl", "dm_clip"])
def test_variants_of_dm_take_the_steps_of_table_4_at_the_rate_of_dm(method):
    for ipc in (1, 10, 50, 100, 300):
        variant, base = resolved(method, "cifar10", ipc), resolved("dm", "cifar10", ipc)
        assert (variant.steps, variant.batch_real) == (40_000, 512)
        assert (base.steps, base.batch_real) == (20_000, 256)
        assert variant.optimizer == base.optimizer


@pytest.mark.parametrize("method", ["ncfm", "ncfm_cpdm", "ncfm_plus_cpdm"])
def test_ncfm_takes_sgd_at_cifar100_with_ten_images_a_class_alone(method):
    found = {
        (dataset, ipc): (step.name, step.lr, step.momentum, step.weight_decay)
        for dataset in ("cifar10", "cifar100")
        for ipc in (1, 10, 50)
        for step in [resolved(method, dataset, ipc).optimizer]
    }
    assert found.pop(("cifar100", 10)) == ("sgd", 0.01, 0.5, 0.0)
    for ipc in (1, 10, 50):  # in its loop over classes, with the rate that falls, as everywhere
        step = resolved(method, "cifar100", ipc).optimizer
        assert step.class_turns and step.plateau == resolved(method, "cifar10", ipc).optimizer.plateau
    assert set(found.values()) == {("adamw", 0.001, 0.5, 0.0005)}
