"""What every engine owes, whoever adds it; and an engine that is registered here alone, to see that two lines
are all it takes."""

import json
from collections import Counter
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

import pytest
import torch
from contract_helpers import (
    Workshop,
    check_cost,
    check_key,
    check_read,
    check_resumed,
    check_set,
    check_shares,
    tried,
)

from condense import engines, specs
from condense.command import cli, documented
from condense.command.documented import classes_in
from condense.config import UserError, convert
from condense.engines import terms
from condense.engines.orders import Order, Outcome, Site
from condense.evaluate import tasks
from condense.files import read_set
from condense.files.checkpoints import Checkpoint
from condense.plan import Maker
from condense.plan.curves import figure_of
from condense.plan.groups import groups
from condense.plan.numerics import NUMERICS
from condense.plan.tables import Plan
from condense.specs import catalogue
from condense.specs.common import not_by_default
from condense.specs.costs.work import Shard, Work

DEFAULTS = Path(__file__).with_name("engine_defaults.json")


@dataclass(frozen=True, kw_only=True)
class MeanRecipe(specs.Recipe):
    """Every synthetic image is the mean of its class, times `scale`, and in `rounds` lighter by `light`."""

    NUMBER: ClassVar[int] = 1

    engine: Literal["mean_of_tests"]
    scale: float = 1.0
    light: float = 0.0
    rounds: int = 1

    def work(self, shard: Shard) -> Work:
        return Work(flops_forward=shard.classes * shard.ipc)


def mean_of_classes(site, orders):
    def made(order):
        means = torch.stack([site.data.of_class(label).mean(0) for label in site.classes])[:, None]
        lighter = order.recipe.light * order.recipe.rounds
        return means.expand(-1, order.ipc, -1, -1, -1) * order.recipe.scale + lighter

    return [Outcome(made(order)) for order in orders]


YAML = """
name: mean_image
title: Mean images
source: {paper: ours}
engine: mean_of_tests
scale: 0.5
"""


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """The engine in both registries, and a recipe of it in a folder of the user's own."""
    monkeypatch.setattr(specs.engines, "AnyRecipe", specs.engines.AnyRecipe | MeanRecipe)
    monkeypatch.setitem(specs.engines.ENGINES, "mean_of_tests", MeanRecipe)
    monkeypatch.setitem(engines.ENGINES, "mean_of_tests", mean_of_classes)
    (tmp_path / "own" / "methods").mkdir(parents=True)
    (tmp_path / "own" / "methods" / "mean_image.yaml").write_text(YAML, encoding="utf-8")
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path / "own"))
    for read in (catalogue.recipe, catalogue.scale):
        read.cache_clear()
    yield
    for read in (catalogue.recipe, catalogue.scale):
        read.cache_clear()


def test_every_engine_that_makes_sets_has_recipes_a_function_and_a_cost():
    making = {name for name, kind in specs.ENGINES.items() if kind.makes_set}
    assert making == set(engines.ENGINES)
    assert all(specs.ENGINES[name].work is not specs.Recipe.work for name in making)
    used = {catalogue.recipe(name).engine for name in catalogue.names_in("methods")}
    assert used == set(specs.ENGINES)


def test_an_engine_of_another_name_is_refused():
    with pytest.raises(UserError, match="unknown value 'matchin'; did you mean 'matching'"):
        convert(
            specs.AnyRecipe,
            {"name": "a", "title": "b", "source": {"paper": "ours"}, "engine": "matchin"},
            "a.yaml",
        )
    with pytest.raises(
        UserError, match=f"a.yaml: the key 'engine' is missing: one of {', '.join(specs.ENGINES)}"
    ):
        convert(specs.AnyRecipe, {"name": "a", "title": "b", "source": {"paper": "ours"}}, "a.yaml")
    with pytest.raises(UserError, match="unknown engine 'no_engine'"):
        engines.engine("no_engine")


