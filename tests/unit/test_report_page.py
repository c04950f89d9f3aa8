"""The report page: one file that loads nothing and says what was run and what was not."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_helpers import RUN, made_up_metrics

from condense.config import UserError
from condense.files import artifacts
from condense.plan.tables import Plan
from condense.report import figures, grids, html, provenance


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with made-up metrics of everything at scale quick."""
    folder = tmp_path_factory.mktemp("figures")
    made_up_metrics(folder)
    return folder


class Links(HTMLParser):
    """Everything a page points to, and its anchors."""

    VOID = {"meta", "img", "link", "br", "hr", "input"}

    def __init__(self):
        super().__init__()
        self.targets, self.anchors, self.open, self.alts = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.targets += [
            (tag, key, attrs[key]) for key in ("src", "href", "srcset", "action", "data") if key in attrs
        ]
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
        assert (
            target.startswith("data:image/")
            if tag == "img"
            else (tag, key) == ("a", "href") and target[0] == "#"
        ), (tag, target[:60])
        assert target[0] != "#" or target[1:] in links.anchors
    assert (
        not re.search(r"""(src|href|url|@import)\s*[=(]?\s*["']?\s*(https?:)?//""", text)
        and "<script" not in text
    )
    assert all(links.alts) and len(links.alts) == 1 + 2 + 1  # the summary, two figures, one grid
    assert "cpu &lt;&amp;&gt;" in text  # what files say is text, never markup


def test_the_grid_of_a_set_that_was_taken_without_one_is_drawn_again(page, results):
    cell = min((cell for cell in page.synthetic.values() if cell.seed == 0), key=html._far)
    grid = Path(cell.folder) / "grid.png"
    grid.unlink()
    assert not html._grid(cell).exists(), "there is neither the set nor the data"
    images, labels = np.full((10, 1, 8, 8), 0.5, np.float32), np.arange(10)
    shared = {
        "dataset": "digits",
        "class_names": list("0123456789"),
        "mean": [0.3],
        "std": [0.4],
        "data_sha256": 64 * "0",
    }
    artifacts.write_tensors(
        Path(cell.path),
        {"images": images, "labels": labels},
        shared | {"kind": "synthetic", "method": "dm", "arch": "convnet"},
    )
    real = {"images": np.zeros((20, 1, 8, 8), np.uint8), "labels": np.repeat(labels, 2)}
    layout = {"kind": "dataset", "split": "train", "counts": [2] * 10, "channels": 1, "size": 8}
    artifacts.write_tensors(
        Path(cell.data.train), real, shared | layout | {"data_sha256": artifacts.content_sha256(real)}
    )
    assert html._grid(cell) == grid and Image.open(grid).size[0] > 100
    html.make_report(page, Path("results/report.html"))
    text = Path("results/report.html").read_text(encoding="utf-8")
    assert f"grid-{cell.key}" in text
    content = bytearray(Path(cell.path).read_bytes())
    content[-1] ^= 1
    Path(cell.path).write_bytes(content)  # after it was evaluated
    with pytest.raises(UserError, match="synthetic.safetensors: damaged"):
        html.make_report(page, Path("results/report.html"))
    Path(cell.path).unlink()
    os.mkfifo(cell.path)  # which reading would wait for
    with pytest.raises(UserError, match="it is no plain file"):
        html.make_report(page, Path("results/report.html"))


def test_report_says_what_was_run_and_what_was_not(page):
    html.make_report(page, Path("results/report.html"))
    text = Path("results/report.html").read_text(encoding="utf-8")
    assert "CIFAR-10 by handwritten digits of 16 x 16 pixels" in text
    assert "abc" in text and "torch 9.9" in text
    for table in page.tables:
        assert f'id="{table.replace("/", "-")}"' in text
    found = {row["name"]: row for row in provenance.not_run(page)}
    rows = page.tables["cpdm/table1"]
    assert (found["cpdm/table1"]["run"], found["cpdm/table1"]["total"]) == (
        sum(bool(row.runs) for row in rows),
        len(rows),
    )
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


def test_each_table_says_what_its_numbers_took(page):
    """Of the sets only one has a record, of 2.5 s; each evaluation took as long."""
    recorded = min((cell for cell in page.synthetic.values() if cell.seed == 0), key=html._far)
    for name in page.tables:
        cells = page.metrics_of(name)
        sets = {cell.synthetic.key for cell in cells if cell.synthetic.recipe.makes_set}
        told = f"{len(cells)} evaluations of them, {provenance.duration(2.5 * len(cells))}."
        if recorded.key in sets:
            told = f"{len(sets)} sets, 2.5 s; {told}"
        assert provenance.cost(page, name) == (f"Computing took: {told}" if cells else "")
    html.make_report(page, Path("results/report.html"))
    text = Path("results/report.html").read_text(encoding="utf-8")
    assert text.count("Computing took: ") == sum(bool(page.metrics_of(name)) for name in page.tables)
