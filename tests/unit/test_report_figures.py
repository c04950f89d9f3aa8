"""Curves and lines of settings: whole files, the same bytes again, and what was measured."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from PIL import Image
from report_helpers import made_up_metrics, rows_of

from condense import specs
from condense.config import UserError
from condense.files import artifacts
from condense.plan import manifests
from condense.plan.tables import Plan
from condense.report import curves, figures, measured, opening, provenance, settings, style


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with made-up metrics of everything at scale quick."""
    folder = tmp_path_factory.mktemp("figures")
    made_up_metrics(folder)
    return folder


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
    assert {(row["mean"], row["std"], row["dataset"], row["source"]) for row in rows} == {
        ("61.00", "0.82", "digits16", "measured")
    }
    assert {row["method"] for row in rows} == {
        curve.method for curve in Plan("quick").figures["cpdm/figure1"].curves
    }
    figures.make_figure(Plan("quick"), "cpdm/figure2", tmp_path / "g.png")
    assert [(row["step"], row["mean"]) for row in rows_of(tmp_path / "g.csv")][:3] == [
        ("0", "51.00"),
        ("40", "61.00"),
        ("80", "71.00"),
    ]


@pytest.mark.parametrize("name", ["ddm/figure3a", "ddm/figure5c", "idm/figure3"])
def test_settings_are_whole_files_and_the_same_bytes_again(here, name, tmp_path):
    scale = Plan("quick")
    for folder in ("a", "b"):
        figures.make_figure(scale, name, tmp_path / folder / "f.png")
    for suffix in ("png", "svg", "csv", "json"):
        assert (tmp_path / "a" / f"f.{suffix}").read_bytes() == (tmp_path / "b" / f"f.{suffix}").read_bytes()
    rows = rows_of(tmp_path / "a" / "f.csv")
    drawn = [(row["setting"], row["x"], row["mean"], row["dataset"], row["source"]) for row in rows]
    x = {
        curve.point.name: "" if curve.point.x is None else curve.point.name
        for curve in scale.figures[name].curves
    }
    assert drawn == [(setting, at, "61.00", "digits16", "measured") for setting, at in x.items()]


def drawn_axis(name, curves, numbers, monkeypatch):
    """The only panel of a figure of settings, drawn with these numbers (mean, std) for these curves, and its
    CSV rows."""
    scale = Plan("paper")
    found = {
        curve.point.name: measured.Pooled(mean, std, 1, 2)
        for curve, (mean, std) in zip(curves, numbers, strict=True)
    }
    by_path = {curve.cells[0].path: found[curve.point.name] for curve in curves}
    monkeypatch.setattr(settings, "measure_cells", lambda cells: by_path[cells[0].path])
    with style.style() as plt:
        picture, rows, notes = settings.accuracy_by_setting(
            plt, scale, replace(scale.figures[name], curves=tuple(curves))
        )
        (axis,) = picture.axes
        return axis, rows, notes


def test_a_line_of_settings_runs_by_x_with_levels_across_and_printed_numbers_beside(monkeypatch):
    curves = list(Plan("paper").figures["idm/figure3"].curves)
    order = [*reversed(curves[:6]), *curves[6:]]  # the line is drawn by x, whatever the order of the points
    numbers = [
        (60.0, 1.0),
        (50.0, 2.0),
        (40.0, 1.0),
        (30.0, 1.0),
        (20.0, 1.0),
        (10.0, 1.0),
        (5.0, 0.5),
        (7.0, 0.5),
    ]
    axis, rows, notes = drawn_axis("idm/figure3", order, numbers, monkeypatch)
    line = axis.lines[0]
    assert list(line.get_xdata()) == list(line.get_ydata()) == [10, 20, 30, 40, 50, 60]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["10", "20", "30", "40", "50", "60"]
    levels = [line.get_ydata()[0] for line in axis.lines[1:3]]
    marks = [line.get_ydata()[0] for line in axis.lines[3:]]
    assert levels == [5.0, 7.0] and marks == [29.7, 32.0]
    assert [row["source"] for row in rows[-2:]] == ["published, table 2"] * 2 and rows[-1][
        "setting"
    ] == "DM + model sampling"
    assert notes == ["Bands: one standard deviation.", "Hollow marks: numbers printed in the paper's tables."]
    assert axis.get_xscale() == "linear" and axis.get_xlabel() == "epochs of training"


def test_settings_without_x_are_bars_and_a_log_axis_is_one(monkeypatch):
    curves = Plan("paper").figures["ddm/figure3a"].curves
    axis, rows, notes = drawn_axis(
        "ddm/figure3a", curves, [(place, 1.0) for place in range(1, 6)], monkeypatch
    )
    assert [bar.get_height() for bar in axis.patches] == [1, 2, 3, 4, 5]
    labels = [text.get_text() for text in axis.get_xticklabels()]
    assert [label.replace("\n", " ") for label in labels] == [curve.point.name for curve in curves]
    # Those of neighbours do not meet
    assert max(len(line) for label in labels for line in label.split("\n")) <= 10
    hollow = {
        line.get_xdata()[0]: line.get_ydata()[0] for line in axis.lines if line.get_fillstyle() == "none"
    }
    assert hollow == {0: 48.9, 3: 52.29, 4: 53.0}  # at DM, DM + MM + CM and the whole loss
    assert axis.get_legend() is None and notes[0].startswith("Lines on the bars")
    curves = Plan("paper").figures["ddm/figure6beta"].curves
    axis, rows, _ = drawn_axis("ddm/figure6beta", curves, [(50.0, 1.0)] * 5, monkeypatch)
    assert axis.get_xscale() == "log" and [row["x"] for row in rows] == [
        "0.1",
        "1",
        "10",
        "100",
        "1000",
        "10",
    ]