def test_what_has_its_settings_and_no_function_is_told(monkeypatch):
    """The half of a registration: the word says where the other half goes."""
    monkeypatch.delitem(engines.ENGINES, "gradient")
    with pytest.raises(
        UserError,
        match="engine 'gradient' has a recipe class but no function in condense.engines.ENGINES; add "
        '`"gradient":',
    ):
        engines.engine("gradient")
    with pytest.raises(UserError, match="unknown engine 'whole'"):  # which makes no set
        engines.engine("whole")
    monkeypatch.delitem(tasks.TASKS, "drift")
    with pytest.raises(
        UserError,
        match="task 'drift' has a class in AnyTask but no function in condense.evaluate.tasks.TASKS",
    ):
        tasks.task_function("drift")
    monkeypatch.delitem(terms.TERMS, "gram")
    with pytest.raises(
        UserError, match="term 'gram' has a class in AnyTerm but no function in condense.engines.terms.TERMS"
    ):
        terms.objective("gram")


@pytest.mark.parametrize(
    ("kind", "word", "said"),
    [
        (specs.AnyLoss, "soft", r"loss: a mapping is needed, found the text 'soft': write \{name: soft\}"),
        (specs.AnyLoss, "distillation", r"write \{name: distillation, temperature: ...\}"),
        (specs.AnyLoss, "sfot", "loss: name: unknown value 'sfot'; did you mean 'soft'"),
        (specs.AnyNetworkOptimizer, "sgd", r"write \{name: sgd, lr: ...\}"),
    ],
)
def test_a_word_in_place_of_settings_is_answered_with_their_form(kind, word, said):
    with pytest.raises(UserError, match=said):
        convert(kind, word, "loss")


def test_a_setting_of_another_engine_is_refused():
    with pytest.raises(UserError, match="unknown key 'terms'"):
        convert(specs.AnyRecipe, asdict(catalogue.recipe("random")) | {"terms": []}, "a.yaml")
    with pytest.raises(UserError, match="unknown key 'selection'"):
        convert(specs.AnyRecipe, asdict(catalogue.recipe("dm")) | {"selection": "random"}, "a.yaml")


def test_an_engine_added_here_is_planned_under_a_key_that_every_setting_enters(registered):
    maker = Maker(catalogue.scale("quick"))
    cell = maker.synthetic("digits", "mean_image", "convnet", 3, 0)
    other = {"name": "other", "revision": 2, "scale": 2.0, "light": 0.25, "rounds": 5}
    changed = {
        name: replace(cell, recipe=replace(cell.recipe, **{name: value})) for name, value in other.items()
    }
    assert set(other) == {field.name for field in fields(MeanRecipe)} - set(MeanRecipe.DESCRIBING) - {
        "engine"
    }
    assert Counter([cell.key, *(one.key for one in changed.values())]).most_common(1)[0][1] == 1
    for name in MeanRecipe.DESCRIBING:
        if name not in ("source", "requires"):
            described = replace(cell, recipe=replace(cell.recipe, **{name: None}))
            assert described.key == cell.key, f"{name} only describes"


def test_its_number_enters_the_key_too(registered, monkeypatch):
    before = Maker(catalogue.scale("quick")).synthetic("digits", "mean_image", "convnet", 3, 0).key
    monkeypatch.setattr(MeanRecipe, "NUMBER", 2)
    assert Maker(catalogue.scale("quick")).synthetic("digits", "mean_image", "convnet", 3, 0).key != before


def test_it_runs_from_the_command_line(registered, digits, tmp_path, capsys):
    out = tmp_path / "shard.safetensors"
    words = [
        "synthesize",
        "--data",
        str(digits),
        "--recipe",
        "mean_image",
        "--arch",
        "none",
        "--ipc",
        "2",
        "--out",
        str(out),
    ]
    assert cli.main(words) == 0
    assert (
        cli.main(
            [
                "gather",
                "--shards",
                str(out),
                "--data",
                str(digits),
                "--out",
                str(tmp_path / "set" / "synthetic.safetensors"),
            ]
        )
        == 0
    )
    tensors, header = read_set(tmp_path / "set" / "synthetic.safetensors")
    assert header["method"] == "mean_image" and header["steps"] == 0 and header["recipe"]["scale"] == 0.5
    pairs = tensors["images"].reshape(10, 2, -1)
    assert (pairs[:, 0] == pairs[:, 1]).all() and abs(pairs - pairs[:1]).max() > 0.1
    capsys.readouterr()
    assert cli.main([*words[:-1], str(tmp_path / "other"), "--with", "teacher=x.safetensors"]) == 2
    assert "unknown name 'teacher'" in capsys.readouterr().err


