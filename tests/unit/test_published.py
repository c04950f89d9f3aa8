"""Weights that torchvision gives out, as teachers: planted files in their place."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

from condense import models
from condense.config import UserError
from condense.data.dataset import Images
from condense.engines.selection import Candidates
from condense.networks import published
from condense.networks.making import Making
from condense.networks.pretrain import load_teacher
from condense.plan import Maker, data_cell
from condense.specs import catalogue
from condense.specs.protocol import TRIED
from condense.training.loop import train

CATEGORIES = ["green mamba", "vacuum cleaner"]
PROTOCOL = catalogue.protocol("torchvision")


@pytest.fixture
def images():
    pixels = torch.randint(
        256, (40, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Images(
        dataset="planted",
        split="train",
        images=pixels,
        labels=torch.arange(2).repeat_interleave(20),
        classes=(0, 1),
        class_names=("n01749939", "n04517823"),
        counts=(20, 20),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        channels=3,
        size=64,
        data_sha256="of these",
    )


@pytest.fixture
def given(tmp_path, monkeypatch):
    """torchvision's own network, whose weights lie where the project looks for them, and which counts as
    right."""
    monkeypatch.setenv("CONDENSE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=2)
    (tmp_path / "data" / "torchvision").mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    name = f"resnet18-{hashlib.sha256((tmp_path / 'weights.pth').read_bytes()).hexdigest()[:8]}.pth"
    shutil.copy(tmp_path / "weights.pth", tmp_path / "data" / "torchvision" / name)
    told = published.Published(f"https://example.org/models/{name}", CATEGORIES, 90.0, 64)
    monkeypatch.setattr(published, "weights_of", lambda *_: told)
    monkeypatch.setattr(published, "accuracy", lambda *_: 80.0)
    return network.eval()


def taken(images, folder, **changes):
    making = Making(folder / "teacher.safetensors", images, "tv_resnet18", {}, 0, "key", torch.device("cpu"))
    published.take_published(replace(making, **changes), PROTOCOL)
    return making.path


def file_in(tmp_path):
    return next((tmp_path / "data" / "torchvision").iterdir())


@torch.no_grad()
def test_the_teacher_is_torchvisions_network(images, given, tmp_path, capsys):
    network, events = load_teacher(taken(images, tmp_path), images, torch.device("cpu"))
    x = images.normalise(images.images[:3])
    assert torch.allclose(network(x), given(x), atol=1e-4) and (events == -1).all()
    assert "80.0 %" in capsys.readouterr().err


def test_torchs_own_folder_is_looked_into_too(images, given, tmp_path):
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    file_in(tmp_path).rename(tmp_path / "hub" / "checkpoints" / file_in(tmp_path).name)
    taken(images, tmp_path)


def test_a_missing_file_is_named_with_its_address_and_place(images, given, tmp_path):
    file_in(tmp_path).unlink()
    with pytest.raises(
        UserError, match=r"put https://example.org/models/resnet18-\w{8}.pth into .*data/torchvision"
    ):
        taken(images, tmp_path)


def test_another_file_under_its_name_is_refused(images, given, tmp_path):
    file_in(tmp_path).write_bytes(b"another")
    with pytest.raises(UserError, match="SHA-256 begins with .* get it again from"):
        taken(images, tmp_path)


def test_weights_of_another_network_are_refused(images, given, tmp_path):
    with pytest.raises(UserError, match="does not hold weights of tv_resnet50"):
        taken(images, tmp_path, arch="tv_resnet50")


def test_classes_in_another_order_are_refused_by_their_names(images, given, tmp_path):
    swapped = replace(images, class_names=images.class_names[::-1])
    with pytest.raises(UserError, match=r"class 0 is n04517823 \(vacuum cleaner\).* is green mamba"):
        taken(swapped, tmp_path)


def test_other_classes_and_other_numbers_of_them_are_refused(images, given, tmp_path):
    with pytest.raises(UserError, match="class 1 is house"):
        taken(replace(images, class_names=("green mamba", "house")), tmp_path)
    more = replace(images, counts=(10, 10, 20), classes=(0, 1, 2), class_names=("a", "b", "c"))
    with pytest.raises(UserError, match="weights are of 2 classes, and planted has 3"):
        taken(more, tmp_path)


def test_a_classifier_that_is_right_half_as_often_as_it_should_is_refused(
    images, given, tmp_path, monkeypatch
):
    monkeypatch.setattr(published, "accuracy", lambda *_: 44.0)
    with pytest.raises(UserError, match=r"takes 44.0 % of 40 images .* where 90.0 % are known of it"):
        taken(images, tmp_path)
    assert not (tmp_path / "teacher.safetensors").exists()


def test_images_of_another_size_are_refused(images, given, tmp_path, monkeypatch):
    told = replace(published.weights_of("tv_resnet18"), size=224)
    monkeypatch.setattr(published, "weights_of", lambda *_: told)
    with pytest.raises(UserError, match="its images have 64 pixels a side, .* are of 224"):
        taken(images, tmp_path)


def test_densenets_are_given_out_under_names_of_before():
    network = torchvision.models.densenet121(num_classes=2)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))(\d\.)", r"\1.\2", name): value
        for name, value in network.state_dict().items()
    }
    taking = models.build("tv_densenet121", channels=3, size=64, classes=2)
    assert old.keys() != network.state_dict().keys()
    taking.take(old)
    with torch.no_grad():
        x = torch.rand(2, 3, 64, 64)
        assert torch.allclose(taking.eval()(x), network.eval()(x), atol=1e-4)


def test_what_it_forgot_is_not_known(images):
    candidates = Candidates(images, 0, 1, 0, (None, torch.full((40,), -1)), torch.device("cpu"))
    with pytest.raises(UserError, match="nobody has counted what the teacher forgot"):
        assert candidates.forgotten


def test_it_is_tried_on_images_of_all_classes(images):
    assert published._some(images).counts == (20, 20)
    many = replace(
        images, images=images.images.repeat(100, 1, 1, 1), labels=images.labels.repeat_interleave(100)
    )
    some = published._some(replace(many, counts=(2000, 2000)))
    assert len(some) == TRIED and some.counts == (1000, 1000)


def test_every_observer_of_imagenet_is_one_that_torchvision_has_weights_of():
    maker, data = Maker(catalogue.scale("paper")), data_cell("imagenet1k_224")
    archs = set()
    for name in ("sre2l", "cda", "g_vbsm", "edc", *(f"edc_config_{letter}" for letter in "abcdefg")):
        assert maker.recipe(name, data_cell("imagenet1k"), 10, {}).observers.protocol != "torchvision"
        observers = maker.recipe(name, data, 10, {}).observers
        assert observers.protocol == "torchvision"
        archs |= set(observers.archs)
    for name in ("edc_imagenet1k", "edc_config_imagenet1k", "sre2l_imagenet1k", "rded_imagenet1k"):
        needs = catalogue.protocol(name).observers.values()
        assert {need.protocol for need in needs} == {"torchvision"}
        archs |= {need.arch for need in needs}
    for arch in archs:
        assert len(published.weights_of(arch).categories) == 1000
    assert published.weights_of("tv_resnet18").file == "resnet18-f37072fd.pth"


@pytest.mark.parametrize("arch", ["resnet18_bn", "convnet"])
def test_networks_that_torchvision_has_no_weights_of_are_refused(arch):
    with pytest.raises(UserError, match="torchvision has no weights of it"):
        published.weights_of(arch)


def test_a_resnet_with_another_stem_has_none():
    assert published.weights_of("tv_resnet18", {"stem": "imagenet"}).file == "resnet18-f37072fd.pth"
    with pytest.raises(UserError, match="torchvision has no weights of it"):
        published.weights_of("tv_resnet18", {"stem": "small"})


def test_the_pass_that_gathers_statistics_is_that_of_the_code_for_imagenet():
    """Other batches and crops than those of the other observers, whose networks are trained here."""
    (crop,) = PROTOCOL.views
    assert (PROTOCOL.batch, PROTOCOL.siamese, crop.name, crop.area) == (256, "flip", "resized_crop", 0.08)
    other = catalogue.protocol("edc_observer")
    assert (other.batch, other.siamese, other.views) == (64, "crop_flip", ())


def test_nothing_is_trained_by_it():
    with pytest.raises(UserError, match="'torchvision': takes weights of torchvision that are there"):
        train(None, [1], PROTOCOL, strategy="none", seed=0, name=(), checkpoint=None)


def test_it_costs_no_training():
    data = data_cell("imagenet1k_224")
    parent = Maker(catalogue.scale("paper")).parent(
        "teacher", data, "tv_resnet18", protocol=PROTOCOL, strategy=data.spec.strategy
    )
    assert parent.epochs == 0 and parent.work().flops_training == 0


def test_edcs_tables_take_the_images_at_224_pixels(tmp_path, monkeypatch):
    from condense.plan.tables import Plan

    scale = Path(tmp_path / "scales" / "with_imagenet.yaml")
    scale.parent.mkdir()
    text = catalogue.file_of("scales", "paper").read_text().replace("name: paper", "name: with_imagenet")
    scale.write_text(text.replace("datasets:\n", "datasets:\n  imagenet1k: [imagenet1k]\n", 1))
    monkeypatch.setenv("CONDENSE_PARAMS", str(tmp_path))
    plan = Plan("with_imagenet")
    for name, dataset in {
        "edc/table1": "imagenet1k_224",
        "edc/table3": "imagenet1k_224",
        "ddm/table1": "imagenet1k",
    }.items():
        found = {cell.synthetic.data.name for cell in plan.metrics_of(name)} & {
            "imagenet1k",
            "imagenet1k_224",
        }
        assert found == {dataset}, name
