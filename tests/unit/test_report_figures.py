"""Figures, grids and the report page: whole files, the same bytes again, and nothing loaded from elsewhere."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condense import artifacts, jobs, manifests, specs
from condense.config import UserError
from condense.report import curves, figures, grids, html, measured, pictures, provenance, samples, settings, style
from condense.tableplan import Plan

RUN = {
    "seconds": 2.5, "device": "cpu <&>", "threads": 1, "peak_memory_bytes": 3 << 20, "code_version": "abc", "versions": {"torch": "9.9"},
    "date": "2026-01-02",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with made-up metrics of everything at scale quick."""
    folder = tmp_path_factory.mktemp("figures")
    before = Path.cwd()
    os.chdir(folder)
    for path, cell in Plan("quick").metrics.items():
        values = {"schema": 1, "kind": "metrics", "task": cell.task, "run": RUN, "accuracies": [60.0 + network for network in range(3)]}
        if cell.drift:
            values["accuracies"] = [60.0 + network - 10 * cell.drift.ratio for network in range(3)]
        if cell.task == "snapshots":
            values |= {"steps": [0, 40, 80], "accuracies": [[50.0, 52.0], [60.0, 62.0], [70.0, 72.0]]}
        artifacts.write_json(Path(path), values)
    os.chdir(before)
    return folder


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["cpdm/figure1", "cpdm/figure2", "ddm/figure1c", "ddm/figure1d"])
def test_curves_are_whole_files_and_the_same_bytes_again(here, name, tmp_path):
    scale = Plan("quick")
    for folder in ("a", "b"):
        figures.make_figure(scale, name, tmp_path / folder / "f.png")
    with Image.open(tmp_path / "a" / "f.png") as image:
        image.verify()
        assert min(image.size) > 300
    for suffix in ("png", "svg", "csv", "json"):
        assert (tmp_path / "a" / f"f.{suffix}").read_bytes() == (tmp_path / "b" / f"f.{suffix}").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "a" / "f.svg").read_bytes()
    assert artifacts.read_json(tmp_path / "a" / "f.json") == manifests.manifest(scale, name)


def test_curves_draw_what_was_measured(here, tmp_path):
    figures.make_figure(Plan("quick"), "cpdm/figure1", tmp_path / "f.png")
    rows = rows_of(tmp_path / "f.csv")
    assert {(row["mean"], row["std"], row["dataset"], row["source"]) for row in rows} == {("61.00", "0.82", "digits", "measured")}
    assert {row["method"] for row in rows} == {curve.method for curve in Plan("quick").figures["cpdm/figure1"].curves}
    figures.make_figure(Plan("quick"), "cpdm/figure2", tmp_path / "g.png")
    assert [(row["step"], row["mean"]) for row in rows_of(tmp_path / "g.csv")][:3] == [("0", "51.00"), ("40", "61.00"), ("80", "71.00")]


@pytest.mark.parametrize("name", ["ddm/figure3a", "ddm/figure5c", "idm/figure3"])
def test_settings_are_whole_files_and_the_same_bytes_again(here, name, tmp_path):
    scale = Plan("quick")
    for folder in ("a", "b"):
        figures.make_figure(scale, name, tmp_path / folder / "f.png")
    for suffix in ("png", "svg", "csv", "json"):
        assert (tmp_path / "a" / f"f.{suffix}").read_bytes() == (tmp_path / "b" / f"f.{suffix}").read_bytes()
    rows = rows_of(tmp_path / "a" / "f.csv")
    drawn = [(row["setting"], row["x"], row["mean"], row["dataset"], row["source"]) for row in rows]
    x = {curve.point.name: "" if curve.point.x is None else curve.point.name for curve in scale.figures[name].curves}
    assert drawn == [(setting, at, "61.00", "digits", "measured") for setting, at in x.items()]


