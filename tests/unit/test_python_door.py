"""`condense.condense`: images that a program hands over, and networks of its own."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import condense
from condense import models
from condense.command import minutes
from condense.config import UserError
from condense.data.dataset import load
from condense.data.handed import Handed
from condense.files.artifacts import read_json
from condense.models.own import own_network

CLASSES = 3
SMALL = {"method": "dm", "ipc": 2, "steps": 3, "threads": 1, "scale": "quick", "settings": {"batch_real": 8}}


def pictures(channels=3, size=8, each=12):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (CLASSES * each, channels, size, size), dtype=np.uint8)
    return images, np.tile(np.arange(CLASSES), each)


class Net(nn.Module):
    """Draws its parameters otherwise than torch's layers do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
        self.last = nn.Linear(36, CLASSES)
        nn.init.normal_(self.last.weight, std=3.0)

    def forward(self, x):
        return self.last(self.body(x))


class Inheriting(Net):
    """Whose code is also that of `Net`."""


class WithEmbed(Net):
    def embed(self, x):
        return self.body(x)


class AnotherEmbed(Net):
    def embed(self, x):
        return self.body(x) * 2


class Softmaxed(Net):
    def forward(self, x):
        return super().forward(x).softmax(-1)


def own(factory):
    return own_network(factory, channels=3, size=8, classes=CLASSES)


def test_every_layout_and_coding_gives_the_same_images():
    images, labels = pictures()
    wanted = Handed(images, labels)
    order = np.argsort(labels, kind="stable")
    assert np.array_equal(wanted.pixels, images[order]) and wanted.counts == [12] * CLASSES
    for same in (
        images.transpose(0, 2, 3, 1),
        torch.from_numpy(images),
        images.astype(np.int64),
        images.astype(np.float32),
        images / np.float32(255),
        torch.from_numpy(images) / 255,
    ):
        assert Handed(same, labels).spec.source == wanted.spec.source
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(images) / 255, torch.from_numpy(labels))
    assert Handed(pairs).spec.source == wanted.spec.source
    grey, _ = pictures(channels=1)
    assert Handed(grey[:, 0], labels).spec.source == Handed(grey, labels).spec.source != wanted.spec.source
    texts = np.array(["b", "c", "a"])[labels]
    assert Handed(images, texts).names == ["a", "b", "c"]
    named = Handed(images, texts, ["b", "c", "a"])
    assert np.array_equal(named.pixels, wanted.pixels) and named.names == ["b", "c", "a"]
    assert Handed(images, labels, ["x", "y", "z"]).names == ["x", "y", "z"]
    assert Handed(images, labels + 5).names == ["5", "6", "7"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:, :2], y), "1 or 3 channels"),
        (lambda x, y: (x[..., :4], y), "square"),
        (lambda x, y: (x / 127.5 - 1, y), "looks normalised"),
        (lambda x, y: (x * 1.5, y), "looks normalised"),
        (lambda x, y: (x.astype(int) * 2, y), "must be bytes 0..255"),
        (lambda x, y: (x // 128, y), "may be bytes"),
        (lambda x, y: (x / 255 / 255, y), "nearly black"),
        (lambda x, y: (np.where(x > 250, np.nan, x / 255), y), "no numbers"),
        (lambda x, y: (x, y[:-1]), "35 labels of 36 images"),
        (lambda x, y: (x, np.eye(CLASSES)[y]), "argmax"),
        (lambda x, y: (x, y * 0.5), "fractions"),
        (lambda x, y: (x, y - 1), "label -1"),
        (lambda x, y: (x, y[:3]), "3 labels of 36 images"),
        (
            lambda x, y: (list(zip(x, y, strict=True)), y),
            "images: are no single array.*pairs .image, label. alone",
        ),
        (lambda x, y: ([x[0], x[1][:, :4]], y[:2]), "images: are no single array"),
        (lambda x, y: (x, y * 0), "one class only"),
        (lambda x, y: (x, None), "labels: are missing"),
        (lambda x, y: (list(zip(x, y, y, strict=True)), None), "no pair"),
        (lambda x, y: ([(x[0], 0), (x[1, :, :4, :4], 1)], None), "several shapes"),
    ],
)
def test_what_leaves_open_what_it_is_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        Handed(*change(*pictures()))


def test_class_names_without_images_are_refused():
    with pytest.raises(UserError, match="no images of d"):
        Handed(*pictures(), ["a", "b", "c", "d"])


def test_a_set_is_made_and_nothing_else_of_the_program_changes(tmp_path, capsys):
    images, labels = pictures()
    torch.manual_seed(5)
    state, threads, known = torch.get_rng_state(), torch.get_num_threads(), dict(models.ARCHITECTURES)
    made = condense.condense(images, labels, out=tmp_path / "made", network=Net, **SMALL)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert models.ARCHITECTURES == known
    assert made.images.shape == (CLASSES * 2, 3, 8, 8) and made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    told = capsys.readouterr().err
    assert "the input of its last layer 'last', 36 numbers an image" in told and "synthesize" in told
    prepared = load(tmp_path / "made" / "data" / "train.safetensors")
    again = (images.reshape(len(images), 3, -1) / 255).transpose(1, 0, 2).reshape(3, -1)
    assert np.allclose(prepared.mean, again.mean(1)) and np.allclose(prepared.std, again.std(1))
    # Whoever calls again is given what is there, and without a folder the same is made anew
    for out in (tmp_path / "made", None):
        assert condense.condense(images, labels, out=out, network=Net, **SMALL) == made
    other = condense.condense(images, labels, network="convnetd2", **SMALL)
    assert other.header["arch"] == "convnetd2" and not torch.equal(other.images, made.images)
    with pytest.raises(UserError, match="holds another run"):
        condense.condense(images, labels, out=tmp_path / "made", **SMALL)


