"""Tables of settings: what recipes have beside what papers print, differences marked and explained."""

import csv
import shutil

import pytest
import yaml

from condense.config import UserError
from condense.plan import printed
from condense.plan.manifests import manifest, manifest_digest
from condense.plan.tables import Plan
from condense.report import printed as pages
from condense.report import tables
from condense.specs import SettingsSpec, catalogue

NAMES = [f"cpdm/table{number}" for number in (10, 11, 12)] + [f"edc/table{number}" for number in range(6, 11)]


@pytest.fixture(scope="module")
def quick():
    return Plan("quick")


def spec(**more):
    return SettingsSpec(**{"kind": "settings", "paper": "cpdm", "table": "10", "title": "Rates"} | more)


@pytest.mark.parametrize(
    "text, ours, same",
    [
        ("5e-4", 0.0005, True),
        ("1", 1.0, True),
        ("0.1", 0.10001, False),
        ("SGD", "sgd", True),
        ("ConvNetD4", "convnetd4", True),
        ("ConvNetD4", "convnet", False),
        ("STEPLR", "dc", False),
        ("(maxiter-t)/maxiter", 1.0, False),
    ],
)
def test_a_printed_text_says_a_setting(text, ours, same):
    assert printed.agree(text, ours) == same


@pytest.mark.parametrize("name", NAMES)
def test_every_difference_has_a_reason_and_every_reason_a_difference(name, quick):
    entries, spec = quick.settings[name], Plan.specs_by_path()[name]
    told = {entry.note for entry in entries if entry.differs}
    assert "" not in told
    assert told == {text for places in spec.notes.values() for text in places.values()}


def test_what_is_printed_stands_beside_what_the_recipe_has(quick, tmp_path):
    tables.make_table(quick, "cpdm/table10", tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        rows = {(row["dataset"], row["ipc"]): row for row in csv.DictReader(file)}
    assert len(rows) == 25
    for (dataset, ipc), row in rows.items():
        if not row["published"] or dataset == "celeba":
            assert not row["differs"]
        elif ipc == ">=300":
            assert (row["published"], row["here"], row["differs"]) == ("6", "5 and 6", "yes")
        else:
            assert float(row["published"]) == float(row["here"]) and not row["differs"]
    assert (rows["celeba", "10"]["here"], rows["celeba", "10"]["note"]) == ("", "no such dataset here")
    assert (rows["cifar100", "300"]["published"], rows["cifar100", "300"]["here"]) == ("", "0.1")
    text = (tmp_path / "t.md").read_text()
    assert "| **0.1** (paper 0.1) |" in text and "**5 and 6, differs [1]** (paper 6)" in text
    assert "- [1] Differs: The table has 5" in text
    assert r"\caption{" in (tmp_path / "t.tex").read_text() and (tmp_path / "t.json").is_file()


def test_stages_stand_apart_and_each_number_beside_the_setting_of_its_stage(quick):
    (block,) = pages.of_settings(quick, "edc/table8")
    sections = {
        title: {
            line.label.partition(", ")[2]: [[cell.published for cell in cells] for cells in line.cells]
            for line in lines
        }
        for title, lines in block.groups
    }
    assert list(sections) == ["Condensation", "Soft labels and evaluation"]
    condensed, judged = sections.values()
    assert condensed["optimizer"] == [["Adam"], []] and judged["optimizer"] == [["AdamW"], []]
    assert judged["epochs"] == [["300"], ["1000"]] and block.columns == ["any ipc", "ipc 1"]
    entries = {
        (entry.row["stage"], entry.row["name"]): entry.ours[0] for entry in quick.settings["edc/table10"]
    }
    assert entries["synthesis", "alpha"] == 0.5
    assert entries["soft_label_and_evaluation", "milestones"] == "800,900,950"


def test_settings_of_a_judge_need_the_protocol_that_judges():
    with pytest.raises(UserError, match="protocol: the table prints how sets are judged"):
        printed.settings_of(spec(paper="edc", table="9"))


def test_it_is_said_that_the_settings_are_those_of_the_papers_scale(quick):
    (block,) = pages.of_settings(quick, "cpdm/table11")
    assert "at the scale paper" in block.caption and "made at the scale quick" in block.caption
    (block,) = pages.of_settings(Plan("paper"), "cpdm/table11")
    assert "at the scale paper" in block.caption and "made at" not in block.caption


def test_networks_that_condense_are_those_of_the_table(quick):
    models = {
        entry.row["dataset"]: entry.text
        for entry in quick.settings["cpdm/table12"]
        if entry.row["name"] == "model"
    }
    assert models == {"cifar10": "convnet", "cifar100": "convnet", "tinyimagenet": "convnetd4", "celeba": ""}
    (block,) = pages.of_settings(quick, "cpdm/table12")
    assert (block.head, block.columns[0]) == ("Setting", "CIFAR-10")


def test_a_changed_recipe_is_marked_and_asks_for_a_reason(tmp_path, monkeypatch):
    """At the scale paper alone: a change there shows, whatever scale the report is of, and makes the table
    anew."""
    before = manifest_digest(manifest(Plan("quick"), "cpdm/table11"))
    (tmp_path / "scales").mkdir()
    changed = yaml.safe_load((catalogue.params_folder() / "scales" / "paper.yaml").read_text())
    changed["recipes"] = {"cpdm": {"batch_real": 100}}
    (tmp_path / "scales" / "paper.yaml").write_text(yaml.safe_dump(changed))
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))
    for kept in (catalogue.scale, catalogue.recipe):
        kept.cache_clear()
    try:
        plan = Plan("quick")
        entry = next(e for e in plan.settings["cpdm/table11"] if e.row["value"])
        assert entry.differs and entry.text == "100"
        (block,) = pages.of_settings(plan, "cpdm/table11")
        assert block.footnotes[0] == f"[1] Differs: {pages.NO_REASON}"
        assert manifest_digest(manifest(plan, "cpdm/table11")) != before
    finally:
        monkeypatch.undo()
        for kept in (catalogue.scale, catalogue.recipe):
            kept.cache_clear()


@pytest.mark.parametrize(
    "given, said",
    [
        ({"table": "99"}, "no row of params/published/hyperparameters.csv"),
        ({"notes": {"image_learning_rat": {"any": "why"}}}, "image_learning_rate"),
        ({"notes": {"image_learning_rate": {"cifar11": "why"}}}, "cifar10"),
        ({"table": "13"}, "setting of the stage"),
    ],
)
def test_what_is_said_of_nothing_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        printed.settings_of(spec(**given))


def test_an_empty_reason_is_refused():
    with pytest.raises(UserError, match="says nothing"):
        spec(notes={"image_learning_rate": {"any": " "}})


def test_a_scale_says_no_more_of_it_than_whether_it_is_made(tmp_path, monkeypatch):
    (tmp_path / "scales").mkdir()
    own = tmp_path / "scales" / "mine.yaml"
    shutil.copy(catalogue.file_of("scales", "quick"), own)
    value = yaml.safe_load(own.read_text()) | {"name": "mine"}
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))
    for limits, made in (({"run": False}, False), ({}, True), ({"ipc": [1]}, None)):
        own.write_text(yaml.safe_dump(value | {"tables": {"cpdm/table10": limits}}))
        catalogue.scale.cache_clear()
        if made is None:
            with pytest.raises(UserError, match="table of settings"):
                Plan("mine")
        else:
            assert ("cpdm/table10" in Plan("mine").settings) == made
    catalogue.scale.cache_clear()
