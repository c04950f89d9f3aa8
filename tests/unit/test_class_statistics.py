"""What layers are given for the real images of each class: gathered in one pass, as a file, as a parent."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bad_input_helpers import refused
from bad_input_helpers import run as command
from interruption_helpers import Stopping, until_done
from matching_helpers import CPU
from statistics_helpers import (
    ARCHS,
    PROTOCOL,
    gathered,
    made_parents,
    plain_moments,
    plainly_seen,
    teach,
)
from torch import nn

from condense import jobs, models
from condense.command.requests import Request, plan_request
from condense.config import UserError
from condense.discrepancy.statistics import moments, moments_of_each
from condense.files.artifacts import read_header, read_tensors, write_tensors
from condense.models.observing import LayerInputs
from condense.networks import making
from condense.networks.layer_statistics import LAYERS, load_statistics
from condense.networks.pretrain import load_teacher
from condense.plan.parent import with_their_own
from condense.specs import catalogue
from condense.training.batches import batches
from condense.training.sets import pixel_set

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def parents(train, tmp_path_factory):
    """Two observers of the digits and what their layers are given."""
    return made_parents(train, tmp_path_factory.mktemp("observers"))


@pytest.mark.parametrize("size", [1, 2, 4, 6, 8, 9])
def test_moments_are_those_of_loops_over_patches(size):
    maps = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(size))
    for ours, theirs in ((moments, False), (moments_of_each, True)):
        for found, wanted in zip(ours(maps, True), plain_moments(maps, theirs), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        assert len(ours(maps, False)) == 2


@pytest.mark.parametrize("arch", ARCHS)
def test_layers_are_seen_where_kernels_take_their_place(arch, train):
    torch.manual_seed(0)
    network = models.build(arch, channels=1, size=8, classes=10, **ARCHS[arch]).eval()
    images = torch.randn(4, 1, 8, 8)
    for with_gradient in (True, False):  # other kernels
        layers = LayerInputs(network, LAYERS)
        with torch.set_grad_enabled(with_gradient), layers:
            network(images.requires_grad_(with_gradient))
        wanted = plainly_seen(network, images)[1]
        for found, other in zip(layers.taken(), wanted, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_one_pass_gathers_the_moments_of_all_images_and_of_each_class(arch, train, parents):
    observer = parents[f"observer_{arch}"]
    network, images = load_teacher(observer, train, CPU)[0], pixel_set(train, CPU)
    of_all, of_classes, counts = {}, {}, torch.zeros(10)
    for batch in batches(images, PROTOCOL, "crop", 0, ("statistics",), 0):
        labels = images.labels[batch.indices]
        counts += torch.bincount(labels, minlength=10)
        with torch.no_grad():
            layers, seen, _ = plainly_seen(network, batch.seen(images)[0])
        for at, maps in enumerate(seen):
            for kind, (batch_moment, each) in enumerate(
                zip(plain_moments(maps), plain_moments(maps, True), strict=True)
            ):
                share = batch_moment.double() * len(labels) / len(images)
                of_all[at, kind] = of_all.get((at, kind), 0) + share
                rows = torch.stack([each[labels == label].double().sum(0) for label in range(10)])
                of_classes[at, kind] = of_classes.get((at, kind), 0) + rows
    known = load_statistics(parents[f"statistics_{arch}"], observer, train, CPU)
    assert counts.tolist() == list(train.counts) and len(known) == len(layers)
    for at, (layer, found) in enumerate(zip(layers, known, strict=True)):
        assert len(found.of_all) == (4 if isinstance(layer, nn.Conv2d) else 2)
        for kind, value in enumerate(found.of_all):
            torch.testing.assert_close(value.double(), of_all[at, kind], rtol=1e-3, atol=1e-4)
        for kind, value in enumerate(found.of_classes):
            wanted = of_classes[at, kind] / counts[:, None]
            torch.testing.assert_close(value.double(), wanted, rtol=1e-3, atol=1e-4)


def test_a_pass_that_stops_anywhere_goes_on_to_the_same_bytes(train, parents, tmp_path, monkeypatch):
    observer, path = parents["observer_convnet"], tmp_path / "stopped.safetensors"
    monkeypatch.setattr(
        making.Checkpoint,
        "beside",
        classmethod(lambda cls, out, key, by="": Stopping(Path(f"{out}.resume"), key, by)),
    )
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    calls, _ = until_done(lambda: gathered(path, train, observer, "convnet"))
    assert calls == -(-len(train) // PROTOCOL.batch) and not Path(f"{path}.resume").exists()
    assert path.read_bytes() == parents["statistics_convnet"].read_bytes()


def test_statistics_of_others_are_refused(train, parents, tmp_path):
    observer, path = parents["observer_convnet"], parents["statistics_convnet"]
    with pytest.raises(UserError, match="is of another network than"):
        load_statistics(path, teach(tmp_path, train, "convnet", seed=1), train, CPU)
    turned = replace(train, class_names=tuple(reversed(train.class_names)))
    with pytest.raises(UserError, match="other images, or other classes"):
        load_statistics(path, observer, turned, CPU)
    with pytest.raises(UserError, match="holds a convnet with options"):
        gathered(tmp_path / "out", train, observer, "resnet18_bn")
    tensors, header = read_tensors(path, "statistics")
    for name, values, told in (
        ("0.all.variance", -tensors["0.all.variance"] - 1, "is negative somewhere"),
        ("0.classes.mean", tensors["0.classes.mean"][:9], "not that of all and of 10 classes"),
        ("0.all.mean", tensors["0.all.mean"].astype("float64"), "is not in float32"),
    ):
        write_tensors(tmp_path / "bad", tensors | {name: values}, header)
        with pytest.raises(UserError, match=told):
            load_statistics(tmp_path / "bad", observer, train, CPU)
    del tensors["0.all.mean"]
    write_tensors(tmp_path / "bad", tensors, header)
    with pytest.raises(UserError, match="does not have the moments of its layers"):
        load_statistics(tmp_path / "bad", observer, train, CPU)


@pytest.fixture
def small_scale(tmp_path, monkeypatch):
    """A scale of one epoch and a recipe of one small observer, in a folder of the user's own."""
    own = tmp_path / "own"
    for kind in ("methods", "scales"):
        (own / kind).mkdir(parents=True)
    text = catalogue.file_of("methods", "edc").read_text(encoding="utf-8").split("overrides:")[0]
    lines = [
        "  archs: [convnet]" if line.startswith("  archs:") else line
        for line in text.replace("name: edc\n", "name: small\n").splitlines()
    ]
    (own / "methods" / "small.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (own / "scales" / "brief.yaml").write_text(
        "{name: brief, title: Brief, n_sets: 1, n_networks: 1, datasets: {digits: [digits]}, "
        "only_tables: true, recipes: {small: {steps: 2}}, "
        "protocols: {edc_observer: {epochs: 1}, dc: {epochs: 1}}, "
        "architectures: {convnet: {depth: 1, width: 4}}}",
        encoding="utf-8",
    )
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(own))