def test_settings_are_those_of_a_recipe():
    images, labels = pictures()
    made = condense.condense(images, labels, **SMALL | {"method": "random", "steps": None, "settings": {}})
    pixels = {tuple(image.reshape(-1)) for image in images}
    assert all(tuple(np.rint(image.numpy().reshape(-1) * 255)) in pixels for image in made.pixels)
    with pytest.raises(UserError, match="batch_real"):
        condense.condense(images, labels, **SMALL | {"settings": {"batch_reel": 8}})
    with pytest.raises(UserError, match="steps: given twice"):
        condense.condense(images, labels, **SMALL | {"settings": {"steps": 4}})
    with pytest.raises(UserError, match="^ipc 50: the smallest class has 12"):
        condense.condense(images, labels, **SMALL | {"ipc": 50})
    with pytest.raises(UserError, match="whole"):
        condense.condense(images, labels, **SMALL | {"method": "whole"})


@pytest.mark.parametrize("factory", [Net, WithEmbed])
def test_an_own_network_is_the_same_in_two_parts(factory):
    builder = own(factory).builder
    torch.manual_seed(3)
    whole = factory()
    torch.manual_seed(3)
    parted = builder.make(builder.defaults, 3, 8, CLASSES)
    x = torch.randn(5, 3, 8, 8)
    assert torch.equal(parted(x), whole(x)) and torch.equal(parted.embed(x), whole.body(x))
    models.reinitialise(parted, 3)
    assert torch.equal(parted(x), whole(x))
    models.reinitialise(parted, 4)
    assert not torch.equal(parted(x), whole(x)) and parted.classifier.weight.std() > 1
    assert sum(p.numel() for p in parted.parameters()) == sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (AnotherEmbed, "gives something else than"),
        (Softmaxed, "has to be the last thing"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 7)), r"gives \(3, 7\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, CLASSES)), "cannot take images of 3 x 8 x 8"),
        (lambda: 3, "makes int"),
        (lambda needed: needed, "without arguments"),
        (lambda: nn.Linear(8, CLASSES), r"gives \(3, 3, 8, 3\)"),
    ],
)
def test_networks_that_have_no_such_parts_are_refused(factory, said):
    with pytest.raises(UserError, match=said):
        own(factory)


def test_a_made_network_is_refused_where_a_way_to_make_them_is_needed():
    with pytest.raises(UserError, match="function that makes a network"):
        condense.condense(*pictures(), network=Net(), **SMALL)


def test_the_documented_example_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "example"}
    exec(example, space)
    made = condense.load_synthetic("condensed/synthetic.safetensors")
    assert made == space["data"] and len(made) == 50 and made.images.shape[1:] == (1, 8, 8)
    assert made.header["arch"].startswith("own_net_") and made.header["steps"] == 20


def test_best_takes_the_minutes_there_are_with_a_network_of_ones_own(tmp_path, capsys, monkeypatch):
    """Its bank is of that network, and an interrupted call goes on with what was chosen."""

    def cells(parents, sets, metrics, *, threads, gpu):
        """A quarter of a second a step, and an epoch of what is trained beforehand."""
        numbers = [cell.recipe.number_of_steps for cell in sets] + [cell.epochs for cell in parents]
        return SimpleNamespace(seconds=0.25 * sum(numbers))

    monkeypatch.setattr(minutes, "estimate_cells", cells)
    images, labels = pictures(each=12)
    asked = {"ipc": 2, "threads": 1, "network": Net, "out": tmp_path / "made", "minutes": 0.025}
    made = condense.condense(images, labels, **asked, settings={"batch_real": 8})
    assert made.header["recipe"]["name"] == "best_plain", "its images are small"
    told = capsys.readouterr().err
    request = read_json(tmp_path / "made" / "request.json")
    chosen = {"minutes": 0.025, "steps": 4, "pretrain_networks": 1, "pretrain_epochs": 2}
    assert request.items() >= chosen.items() and made.header["steps"] == 4
    assert "chosen for 0.025 minutes: 4 steps, 1 networks, 2 epochs of what is trained beforehand" in told
    assert condense.condense(images, labels, **asked, settings={"batch_real": 8}) == made
    with pytest.raises(UserError, match="^steps: minutes chooses these"):
        condense.condense(images, labels, **asked | {"out": None}, steps=3)
    with pytest.raises(UserError, match="^steps: minutes chooses these"):
        condense.condense(images, labels, **asked | {"out": None}, settings={"steps": 3})
    with pytest.raises(UserError, match="best on images: ipc 2 asked for, which starts from 8 real images"):
        condense.condense(images[:21], labels[:21], method="best", ipc=2, steps=1)


def test_best_lays_four_images_into_one():
    images, labels = pictures(size=24)
    settings = {"networks": {"count": 1, "epochs": 1}, "batch_real": 4}
    made = condense.condense(
        images, labels, ipc=1, steps=2, threads=1, settings=settings, network="convnetd1"
    )
    assert made.header["recipe"]["name"] == "best" and len(made) == 4 * CLASSES
