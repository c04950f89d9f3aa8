"""Table and figure specs: every setting changes the recipe as the paper says it, and nothing else; what a
scale cuts of them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from condense import plan, specs
from condense.command import cli
from condense.config import UserError, merged, read
from condense.plan import Maker
from condense.plan.groups import groups
from condense.plan.manifests import manifest
from condense.plan.published import published_rows
from condense.plan.tables import Plan
from condense.report.settings import printed_row
from condense.specs import FigureSpec, TableLimits, TableSpec, catalogue
from condense.specs.common import check_name

ROOT = Path(__file__).resolve().parents[2]
SPECS = Plan.specs_by_path()
PAPERS = {row["paper"] for row in published_rows()}  # figures of one's own are compared with nothing
COMPARING = sorted(
    name
    for name, spec in SPECS.items()
    if isinstance(spec, FigureSpec) and spec.points and spec.paper in PAPERS
)


@pytest.fixture(scope="module")
def paper():
    return Plan("paper")


def recipe_of(name, paper, **wanted):
    """The resolved recipes of the published rows of a table that have these values; they are all the same."""
    rows = [
        row for row in paper.tables[name] if all(row.published[key] == value for key, value in wanted.items())
    ]
    found = [run.cells[0].synthetic.recipe for row in rows for run in row.runs]
    assert found and all(one == found[0] for one in found)
    return found[0]


def term(recipe, name):
    return next(one for one in recipe.terms if one.name == name)


@pytest.mark.parametrize(
    "name",
    [name for name, spec in SPECS.items() if isinstance(spec, TableSpec) and spec.settings and not spec.rows],
)
def test_settings_are_those_of_the_published_rows(name):
    spec, rows = SPECS[name], published_rows()
    own = [row for row in rows if (row["paper"], row["table"]) == (spec.paper, spec.table)]
    elsewhere = [row for printed in spec.printed for row in printed.found_in(rows)]
    named = {row["setting"] for row in [*own, *elsewhere]}
    assert set(spec.settings) == named - set(spec.not_measured)


@pytest.mark.parametrize("share", [round(0.1 * tenth, 1) for tenth in range(11)])
def test_neighbours_are_the_printed_share(share, paper):
    setting = "k=1*ipc" if share == 1 else f"k={share}*ipc"
    found = recipe_of("ddm/table6", paper, setting=setting)
    plain = paper.maker.recipe("dm_icd", plan.data_cell("cifar10"), 10, {})
    assert term(found, "intra_class_diversity").neighbours == share
    kept = [
        replace(one, neighbours=0.2) if one.name == "intra_class_diversity" else one for one in found.terms
    ]
    assert replace(found, terms=kept) == plain


@pytest.mark.parametrize("setting, layers", [("1", [1]), ("2", [2]), ("3", [3]), ("1+2+3", None)])
def test_style_is_matched_at_the_printed_blocks(setting, layers, paper):
    found = recipe_of("ddm/table8", paper, setting=f"sm_blocks={setting}")
    assert [one.name for one in found.terms] == ["mean", "moments", "gram"]
    assert [one.layers for one in found.terms[1:]] == [layers, layers]
    assert [one.name for one in recipe_of("ddm/table8", paper, setting="sm_blocks=none").terms] == ["mean"]


def test_without_partition_an_image_is_what_it_was(paper):
    found = recipe_of("idm/table4", paper, setting="partition=1x1", train_arch="vgg11")
    usual = paper.maker.recipe("idm", plan.data_cell("cifar10"), 10, {})
    assert (found.decode, found.init) == (None, "real") and (usual.decode.factor, usual.init) == (2, "mosaic")
    assert replace(found, decode=usual.decode, init=usual.init) == usual
    assert recipe_of("idm/table4", paper, method="dm", setting="").name == "dm"


@pytest.mark.parametrize("setting, decode", [("1x1", None), ("2x2", (2, "columns")), ("3x3", (3, "rows"))])
def test_partitions_of_idm(setting, decode):
    found = recipe_of("idm/table3", Plan("quick"), setting=f"partition={setting}").decode
    assert decode == (found and (found.factor, found.order))


def test_rows_without_a_change_are_the_recipes_themselves(paper):
    for name in ("ddm/table2", "ddm/table5", "idm/table2"):
        cells = [cell.synthetic for row in paper.tables[name] for run in row.runs for cell in run.cells]
        assert cells and {cell.recipe.name for cell in cells} >= {"dm"}
        for cell in cells:
            number = cell.data.spec.smallest_class if cell.ipc == "full" else cell.ipc
            assert cell.recipe == paper.maker.recipe(cell.recipe.name, cell.data, number, {})
    whole = {
        cell.eval_arch
        for row in paper.tables["ddm/table2"]
        for run in row.runs
        for cell in run.cells
        if cell.synthetic.ipc == "full"
    }
    assert (
        whole == {"resnet18"}
        and recipe_of("ddm/table5", paper, method="whole", dataset="cifar100").name == "whole"
    )


# What lies along the x axis of a figure, read from a resolved recipe.
ALONG = {
    "ddm/figure5b": lambda recipe: term(recipe, "moments").weight / term(recipe, "gram").weight,
    "ddm/figure5c": lambda recipe: term(recipe, "moments").weight / 5000,
    "ddm/figure6beta": lambda recipe: term(recipe, "intra_class_diversity").weight,
    "ddm/figure6lambda": lambda recipe: (term(recipe, "moments").weight + term(recipe, "gram").weight) / 2,
    "idm/figure3": lambda recipe: recipe.networks.epochs,
    "idm/figure5": lambda recipe: term(recipe, "cross_entropy").weight,
    "idm/figure6": lambda recipe: recipe.networks.train_steps,
    "idm/figure7": lambda recipe: recipe.networks.largest,
}


@pytest.mark.parametrize("name", [name for name in COMPARING if name != "ddm/figure3a"])
def test_a_point_lies_at_the_value_its_recipe_has(name, paper):
    curves = [curve for curve in paper.figures[name].curves if not curve.point.level]
    assert len(curves) > 4 and len(
        {cell.synthetic.key for curve in curves for cell in curve.cells}
    ) == 5 * len(curves)
    for curve in curves:
        recipe = curve.cells[0].synthetic.recipe
        assert ALONG[name](recipe) == pytest.approx(curve.point.x, rel=1e-12)
        # Nothing but what lies along the axis differs from the method itself.
        usual = paper.maker.recipe(curve.method, curve.cells[0].synthetic.data, curve.ipc, {})
        assert replace(recipe, terms=usual.terms, networks=usual.networks) == usual
        assert [one.name for one in recipe.terms] == [one.name for one in usual.terms]


@pytest.mark.parametrize("name", COMPARING)
def test_every_printed_number_of_a_point_is_one_published_row(name):
    spec = SPECS[name]
    printed = {
        point.name: row["mean"] for point in spec.points if (row := printed_row(spec, point, spec.ipc[0]))
    }
    known = {
        "ddm/figure3a": {"DM": "48.9", "DM + MM + CM": "52.29", "DM + MM + CM + ICD": "53.0"},
        "ddm/figure5c": {"1": "33.9"},
        "idm/figure3": {"DM (random networks)": "29.7", "DM + model sampling": "32.0"},
        "idm/figure6": {"10": "45.1"},
    }
    assert printed and printed == known.get(name, printed)
    wrong = replace(spec.points[-1], published=specs.Printed("1", "no such setting"))
    with pytest.raises(UserError, match="0 rows have .*no such setting"):
        printed_row(spec, wrong, spec.ipc[0])


def test_epochs_of_trained_networks_win_over_their_protocol_and_change_the_bank(paper):
    banks = {
        c.point.x: c.cells[0].synthetic.parents["bank"]
        for c in paper.figures["idm/figure3"].curves
        if c.method == "dm_trained"
    }
    assert {x: (bank.protocol.epochs, bank.networks.count) for x, bank in banks.items()} == {
        x: (x, 100) for x in range(10, 61, 10)
    }
    assert len({bank.key for bank in banks.values()}) == 6
    usual = catalogue.protocol("idm_networks")
    assert banks[20].protocol == replace(usual, epochs=20)
    networks = read(specs.TrainedNetworks, {"kind": "trained", "protocol": "idm_networks"}, "x")
    assert networks.trained_by(usual) is usual
    with pytest.raises(UserError, match="epochs: must be at least 1"):
        replace(networks, epochs=0)


FIGURE = {
    "kind": "figure", "paper": "ddm", "figure": "9z", "title": "T", "draw": "accuracy_by_setting",
    "dataset": "cifar10", "ipc": [10], "methods": ["dm"], "points": [{"x": 1.0}, {"x": 2.0}],
}  # fmt: skip


@pytest.mark.parametrize(
    "change, message",
    [
        ({"points": []}, "is needed for 'draw: accuracy_by_setting'"),
        ({"draw": "images"}, "only 'draw: accuracy_by_setting' shows them"),
        ({"points": [{"x": 1.0}, {"x": 1.0}]}, "two are called '1'"),
        ({"points": [{"x": 1.0}, {"label": "b"}]}, "either all have an x"),
        ({"points": [{}]}, "needs a label or an x"),
        ({"points": [{"x": 1.0, "level": True}]}, "leave x out"),
        ({"points": [{"x": 0.0}], "log": True}, "above 0"),
        ({"points": [{"x": 1.0, "method": "ed"}]}, "methods: dm, but the points have ed"),
        ({"points": [{"x": 1.0, "chnage": {}}]}, "did you mean 'change'"),
    ],
)
def test_points_that_cannot_be_drawn_together_are_refused(change, message):
    assert read(FigureSpec, FIGURE, "f").lines == [("dm", specs.Point(x=1.0)), ("dm", specs.Point(x=2.0))]
    with pytest.raises(UserError, match=message):
        read(FigureSpec, FIGURE | change, "f")


def limited(name, **limits):
    """The quick plan with other limits of one table or figure."""
    found = Plan("quick")
    found.scale = replace(found.scale, tables=found.scale.tables | {name: TableLimits(**limits)})
    found.maker = Maker(found.scale)
    return found


def test_a_scale_leaves_out_settings_and_architectures_and_says_so():
    rows = limited("idm/table4", train_archs=["vgg11"]).tables["idm/table4"]
    assert {row.published["train_arch"] for row in rows if row.runs} == {"vgg11"}
    assert {row.reason for row in rows if not row.runs} == {"not run at quick"}
    rows = limited("ddm/table8", settings=["sm_blocks=2"]).tables["ddm/table8"]
    assert [row.published["setting"] for row in rows if row.runs] == ["sm_blocks=2"]
    figure = limited("ddm/figure5b", settings=["1", "10"]).figures["ddm/figure5b"]
    assert [curve.point.name for curve in figure.curves] == ["1", "10"] and figure.cut == (
        "0.01",
        "0.1",
        "100",
    )


def test_stand_ins_and_changes_of_one_table_stay_there():
    limits = {"datasets": {"tinyimagenet": ["digits"]}, "changes": {"steps": 7}, "ipc": [10]}
    scale = limited("ddm/table5", **limits)
    runs = [
        run
        for row in scale.tables["ddm/table5"]
        for run in row.runs
        if row.published["dataset"] == "tinyimagenet"
    ]
    assert runs and {run.dataset for run in runs} == {"digits"}
    assert {
        cell.synthetic.recipe.steps for run in runs for cell in run.cells if cell.synthetic.ipc == 10
    } == {7}
    others = [
        cell.synthetic.recipe
        for name in scale.tables
        if name.startswith("cpdm") and not scale.limits(name).changes
        for cell in scale.metrics_of(name)
    ]
    own = {name for name, change in scale.scale.recipes.items() if "steps" in change}
    matched = [recipe for recipe in others if isinstance(recipe, specs.MatchingRecipe)]
    assert {recipe.steps for recipe in matched if recipe.name not in own} == {200}
    assert 7 not in {recipe.steps for recipe in matched}
    assert not any(
        run
        for row in scale.tables["ddm/table1"]
        for run in row.runs
        if row.published["dataset"] == "tinyimagenet"
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ddm/table8": {"settings": ["sm_blocks=4"]}}, "unknown setting 'sm_blocks=4'; did you mean"),
        ({"ddm/figure5b": {"settings": ["3"]}}, "unknown setting '3'"),
        ({"idm/table4": {"train_archs": ["vgg12"]}}, "did you mean 'vgg11'"),
        ({"idm/table2": {"datasets": {"cifar100": ["digit"]}}}, "did you mean 'digits'"),
        ({"idm/table2": {"settings": []}}, "write 'run: false'"),
    ],
)
def test_a_scale_that_names_what_is_not_there_is_refused(change, message, tmp_path, monkeypatch):
    folder = catalogue.params_folder()
    values = merged(
        yaml.safe_load((folder / "scales" / "quick.yaml").read_text()), {"name": "odd", "tables": change}
    )
    (tmp_path / "params").mkdir()
    for path in folder.iterdir():
        if path.name != "scales":
            (tmp_path / "params" / path.name).symlink_to(path.resolve())
    (tmp_path / "params" / "scales").mkdir()
    (tmp_path / "params" / "scales" / "odd.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        Plan("odd")


def test_quick_measures_something_of_every_figure_and_of_every_method_that_is_built():
    scale = Plan("quick")
    assert all(bool(figure.curves) != figure.spec.computed for figure in scale.figures.values())
    built = set(catalogue.names_in("methods"))
    for name, rows in scale.tables.items():
        told = {row.published["method"] for row in rows if row.reason == "method not built yet"}
        assert not told & built, name
    asked = {curve.method for name in COMPARING for curve in scale.figures[name].curves}
    assert asked == {method for name in COMPARING for method in SPECS[name].methods}


def test_an_estimate_and_the_groups_know_the_points(paper):
    name = "idm/figure7"
    keys = {cell.synthetic.key for cell in paper.metrics_of(name)}
    assert len(keys) == 30 and keys <= {cell.key for group in groups(paper) for cell in group.cells}
    assert len({cell.synthetic.parents["bank"].key for cell in paper.metrics_of(name)}) == 30
    assert manifest(paper, name)["inputs"] == [cell.path for cell in paper.metrics_of(name)]


def test_estimates_of_a_figure_of_settings_can_be_asked_for(capsys):
    assert cli.main(["estimate", "idm/figure3", "--scale", "quick"]) == 0
    assert "idm/figure3" in capsys.readouterr().out


def test_the_rules_make_whatever_a_name_may_be():
    """A name that the specs take and a wildcard does not would end in Snakemake's words on missing files."""
    text = "".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    )
    found = dict.fromkeys(
        re.findall(r'^ +(paper|name|method|arch|eval_arch|protocol|dataset)="([^"]+)",$', text, re.MULTILINE)
    )
    assert {name for name, _ in found} == {
        "paper",
        "name",
        "method",
        "arch",
        "eval_arch",
        "protocol",
        "dataset",
    }
    for name, pattern in found:
        start = re.match("table|figure|", pattern)[0]
        check_name(name, f"{start}my_own_2")
        assert re.fullmatch(pattern, f"{start}my_own_2"), f"{name}: {pattern}"
