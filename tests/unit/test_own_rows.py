"""Tables of one's own rows, and what a scale makes for some methods or numbers of images alone."""

import csv
from dataclasses import replace

import pytest
from report_helpers import RUN, metrics_of

from condense.config import UserError, read
from condense.files import artifacts
from condense.plan.tables import Plan
from condense.report import records, tables
from condense.specs import Scale, TableSpec, catalogue

OWN = {
    "kind": "table",
    "paper": "ours",
    "table": "90",
    "title": "A comparison",
    "settings": {"": {}, "longer": {"steps": 7}},
    "rows": [
        {
            "dataset": "cifar10",
            "ipc": [1, 10],
            "methods": ["random", "dm"],
            "printed": [{"method": "dm", "ipc": 10, "value": 48.9, "std": 0.6, "note": "its Table 1"}],
        },
        {"dataset": "cifar10", "ipc": [10], "methods": ["dm"], "settings": ["longer"]},
    ],
}


def own(monkeypatch, given=OWN, scale="quick"):
    spec = read(TableSpec, given, "own.yaml")
    known = Plan.specs_by_path() | {"ours/table90": spec}
    monkeypatch.setattr(Plan, "specs_by_path", staticmethod(lambda: known))
    monkeypatch.setattr(Plan, "file_of", classmethod(lambda cls, name: "own.yaml"))
    return Plan(scale)


def test_every_method_and_setting_is_a_row(monkeypatch):
    plan = own(monkeypatch)
    rows = plan.tables["ours/table90"]
    named = [(row.published["ipc"], row.published["method"], row.published["setting"]) for row in rows]
    assert named == [
        ("1", "random", ""),
        ("1", "dm", ""),
        ("10", "random", ""),
        ("10", "dm", ""),
        ("10", "dm", "longer"),
    ]
    assert [row.published["value"] for row in rows] == ["", "", "", "48.9", ""]
    steps = [run.cells[0].synthetic.recipe.number_of_steps for run in rows[-1].runs]
    assert steps == [7] and {run.dataset for row in rows for run in row.runs} == {"digits16"}


def test_the_table_is_written_with_and_without_printed_numbers(monkeypatch, tmp_path):
    plan = own(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for cell in [*plan.metrics_of("ours/table90"), *plan.beside("ours/table90")]:
        artifacts.write_json(
            tmp_path / cell.path, metrics_of(cell, {0: [50.0] * cell.n_networks}) | {"run": RUN}
        )
    made = records.records(plan, "ours/table90")
    assert [record.values["measured"] for record in made if record.was_measured] == ["50.0"] * 5
    tables.make_table(plan, "ours/table90", tmp_path / "table.csv")
    with open(tmp_path / "table.csv", encoding="utf-8") as file:
        written = [row for row in csv.DictReader(file) if row["published"]]
    assert [(row["method"], row["published"], row["published_std"]) for row in written] == [
        ("dm", "48.9", "0.6")
    ]
    assert "its Table 1" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"methods": ["dmm"]}, "unknown method 'dmm'; did you mean 'dm'"),
        ({"dataset": "cifar11"}, "unknown dataset 'cifar11'; did you mean 'cifar10'"),
        ({"methods": []}, "methods: at least one is needed"),
        ({"ipc": [1, 1]}, "ipc: 1 stands there twice"),
        ({"ipc": [0]}, "ipc: must be at least 1"),
        ({"settings": ["shorter"]}, "unknown setting 'shorter'"),
        (
            {"printed": [{"method": "ed", "ipc": 10, "value": 1.0, "note": "x"}]},
            "printed: unknown method 'ed'",
        ),
        (
            {"printed": [{"method": "dm", "ipc": 50, "value": 1.0, "note": "x"}]},
            "printed: unknown ipc '50'",
        ),
        ({"printed": [{"method": "dm", "ipc": 1, "value": 1.0, "note": ""}]}, "say which table prints"),
    ],
)
def test_rows_that_would_be_none_are_refused(monkeypatch, change, said):
    with pytest.raises(UserError, match=said):
        rows = [OWN["rows"][0] | {"printed": []} | change]
        assert own(monkeypatch, OWN | {"settings": {}, "rows": rows}).tables


