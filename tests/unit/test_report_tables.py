"""Tables: the CSV contract, numbers worked by hand, and that no number stands under a dataset it does not
belong to."""

import csv
import os
import shutil
from decimal import Decimal
from pathlib import Path

import pytest
from report_helpers import made_up, metrics_of

from condense.config import UserError
from condense.files import artifacts
from condense.plan import manifests
from condense.plan.rows import Run
from condense.plan.tables import Plan
from condense.report import layout, measured, names, records, tables
from condense.specs import catalogue

CONTRACT = (
    "paper,table,dataset,ipc,method,train_arch,eval_arch,metric,setting,measured,measured_std,"
    "n_sets,n_networks,published,published_std,delta,scale,note"
).split(",")
BESIDE = ["random", "random_std", "herding", "herding_std", "over_random", "best", "best_std", "best_of"]


def write_metrics(cell, given, steps=(0,), **more):
    if not cell.task.is_plain() and isinstance(given[0], float):  # of several metrics, some over steps
        results = {step: given for step in (0, 1)} if cell.task.over_steps else {0: given}
        by_metric = {name: made_up(name, metric, results) for name, metric in cell.task.metrics.items()}
        artifacts.write_json(Path(cell.path), metrics_of(cell, results, by_metric) | {"run": {}} | more)
        return
    lists = given if cell.task.over_steps else [given]
    artifacts.write_json(
        Path(cell.path), metrics_of(cell, dict(zip(steps, lists, strict=True))) | {"run": {}} | more
    )


