"""Figures of images and of what networks make of them, and grids: whole files, the same bytes again, the very
pixels."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from report_helpers import rows_of

from condense import jobs
from condense.config import UserError
from condense.files import artifacts
from condense.plan.tables import Plan
from condense.report import figures, grids, lettering, pictures, samples


@pytest.fixture(scope="module")
def with_sets(tmp_path_factory):
    """Prepared digits, a few synthetic images for the figures of images, and a hardly trained teacher."""
    from condense.data import dataset, prepare

    folder = tmp_path_factory.mktemp("sets")
    before = Path.cwd()
    os.chdir(folder)
    scale = Plan("quick")
    for cell in scale.data.values():
        if not cell.is_part:  # no figure shows those
            prepare.prepare(cell.spec, Path(cell.folder))
    for cell in (
        cell for figure in scale.figures.values() for curve in figure.curves for cell in curve.shown
    ):
        real = dataset.load(cell.data.train)
        images = np.concatenate(
            [real.images[real.class_slice(label)][:3].numpy() / 255 - 0.2 for label in real.classes]
        )
        header = {
            "kind": "synthetic",
            "dataset": real.dataset,
            "method": cell.recipe.name,
            "arch": cell.arch,
            "data_sha256": real.data_sha256,
            "classes": list(real.classes),
            "class_names": list(real.class_names),
            "mean": real.mean,
            "std": real.std,
        }
        tensors = {"images": images.astype(np.float32), "labels": np.repeat(real.classes, 3)}
        artifacts.write_tensors(Path(cell.path), tensors, header)
    for cell in (
        parent
        for figure in scale.figures.values()
        for curve in figure.curves
        for parent in curve.parents.values()
    ):
        # As pretraining stores a teacher, after as little training as there is.
        protocol = replace(cell.protocol, epochs=1, batch=512)
        options, machine = json.loads(cell.options), jobs.Machine("cpu", 1)
        job = jobs.ParentJob(Path(cell.path), Path(cell.data.train), cell.arch, options, 0, cell.key, machine)
        jobs.pretrain_teacher(job, protocol=protocol, strategy="none")
    os.chdir(before)
    return folder


def test_embedding_map_shows_every_image_once(with_sets, tmp_path, monkeypatch):
    monkeypatch.chdir(with_sets)
    monkeypatch.setattr(pictures, "_tsne", lambda features: features[:, :2])
    scale = Plan("quick")
    figures.make_figure(scale, "cpdm/figure5", tmp_path / "f.png")
    rows = rows_of(tmp_path / "f.csv")
    plan = scale.figures["cpdm/figure5"]
    for label in plan.spec.classes:
        mine = [row for row in rows if row["class"] == str(label)]
        real = [row for row in mine if row["kind"] == "real"]
        assert 139 <= len(real) <= samples.MOST_REAL
        for curve in plan.curves:
            assert sum(row["kind"] == "synthetic" and row["method"] == curve.method for row in mine) == 3
    # Features of the same network: the synthetic images are real ones made darker, so they lie elsewhere but
    # are finite.
    assert np.isfinite([[float(row["x"]), float(row["y"])] for row in rows]).all()


@pytest.mark.parametrize(
    "name", ["ddm/figure1a", "ddm/figure4b", "ddm/figure5d", "ddm/figure7", "idm/figure4"]
)
def test_figures_of_images_are_whole_files_and_the_same_bytes_again(with_sets, tmp_path, monkeypatch, name):
    monkeypatch.chdir(with_sets)
    monkeypatch.setattr(pictures, "_tsne", lambda features: features[:, :2])
    for folder in ("a", "b"):
        figures.make_figure(Plan("quick"), name, tmp_path / folder / "f.png")
    with Image.open(tmp_path / "a" / "f.png") as image:
        image.verify()
        assert min(image.size) > 300
    for suffix in ("png", "svg", "csv", "json"):
        assert (tmp_path / "a" / f"f.{suffix}").read_bytes() == (tmp_path / "b" / f"f.{suffix}").read_bytes()


def network_of(curve):
    """The network trained on the real set whose features a figure shows, and the real images."""
    from condense.data import dataset
    from condense.networks.pretrain import load_teacher

    real = dataset.load(curve.synthetic.data.train)
    return load_teacher(Path(curve.parents["teacher"].path), real, torch.device("cpu"))[0], real


def test_style_maps_show_means_and_variances_of_the_first_stage(with_sets, tmp_path, monkeypatch):
    monkeypatch.chdir(with_sets)
    monkeypatch.setattr(pictures, "_tsne", lambda features: features[:, [3, features.shape[1] // 2 + 3]])
    scale = Plan("quick")
    curve = scale.figures["ddm/figure9"].curves[0]
    network, real = network_of(curve)
    figures.make_figure(scale, "ddm/figure9", tmp_path / "f.png")
    rows = rows_of(tmp_path / "f.csv")
    for label in (0, 1):
        with torch.no_grad():
            maps = network.stages[0](real.of_class(label))[:, 3].flatten(1).double().numpy()
        found = [
            (float(row["x"]), float(row["y"]))
            for row in rows
            if (row["class"], row["kind"]) == (str(label), "real")
        ]
        np.testing.assert_allclose(found, np.stack([maps.mean(1), maps.var(1)], 1), atol=6e-4)
    assert {row["method"] for row in rows} == {"", "dm", "ddm"}


def test_the_consistency_figure_counts_neighbours_of_the_class(with_sets, tmp_path, monkeypatch):
    from sklearn.neighbors import KNeighborsClassifier

    from condense.evaluate.synthetic import load_synthetic

    monkeypatch.chdir(with_sets)
    scale = Plan("quick")
    curve = scale.figures["idm/figure4"].curves[0]
    network, real = network_of(curve)
    made = load_synthetic(curve.synthetic.path)
    figures.make_figure(scale, "idm/figure4", tmp_path / "f.png")
    found = {
        row["neighbours"]: float(row["ratio"])
        for row in rows_of(tmp_path / "f.csv")
        if row["method"] == curve.method
    }
    with torch.no_grad():
        features, others = (
            network.embed(images).double().numpy() for images in (real.normalise(real.images), made.images)
        )
    for k in (1, 10, 100):
        shares = KNeighborsClassifier(k, algorithm="brute").fit(features, real.labels).predict_proba(others)
        assert found[str(k)] == pytest.approx(shares[np.arange(len(others)), made.labels].mean(), abs=6e-5)
    assert list(found) == ["1", "2", "5", "10", "20", "50", "100"]


def test_the_texture_figure_measures_real_and_synthetic_images_of_the_class(with_sets, tmp_path, monkeypatch):
    from condense.evaluate.texture import grey_levels, texture

    monkeypatch.chdir(with_sets)
    figures.make_figure(Plan("quick"), "ddm/figure5d", tmp_path / "f.png")
    rows = {(row["method"], row["measure"]): row for row in rows_of(tmp_path / "f.csv")}
    assert rows.keys() == {
        (method, measure) for method in ("", "dm", "ddm") for measure in ("dissimilarity", "entropy")
    }
    curve = Plan("quick").figures["ddm/figure5d"].curves[0]
    with_header = artifacts.read_tensors(Path(curve.synthetic.path), "synthetic")[0]
    values = texture(grey_levels(with_header["images"][with_header["labels"] == 0]))
    for measure, value in zip(("dissimilarity", "entropy"), values, strict=True):
        row = rows["dm", measure]
        assert (float(row["mean"]), row["images"]) == (pytest.approx(value.mean(), abs=0.02), "3")
        assert float(row["standard_error"]) == pytest.approx(np.std(value) / 3**0.5, abs=0.02)
    assert 139 <= int(rows["", "entropy"]["images"]) <= samples.MOST_REAL
    # Darker, and cut at black
    assert float(rows["", "dissimilarity"]["mean"]) > float(rows["dm", "dissimilarity"]["mean"])


def test_tsne_keeps_groups_apart_and_repeats():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (15, 8)), rng.normal(40, 1, (15, 8))])
    points = pictures._tsne(features)
    near = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(30)
    assert ((near.argmin(1) < 15) == (np.arange(30) < 15)).all()
    np.testing.assert_array_equal(points, pictures._tsne(features))


def test_image_figure_holds_the_very_pixels(with_sets, tmp_path, monkeypatch):
    monkeypatch.chdir(with_sets)
    curve = Plan("quick").figures["cpdm/figure7"].curves[0]
    mosaic, centres, titles = pictures._mosaic(curve)
    tensors, header = artifacts.read_tensors(Path(curve.synthetic.path), "synthetic")
    size = tensors["images"].shape[-1]
    pitch, start = size + 1, 5 * (size + 1) + size // 2
    second = np.clip(tensors["images"][1, 0], 0, 1)
    np.testing.assert_array_equal(
        mosaic[:size, start + pitch : start + pitch + size, 0], np.round(second * 255).astype(np.uint8)
    )
    assert titles == header["class_names"] and len(centres) == len(titles)
    figures.make_figure(Plan("quick"), "cpdm/figure7", tmp_path / "f.png")
    assert (tmp_path / "f.svg").stat().st_size > 1000


def test_grid_shows_each_class_in_its_row(tmp_path):
    shades = np.array([0.0, 0.25, 0.5, 2.0])  # the last is clipped to white
    synthetic = np.broadcast_to(shades[:, None, None, None], (4, 1, 8, 8)).astype(np.float32)
    labels = np.array([0, 0, 1, 1])
    real = np.ones((2, 1, 8, 8), np.float32)
    grids.draw_grid(tmp_path / "g.png", synthetic, labels, real, np.array([0, 1]), ["zero", "one"], most=1)
    with Image.open(tmp_path / "g.png") as image:
        pixels = np.asarray(image)[..., 0]
    # With `most=1` only the first synthetic image of each class is there: black and mid-grey, each 32 x 32
    # pixels.
    assert (pixels == 128).sum() >= 32 * 32
    assert (pixels == 64).sum() < 100
    rows = np.flatnonzero((pixels == 128).sum(1) >= 32)
    dark = np.flatnonzero((pixels == 0).sum(1) >= 32)
    assert len(rows) == len(dark) == 32 and dark.max() < rows.min()


def test_grid_limits_and_refusals(tmp_path):
    many = np.zeros((40, 3, 32, 32), np.float32)
    none = np.zeros((0, 3, 32, 32), np.float32)
    names = [str(label) for label in range(40)]
    grids.draw_grid(tmp_path / "g.png", many, np.arange(40), none, np.zeros(0, int), names)
    with Image.open(tmp_path / "g.png") as image:
        assert image.size[1] < (grids.MOST_CLASSES + 2) * 34
        height = image.size[1]
    few = slice(0, grids.MOST_CLASSES)
    grids.draw_grid(tmp_path / "g.png", many[few], np.arange(40)[few], none, np.zeros(0, int), names)
    with Image.open(tmp_path / "g.png") as image:
        assert image.size[1] < height  # without the line that says what is not shown
    assert grids._cut(
        20, 40, 10, 50
    ) == "shown: 20 of 40 classes, 10 of 50 synthetic images a class" and not grids._cut(2, 2, 5, 5)
    with pytest.raises(UserError, match="synthetic: images"):
        grids.draw_grid(tmp_path / "h.png", many, np.arange(39), none, np.zeros(0, int), names)
    assert not (tmp_path / "h.png").exists()


def test_grids_need_neither_torch_nor_matplotlib():
    code = (
        "import sys, condense.report.grids; sys.exit(any(name in sys.modules for name in ('torch', "
        "'matplotlib', 'sklearn', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_class_names_are_written_in_a_font_that_has_them_and_cut(tmp_path, monkeypatch):
    plain = ImageFont.load_default(15)
    monkeypatch.setattr(lettering, "_fonts", lambda: ("/nowhere.ttf",))
    lettering._font_for.cache_clear()
    assert lettering.titled("cat", 3, plain) == ("cat", plain)
    assert lettering.titled("猫 é", 3, plain)[0] == "3: U+732B  e"
    assert lettering.titled("🐱", 3, plain)[0] == "3: (cat face)"
    assert lettering.titled("a\nb\0", 3, plain)[0] == "a b" and lettering.titled("\udcff", 3, plain)[0] == "3"
    long, _ = lettering.titled("x" * 200, 3, plain)
    assert long.endswith("x...") and plain.getlength(long) <= lettering.WIDEST
    fitting = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    monkeypatch.setattr(lettering, "_fonts", lambda: ("/nowhere.ttf", fitting))
    lettering._font_for.cache_clear()
    text, font = lettering.titled("кошка", 3, plain)
    assert text == "кошка" and font.path == fitting
    lettering._font_for.cache_clear()
    images = np.zeros((3, 1, 8, 8), np.float32)
    grids.draw_grid(
        tmp_path / "g.png", images, np.arange(3), images, np.arange(3), ["猫", "кошка", "x" * 200]
    )
    assert Image.open(tmp_path / "g.png").width < 500
    assert (
        lettering.for_figures("кошка", 2) == "кошка"
        and lettering.for_figures("猫 $5", 2) == r"2: U+732B  \$5"
    )