def test_own_rows_do_not_mix_with_published_ones(monkeypatch):
    with pytest.raises(UserError, match="rows of params/published/results.csv belong to cpdm/table1"):
        assert own(monkeypatch, OWN | {"paper": "cpdm", "table": "1"}).tables


def test_some_methods_are_made_for_fewer_images(monkeypatch):
    before = Plan("quick")
    chosen = replace(before.scale, ipc_of={"dm": [10]})
    monkeypatch.setattr(catalogue, "scale", lambda name: chosen)
    after = Plan("quick")
    made = {(cell.recipe.name, cell.ipc) for cell in before.synthetic.values()}
    left = {(cell.recipe.name, cell.ipc) for cell in after.synthetic.values()}
    assert ("dm", 1) in made and made - left == {
        (name, ipc) for name, ipc in made if name == "dm" and ipc != 10
    }
    row = next(
        row
        for row in after.tables["cpdm/table1"]
        if (row.published["method"], row.published["ipc"], row.published["dataset"]) == ("dm", "1", "cifar10")
    )
    assert row.reason == "not run at quick" and not row.runs


def test_a_figure_says_why_a_method_of_other_numbers_has_no_curve(monkeypatch):
    chosen = replace(catalogue.scale("quick"), ipc_of={"ed": [1], "dm": [1, 10]})
    monkeypatch.setattr(catalogue, "scale", lambda name: chosen)
    plan = Plan("quick")
    figure = plan.figures["cpdm/figure2"]
    assert figure.missing["ed"] == "made only at ipc 1 at quick"
    assert "cpdm" not in figure.missing and {curve.method for curve in figure.curves} == {"cpdm", "dm"}
    other = plan.figures["cpdm/figure1"]
    assert [curve.ipc for curve in other.curves if curve.method == "dm"] == [
        1,
        10,
    ] and "dm" not in other.missing


def scale_of(**change):
    values = {
        "name": "small",
        "title": "t",
        "n_sets": 1,
        "n_networks": 5,
        "datasets": {"cifar10": ["digits"]},
    }
    return read(Scale, values | change, "small.yaml")


def test_the_number_of_networks_follows_the_images_a_class():
    scale = scale_of(n_networks_of={"ipc>=10": 3, "ipc>=50": 2})
    assert [scale.networks_at(ipc) for ipc in (1, 10, 49, 50, "full")] == [5, 3, 3, 2, 5]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"n_networks_of": {"ipc=50": 2}}, "'ipc=50' is not a condition"),
        ({"n_networks_of": {"ipc>=50": 0}}, "n_networks_of: ipc>=50: must be at least 1"),
        ({"ipc": [1, 10], "ipc_of": {"dm": [50]}}, "ipc_of: dm: 50 is not among"),
        ({"ipc_of": {"dm": [0]}}, "ipc: must be at least 1"),
    ],
)
def test_what_would_hold_nowhere_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        scale_of(**change)


def test_table_limits_ask_for_their_own_number_of_networks(monkeypatch):
    chosen = replace(catalogue.scale("quick"), n_networks=3, n_networks_of={"ipc>=10": 1})
    monkeypatch.setattr(catalogue, "scale", lambda name: chosen)
    plan = Plan("quick")
    asked = {
        (cell.synthetic.ipc, cell.n_networks)
        for row in plan.tables["cpdm/table1"]
        for run in row.runs
        for cell in run.cells
    }
    assert asked == {(1, 3), (10, 1), ("full", 3)}
    own_number = {cell.n_networks for cell in plan.metrics_of("edc/figure2c_below")}
    assert own_number == {6}