def drawn_axis(name, curves, numbers, monkeypatch):
    """The only panel of a figure of settings, drawn with these numbers (mean, std) for these curves, and its CSV rows."""
    scale = Plan("paper")
    found = {curve.point.name: measured.Measured(mean, std, 1, 2) for curve, (mean, std) in zip(curves, numbers, strict=True)}
    by_path = {curve.cells[0].path: found[curve.point.name] for curve in curves}
    monkeypatch.setattr(settings, "measure_cells", lambda cells: by_path[cells[0].path])
    with style.style() as plt:
        picture, rows, notes = settings.accuracy_by_setting(plt, scale, replace(scale.figures[name], curves=tuple(curves)))
        (axis,) = picture.axes
        return axis, rows, notes


def test_a_line_of_settings_runs_by_x_with_levels_across_and_printed_numbers_beside(monkeypatch):
    curves = list(Plan("paper").figures["idm/figure3"].curves)
    order = [*reversed(curves[:6]), *curves[6:]]  # the line is drawn by x, whatever the order of the points
    numbers = [(60.0, 1.0), (50.0, 2.0), (40.0, 1.0), (30.0, 1.0), (20.0, 1.0), (10.0, 1.0), (5.0, 0.5), (7.0, 0.5)]
    axis, rows, notes = drawn_axis("idm/figure3", order, numbers, monkeypatch)
    line = axis.lines[0]
    assert list(line.get_xdata()) == list(line.get_ydata()) == [10, 20, 30, 40, 50, 60]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["10", "20", "30", "40", "50", "60"]
    levels = [line.get_ydata()[0] for line in axis.lines[1:3]]
    marks = [line.get_ydata()[0] for line in axis.lines[3:]]
    assert levels == [5.0, 7.0] and marks == [29.7, 32.0]
    assert [row["source"] for row in rows[-2:]] == ["published, table 2"] * 2 and rows[-1]["setting"] == "DM + model sampling"
    assert notes == ["Bands: one standard deviation.", "Hollow marks: numbers printed in the paper's tables."]
    assert axis.get_xscale() == "linear" and axis.get_xlabel() == "epochs of training"


def test_settings_without_x_are_bars_and_a_log_axis_is_one(monkeypatch):
    curves = Plan("paper").figures["ddm/figure3a"].curves
    axis, rows, notes = drawn_axis("ddm/figure3a", curves, [(place, 1.0) for place in range(1, 6)], monkeypatch)
    assert [bar.get_height() for bar in axis.patches] == [1, 2, 3, 4, 5]
    assert [text.get_text() for text in axis.get_xticklabels()] == [curve.point.name for curve in curves]
    hollow = {line.get_xdata()[0]: line.get_ydata()[0] for line in axis.lines if line.get_fillstyle() == "none"}
    assert hollow == {0: 48.9, 3: 52.29, 4: 53.0}  # at DM, DM + MM + CM and the whole loss
    assert axis.get_legend() is None and notes[0].startswith("Lines on the bars")
    curves = Plan("paper").figures["ddm/figure6beta"].curves
    axis, rows, _ = drawn_axis("ddm/figure6beta", curves, [(50.0, 1.0)] * 5, monkeypatch)
    assert axis.get_xscale() == "log" and [row["x"] for row in rows] == ["0.1", "1", "10", "100", "1000", "10"]


def test_points_left_out_are_named(here):
    scale = Plan("quick")
    assert "Not run at quick: 0.01, 100." in figures.footnotes(scale, "ddm/figure5b")
    found = {row["name"]: row for row in provenance.not_run(scale)}["ddm/figure5b"]
    assert (found["run"], found["total"], found["unit"], found["reasons"]) == (3, 5, "points", ["not run at quick: 0.01, 100"])


