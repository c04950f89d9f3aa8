"""EDC's configurations, and its tables: planned where nothing has the images, too, so that their settings
hold."""

import csv
from dataclasses import replace

import pytest
import yaml
from pytest import approx

from condense.config import UserError
from condense.plan.maker import Maker
from condense.plan.tables import Plan
from condense.report import figures, planted
from condense.specs import catalogue

SCALE = """
name: every
title: All data sets of EDC
n_sets: 1
n_networks: 1
datasets:
  cifar10: [cifar10]
  cifar100: [cifar100]
  tinyimagenet: [tinyimagenet]
  imagenet1k: [imagenet1k]
  imagenet10: [imagenet10]
"""
# What each has beside what the one before it has, as section 3.2 of the paper tells them
STEPS = {
    "b": {"init", "steps"},
    "c": {"evaluation"},
    "d": {"flatness"},
    "e": {"evaluation"},
    "f": {"statistics"},
    "g": {"view", "observers", "evaluation"},
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of the user's own with a scale of all data sets."""
    for kind in ("scales", "tables"):
        (tmp_path / kind).mkdir()
    (tmp_path / "scales" / "every.yaml").write_text(SCALE, encoding="utf-8")
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))
    return tmp_path


def resolved(name, dataset="imagenet1k"):
    from condense.plan import data_cell

    return Maker(catalogue.scale("paper")).recipe(name, data_cell(dataset), 10, {})


@pytest.mark.parametrize("letter", STEPS)
def test_a_configuration_has_one_thing_more_than_the_one_before_it(letter):
    before, after = (
        catalogue.recipe(f"edc_config_{one}").computed_part() for one in (chr(ord(letter) - 1), letter)
    )
    told = ("name", "revision")
    changed = {key for key in {*before, *after} - set(told) if before.get(key) != after.get(key)}
    evaluation = [catalogue.recipe(f"edc_config_{one}").evaluation for one in (chr(ord(letter) - 1), letter)]
    assert changed | ({"evaluation"} if evaluation[0] != evaluation[1] else set()) == STEPS[letter]
    assert evaluation[0].items() <= evaluation[1].items() or letter == "g"


def test_the_last_configuration_is_edc():
    last, edc = (resolved(name, "cifar10") for name in ("edc_config_g", "edc"))
    assert (last.view.crop.least, edc.view.crop.least) == (0.5, 0.08)  # the script's
    assert replace(edc, view=last.view).computed_part() | {"name": ""} == last.computed_part() | {"name": ""}
    for dataset in ("cifar100", "imagenet1k"):
        last, edc = (resolved(name, dataset).computed_part() for name in ("edc_config_g", "edc"))
        if dataset == "imagenet1k":
            edc.pop("patches")  # and RDED's start, which Table 6 has and no configuration names
        assert {key: last[key] for key in last if key != "name"} == {
            key: edc[key] for key in edc if key != "name"
        }


def test_a_configuration_with_labels_says_which_judges_serve():
    maker = Maker(catalogue.scale("quick"))
    made = maker.synthetic("digits16", "edc_config_g", "convnet", 1, 0)
    assert maker.metrics(made, "convnet", "edc_config").protocol.average.decay == 0.99
    with pytest.raises(
        UserError, match="'dc' compares with classes alone: .* one of edc, edc_cifar10, edc_config,"
    ):
        maker.metrics(made, "convnet", "dc")


def test_every_setting_of_the_tables_is_planned_where_the_images_are_there(own):
    plan = Plan("every")
    for number in (1, 2, 3, 4, 5, *range(11, 22)):
        for row in plan.tables[f"edc/table{number}"]:
            why = ("built" in row.reason, "difference" in row.reason, "no seconds" in row.reason)
            assert row.runs or any(why) or "needs observers" in row.reason, row.published
    (row,) = [
        row
        for row in plan.tables["edc/table5"]
        if row.published["setting"] == "alpha=0.25;zeta=2.0;weak_aug=1;ema=1"
        and row.published["eval_arch"] == "resnet50"
    ]
    (cell,) = row.runs[0].cells
    assert cell.eval_arch == "tv_resnet50" and cell.protocol.average.decay == 0.99
    assert cell.synthetic.recipe.statistics.classes == 0.75
    assert cell.synthetic.recipe.view.crop.least == 0.5


def test_rows_are_judged_with_the_zeta_and_the_batch_that_they_name(own):
    """Settings are laid over those of the configuration: what a row leaves out would stay as that has it."""
    plan, seen = Plan("every"), set()
    for number in (3, 4, 5, *range(12, 22)):
        for row in plan.tables[f"edc/table{number}"]:
            said = dict(part.split("=") for part in row.published["setting"].split(";") if "=" in part)
            for cell in (cell for run in row.runs for cell in run.cells):
                if said.get("zeta"):
                    assert cell.protocol.schedule.stretch == float(said["zeta"]), row.published
                    seen.add((number, said["zeta"]))
                if said.get("batch_size"):
                    assert cell.protocol.batch == int(said["batch_size"]), row.published
    assert {(3, "1.0"), (3, "2.0"), (14, "1.0"), (21, "3")} <= seen