def test_points_left_out_are_named(here):
    scale = Plan("quick")
    assert "Not run at quick: 0.01, 100." in figures.footnotes(scale, "ddm/figure5b")
    found = {row["name"]: row for row in provenance.not_run(scale)}["ddm/figure5b"]
    assert (found["run"], found["total"], found["unit"], found["reasons"]) == (
        3,
        5,
        "points",
        ["not run at quick: 0.01, 100"],
    )


def test_printed_numbers_of_the_paper_are_found_through_their_aliases():
    spec = Plan("paper").specs_by_path()["cpdm/figure1"]
    printed = {(row["method"], row["ipc"], row["mean"]) for row in curves._printed(spec, ["cpdm", "dm"])}
    assert ("cpdm", "200", "73.73") in printed  # Table 4 calls it 'ED + classifier'
    assert ("dm", "50", "63.0") in printed and ("dm", "50", "61.99") in printed  # Tables 1 and 4 differ
    assert not any(row["method"] == "random" for row in curves._printed(spec, ["cpdm"]))


def test_titles_name_dataset_scale_and_what_it_stands_for():
    scale = Plan("quick")
    spec = scale.specs_by_path()["cpdm/figure1"]
    assert (
        curves.title_of(scale, spec, "digits16")
        == "Handwritten digits of 16 x 16 pixels (scale quick)\nstanding in for CIFAR-10"
    )
    assert curves.title_of(scale, spec, "cifar10") == "CIFAR-10 (scale quick)"


def test_methods_left_out_are_named_with_the_reason():
    scale = Plan("quick")
    plan = scale.figures["cpdm/figure1"]
    scale.figures["cpdm/figure1"] = replace(
        plan, missing={"dc": "method not built yet", "dsa": "method not built yet"}
    )
    assert figures.footnotes(scale, "cpdm/figure1")[0] == "Left out: DC, DSA (method not built yet)."
    scale.figures["cpdm/figure1"] = replace(plan, curves=())
    with pytest.raises(UserError, match="draws nothing"):
        figures.make_figure(scale, "cpdm/figure1", Path("f.png"))


def test_the_drift_curve_has_its_number_at_every_ratio(here, tmp_path):
    figures.make_figure(Plan("quick"), "ddm/figure1c", tmp_path / "f.png")
    found = [(row["method"], row["toward"], row["ratio"], row["mean"]) for row in rows_of(tmp_path / "f.csv")]
    assert found == [
        ("herding", "dm", f"{ratio:g}", f"{61 - 10 * ratio:.2f}") for ratio in (0, 0.25, 0.5, 0.75, 1)
    ]


def test_every_kind_of_figure_is_drawn_and_needs_its_settings():
    assert set(figures.DRAW) == set(get_args(specs.figures.Drawing))
    wanted = {
        "kind": "figure",
        "paper": "p",
        "figure": "1",
        "title": "t",
        "dataset": "cifar10",
        "methods": ["dm"],
        "ipc": [1],
    }
    for draw, more in (("texture", {}), ("images", {"classes": [0]}), ("consistency", {"neighbours": [1]})):
        with pytest.raises(UserError, match="is needed for|shows them; leave it out"):
            specs.FigureSpec(**wanted, draw=draw, **more)
    for drift in ({"ratios": [0.5, 1.5]}, {"ratios": []}, {"ratios": [0.5], "stage": 0}):
        with pytest.raises(UserError, match="ratios|stage"):
            specs.StyleDrift("dm", **drift)


def test_methods_look_the_same_everywhere_and_different_from_each_other():
    looks = [
        tuple(style.look(method).values())
        for method in ("random", "herding", "forgetting", "k_center", "dm", "ed", "cpdm", "whole")
    ]
    assert len(set(looks)) == len(looks)
    assert style.look("a_new_method") == style.look("a_new_method")


def test_bars_of_many_methods_are_told_apart():
    methods = ["random", "herding", "dc", "dsdm", "idm", "ed", "m3d", "dm_ms", "ncfm"]
    row = {"dataset": "digits", "ipc": "1", "measured": "50", "measured_std": "1"}
    records = [
        SimpleNamespace(values=row | {"paper": "cpdm", "table": "1", "method": method}) for method in methods
    ]
    with style.style() as plt:
        _, axis = plt.subplots()
        opening._bars(axis, records)
        looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in axis.patches}
    colours = {style.look(method)["color"] for method in methods}
    assert len(looks) == len(methods) > len(colours)