def test_printed_numbers_of_the_paper_are_found_through_their_aliases():
    spec = Plan("paper").specs_by_path()["cpdm/figure1"]
    printed = {(row["method"], row["ipc"], row["mean"]) for row in curves._printed(spec, ["cpdm", "dm"])}
    assert ("cpdm", "200", "73.73") in printed  # Table 4 calls it 'ED + classifier'
    assert ("dm", "50", "63.0") in printed and ("dm", "50", "61.99") in printed  # Tables 1 and 4 differ
    assert not any(row["method"] == "random" for row in curves._printed(spec, ["cpdm"]))


def test_titles_name_dataset_scale_and_what_it_stands_for():
    scale = Plan("quick")
    spec = scale.specs_by_path()["cpdm/figure1"]
    assert curves.title_of(scale, spec, "digits") == "Handwritten digits (scale quick)\nstanding in for CIFAR-10"
    assert curves.title_of(scale, spec, "cifar10") == "CIFAR-10 (scale quick)"


def test_methods_left_out_are_named_with_the_reason():
    scale = Plan("quick")
    plan = scale.figures["cpdm/figure1"]
    scale.figures["cpdm/figure1"] = replace(plan, missing={"dc": "method not built yet", "dsa": "method not built yet"})
    assert figures.footnotes(scale, "cpdm/figure1")[0] == "Left out: DC, DSA (method not built yet)."
    scale.figures["cpdm/figure1"] = replace(plan, curves=())
    with pytest.raises(UserError, match="draws nothing"):
        figures.make_figure(scale, "cpdm/figure1", Path("f.png"))


def test_the_drift_curve_has_its_number_at_every_ratio(here, tmp_path):
    figures.make_figure(Plan("quick"), "ddm/figure1c", tmp_path / "f.png")
    found = [(row["method"], row["toward"], row["ratio"], row["mean"]) for row in rows_of(tmp_path / "f.csv")]
    assert found == [("herding", "dm", f"{ratio:g}", f"{61 - 10 * ratio:.2f}") for ratio in (0, 0.25, 0.5, 0.75, 1)]


def test_every_kind_of_figure_is_drawn_and_needs_its_settings():
    assert set(figures.DRAW) == set(specs.tables.DRAWN)
    wanted = {"kind": "figure", "paper": "p", "figure": "1", "title": "t", "dataset": "cifar10", "methods": ["dm"], "ipc": [1]}
    for draw, more in (("texture", {}), ("images", {"classes": [0]}), ("consistency", {"neighbours": [1]})):
        with pytest.raises(UserError, match="to be given exactly for"):
            specs.FigureSpec(**wanted, draw=draw, **more)
    for drift in ({"ratios": [0.5, 1.5]}, {"ratios": []}, {"ratios": [0.5], "stage": 0}):
        with pytest.raises(UserError, match="ratios|stage"):
            specs.StyleDrift("dm", **drift)


@pytest.fixture(scope="module")
def with_sets(tmp_path_factory):
    """Prepared digits, a few synthetic images for the figures of images, and a hardly trained teacher."""
    from condense.data import dataset, prepare

    folder = tmp_path_factory.mktemp("sets")
    before = Path.cwd()
    os.chdir(folder)
    scale = Plan("quick")
    for cell in scale.data.values():
        prepare.prepare(cell.spec, Path(cell.folder))
    for cell in (curve.synthetic for figure in scale.figures.values() for curve in figure.curves if curve.synthetic):
        real = dataset.load(cell.data.train)
        images = np.concatenate([real.images[real.class_slice(label)][:3].numpy() / 255 - 0.2 for label in real.classes])
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
    for cell in (curve.teacher for figure in scale.figures.values() for curve in figure.curves if curve.teacher):
        # As pretraining stores a teacher, after as little training as there is.
        protocol = replace(cell.protocol, epochs=1, batch=512)
        settings = {"arch": cell.arch, "options": json.loads(cell.options), "strategy": "none", "seed": 0, "key": cell.key}
        jobs.pretrain_teacher(Path(cell.path), Path(cell.data.train), protocol, **settings, machine=jobs.Machine("cpu", 1))
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
    # Features of the same network: the synthetic images are real ones made darker, so they lie elsewhere but are finite.
    assert np.isfinite([[float(row["x"]), float(row["y"])] for row in rows]).all()