def test_a_method_is_judged_as_its_code_does_where_it_does_so(own):
    judged = {}
    for row in Plan("every").tables["edc/table1"]:
        published = row.published
        if published["eval_arch"] == "resnet18" and published["ipc"] == "10":
            judged[published["method"], published["dataset"]] = [run.judge for run in row.runs]
    assert judged["g_vbsm", "cifar10"] == ["", "g_vbsm"] and judged["g_vbsm", "cifar100"] == [""]
    assert judged["rded", "tinyimagenet"] == ["", "rded"]
    assert judged["rded", "imagenet1k"] == ["", "rded_imagenet1k"] and judged["edc", "cifar10"] == [""]


def test_rows_of_a_dataset_are_judged_as_the_table_says(own):
    rows = [row for row in Plan("every").tables["edc/table1"] if row.published["method"] == "edc"]
    judged = {
        (row.published["dataset"], row.published["eval_arch"]): (cell.protocol.name, cell.eval_arch)
        for row in rows
        for cell in row.runs[0].cells
    }
    assert judged["cifar10", "resnet18"] == ("edc_cifar10", "resnet18_bn")
    assert judged["cifar100", "resnet101"] == ("edc", "resnet101_bn")
    assert judged["tinyimagenet", "mobilenet_v2"] == ("edc_tinyimagenet", "mobilenet_v2")
    assert judged["imagenet10", "resnet50"] == ("edc_imagenet10", "tv_resnet50")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"by_dataset": {"svhn": {"protocol": "dc"}}}, "by_dataset: unknown dataset 'svhn'"),
        ({"by_dataset": {"cifar10": {"protocol": "dd"}}}, "unknown protocol 'dd'"),
        ({"by_dataset": {"cifar10": {"archs": {"resnet19": "resnet18"}}}}, "unknown architecture 'resnet19'"),
        ({"by_dataset": {"cifar10": {}}}, "neither data nor a protocol nor archs"),
        ({"by_dataset": {"cifar10": {"judges": {"dm": "dc"}}}}, "cifar10: judges: unknown method 'dm'"),
        ({"by_dataset": {"cifar10": {"judges": {"edc": "dd"}}}}, "unknown protocol 'dd'"),
        ({"not_measured": {"iterations=26": "why"}}, "not_measured: unknown .*iterations=26"),
    ],
)
def test_what_a_table_says_of_rows_that_it_does_not_have_is_refused(change, told, own):
    table = yaml.safe_load(catalogue.file_of("tables", "edc_table18").read_text(encoding="utf-8"))
    (own / "tables" / "edc_table18.yaml").write_text(yaml.safe_dump(table | change), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        Plan("every").tables  # noqa: B018


def test_a_setting_that_is_not_measured_says_why(own):
    rows = Plan("every").tables["edc/table19"]
    assert sum(bool(row.runs) for row in rows) == 4
    assert {row.reason for row in rows if not row.runs} == {
        "needs observers that 100 epochs of ImageNet-1k in 32 pixels came before"
    }


def test_a_mixture_is_found_by_the_statistics_of_its_parts_and_not_by_those_of_all(tmp_path):
    figures.make_figure(Plan("quick"), "edc/figure2a", tmp_path / "f.png")
    with open(tmp_path / "f.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    away = {}
    for form in planted.FORMS:
        far = []
        for part, centre in enumerate(planted.CENTRES):
            mine = [row for row in rows if (row["form"], row["part"]) == (form, str(part))]
            points = [(float(row["x"]), float(row["y"])) for row in mine]
            assert len(points) == planted.DISTILLED
            mean = [sum(values) / len(points) for values in zip(*points, strict=True)]
            far.append(max(abs(a - b) for a, b in zip(mean, centre, strict=True)))
        away[form] = max(far)
    assert away["form (2)"] < 0.3 and away["both, alpha 0.5"] < 0.5 and away["form (1)"] > 1.5


def test_schedules_are_drawn_as_their_equations_have_them(tmp_path):
    figures.make_figure(Plan("quick"), "edc/figure6", tmp_path / "f.png")
    with open(tmp_path / "f.csv", encoding="utf-8", newline="") as file:
        factors = {(row["schedule"], int(row["epoch"])): float(row["factor"]) for row in csv.DictReader(file)}
    assert factors["cosine", 150] == approx(0.5) and factors["smoothed, zeta 2", 299] == approx(0.5, abs=0.01)
    assert factors["SSRS, zeta 2", 250] / factors["SSRS, zeta 2", 251] == approx(6, rel=0.05)


def test_a_figure_of_no_set_names_none_and_others_do(own):
    for text, told in (
        ("draw: rates_by_epoch, dataset: cifar10", "dataset: 'draw: rates_by_epoch' shows no set"),
        ("draw: images, methods: [dm], ipc: [1]", "dataset, methods, ipc: at least one of each"),
    ):
        figure = f"{{kind: figure, paper: ours, figure: '91', title: None, {text}}}"
        (own / "tables" / "ours_figure91.yaml").write_text(figure, encoding="utf-8")
        with pytest.raises(UserError, match=told):
            catalogue.table("ours_figure91")


def test_data_that_is_no_copy_of_the_published_dataset_is_refused(own):
    table = yaml.safe_load(catalogue.file_of("tables", "edc_table18").read_text(encoding="utf-8"))
    table["by_dataset"] = {"cifar10": {"data": "cifar100"}}
    (own / "tables" / "edc_table18.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
    with pytest.raises(UserError, match="'cifar100' does not say that it `copies` cifar10"):
        assert Plan("every").tables
