"""Where the memory of a GPU does not suffice: batches in parts, where that gives the same, and a sentence
where it does not."""

import copy
from dataclasses import asdict

import pytest
import torch
from torch import nn

from condense import models, specs
from condense.augment import cutmix
from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.evaluate import protocols
from condense.evaluate.trained import TrainedNetworks, measured_accuracy
from condense.files.checkpoints import Checkpoint
from condense.machine import runtime, seeds
from condense.machine.fitting import TEST_BATCH
from condense.specs import catalogue
from condense.training.loop import accuracy, number_of_epochs, train
from condense.training.memory import in_smaller_batches, whole_batch_for
from condense.training.sets import pixel_set, tensor_set
from condense.training.stacked import Stacked

pytestmark = pytest.mark.usefixtures("one_thread")
NOWHERE = Checkpoint(None, "")
SMALL = {"depth": 2, "width": 8}


@pytest.fixture(autouse=True)
def notes(monkeypatch):
    found = []
    monkeypatch.setattr(runtime, "_notes", found)
    return found


def network(arch="convnet", **options):
    built = models.build(arch, channels=1, size=8, classes=10, **options).double()
    models.reinitialise(built, seeds.stream(0, "evaluation", 0))
    return built


def small_memory(built, most):
    """The network on a device on which so many images at once fit; the sizes that it was asked for."""
    sizes = []

    def look(module, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    built.register_forward_pre_hook(look)
    return sizes


def protocol(**changes):
    values = {"epochs": 3, "batch": 16, "precision": "fp32", "optimizer": {"lr": 0.05}}
    return read(specs.Protocol, merged(asdict(catalogue.protocol("dc")), values | changes), "test")


@pytest.fixture(scope="module")
def images(digits):
    data = load(digits / "train.safetensors")
    return tensor_set(data.normalise(data.images[:40]).double(), data.labels[:40])


@pytest.mark.parametrize(
    "changes", [{}, {"cutmix": 1.0}, {"augment": "all"}], ids=["plain", "cutmix", "all operations"]
)
@pytest.mark.parametrize("most", [15, 8, 3])
def test_a_batch_in_parts_trains_the_same_network(most, changes, images, notes):
    whole = network(**SMALL)
    parts, seen = copy.deepcopy(whole), []
    settings = {"strategy": "color_crop_flip", "seed": 1, "name": ("x",), "checkpoint": NOWHERE}
    train(whole, images, protocol(**changes), **settings)

    class Watch:
        state = {}

        def see(self, indices, logits):
            seen.append((len(indices), len(logits)))

    sizes = small_memory(parts, most)
    train(parts, images, protocol(**changes), **settings, watch=Watch())
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-9, atol=1e-11)
    assert seen == [(16, 16), (16, 16), (8, 8)] * number_of_epochs(protocol(), 40)
    assert (
        sum(size > most for size in sizes) == len(notes) and "16 images goes through a network in" in notes[0]
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"arch": "convnet_bn", **SMALL}, "batch norm"),
        ({"arch": "vit", "depth": 1, "dim": 8, "heads": 1, "head_dim": 4, "mlp": 8}, "dropout"),
    ],
)
def test_a_network_that_needs_the_whole_batch_is_told(options, reason, images):
    built = network(**options)
    small_memory(built, 8)
    with pytest.raises(
        UserError, match=f"batch of 16 images, which cannot be divided.*{reason}.*smaller batch"
    ):
        train(built, images, protocol(), strategy="none", seed=1, name=("x",), checkpoint=NOWHERE)


def test_an_image_that_does_not_fit_is_told(images):
    built = network(**SMALL)
    small_memory(built, 0)
    with pytest.raises(UserError, match="not even for one image"):
        train(built, images, protocol(), strategy="none", seed=1, name=("x",), checkpoint=NOWHERE)


def test_layers_of_other_libraries_are_not_trusted_with_parts():
    class Foreign(nn.Module):
        pass

    Foreign.__module__ = "somewhere.else"
    assert "Foreign" in whole_batch_for(nn.Sequential(nn.Linear(2, 2), Foreign()))
    assert whole_batch_for(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0), nn.GroupNorm(1, 2))) == ""


def test_the_loss_of_a_mixture_is_the_mean_of_those_of_its_parts():
    generator = torch.Generator().manual_seed(0)
    mixture = cutmix.draw(1.0, 6, 8, generator)
    logits, labels = (
        torch.randn(6, 3, generator=generator).double(),
        torch.randint(3, (6,), generator=generator),
    )
    parts = (
        sum(
            mixture.loss(logits[2 * place : 2 * place + 2], labels, slice(2 * place, 2 * place + 2))
            for place in range(3)
        )
        / 3
    )
    torch.testing.assert_close(parts, mixture.loss(logits, labels))


def accuracies(networks, images):
    return measured_accuracy(images, TrainedNetworks(networks, torch.float32))["accuracy"]


def test_testing_takes_fewer_images_at_a_time_where_more_do_not_fit(digits, monkeypatch):
    test, built = pixel_set(load(digits / "test.safetensors"), torch.device("cpu")), network(**SMALL).float()
    pair = Stacked([built, built])
    alone, together = accuracy(built, test), accuracies(pair, test)
    assert together == [alone, alone]
    sizes = small_memory(built, 20), small_memory(pair, 5)
    assert accuracy(built, test) == alone and accuracies(pair, test) == together
    assert [(max(found), found[-2]) for found in sizes] == [
        (TEST_BATCH["cpu"], 16),
        (TEST_BATCH["cpu"] // 2, 4),
    ]


def test_where_not_even_one_fits_the_error_stays():
    tried = []

    def work(batch):
        tried.append(batch)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_smaller_batches(work, 6)
    assert tried == [6, 3, 1]


def test_a_group_that_did_not_fit_leaves_no_checkpoint_behind(digits, images, tmp_path, monkeypatch):
    train_all = protocols.train_together

    def late(networks, *arguments, checkpoint, **named):
        checkpoint.write({}, {"epoch": 0})
        if networks.count > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        checkpoint.remove()
        train_all(networks, *arguments, checkpoint=checkpoint, **named)

    monkeypatch.setattr(protocols, "train_together", late)
    few = tensor_set(images.fetch(torch.arange(40)).float(), images.labels)
    settings = {
        "arch": "convnet",
        "options": SMALL,
        "strategy": "none",
        "networks": range(4),
        "seed": 0,
        "device": torch.device("cpu"),
    }
    checkpoint = Checkpoint(tmp_path / "x.resume", "key")
    found = protocols.evaluate(
        few,
        load(digits / "test.safetensors"),
        protocol(epochs=1),
        **settings,
        checkpoint=checkpoint,
        at_once=4,
    )
    assert len(found) == 4 and list(tmp_path.iterdir()) == []
