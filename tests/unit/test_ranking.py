"""The scores of DD-Ranking: their formulas by hand, and from which judges a scale takes their accuracies."""

from dataclasses import replace

import pytest
from report_helpers import metrics_of

from condense.config import UserError
from condense.evaluate.ranking import augmentation_robust, label_robust, normalised
from condense.files import artifacts
from condense.plan.tables import Plan
from condense.report.scores import Scores
from condense.specs import catalogue

TABLE = "cpdm/table1"


def test_the_bounds_of_the_scores_and_a_set_that_is_worth_as_much_as_real_images():
    # (1 - .36788) / (2.71828 - .36788) = .63212 / 2.35040
    assert normalised(-1.0) == 0.0 and normalised(1.0) == 1.0
    assert normalised(0.0) == pytest.approx(0.26894, abs=1e-5)
    assert label_robust(real_hard=0.5, hard=0.5, own=0.3, random_own=0.3) == normalised(0.0)
    assert augmentation_robust(
        augmented=0.4, random_augmented=0.4, plain=0.3, random_plain=0.3
    ) == normalised(0.0)


def test_label_robust_by_hand():
    # .5 (.60 - .40) - .5 (.85 - .55) = -.05; (e^-.05 - e^-1) / 2.35040 = (.95123 - .36788) / 2.35040
    value = label_robust(real_hard=0.85, hard=0.55, own=0.60, random_own=0.40)
    assert value == pytest.approx(0.24819, abs=1e-5)
    # Weight .8: .8 * .2 - .2 * .3 = .1; (1.10517 - .36788) / 2.35040
    weighted = label_robust(real_hard=0.85, hard=0.55, own=0.60, random_own=0.40, weight=0.8)
    assert weighted == pytest.approx(0.31369, abs=1e-5)


def test_augmentation_robust_by_hand():
    # .5 (.50 - .30) + .5 (.35 - .25) = .15; (1.16183 - .36788) / 2.35040
    given = {"augmented": 0.50, "random_augmented": 0.30, "plain": 0.35, "random_plain": 0.25}
    assert augmentation_robust(**given) == pytest.approx(0.33779, abs=1e-5)
    # Weight .9: .18 + .01 = .19; (1.20925 - .36788) / 2.35040
    assert augmentation_robust(**given, weight=0.9) == pytest.approx(0.35797, abs=1e-5)


def test_percentages_are_refused():
    with pytest.raises(UserError, match="own: a fraction from 0 to 1 is needed, found 60.0"):
        label_robust(real_hard=0.85, hard=0.55, own=60.0, random_own=0.40)
    with pytest.raises(UserError, match="plain: a fraction"):
        augmentation_robust(augmented=0.5, random_augmented=0.3, plain=-0.1, random_plain=0.25)


NUMBERS = {  # by method and protocol, at ten images a class
    ("whole", "dc"): 90.0,
    ("dm", "dc"): 60.0,
    ("random", "dc"): 40.0,
    ("dm", "dc_unaugmented"): 50.0,
    ("random", "dc_unaugmented"): 38.0,
    ("dm", "idc"): 70.0,
    ("random", "idc"): 52.0,
}


def scored(monkeypatch, tmp_path, judges, **named):
    """The scores of dm at scale quick with table 1 of cpdm alone, under `judges`; metrics are made up."""
    monkeypatch.chdir(tmp_path)
    known = {TABLE: replace(Plan.specs_by_path()[TABLE], judges=judges)}
    monkeypatch.setattr(Plan, "specs_by_path", staticmethod(lambda: known))
    plan = Plan("quick")
    plan.scale = replace(plan.scale, scores=replace(plan.scale.scores, **named))
    for path, cell in plan.metrics.items():
        mean = NUMBERS.get((cell.synthetic.recipe.name, cell.protocol.name), 10.0)
        values = [mean - 1, mean, mean + 1]
        artifacts.write_json(tmp_path / path, metrics_of(cell, {0: values}) | {"run": {}})
    places = plan.comparable.by_place
    (cells,) = (
        cells
        for place, cells in places.items()
        if place[1:] == ("dm", "convnet", 10) and cells[0].protocol.name == "dc"
    )
    return Scores(plan).of(cells)


@pytest.fixture
def only_table(monkeypatch):
    scale = catalogue.scale("quick")
    monkeypatch.setattr(catalogue, "scale", lambda name: replace(scale, tables={}))


def test_a_scale_takes_the_label_robust_score_from_the_judges_that_it_names(
    only_table, monkeypatch, tmp_path
):
    scores = scored(monkeypatch, tmp_path, {})
    # .5 (.60 - .40) - .5 (.90 - .60)
    assert scores["Label-robust"].value == pytest.approx(normalised(-0.05))
    lacking = scores["Augmentation-robust"]
    both = "these were not judged: the method by dc_unaugmented, random by dc_unaugmented"
    assert (lacking.value, lacking.reason) == (None, both)


def test_the_own_protocol_of_a_method_is_used_where_it_was_measured(only_table, monkeypatch, tmp_path):
    scores = scored(monkeypatch, tmp_path, {"dm": "idc", "random": "idc"}, own={"dm": "idc"})
    # .5 (.70 - .52) - .5 (.90 - .60)
    assert scores["Label-robust"].value == pytest.approx(normalised(-0.06))


def test_a_score_without_random_by_the_own_protocol_is_empty(only_table, monkeypatch, tmp_path):
    score = scored(monkeypatch, tmp_path, {"dm": "idc"}, own={"dm": "idc"})["Label-robust"]
    assert (score.value, score.reason) == (None, "these were not judged: random by idc")


def test_the_augmentation_robust_score_of_a_pair_of_judges(only_table, monkeypatch, tmp_path):
    pair = {"dm": "dc_unaugmented", "random": "dc_unaugmented"}
    # .5 (.60 - .40) + .5 (.50 - .38)
    score = scored(monkeypatch, tmp_path, pair)["Augmentation-robust"]
    assert score.value == pytest.approx(normalised(0.16))


def test_judges_that_differ_in_more_than_the_augmentation_give_no_score(only_table, monkeypatch, tmp_path):
    pair = {"dm": "dc_plain", "random": "dc_plain"}
    score = scored(monkeypatch, tmp_path, pair, plain="dc_plain")["Augmentation-robust"]
    assert score.value is None
    assert score.reason == "dc_plain differs from dc in more than the augmentation: in epochs"


def test_both_halves_of_the_score_train_alike_at_every_scale():
    for name in catalogue.names_in("scales"):
        maker = Plan(name).maker
        pair = [maker.protocol(half).computed_part() for half in ("dc", "dc_unaugmented")]
        first, second = ({**half, "name": "", "augment": ""} for half in pair)
        assert first == second, name


def test_a_scale_that_names_no_protocol_is_refused(tmp_path, monkeypatch):
    (tmp_path / "scales").mkdir()
    text = "name: mine\ntitle: mine\nn_sets: 1\nn_networks: 1\ndatasets: {}\nscores: {plain: dc_unaugmentd}\n"
    (tmp_path / "scales" / "mine.yaml").write_text(text)
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))
    with pytest.raises(UserError, match="scores: unknown protocol 'dc_unaugmentd'; did you mean"):
        catalogue.scale.__wrapped__("mine")