def test_it_keeps_the_contract_of_engines(registered, digits, tmp_path, monkeypatch):
    workshop, recipe = Workshop(digits, tmp_path, lambda recipe: {}), tried("mean_image")
    check_set(workshop, recipe)
    check_resumed(workshop, recipe, monkeypatch)
    check_cost(recipe)
    check_read(recipe.engine, workshop, monkeypatch)
    assert (
        check_key(recipe) >= {"scale", "light", "rounds", "revision", "name"}
        and check_shares(workshop, recipe) is None
    )
    monkeypatch.setattr(MeanRecipe, "splits_by", lambda self, ties_batch: "classes")
    assert check_shares(workshop, recipe) == "classes"


def test_an_engine_that_breaks_the_contract_is_found(registered, digits, tmp_path, monkeypatch):
    workshop, recipe = Workshop(digits, tmp_path, lambda recipe: {}), tried("mean_image")
    with monkeypatch.context() as patch:
        patch.setattr(MeanRecipe, "computed_part", lambda self: {"name": self.name, "scale": self.scale})
        with pytest.raises(AssertionError, match="mean_of_tests: revision does not enter the key"):
            check_key(recipe)

    def as_light(site, orders):
        return mean_of_classes(site, [replace(order, recipe=tried("mean_image")) for order in orders])

    with monkeypatch.context() as patch:
        patch.setitem(engines.ENGINES, "mean_of_tests", as_light)
        with pytest.raises(AssertionError, match="its function reads no light, rounds, scale: use it there"):
            check_read("mean_of_tests", workshop, patch)
    monkeypatch.setattr(MeanRecipe, "splits_by", lambda self, ties_batch: "classes")

    def darker(site, orders):
        return [Outcome(made.images / len(site.classes)) for made in mean_of_classes(site, orders)]

    monkeypatch.setitem(engines.ENGINES, "mean_of_tests", darker)
    with pytest.raises(AssertionError, match="mean_image: images, made in shares of classes"):
        check_shares(workshop, recipe)
    monkeypatch.setattr(MeanRecipe, "number_of_steps", 3)
    with pytest.raises(AssertionError, match="a step keeps no checkpoint"):
        check_resumed(workshop, recipe, monkeypatch)


def outcome(**changes):
    images = torch.zeros(2, 3, 1, 8, 8)
    return Outcome(**{"images": images, "tensors": {"soft_labels": torch.full((2, 3, 10), 0.1)}} | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"images": torch.zeros(2, 3, 1, 4, 4)},
            r"engine 'select': 'images' are \(2, 3, 1, 4, 4\), not \(2, 3, 1, 8, 8\)",
        ),
        ({"images": torch.zeros(2, 4, 1, 8, 8)}, "'images' are"),
        ({"images": torch.zeros(1, 3, 1, 8, 8)}, "'images' are"),
        ({"images": torch.zeros(2, 3, 1, 8, 8, requires_grad=True)}, "'images' still has a gradient"),
        ({"snapshots": {5: torch.zeros(2, 3, 3, 8, 8)}}, "'snapshot 5' are"),
        ({"tensors": {"soft_labels": torch.zeros(2, 4, 10)}}, "'soft_labels' are"),
        ({"tensors": {"rate": torch.zeros(3)}}, "'rate' are"),
        ({"tensors": {"My Latents/x": torch.zeros(2, 3)}}, "a tensor needs a name"),
    ],
)
def test_an_outcome_that_was_not_ordered_is_told_before_it_is_written(changes, said, train):
    site = Site(train, (4, 7), "none", {}, 0, torch.device("cpu"))
    order = Order(catalogue.recipe("random"), 3, {}, Checkpoint(None, ""))
    outcome().check(site, order)
    with pytest.raises(ValueError, match=said):
        outcome(**changes).check(site, order)


