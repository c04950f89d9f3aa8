"""What a scale says beside its numbers, and leaves out with a reason: notes of tables, remarks on methods and
architectures, cells that stay empty; and how long it trains the networks of one architecture."""

from dataclasses import replace

import pytest
from report_helpers import made_up_metrics

from condense.config import UserError
from condense.plan import manifests
from condense.plan.tables import Plan
from condense.report import fair, figures, tables
from condense.specs import Scale, catalogue
from condense.specs.scale import TableLimits

PLAIN = catalogue.scale("quick")
WORDS = {"empty": {}, "epochs_of": {}, "remarks": {}}


def planned(monkeypatch, **changes):
    """The plan of quick with these words and no others."""
    scale = replace(PLAIN, **(WORDS | changes))
    monkeypatch.setattr(catalogue, "scale", lambda name: scale)
    return Plan("quick")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_architecture_is_trained_for_epochs_of_its_own(monkeypatch):
    plan, before = planned(monkeypatch, epochs_of={"vit": 777}), planned(monkeypatch)
    plan.metrics, before.metrics  # noqa: B018 (planned while each scale stands)
    asked = {cell.eval_arch: cell.protocol.epochs for cell in plan.metrics.values()}
    assert asked["vit"] == 777 and asked["mlp"] == PLAIN.protocols["dc"]["epochs"]
    changed = set(plan.metrics) ^ set(before.metrics)
    assert changed and all("/vit-dc-" in path for path in changed)  # of no other a key changes
    whole = {cell.protocol.epochs for cell in plan.metrics.values() if cell.synthetic.ipc == "full"}
    assert whole == {PLAIN.whole["epochs"]}  # the whole training set has its own number


def test_what_is_left_empty_has_its_reason(monkeypatch):
    plan = planned(monkeypatch, empty={"vit": "too few updates", "dsa": "too slow here"})
    rows = plan.tables["cpdm/table6"]
    assert rows and all(row.reason for row in rows if row.published["method"] == "dsa")
    by_vit = [row for row in rows if "vit" in row.published["eval_arch"] and row.published["method"] == "dm"]
    assert by_vit and all(row.reason == "too few updates" and not row.runs for row in by_vit)
    assert not [path for path in plan.metrics if "/vit-" in path or "/dsa/" in path]
    assert [row for row in rows if row.runs]  # the others are measured
    assert plan.figures["cpdm/figure1"].missing["dsa"] == "too slow here"


def test_one_table_can_leave_out_more(monkeypatch):
    more = {"ddm/table4": replace(PLAIN.tables["ddm/table4"], empty={"ddm": "diverges", "vgg11": "too slow"})}
    more["cpdm/figure2"] = replace(PLAIN.tables["cpdm/figure2"], empty={"ed": "left out"})
    plan = planned(monkeypatch, tables=PLAIN.tables | more)
    told = {(row.published["method"], row.published["eval_arch"]): row for row in plan.tables["ddm/table4"]}
    assert told["ddm", "convnet"].reason == "diverges" and told["dm", "vgg11"].reason == "too slow"
    assert told["dm", "convnet"].runs and [row for row in plan.tables["ddm/table1"] if row.runs]
    assert plan.figures["cpdm/figure2"].missing == {"ed": "left out"}
    wrong = {"cpdm/figure2": TableLimits(empty={"edd": "left out"})}
    with pytest.raises(UserError, match="tables: cpdm/figure2: empty: unknown method or architecture 'edd'"):
        planned(monkeypatch, tables=PLAIN.tables | wrong)


def test_remarks_and_notes_stand_where_their_numbers_do(monkeypatch, results):
    said = {"dm": "Is said of DM.", "vit": "Is said of ViT.", "herding": "Of herding."}
    limits = {"cpdm/table6": replace(PLAIN.tables["cpdm/table6"], note="Made for two.")}
    limits["cpdm/figure1"] = replace(PLAIN.tables["cpdm/figure1"], note="Drawn for two.")
    plan = planned(monkeypatch, remarks=said, tables=PLAIN.tables | limits)
    made_up_metrics(results)
    tables.make_table(plan, "cpdm/table6", results / "t.csv")
    text = (results / "t.md").read_text()
    assert "Is said of DM." in text and "Is said of ViT." in text and "Of herding." not in text
    assert text.count("Is said of DM.") == 1  # in the block of what was measured
    assert "ResNet152 and ViT. Made for two." in text  # behind the note of the table itself
    assert "Made for two." in (results / "t.tex").read_text()
    notes = figures.footnotes(plan, "cpdm/figure1")
    assert [note for note in notes if "Is said of DM." in note] and plan.note_of(
        "cpdm/figure1"
    ) == "Drawn for two."
    (with_vit, *_) = [one for one in fair.comparisons(plan) if "ViT" in one.block.title]
    assert any("Is said of ViT." in line for line in with_vit.block.footnotes)
    assert not any("Of herding." in line for line in with_vit.block.footnotes)


def test_other_words_make_a_table_anew(monkeypatch):
    before = manifests.manifest(planned(monkeypatch), "cpdm/table1")
    assert manifests.manifest(planned(monkeypatch, remarks={"dm": "New."}), "cpdm/table1") != before
    noted = PLAIN.tables | {"cpdm/table1": TableLimits(note="New.")}
    assert manifests.manifest(planned(monkeypatch, tables=noted), "cpdm/table1") != before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs_of": {"vitt": 5}}, "epochs_of: unknown evaluation architecture 'vitt'; did you mean 'vit'"),
        (
            {"remarks": {"herdin": "x"}},
            "remarks: unknown method or architecture 'herdin'; did you mean 'herding'",
        ),
        ({"empty": {"resnet125": "x"}}, "empty: unknown method or architecture 'resnet125'; did you mean"),
    ],
)
def test_a_name_that_is_none_is_refused(changes, said, monkeypatch):
    with pytest.raises(UserError, match=said):
        planned(monkeypatch, **changes)


def test_what_means_nothing_is_refused():
    with pytest.raises(UserError, match="empty: vit: give the reason"):
        Scale("trial", "a trial", 1, 1, {}, empty={"vit": " "})
    with pytest.raises(UserError, match="epochs_of: vit"):
        Scale("trial", "a trial", 1, 1, {}, epochs_of={"vit": 0})
    with pytest.raises(UserError, match="note"):
        TableLimits(run=False, note="Never seen.")
