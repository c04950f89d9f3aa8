"""The networks that see Tiny-ImageNet at the papers' scale: DC-Bench's ResNets for 64 pixels."""

import json

import pytest
import torch

from condense.config import UserError
from condense.models import build, count_parameters
from condense.plan import Maker, data_cell
from condense.plan.tables import Plan
from condense.specs import catalogue

# At 200 classes (DC-Bench: ResNet18ImageNet, ResNet152Imagenet)
PARAMETERS = {"resnet18": 11_279_112, "resnet152": 58_553_608}
CHANNELS = {"resnet18": [64, 64, 128, 256, 512], "resnet152": [64, 256, 512, 1024, 2048]}
SIDES = [16, 16, 8, 4, 2]  # behind the stem, which halves twice, and each stage


@pytest.fixture(scope="module")
def paper():
    return Plan("paper")


@pytest.mark.parametrize("arch", PARAMETERS)
def test_parameters_and_maps_are_those_of_the_networks_for_64_pixels(arch, paper):
    options = json.loads(paper.maker.options(arch, "tinyimagenet"))
    with torch.device("meta"):
        network = build(arch, channels=3, size=64, classes=200, **options)
        assert count_parameters(network) == PARAMETERS[arch]
        x, shapes = torch.empty(2, 3, 64, 64), []
        for stage in network.stages:
            x = stage(x)
            shapes.append((x.shape[1], *x.shape[2:]))
    assert shapes == [(channels, side, side) for channels, side in zip(CHANNELS[arch], SIDES, strict=True)]


@pytest.mark.parametrize("table", ["cpdm/table14", "ddm/table2"])
def test_the_tables_judge_tiny_imagenet_by_them_and_other_data_by_the_small_stem(table, paper):
    stems = {
        (cell.synthetic.data.name, cell.eval_arch): json.loads(cell.options).get("stem", "small")
        for cell in paper.metrics_of(table)
        if cell.eval_arch in PARAMETERS
    }
    assert ("tinyimagenet", "resnet18") in stems
    assert {data for (data, _), stem in stems.items() if stem == "imagenet"} == {"tinyimagenet"}
    assert all(stem == "imagenet" for (data, _), stem in stems.items() if data == "tinyimagenet")
    condensing = [
        cell.synthetic
        for cell in paper.metrics_of("ddm/table2")
        if cell.synthetic.arch == "resnet18" and cell.synthetic.data.name == "tinyimagenet"
    ]
    assert condensing and all(json.loads(cell.options) == {"stem": "imagenet"} for cell in condensing)


def scale_with(architectures):
    return type(catalogue.scale("quick"))(
        name="mine", title="", n_sets=1, n_networks=1, datasets={}, architectures=architectures
    )


def test_options_of_a_data_set_lie_over_those_of_the_architecture():
    maker = Maker(scale_with({"resnet18": {"width": 8}, "resnet18/digits": {"stem": "imagenet"}}))
    assert json.loads(maker.options("resnet18", "digits")) == {"width": 8, "stem": "imagenet"}
    assert json.loads(maker.options("resnet18", "cifar10")) == {"width": 8}
    assert maker.options("convnet", "digits") == "{}"
    cell = maker.synthetic(data_cell("digits"), "dm", "resnet18", 1, 0)
    assert cell.options == maker.options("resnet18", "digits")


def test_options_of_no_data_set_are_refused(tmp_path, monkeypatch):
    (tmp_path / "scales").mkdir()
    text = "name: mine\ntitle: t\nn_sets: 1\nn_networks: 1\ndatasets: {}\n"
    (tmp_path / "scales" / "mine.yaml").write_text(text + "architectures: {resnet18/digit: {width: 8}}\n")
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))
    with pytest.raises(UserError, match=r"(?s)architectures.*digits"):
        catalogue.scale.__wrapped__("mine")