@pytest.mark.parametrize("name", ["images", "tensors", "of_set"])
def test_a_value_that_is_no_number_is_told_by_the_tensor(name, train):
    site = Site(train, (4, 7), "none", {}, 0, torch.device("cpu"))
    order = Order(catalogue.recipe("random"), 3, {}, Checkpoint(None, ""))
    wrong = torch.full((2, 3, 1, 8, 8), torch.nan)
    with pytest.raises(UserError, match="random: some values of '(images|rate)' are no numbers"):
        outcome(**{name: wrong if name == "images" else {"rate": wrong}}).check(site, order)


def test_what_an_engine_cannot_use_is_not_to_be_required():
    with pytest.raises(UserError, match="requires: the engine 'gradient' has no use for 'clip'"):
        convert(specs.AnyRecipe, asdict(catalogue.recipe("dsa")) | {"requires": "clip"}, "a.yaml")


def changed(monkeypatch, changes, name="ddm/table6"):
    """The plan of quick with `changes` to the recipes of a table or figure."""
    plan = Plan("quick")
    limits = replace(plan.limits(name), changes=changes)
    monkeypatch.setattr(Plan, "limits", lambda self, asked: limits if asked == name else specs.TableLimits())
    return plan


def test_a_change_of_a_scale_is_laid_over_recipes_that_have_the_setting(monkeypatch):
    plan = changed(monkeypatch, {"steps": 5, "never_heard_of": 3})
    with pytest.raises(UserError, match="changes: .*'never_heard_of'"):
        assert plan.tables
    with pytest.raises(UserError, match="changes: .*'loop'"):  # a setting of an engine that the table has not
        assert changed(monkeypatch, {"loop": {"outer": 2}}).tables
    cells = changed(monkeypatch, {"steps": 7}).metrics_of("ddm/table6")
    assert {cell.synthetic.recipe.number_of_steps for cell in cells} == {7}


def test_of_several_changes_each_is_laid_over_the_recipes_that_have_it(monkeypatch):
    plan = changed(monkeypatch, {"loop": {"outer": 3}, "steps": 7}, "cpdm/table1")
    steps = {
        cell.synthetic.recipe.name: cell.synthetic.recipe.number_of_steps
        for cell in plan.metrics_of("cpdm/table1")
    }
    assert steps["dm"] == 7 and steps["dsa"] == 21 and steps["random"] == 0


COVERED = {
    "kind": "figure", "paper": "ddm", "figure": "9z", "title": "T", "draw": "accuracy_by_setting",
    "dataset": "cifar10", "ipc": [10], "methods": ["minimum_covering"],
}  # fmt: skip


def test_a_setting_of_a_point_is_refused_by_a_method_that_has_it_not(monkeypatch):
    plan = Plan("quick")
    spec = convert(
        specs.FigureSpec,
        COVERED | {"points": [{"x": 1.0, "change": {"coverng": {"candidates": 5}}}, {"x": 2.0}]},
        "a.yaml",
    )
    with pytest.raises(UserError, match="coverng"):
        figure_of(plan, "ddm/figure9z", spec)
    points = [{"x": 1.0, "change": {"covering": {"candidates": 5}}}, {"x": 2.0}]
    spec = convert(specs.FigureSpec, COVERED | {"points": points}, "a.yaml")
    (curve, *_) = figure_of(plan, "ddm/figure9z", spec).curves
    assert curve.cells[0].synthetic.recipe.covering.candidates == 5


def test_sets_of_engines_that_share_nothing_are_made_alone():
    plan = Plan("quick")
    for group in groups(plan):
        streams = [cell.recipe.stream for cell in group.cells]
        assert len(streams) == 1 or (None not in streams and all(stream == streams[0] for stream in streams))


def _plain(value):
    """A default as JSON has it; of settings, their class beside their fields."""
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if is_dataclass(value):
        return {"of": type(value).__name__} | {
            entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)
        }
    return value


def _defaults(kind):
    """By class and setting the defaults of all settings that a mapping read as `kind` can hold, but for what
    only describes."""
    stored = {}
    for part in classes_in(kind):
        given = {}
        for entry in fields(part):
            default = entry.default if entry.default_factory is MISSING else entry.default_factory()
            if default is not MISSING and entry.name not in getattr(part, "DESCRIBING", ()):
                given[entry.name] = _plain(default)
        stored[part.__name__] = given
    return stored