@pytest.mark.parametrize("name", ["ddm/figure1a", "ddm/figure4b", "ddm/figure5d", "ddm/figure7", "idm/figure4"])
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
    from condense.teachers.pretrain import load_teacher

    real = dataset.load(curve.synthetic.data.train)
    return load_teacher(Path(curve.teacher.path), real, torch.device("cpu"))[0], real


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
        found = [(float(row["x"]), float(row["y"])) for row in rows if (row["class"], row["kind"]) == (str(label), "real")]
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
    found = {row["neighbours"]: float(row["ratio"]) for row in rows_of(tmp_path / "f.csv") if row["method"] == curve.method}
    with torch.no_grad():
        features, others = (network.embed(images).double().numpy() for images in (real.normalise(real.images), made.images))
    for k in (1, 10, 100):
        shares = KNeighborsClassifier(k, algorithm="brute").fit(features, real.labels).predict_proba(others)
        assert found[str(k)] == pytest.approx(shares[np.arange(len(others)), made.labels].mean(), abs=6e-5)
    assert list(found) == ["1", "2", "5", "10", "20", "50", "100"]


def test_the_texture_figure_measures_real_and_synthetic_images_of_the_class(with_sets, tmp_path, monkeypatch):
    from condense.measures.texture import grey_levels, texture

    monkeypatch.chdir(with_sets)
    figures.make_figure(Plan("quick"), "ddm/figure5d", tmp_path / "f.png")
    rows = {(row["method"], row["measure"]): row for row in rows_of(tmp_path / "f.csv")}
    assert rows.keys() == {(method, measure) for method in ("", "dm", "ddm") for measure in ("dissimilarity", "entropy")}
    curve = Plan("quick").figures["ddm/figure5d"].curves[0]
    with_header = artifacts.read_tensors(Path(curve.synthetic.path), "synthetic")[0]
    values = texture(grey_levels(with_header["images"][with_header["labels"] == 0]))
    for measure, value in zip(("dissimilarity", "entropy"), values, strict=True):
        row = rows["dm", measure]
        assert (float(row["mean"]), row["images"]) == (pytest.approx(value.mean(), abs=0.02), "3")
        assert float(row["standard_error"]) == pytest.approx(np.std(value) / 3**0.5, abs=0.02)
    assert 139 <= int(rows["", "entropy"]["images"]) <= samples.MOST_REAL
    assert float(rows["", "dissimilarity"]["mean"]) > float(rows["dm", "dissimilarity"]["mean"])  # darker, and cut at black


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
    np.testing.assert_array_equal(mosaic[:size, start + pitch : start + pitch + size, 0], np.round(second * 255).astype(np.uint8))
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
    # With `most=1` only the first synthetic image of each class is there: black and mid-grey, each 32 x 32 pixels.
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
    with pytest.raises(UserError, match="synthetic: images"):
        grids.draw_grid(tmp_path / "h.png", many, np.arange(39), none, np.zeros(0, int), names)
    assert not (tmp_path / "h.png").exists()


def test_grids_need_neither_torch_nor_matplotlib():
    code = "import sys, condense.report.grids; sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'sklearn', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_methods_look_the_same_everywhere_and_different_from_each_other():
    looks = [tuple(style.look(method).values()) for method in ("random", "herding", "forgetting", "k_center", "dm", "ed", "cpdm", "whole")]
    assert len(set(looks)) == len(looks)
    assert style.look("a_new_method") == style.look("a_new_method")


