"""What newcomers write wrong in files of their own, and what they are told of it before any work."""

import os
import shutil

import numpy as np
import pytest
import yaml
from bad_input_helpers import BRIEF, NET, recipe, refused, run
from PIL import Image

from condense import engines, specs
from condense.command.values import settings_of
from condense.command.younger import told_of_younger_code
from condense.config import UserError, convert, read, unknown
from condense.data.description import spec_from_images
from condense.data.prepare import prepare
from condense.plan import Maker, data_cell
from condense.plan.checks import require_networks
from condense.plan.tables import Plan
from condense.specs import TableSpec, catalogue
from condense.specs.own_rows import OwnRows
from condense.specs.tasks import Calibration, Discrepancies, base

QUICK = yaml.safe_load((catalogue.params_folder() / "scales" / "quick.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes the scale `mine`, the scale quick with changes, and other files beside it."""
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))

    def write(files=(), **changes):
        for name, values in {"scales/mine.yaml": QUICK | {"name": "mine"} | changes, **dict(files)}.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"architectures": {"convnt": {"width": 8}}},
            "unknown architecture 'convnt'; did you",
        ),
        (
            {"datasets": {"cifar1": ["digits"]}},
            "of a table or figure 'cifar1'; did you mean 'cifar10'",
        ),
        ({"tables": {"cpdm/table4": {"datasets": {"cifar100": ["digits"]}}}}, "figure 'cifar100'"),
        ({"whole": {"epoch": 3}}, "whole: unknown setting 'epoch'; did you mean 'epochs'"),
    ],
)
def test_a_name_that_nothing_has_is_refused_in_a_scale(mine, changes, told):
    mine(**changes)
    with pytest.raises(UserError, match="mine.yaml: .*" + told):
        Plan("mine")


def figure(**changes):
    base = {"kind": "figure", "paper": "ours", "figure": "90", "title": "A", "draw": "accuracy_by_ipc"}
    return base | {"dataset": "cifar10", "methods": ["dm"], "ipc": [10]} | changes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": ["randm"]}, "methods: unknown method 'randm'; did you mean 'random'"),
        ({"dataset": "cifr10"}, "dataset: unknown dataset 'cifr10'; did you mean 'cifar10'"),
        (
            {"eval_arch": "convnt"},
            "figure90.yaml: unknown architecture 'convnt'; did you mean 'convnet'",
        ),
    ],
)
def test_a_name_that_nothing_has_is_refused_in_a_figure(mine, changes, told):
    mine({"tables/ours_figure90.yaml": figure(**changes)})
    with pytest.raises(UserError, match=told):
        require_networks(plan := Plan("mine"), plan.targets)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dept": 1}, "mine.yaml: architectures: .*'convnet': unknown option 'dept'; did you mean 'depth'"),
        ({"depth": 9}, "do not fit; the smallest size that fits is 512 x 512: take larger images"),
    ],
)
def test_options_that_a_network_cannot_have_name_the_scale(mine, options, told):
    mine(architectures=QUICK["architectures"] | {"convnet": options})
    with pytest.raises(UserError, match=told):
        require_networks(plan := Plan("mine"), plan.targets)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ipc": [2]}, "the scale takes 2 images a class, and not 10"),
        ({"datasets": {"cifar100": ["digits"]}}, "no dataset stands in for 'cifar10'"),
        ({"datasets": {"cifar10": ["digits"]}, "ipc": [400]}, "digits: a class has too few images for 400"),
    ],
)
def test_why_nothing_of_a_table_runs_is_told(mine, changes, told):
    ipc = [400] if 400 in changes.get("ipc", ()) else [10]
    rows = [{"dataset": "cifar10", "ipc": ipc, "methods": ["dm"]}]
    table = {"kind": "table", "paper": "ours", "table": "90", "title": "A", "rows": rows}
    tables = {"ours/table90": {}}
    mine({"tables/ours_table90.yaml": table}, tables=tables, only_tables=True, **changes)
    causes = {row.cause for row in Plan("mine").tables["ours/table90"]}
    assert len(causes) == 1 and told in causes.pop()


def test_own_rows_are_filled_from_the_metrics_that_they_name(monkeypatch):
    rows = {"dataset": "cifar10", "ipc": [10], "methods": ["dm", "random"]}
    base = {"kind": "table", "paper": "ours", "table": "90", "title": "A", "task": {"kind": "calibration"}}

    def shown(**named):
        spec = read(TableSpec, base | {"rows": [rows | named]}, "own.yaml")
        known = Plan.specs_by_path() | {"ours/table90": spec}
        monkeypatch.setattr(Plan, "specs_by_path", staticmethod(lambda: known))
        monkeypatch.setattr(Plan, "file_of", classmethod(lambda cls, name: "own.yaml"))
        return [(row.published["method"], row.metric) for row in Plan("quick").tables["ours/table90"]]

    named = ["calibration_error", "brier_score"]
    assert shown(metrics=named) == [(method, metric) for method in ("dm", "random") for metric in named]
    assert shown() == [("dm", "accuracy"), ("random", "accuracy")]
    with pytest.raises(UserError, match="unknown metric 'brier'; did you mean 'brier_score'"):
        shown(metrics=["brier"])
    own = OwnRows("cifar10", ["dm"], [10])
    units = {row["metric"]: row["unit"] for row in own.as_published("ours", "9", lambda _: Discrepancies())}
    assert units == dict.fromkeys(Discrepancies.metrics, "")


