"""Rows whose published numbers had another judge than their table: planned, refused, and told apart."""

from dataclasses import replace

import pytest
from report_helpers import metrics_of

from condense.config import UserError
from condense.files import artifacts
from condense.plan.tables import Plan
from condense.report import layout, opening, records, tables
from condense.specs import TableLimits, TableSpec, catalogue

TABLE = "cpdm/table1"
specs_by_path = Plan.specs_by_path  # as the files say
JUDGES = {"random": "dc_plain", "herding": "idc"}
ACCURACIES = {"dc": 80.0, "dc_plain": 26.5, "idc": 31.0}


def judged(monkeypatch, judges, scale="quick"):
    """The plan of a scale whose table names `judges`, all of which it takes, and no other table any."""
    changed = {
        name: replace(spec, judges=judges if name == TABLE else {}) if isinstance(spec, TableSpec) else spec
        for name, spec in specs_by_path().items()
    }
    monkeypatch.setattr(Plan, "specs_by_path", staticmethod(lambda: changed))
    limits = catalogue.scale(scale).tables
    limits = limits | {TABLE: replace(limits.get(TABLE, TableLimits()), judges=None)}
    cut = replace(catalogue.scale(scale), tables=limits)
    known = catalogue.scale
    monkeypatch.setattr(catalogue, "scale", lambda name: cut if name == scale else known(name))
    plan = Plan(scale)
    monkeypatch.setattr(catalogue, "scale", known)
    return plan


def paths(plan, judge=None):
    runs = [run for row in plan.tables[TABLE] for run in row.runs]
    return [cell.path for run in runs for cell in run.cells if judge in (None, run.judge)]


def test_a_judge_adds_cells_of_the_same_sets_and_changes_no_other(monkeypatch):
    before = judged(monkeypatch, {})
    assert before.metrics, "reckoned before the table names any"
    after = judged(monkeypatch, JUDGES)
    assert paths(before) == paths(after, judge="") and paths(before, judge="") == paths(before)
    for row, plain in zip(after.tables[TABLE], before.tables[TABLE], strict=True):
        method = row.published["method"]
        wanted = [("", "dc"), (JUDGES[method], JUDGES[method])] if method in JUDGES else [("", "dc")]
        assert [run.judge for run in row.runs] == [judge for judge, _ in wanted] * len(plain.runs)
        for run, (_, protocol) in zip(row.runs, wanted * len(plain.runs), strict=True):
            assert {cell.protocol.name for cell in run.cells} == {protocol}
        assert {cell.synthetic.key for run in row.runs for cell in run.cells} == {
            cell.synthetic.key for run in plain.runs for cell in run.cells
        }
    added = set(after.metrics) - set(before.metrics)
    assert added == {*paths(after, "dc_plain"), *paths(after, "idc")} and added
    assert set(before.metrics) < set(after.metrics) and before.synthetic.keys() == after.synthetic.keys()


@pytest.mark.parametrize(
    "judges, said",
    [
        ({"randon": "dc_plain"}, "judges: unknown method 'randon'; did you mean 'random'"),
        ({"ddm": "dc_plain"}, "judges: unknown method 'ddm'"),
        ({"random": "dc_plane"}, "unknown protocol 'dc_plane'; did you mean 'dc_plain'"),
        ({"mtt": "idx"}, "unknown protocol 'idx'"),
    ],
)
def test_a_judge_of_nothing_is_refused_also_where_its_method_is_not_run(monkeypatch, judges, said):
    with pytest.raises(UserError, match=said):
        judged(monkeypatch, judges).tables[TABLE]


def test_a_judge_that_the_table_has_anyway_is_refused():
    with pytest.raises(UserError, match="judges: random: 'dc' judges all rows"):
        TableSpec("table", "cpdm", "1", "x", judges={"random": "dc"})
    with pytest.raises(UserError, match="judges: a name of"):
        TableSpec("table", "cpdm", "1", "x", judges={"random": "../dc"})


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The plan of the scale with CIFAR-10 itself and a stand-in, and made-up metrics of its table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "rows_from_elsewhere", lambda paper, table: [])
    plan = judged(monkeypatch, JUDGES, "laptop")
    for cell in plan.metrics_of(TABLE):
        values = [ACCURACIES[cell.protocol.name] + network for network in (-1, 0, 1)]
        artifacts.write_json(tmp_path / cell.path, metrics_of(cell, {0: values}) | {"run": {}})
    return plan