class Links(HTMLParser):
    """Everything a page points to, and its anchors."""

    VOID = {"meta", "img", "link", "br", "hr", "input"}

    def __init__(self):
        super().__init__()
        self.targets, self.anchors, self.open, self.alts = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.targets += [(tag, key, attrs[key]) for key in ("src", "href", "srcset", "action", "data") if key in attrs]
        self.anchors |= {attrs["id"]} if "id" in attrs else set()
        self.alts += [attrs.get("alt", "")] if tag == "img" else []
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


@pytest.fixture
def page(results, tmp_path, monkeypatch):
    """The report of scale quick, with two figures and the grid of one set."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "metrics").symlink_to(results / "results" / "metrics")
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    scale.figures = {name: scale.figures[name] for name in ("cpdm/figure1", "cpdm/figure2")}
    for name in scale.figures:
        figures.make_figure(scale, name, Path(f"results/figures/{name}.png"))
    cell = min((cell for cell in scale.synthetic.values() if cell.seed == 0), key=html._far)
    images, labels = np.zeros((10, 1, 8, 8), np.float32), np.arange(10)
    grids.draw_grid(Path(cell.folder) / "grid.png", images, labels, images, labels, list("0123456789"))
    artifacts.write_json(Path(cell.folder) / "run.json", RUN)
    Path("results/benchmarks/teach").mkdir(parents=True)
    Path("results/benchmarks/teach/one.tsv").write_text("s\th:m:s\tmax_rss\n61.5\t0:01:01\t400.25\n")
    Path("results/benchmarks/teach/two.tsv").write_text("s\th:m:s\tmax_rss\n60.0\t0:01:00\t-\n")
    return scale


def test_report_is_one_file_that_loads_nothing(page):
    html.make_report(page, Path("results/report.html"))
    text = Path("results/report.html").read_text(encoding="utf-8")
    assert len(text) < 8 << 20
    links = Links()
    links.feed(text)
    assert links.open == []
    for tag, key, target in links.targets:
        assert target.startswith("data:image/") if tag == "img" else (tag, key) == ("a", "href") and target[0] == "#", (tag, target[:60])
        assert target[0] != "#" or target[1:] in links.anchors
    assert not re.search(r"""(src|href|url|@import)\s*[=(]?\s*["']?\s*(https?:)?//""", text) and "<script" not in text
    assert all(links.alts) and len(links.alts) == 1 + 2 + 1  # the summary, two figures, one grid
    assert "cpu &lt;&amp;&gt;" in text  # what files say is text, never markup


def test_report_says_what_was_run_and_what_was_not(page):
    html.make_report(page, Path("results/report.html"))
    text = Path("results/report.html").read_text(encoding="utf-8")
    assert "CIFAR-10 by handwritten digits" in text
    assert "abc" in text and "torch 9.9" in text
    for table in page.tables:
        assert f'id="{table.replace("/", "-")}"' in text
    found = {row["name"]: row for row in provenance.not_run(page)}
    rows = page.tables["cpdm/table1"]
    assert (found["cpdm/table1"]["run"], found["cpdm/table1"]["total"]) == (sum(bool(row.runs) for row in rows), len(rows))
    assert any(reason.startswith("not run at quick") for reason in found["cpdm/table1"]["reasons"])
    assert provenance.stages(Path("results/benchmarks")) == [provenance.Stage("teach", 2, 121.5, "400")]
    assert "2 min 2 s" in text or "2 min 1 s" in text


def test_report_refuses_a_missing_figure_and_one_of_another_scale(page):
    note = Path("results/figures/cpdm/figure1.json")
    values = artifacts.read_json(note)
    artifacts.write_json(note, values | {"scale": "laptop"})
    with pytest.raises(UserError, match="made for another scale"):
        html.make_report(page, Path("results/report.html"))
    note.unlink()
    with pytest.raises(UserError, match="figure1.png: this figure is missing"):
        html.make_report(page, Path("results/report.html"))
    assert not Path("results/report.html").exists()


@pytest.mark.parametrize("seconds, text", [(4.2, "4.2 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")])
def test_durations(seconds, text):
    assert provenance.duration(seconds) == text