def asked_run(out):
    shape = ("--scale", "brief", "--ipc", 2, "--arch", "convnet", "--device", "cpu", "--out", out)
    return ("run", "digits", "--method", "small", *shape)


def test_the_network_of_a_set_is_found_in_whatever_order_the_files_are_given(small_scale, train, tmp_path):
    """Statistics are no network, though they say which one they are of."""
    assert command(*asked_run(tmp_path / "out"))[0] == 0
    files = {path.parent.name.split("-")[0]: path for path in (tmp_path / "out").glob("*/*.safetensors")}
    words = ("synthesize", "--data", tmp_path / "out" / "data" / "train.safetensors", "--recipe", "small")
    words += ("--ipc", 1, "--arch", "mlp", "--device", "cpu", "--out", tmp_path / "set.safetensors")
    words += ("--with", f"statistics_convnet={files['statistics']}")
    status, told = command(*words, "--with", f"observer_convnet={files['teacher']}")
    assert status == 0, told
    assert read_header(tmp_path / "set.safetensors")["arch"] == "convnet"


def test_a_parent_of_a_parent_is_made_before_it(small_scale, tmp_path):
    request = Request(Path("digits"), tmp_path, method="small", ipc=2, scale="brief", arch="convnet")
    observer, gathered_of = plan_request(request).parents
    assert gathered_of.parents == {"observer": observer} and gathered_of.inputs[1:] == [observer.path]
    assert with_their_own([gathered_of]) == [observer, gathered_of]
    assert command(*asked_run(tmp_path / "out"))[0] == 0
    made = {path.name: path for path in (tmp_path / "out").glob("*/*.safetensors")}
    assert jobs.is_whole(made["statistics.safetensors"], "statistics", gathered_of.key)
    known = read_header(made["statistics.safetensors"])
    assert known["observer_sha256"] == read_header(made["teacher.safetensors"])["content_sha256"]
    before = {path: path.stat().st_mtime_ns for path in made.values()}
    assert command(*asked_run(tmp_path / "out"))[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in made.values()}
    # The verb of the rule, by hand
    words = ("parent", gathered_of.kind, "--settings", gathered_of.settings, "--arch", "convnet")
    words += ("--options", gathered_of.options, "--key", gathered_of.key, "--device", "cpu")
    words += ("--data", tmp_path / "out" / "data" / "train.safetensors", "--out", tmp_path / "again")
    assert "give --with observer=FILE" in refused(*words)
    teacher = f"observer={made['teacher.safetensors']}"
    assert "unknown name 'teacher'" in refused(*words, "--with", f"teacher={made['teacher.safetensors']}")
    assert command(*words, "--with", teacher)[0] == 0
    again, once = (read_tensors(path)[0] for path in (tmp_path / "again", made["statistics.safetensors"]))
    assert all((again[name] == once[name]).all() for name in once)
    of_teacher = ("parent", "teacher", "--settings", observer.settings, *words[4:], "--with", teacher)
    assert "is made from the images alone" in refused(*of_teacher)