def test_a_published_number_stands_beside_its_own_judge(measured, tmp_path):
    found = records.records(measured, TABLE)
    mine = [r for r in found if (r.values["method"], r.values["ipc"]) == ("random", "10") and r.was_measured]
    told = [(r.values["dataset"], r.judge, r.values["measured"], r.values["published"]) for r in mine]
    assert told == [
        ("cifar10", "dc_plain", "26.5", "26.0"),
        ("cifar10", "", "80.0", ""),
        ("fashion_mnist", "", "80.0", ""),
        ("fashion_mnist", "dc_plain", "26.5", ""),
    ]
    assert [r.values["delta"] for r in mine] == ["+0.5", "", "", ""]
    assert ["judged by dc_plain" in r.values["note"] for r in mine] == [True, False, False, True]
    published = [row.published["value"] for row in measured.tables[TABLE]]
    assert [r.values["published"] for r in found[: len(published)]] == published
    block = next(one for one in layout.blocks(measured, found) if one.title.startswith("CIFAR-10: measured"))
    lines = {line.label: line.cells for _, lines in block.groups for line in lines}
    at = block.columns.index(layout.names.ipc("10"))
    first, second = (lines[label][at] for label in ("Random, judged by dc_plain", "Random"))
    assert [(cell.measured.split()[0], cell.published) for cell in first] == [("26.5", "26.0 ± 1.2")]
    assert [(cell.measured.split()[0], cell.published) for cell in second] == [("80.0", "")]
    assert "Lines that name a judge" in block.caption and not any(
        "judged" in text for text in lines if "DM" in text
    )
    tables.make_table(measured, TABLE, tmp_path / "t.csv")
    assert r"judged by dc\_plain" in (tmp_path / "t.tex").read_text()


def test_the_picture_of_the_page_is_of_one_protocol(measured):
    shown = opening._comparable(records.records(measured, TABLE))
    assert shown and not any(record.judge for record in shown)
    assert {record.values["measured"] for record in shown} == {"80.0"}


def test_no_table_is_judged_by_what_it_does_not_name():
    """Without judges a caption says nothing of them."""
    assert layout._judges([records.Record({}, "published")]) == ""
    for spec in Plan.specs_by_path().values():
        for judge in getattr(spec, "judges", {}).values():
            assert catalogue.protocol(judge)


def judges_of(plan, table):
    return {
        row.published["method"]: {run.judge for run in row.runs} - {""}
        for row in plan.tables[table]
        if row.runs
    }


@pytest.mark.parametrize("table", ["cpdm/table1", "ddm/table1", "idm/table1"])
def test_the_first_tables_name_the_judges_of_their_rows(table):
    """Random, herding, forgetting and DC are cited with numbers of networks that see no augmentation; M3D,
    DSDM and NCFM with those of their own papers."""
    plain = dict.fromkeys(("random", "herding", "forgetting", "dc"), {"dc_plain"})
    papers = {"m3d": {"idc"}, "dsdm": {"idc_long"}, "ncfm": {"ncfm"}} if table == "cpdm/table1" else {}
    found = judges_of(Plan("paper"), table)
    assert {method: judges for method, judges in found.items() if judges} == plain | papers
    assert {"dm", "whole"} <= found.keys()


def test_a_scale_cuts_the_judges_of_a_table(monkeypatch):
    cut = set().union(*judges_of(Plan("quick"), TABLE).values())
    assert cut == {"dc_plain"} and catalogue.scale("quick").tables[TABLE].judges == ["dc_plain"]
    scale = catalogue.scale("quick")
    for judges, left in ((["ncfm"], {"ncfm"}), ([], set()), (None, {"dc_plain", "idc", "idc_long", "ncfm"})):
        plan = Plan("quick")
        plan.scale = replace(scale, tables={TABLE: TableLimits(judges=judges)})
        assert set().union(*judges_of(plan, TABLE).values()) == left
    changed = replace(scale, tables={TABLE: TableLimits(judges=["ncmf"])})
    monkeypatch.setattr(catalogue, "scale", lambda name: changed)
    with pytest.raises(
        UserError, match="tables: cpdm/table1: judges: unknown judge 'ncmf'; did you mean 'ncfm'"
    ):
        Plan("quick")


def test_the_augmentation_robust_score_has_what_it_needs_at_the_quick_scale():
    plan = Plan("quick")
    judged = {
        protocol: {
            (cell.synthetic.recipe.name, cell.synthetic.ipc)
            for cell in plan.metrics.values()
            if (cell.protocol.name, cell.eval_arch) == (protocol, "convnet")
        }
        for protocol in (plan.scale.scores.augmented, plan.scale.scores.plain)
    }
    assert judged["dc_unaugmented"] == {(name, 10) for name in ("random", "herding", "dm", "ed", "cpdm")}
    assert judged["dc_unaugmented"] <= judged["dc"]