def accuracies_of(cell):
    """Numbers that differ by set, architecture and network, so that mixing any two up shows."""
    start = 50.0 + 10 * cell.synthetic.seed + len(cell.eval_arch)
    return [start + network for network in range(cell.n_networks)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with made-up metrics of all tables of the scales quick and laptop."""
    folder = tmp_path_factory.mktemp("tables")
    before = Path.cwd()
    os.chdir(folder)
    for scale in (Plan("quick"), Plan("laptop")):
        for name in scale.tables:
            for cell in scale.metrics_of(name):
                write_metrics(cell, accuracies_of(cell))
    os.chdir(before)
    return folder


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames, list(reader)


@pytest.mark.parametrize("name", sorted(Plan("quick").tables))
def test_csv_has_the_contract_columns_and_first_one_row_per_published_row(here, name, tmp_path):
    scale = Plan("quick")
    tables.make_table(scale, name, tmp_path / "t.csv")
    columns, rows = read_csv(tmp_path / "t.csv")
    assert columns == [*CONTRACT, *BESIDE]
    published = [row.published for row in scale.tables[name]]
    for row, paper in zip(rows, published, strict=False):
        assert all(
            row[key] == paper[key]
            for key in ("paper", "table", "dataset", "ipc", "method", "train_arch", "eval_arch", "setting")
        )
        assert (row["published"], row["published_std"]) == (paper["value"], paper["std"])
    for row in rows[len(published) :]:
        assert row["dataset"] == "digits16" and row["measured"] and not row["published"] and not row["delta"]
    assert len(rows) == len(published) + sum(len(row.runs) for row in scale.tables[name])


@pytest.mark.parametrize("name", sorted(Plan("quick").tables))
def test_digits_never_stand_under_a_dataset_of_the_papers(here, name):
    scale = Plan("quick")
    found = records.records(scale, name)
    assert all(not record.was_measured for record in found if record.values["dataset"] != "digits16")
    assert all(
        "not run at quick" in record.values["note"] or record.reason
        for record in found
        if not record.was_measured
    )
    stood_for = [
        names.dataset(dataset) for dataset, here in scale.datasets_of(name).items() if here == ["digits16"]
    ]
    titles = {
        f"Measured here on handwritten digits of 16 x 16 pixels (scale quick), standing in for {dataset}"
        for dataset in stood_for
    }
    for block in layout.blocks(scale, found):
        cells = [
            cell for _, lines in block.groups for line in lines for cells in line.cells for cell in cells
        ]
        assert not (any(cell.measured for cell in cells) and any(cell.published for cell in cells))
        if block.measured:
            assert block.title in titles


def test_sets_and_networks_are_pooled(tmp_path, monkeypatch):
    # Mean of 57 58 59 67 68 69 is 63; squares of the deviations 36 25 16 16 25 36, so the std is
    # sqrt(154 / 6).
    monkeypatch.chdir(tmp_path)
    first, second = Plan("quick").metrics_of("cpdm/table1")[:2]
    write_metrics(first, [57.0, 58.0, 59.0])
    write_metrics(second, [67.0, 68.0, 69.0])
    found = measured.measure(Run("digits16", ((first, second),)))
    assert found == measured.Pooled(63.0, pytest.approx((154 / 6) ** 0.5), 2, 3)


def test_transfer_mean_is_the_mean_of_the_architectures_means(tmp_path, monkeypatch):
    # Not the pool: the first architecture has four networks and would weigh double.
    monkeypatch.chdir(tmp_path)
    cells = Plan("quick").metrics_of("cpdm/table1")[:2]
    write_metrics(cells[0], [10.0, 20.0, 30.0, 40.0])
    write_metrics(cells[1], [60.0, 80.0])
    assert measured.measure(Run("digits16", ((cells[0],), (cells[1],)))).mean == pytest.approx((25 + 70) / 2)
    assert measured.measure(Run("digits16", ((cells[0],), (cells[1],)))).std is None


def test_a_transfer_mean_has_no_deviation_in_the_table(here):
    found = [r for r in records.records(Plan("quick"), "cpdm/table6") if r.was_measured]
    assert found and all(
        (r.values["measured_std"] == "") == r.values["eval_arch"].startswith("mean(") for r in found
    )


def test_a_single_value_has_no_deviation_in_the_table_and_the_caption_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    for name in scale.tables:  # baselines of others stand beside, too
        for cell in scale.metrics_of(name):
            write_metrics(cell, [60.0])
    found = [r for r in records.records(scale, "cpdm/table6") if r.was_measured]
    assert found and {(r.values["n_sets"], r.values["measured_std"]) for r in found} == {("1", "")}
    captions = " ".join(block.caption for block in layout.blocks(scale, found))
    assert "A single value stands without a deviation." in captions


def test_snapshots_are_pooled_step_by_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    curves = [curve.cells[0] for curve in Plan("quick").figures["cpdm/figure2"].curves[:2]]
    write_metrics(curves[0], [[1.0, 3.0], [5.0, 5.0]], steps=[0, 40])
    write_metrics(curves[1], [[5.0, 7.0], [7.0, 7.0]], steps=[0, 40])
    steps, found = measured.measure_steps(tuple(curves))
    assert steps == [0, 40]
    assert [(f.mean, f.std, f.n_sets, f.n_networks) for f in found] == [
        (4.0, 5.0**0.5, 2, 2),
        (6.0, 1.0, 2, 2),
    ]
    write_metrics(curves[1], [[5.0, 7.0]], steps=[0])
    with pytest.raises(UserError, match="its steps differ"):
        measured.measure_steps(tuple(curves))


def test_delta_is_measured_minus_published_on_the_very_dataset(here):
    found = records.records(Plan("laptop"), "cpdm/table1")
    mine = [r for r in found if (r.values["method"], r.values["ipc"]) == ("dm", "10") and r.was_measured]
    assert [r.values["dataset"] for r in mine] == ["cifar10", "fashion_mnist"]
    first, second = (r.values for r in mine)
    assert first["published"] == "48.9" and Decimal(first["delta"]) == Decimal(first["measured"]) - Decimal(
        "48.9"
    )
    assert first["delta"].startswith("+") and first["scale"] == "laptop"
    assert second["measured"] and (second["published"], second["delta"]) == ("", "")
    assert "fashion_mnist stands in for cifar10" in second["note"] and "scale laptop" in first["note"]


def test_rows_of_other_machines_keep_their_scale_and_come_last(here, tmp_path, monkeypatch):
    source = catalogue.params_folder().resolve()
    shutil.copytree(source, tmp_path / "params")
    row = dict.fromkeys([*CONTRACT, *measured.ORIGIN_COLUMNS], "") | {
        "paper": "cpdm", "table": "1", "dataset": "cifar10", "ipc": "10", "method": "dm",
        "train_arch": "convnet", "eval_arch": "convnet", "metric": "test_accuracy",
        "measured": "48.1", "measured_std": "0.5", "n_sets": "5", "n_networks": "20",
        "published": "48.9", "delta": "-0.8", "scale": "paper", "date": "2026-01-02", "device": "A GPU",
    }  # fmt: skip
    (tmp_path / "params" / "measured").mkdir(exist_ok=True)
    path = tmp_path / "params" / "measured" / "run.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    (tmp_path / "results").symlink_to(here / "results")
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    found = records.records(scale, "cpdm/table1")
    assert found[-1].values == {key: row[key] for key in CONTRACT} | dict.fromkeys(BESIDE, "")
    assert sum(r.origin == "elsewhere" for r in found) == 1
    assert not any(r.origin == "elsewhere" for r in records.records(scale, "idm/table1"))
    block = next(b for b in layout.blocks(scale, found) if "another machine" in b.title)
    assert "scale paper" in block.title and "A GPU" in block.caption
    path.write_text("paper,table\ncpdm,1\n")
    with pytest.raises(UserError, match="run.csv: the columns dataset"):
        records.records(scale, "cpdm/table1")


def test_missing_and_foreign_metrics_are_named(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    cell = scale.metrics_of("cpdm/table5")[0]
    with pytest.raises(UserError, match=cell.path):
        tables.make_table(scale, "cpdm/table5", tmp_path / "t.csv")
    assert not list(tmp_path.glob("t.*"))
    write_metrics(cell, [1.0], accuracies=[])
    with pytest.raises(UserError, match="no accuracies"):
        measured.read_metrics(cell)
    write_metrics(cell, [1.0], task="snapshots")
    with pytest.raises(UserError, match="instead of 'condense'"):
        measured.read_metrics(cell)
    write_metrics(cell, [1.0], key="0123456789ab")
    with pytest.raises(UserError, match=f"belongs to the key 0123456789ab, not to {cell.key}"):
        measured.read_metrics(cell)


def test_wrong_names_and_targets_are_refused(here, tmp_path):
    with pytest.raises(UserError, match="did you mean 'cpdm/table1'"):
        tables.make_table(Plan("quick"), "cpdm/tabel1", tmp_path / "t.csv")
    with pytest.raises(UserError, match="must end in .csv"):
        tables.make_table(Plan("quick"), "cpdm/table1", tmp_path / "t.txt")


def test_manifest_is_written_last_and_equals_the_plan(here, tmp_path, monkeypatch):
    order = []
    whole = artifacts.whole
    monkeypatch.setattr(artifacts, "whole", lambda path: order.append(Path(path).suffix) or whole(path))
    scale = Plan("quick")
    tables.make_table(scale, "cpdm/table4", tmp_path / "t.csv")
    assert order == [".csv", ".md", ".tex", ".json"]
    assert artifacts.read_json(tmp_path / "t.json") == manifests.manifest(scale, "cpdm/table4")


def test_two_runs_give_the_same_bytes(here, tmp_path):
    for name in ("a", "b"):
        tables.make_table(Plan("quick"), "cpdm/table14", tmp_path / name / "t.csv")
    for suffix in ("csv", "md", "tex", "json"):
        assert (tmp_path / "a" / f"t.{suffix}").read_bytes() == (tmp_path / "b" / f"t.{suffix}").read_bytes()


def test_columns_follow_what_varies(here):
    scale = Plan("quick")
    columns = {name: layout.blocks(scale, records.records(scale, name))[0].columns for name in scale.tables}
    assert columns["cpdm/table1"][-1] == "whole set" and all(
        column.startswith("ipc ") for column in columns["cpdm/table1"][:-1]
    )
    assert all(column.startswith("ipc ") for column in columns["cpdm/table5"])
    assert columns["cpdm/table14"] == ["ConvNet", "MLP", "ResNet-18", "ViT"]
    assert columns["ddm/table4"] == ["ConvNet", "AlexNet", "VGG-11", "ResNet-18"]


def test_every_number_of_the_csv_stands_once_in_the_blocks(here):
    scale = Plan("quick")
    for name in scale.tables:
        found = records.records(scale, name)
        cells = [
            c
            for b in layout.blocks(scale, found)
            for _, lines in b.groups
            for line in lines
            for place in line.cells
            for c in place
        ]
        for key, column in (("measured", "measured"), ("published", "published")):
            shown = sorted(getattr(cell, key).split(" ")[0] for cell in cells if getattr(cell, key))
            assert shown == sorted(record.values[column] for record in found if record.values[column]), (
                name,
                key,
            )


def test_latex_escapes():
    assert tables.escape_latex("50% & a_b #1 {x} $ ~ ^ \\") == (
        r"50\% \& a\_b \#1 \{x\} \$ \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    line = layout.Line("A & B_1", [[layout.Cell("1.0 ± 0.1", "2.0")], []])
    block = layout.Block("50 % of it", "c", ["x_1", "y"], [("", [line])], True)
    text = tables.latex("t", "", [block])
    assert r"A \& B\_1 & \textbf{1.0 $\pm$ 0.1} {\footnotesize (paper 2.0)} & -- \\" in text
    assert r"Method & x\_1 & y \\" in text and r"50 \% of it" in text
    assert r"\begin{tabular}{lrr}" in text


def test_markdown_escapes_bars_and_pads_every_row():
    line = layout.Line("a|b", [[layout.Cell("1.0")], [layout.Cell("", "2.0")], []])
    text = tables.markdown("T", "", [layout.Block("B", "c", ["x", "y", "z"], [("group", [line])], True)])
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert rows[-1] == "| a\\|b | **1.0** | (paper 2.0) | – |"
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}


def test_order_and_decimals():
    assert names.in_order(["cpdm/table14", "idm/table1", "cpdm/table4"]) == [
        "cpdm/table4",
        "cpdm/table14",
        "idm/table1",
    ]
    assert [records.decimals(text) for text in ("14", "14.4", "14.42", "14.421")] == [1, 1, 2, 2]
    assert (
        names.method("m3d_cpdm") == "M3D + CPDM" and names.architecture("mean(mlp,vit)") == "mean of MLP, ViT"
    )


@pytest.mark.parametrize(
    ("table", "name", "label"),
    [
        ("6", "k_center", "K-Center"),  # k_means here, though a greedy k_center of ours has that name
        ("6", "dm", "DM"),
        ("4", "ed_classifier", "ED + classifier (CPDM)"),
        ("1", "mtt", "MTT"),
    ],
)
def test_a_row_is_called_as_its_paper_calls_it(table, name, label):
    assert names.method_of_row({"paper": "cpdm", "table": table, "method": name}) == label