def test_a_name_may_have_other_letters_or_another_case():
    known = catalogue.names_in("methods")
    assert "'dm'" in str(unknown("method", "DM", known)) and "'dm'" in str(unknown("method", "dn", known))


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (float, "1e3", "found the text '1e3': write 1000"),
        (float, "1e-9", "write 0.000000001"),
        (int, "2.0e4", "write 20000"),
        (int, 20000.0, "a whole number is needed, found the number 20000.0: write 20000"),
        (int, float("nan"), "a whole number is needed, found the number nan"),
        (int, True, "a whole number is needed, found true"),
        (str, None, "a text is needed, found nothing"),
        (list[str], "classes", "a list is needed, found the text 'classes': write [classes]"),
    ],
)
def test_a_value_is_shown_as_it_is_to_be_written(kind, value, told):
    with pytest.raises(UserError, match=told.replace("[", r"\[")):
        convert(kind, value, "a.yaml: key")


def test_what_a_class_says_of_its_field_is_not_said_twice():
    with pytest.raises(UserError, match="^a.yaml: optimizer: lr"):
        read(specs.Protocol, yaml.safe_load(BRIEF) | {"optimizer": {"lr": -1.0}}, "a.yaml")


def test_files_that_are_not_read_or_stand_for_another_are_told(mine):
    folder = mine({"methods/mine.yml": "name: mine\n"})
    with pytest.raises(UserError, match="mine.yml: settings are read from files called .yaml; rename it"):
        catalogue.recipe("mine")
    path = folder / "p.yaml"
    path.write_text(BRIEF.replace('"brief"', '"dc"'), encoding="utf-8")
    with pytest.raises(UserError, match="p.yaml: name: 'dc' is a protocol of the project"):
        settings_of(specs.Protocol, str(path), "protocol")
    shutil.copy(catalogue.file_of("protocols", "dc"), path)
    assert settings_of(specs.Protocol, str(path), "protocol") == catalogue.protocol("dc")
    labels = {"name": "observers", "observers": [{"protocol": "obsrver"}]}
    path.write_text(yaml.safe_dump(yaml.safe_load(BRIEF) | {"labels": labels, "loss": {"name": "mse"}}))
    with pytest.raises(UserError, match="labels: observers: unknown protocol 'obsrver'; did you mean"):
        settings_of(specs.Protocol, str(path), "protocol")


def test_tasks_that_are_half_or_twice_there_are_told():
    class Half(base.Task):
        folder, title, metrics = "half", "half a task", Calibration.metrics

    class Twice(Calibration):
        pass

    with pytest.raises(TypeError, match="task Half: does not say its `numerics`"):
        base.tasks_of((Half,))
    with pytest.raises(TypeError, match="Twice: folder 'calibration': Calibration has it already"):
        base.tasks_of((Calibration, Twice))


def test_more_images_or_smaller_cells_than_there_are_say_what_would_do():
    maker, digits = Maker(catalogue.scale("quick")), data_cell("digits")
    with pytest.raises(UserError, match="its smallest class has 139 images; ask for at most"):
        maker.synthetic(digits, "dm", "convnet", 200, 0)
    with pytest.raises(UserError, match="factor 5: of 8 pixels less than two would be left to a cell"):
        maker.synthetic(digits, "idm", "convnet", 1, 0, {"decode": {"factor": 5}})


def test_a_term_that_gives_one_number_for_all_classes_is_told(digits, tmp_path, monkeypatch):
    wrong = engines.terms.Objective(lambda views, term: views.synthetic_embedding.mean())
    monkeypatch.setitem(engines.terms.TERMS, "mean", wrong)
    told = refused(*synthesis_of(digits, tmp_path / "shard.safetensors", recipe()))
    assert "the term 'mean' gives a value of shape (), where one a class is needed, (10,)" in told


def synthesis_of(digits, out, settings):
    data = ("--data", digits / "train.safetensors")
    return ("synthesize", *data, "--recipe", settings, "--ipc", 1, *NET, "--out", out)


def test_images_that_do_not_move_are_told(digits, tmp_path, caplog):
    still = recipe(terms=[{"name": "variance"}])
    assert run(*synthesis_of(digits, tmp_path / "shard.safetensors", still))[0] == 0
    assert "moves no image: its loss does not change with them" in caplog.text


def test_an_empty_argument_is_told():
    assert "an argument is empty" in run("run", "digits", "--method", "", "--out", "x")[1]


def test_a_name_that_may_mean_two_things_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for command in (("run", "digits"), ("judge", __file__, "--data", "digits")):
        assert "lies here too: write ./digits for that" in refused(*command, "--out", tmp_path / "out")
    assert "holds one class only" not in (told := refused("run", "./digits", "--out", tmp_path / "out"))
    assert str(tmp_path / "digits") in told


def test_test_images_that_are_training_images_are_told(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(5):
            picture = Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8))
            for copy in "ab":
                picture.save(tmp_path / "own" / name / f"{number}{copy}.png")
    prepare(spec_from_images(tmp_path / "own"), tmp_path / "out")
    assert "test images are training images, too: accuracies will be too high" in capsys.readouterr().err


def test_code_that_is_younger_than_its_set_is_told(tmp_path):
    cell = Maker(catalogue.scale("quick")).synthetic(data_cell("digits"), "dm", "convnet", 1, 0)
    made = tmp_path / "synthetic.safetensors"
    made.touch()
    assert not told_of_younger_code(made, cell.arch, cell.recipe.terms)
    os.utime(made, (1, 1))
    assert "(the network 'convnet')" in told_of_younger_code(made, "convnet")
    told = told_of_younger_code(made, cell.arch, cell.recipe.terms)
    assert "mean.py (the term 'mean')" in told and "(the network 'convnet')" in told