# What leaves its defaults out of keys: the name in the file of stored defaults -> the number that stands for
# them, and the class.
NUMBERED = {f"engine {name}": (kind.NUMBER, kind) for name, kind in specs.ENGINES.items()}
NUMBERED |= {f"task {task.folder}": (task.numerics, task) for task in get_args(specs.AnyTask)}
NUMBERED |= {"protocol": (NUMERICS["evaluate"], specs.Protocol)}


def moved_defaults(name, stored):
    """What is wrong with the stored defaults of a name of `NUMBERED`, in words; '' if nothing is."""
    number, kind = NUMBERED[name]
    write = "`python tests/unit/test_engines.py` writes them"
    if name not in stored:
        return f"{name}: no defaults are stored: {write}"
    if stored[name]["number"] != number:
        return (
            f"{name}: the stored defaults are those of the number {stored[name]['number']}, not {number}: "
            f"{write}"
        )
    now = _defaults(kind)
    for part, defaults in stored[name]["defaults"].items():
        for setting, value in defaults.items():
            if now.get(part, {}).get(setting, MISSING) != value:
                return (
                    f"{name}: {part}.{setting} is no longer {value!r} by default: write the new value into "
                    "the recipes, or raise the number"
                )
    missing = [
        f"{part}.{setting}"
        for part in now
        for setting in now[part]
        if setting not in stored[name]["defaults"].get(part, {})
    ]
    return f"{name}: the default of {missing[0]} is not stored: {write}" if missing else ""


@pytest.mark.parametrize("name", NUMBERED)
def test_a_default_changes_only_with_its_number(name):
    """What has its default is left out of keys: a new default under an old number would make old results pass
    for new ones."""
    wrong = moved_defaults(name, json.loads(DEFAULTS.read_text(encoding="utf-8")))
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("name", "part", "setting"),
    [
        ("engine matching", "Plateau", "patience"),
        ("engine matching", "InterClassMargin", "margin"),
        ("engine select", "Covering", "nodes"),
        ("engine gradient", "NetworkSGD", "weight_decay"),
        ("task calibration", "Calibration", "bins"),
        ("protocol", "DistillationLoss", "hard_weight"),
    ],
)
def test_a_default_that_moved_is_told_however_deep_it_lies(name, part, setting):
    stored = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    kept = stored[name]["defaults"][part][setting]
    stored[name]["defaults"][part][setting] = kept + 1
    assert f"{part}.{setting} is no longer {kept + 1!r} by default" in moved_defaults(name, stored)
    del stored[name]["defaults"][part][setting]
    assert f"the default of {part}.{setting} is not stored" in moved_defaults(name, stored)
    stored[name]["number"] = 99
    assert "of the number 99, not" in moved_defaults(name, stored)
    del stored[name]
    assert (
        moved_defaults(name, stored)
        == f"{name}: no defaults are stored: `python tests/unit/test_engines.py` writes them"
    )


def test_what_has_its_default_stays_out_of_keys():
    for name in catalogue.names_in("methods"):
        recipe = catalogue.recipe(name)
        assert recipe.computed_part() == {
            key: value for key, value in not_by_default(recipe).items() if key not in recipe.DESCRIBING
        }
        assert {"name", "engine"} <= recipe.computed_part().keys()


if __name__ == "__main__":
    kept = json.loads(DEFAULTS.read_text(encoding="utf-8")) if DEFAULTS.exists() else {}
    # What has a new number may have new defaults; under an old one old results would pass for new ones
    told = [moved_defaults(name, kept) for name in NUMBERED if name in kept]
    if moved := [sentence for sentence in told if "is no longer" in sentence]:
        raise SystemExit("\n".join(moved))
    numbered = {
        name: {"number": number, "defaults": _defaults(kind)} for name, (number, kind) in NUMBERED.items()
    }
    print(documented.write({DEFAULTS: json.dumps(numbered, indent=1, sort_keys=True) + "\n"}))
