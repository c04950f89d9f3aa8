"""`condense run --minutes`: networks, epochs and steps that fit, by an estimate whose numbers are known."""

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from condense.command import minutes
from condense.command.arguments import parser
from condense.command.cli import VERBS
from condense.command.minutes import ENOUGH_EPOCHS, SHARE, command, recipe_steps
from condense.command.outcome import summary
from condense.command.pipeline import bind
from condense.command.requests import Request, data_of, plan_request, suited
from condense.config import UserError
from condense.specs import catalogue

BEFORE, STEP, EPOCH = 30.0, 0.25, 0.5  # seconds
TRAINED = 2.0  # an epoch of a network that is trained beforehand


@pytest.fixture(autouse=True)
def estimate(monkeypatch):
    """Half a minute for each critic or bank, so much a step and an epoch."""

    def cells(parents, sets, metrics, *, threads, gpu):
        seconds = BEFORE * len(list(parents)) + sum(STEP * cell.recipe.number_of_steps for cell in sets)
        return SimpleNamespace(seconds=seconds + sum(EPOCH * cell.protocol.epochs for cell in metrics))

    monkeypatch.setattr(minutes, "estimate_cells", cells)


def request(tmp_path, **changes):
    return Request(
        images=Path("digits"), out=tmp_path / "out", **{"method": "dm", "ipc": 1, "threads": 1} | changes
    )


def fitted(asked):
    return minutes.fitted(asked, data_of(asked))


@pytest.mark.parametrize(("method", "least"), [("dm", 0), ("cpdm", 1), ("dance", 1)])
def test_as_many_steps_as_fit_beside_what_is_made_before(method, least, tmp_path):
    chosen = fitted(request(tmp_path, method=method, minutes=2.0))
    parents = len(plan_request(chosen).parents)
    assert parents >= least and chosen.steps == (120 - BEFORE * parents) / STEP
    assert plan_request(chosen).sets[0].recipe.number_of_steps == chosen.steps
    judged = [cell.protocol.epochs for cell in plan_request(chosen).metrics]
    assert chosen.epochs == 120 and judged == [120, 120], "half a second each, of two minutes"


def test_no_more_steps_than_the_recipe_has_and_no_more_epochs_than_the_protocol(tmp_path):
    plain = request(tmp_path)
    chosen = fitted(request(tmp_path, minutes=1e5))
    assert (
        chosen.steps == recipe_steps(plain, data_of(plain)) == recipe_steps(chosen, data_of(chosen)) == 20000
    )
    assert chosen.epochs is None and plan_request(chosen).metrics[0].protocol.epochs == 200
    assert "--method dm --ipc 1 --steps 20000 --threads 1" in command(chosen)
    few = fitted(request(tmp_path, minutes=0.5))
    assert "--steps 120 --epochs 30 " in command(few) and few.epochs == 30
    assert fitted(plain) is plain


def test_what_leaves_no_time_for_a_step_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="about 0.5 minutes here for one step and what has to be made before it"
    ):
        fitted(request(tmp_path, method="cpdm", minutes=0.4))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"minutes": 0.0}, "positive"),
        ({"minutes": float("nan")}, "positive"),
        ({"minutes": 1.0, "steps": 5}, "--steps: --minutes chooses"),
        ({"minutes": 1.0, "pretrain_epochs": 5}, "--pretrain-epochs: 'dm' trains nothing beforehand"),
        ({"minutes": 1.0, "pretrain_networks": 5}, "--pretrain-networks: 'dm' has no bank"),
        ({"minutes": 1.0, "method": "idm", "pretrain_epochs": 5}, "trains nothing beforehand"),
        ({"minutes": 1.0, "method": "cpdm", "pretrain_networks": 5}, "'cpdm' has no bank"),
        ({"minutes": 1.0, "method": "random"}, "takes no steps"),
        ({"minutes": 1.0, "method": "whole"}, "keeps every image"),
        ({"minutes": 1.0, "ipc": 1000}, "smallest class"),
    ],
)
def test_senseless_requests_are_refused(changes, said, tmp_path):
    with pytest.raises(UserError, match=said):
        fitted(request(tmp_path, **changes))


def test_a_run_goes_on_with_what_was_chosen_before(tmp_path, monkeypatch):
    asked = request(tmp_path, minutes=2.0)
    first = fitted(asked)
    bind(first.out, plan_request(first), first)
    monkeypatch.setattr(minutes, "estimate_cells", lambda *_, **__: pytest.fail("it was chosen already"))
    assert fitted(asked) == first
    bind(first.out, plan_request(first), first)
    monkeypatch.undo()
    with pytest.raises(UserError, match="holds another run"):
        other = replace(first, minutes=None, steps=7)
        bind(first.out, plan_request(other), other)


@pytest.fixture
def by_epochs(monkeypatch):
    """So much for each epoch of each network, as for each step and each epoch of judging."""

    def cells(parents, sets, metrics, *, threads, gpu):
        numbers = [getattr(getattr(cell, "networks", None), "count", 1) * cell.epochs for cell in parents]
        seconds = TRAINED * sum(numbers) + sum(STEP * cell.recipe.number_of_steps for cell in sets)
        return SimpleNamespace(seconds=seconds + sum(EPOCH * cell.protocol.epochs for cell in metrics))

    monkeypatch.setattr(minutes, "estimate_cells", cells)


def trained(chosen):
    return chosen.pretrain_networks, chosen.pretrain_epochs


@pytest.mark.parametrize(
    ("method", "minutes", "networks", "epochs"),
    [
        ("dance", 200.0, 20, 60),  # 40 minutes, of a third of 200: all that the recipe has
        ("dance", 60.0, 10, 60),  # 1,200 s of 3,600: as many networks of all epochs
        ("dance", 10.0, 3, 33),  # 200 s: three networks, of fewer epochs
        ("dance", 1.0, 2, 5),  # 20 s: no three of 4 epochs
        ("dance", 0.2, 1, 2),
        ("tgdd", 10.0, 1, 60),  # one of 60 epochs serves where all of them are kept
        ("tgdd", 1.0, 1, 10),
        ("cpdm", 10.0, None, 100),
        ("dm_subspace", 1.0, 2, 5),
    ],
)
def test_a_third_of_the_time_goes_into_what_is_trained_beforehand(
    method, minutes, networks, epochs, by_epochs, tmp_path
):
    chosen = fitted(request(tmp_path, method=method, minutes=minutes))
    assert trained(chosen) == (networks, epochs) and SHARE == 1 / 3 and ENOUGH_EPOCHS == 4
    work = plan_request(chosen)
    (parent,) = work.parents
    assert parent.protocol.epochs == epochs and parent.protocol.least_updates == 0
    assert networks is None or parent.networks.count == networks
    left = 60 * minutes - TRAINED * epochs * (networks or 1)
    assert (
        work.sets[0].recipe.number_of_steps
        == chosen.steps
        == min(recipe_steps(chosen, work.data), left / STEP)
    )


def test_what_all_steps_leave_goes_into_what_is_trained_beforehand(by_epochs, tmp_path):
    chosen = fitted(request(tmp_path, method="dance", minutes=70.0))
    assert (chosen.steps, trained(chosen)) == (10_000, (14, 60)), "1,700 s are left, a third would be 1,400"


def test_what_is_asked_for_is_taken_and_the_rest_chosen(by_epochs, tmp_path):
    asked = request(tmp_path, method="dance", minutes=10.0)
    assert trained(fitted(replace(asked, pretrain_epochs=7))) == (14, 7)
    assert trained(fitted(replace(asked, pretrain_networks=5))) == (5, 20)
    both = fitted(replace(asked, pretrain_networks=5, pretrain_epochs=50, epochs=9))
    assert (*trained(both), both.epochs, both.steps) == (5, 50, 9, 400)


def test_the_least_is_one_epoch_of_one_network(by_epochs, tmp_path):
    chosen = fitted(request(tmp_path, method="dance", minutes=0.04))
    assert (*trained(chosen), chosen.steps) == (1, 1, 1), "2 s of 2.4, though a third is 0.8"
    with pytest.raises(UserError, match="what has to be made before it, the least of it; give more minutes"):
        fitted(request(tmp_path, method="dance", minutes=0.03))


@pytest.mark.parametrize("method", ["dance", "cpdm", "best"])
def test_the_command_that_is_printed_asks_for_the_same(method, by_epochs, tmp_path):
    chosen = fitted(request(tmp_path, method=method, minutes=2.0, seed=3))
    program, verb, *options = shlex.split(command(chosen))
    assert (program, verb) == ("condense", "run")
    read = vars(parser(VERBS).parse_args([verb, *options]))
    again = Request(**{name: read[name] for name in Request.__dataclass_fields__ if name in read})
    assert plan_request(again).key == plan_request(chosen).key and again.minutes is None


def test_a_run_goes_on_with_the_networks_and_epochs_that_were_chosen(by_epochs, tmp_path, monkeypatch):
    asked = request(tmp_path, method="best", ipc=10)
    first = fitted(asked)
    assert first.minutes == 10.0 and trained(first) == (1, 60), "what its recipe says where nobody does"
    bind(first.out, plan_request(first), first)
    monkeypatch.setattr(minutes, "estimate_cells", lambda *_, **__: pytest.fail("it was chosen already"))
    assert fitted(asked) == fitted(replace(asked, minutes=10.0)) == first
    other = fitted(replace(asked, pretrain_epochs=3))
    assert other == replace(first, pretrain_epochs=3)
    with pytest.raises(UserError, match="holds another run"):
        bind(first.out, plan_request(other), other)


def test_only_recipes_that_say_so_have_minutes_of_their_own(tmp_path):
    for asked in (request(tmp_path), request(tmp_path, method="best", steps=5)):
        assert fitted(asked) is asked and asked.minutes is None


def test_another_method_takes_the_place_of_the_default_where_images_do_not_suit_it(tmp_path):
    unnamed = Request(Path("digits"), tmp_path, named=False)
    spec = data_of(unnamed).spec
    assert suited(unnamed, spec).method == "best_plain", "cells of 4 pixels"
    large = replace(spec, size=24, smallest_class=40)
    assert suited(unnamed, large) is unnamed and unnamed.method == catalogue.DEFAULT_METHOD == "best"
    assert suited(unnamed, replace(large, smallest_class=39)).method == "best_plain"
    named = replace(unnamed, named=True)
    assert suited(named, spec) is named


def told(tmp_path, method, own, random, spread=0.5):
    asked = request(tmp_path, method=method, ipc=10, steps=5)
    results = [{"mean": mean, "std": spread, "n_networks": 3} for mean in (own, random)]
    work = plan_request(asked)
    return summary(asked, work, results[: len(work.sets)])


def test_a_set_that_is_no_better_than_random_is_said_in_the_last_lines(tmp_path):
    for own in (50.0, 49.0):
        said = told(tmp_path, "best", own, 50.0)
        assert f"no better than 10 real images a class taken at random: {own:.2f} % against 50.00 %" in said
        last = said[said.index("no better") :]
        assert "Do not train on it" in last and "--minutes" in last and "--method best_plain" in last
    assert "--method" not in told(tmp_path, "best_plain", 49.0, 50.0).split("no better")[1]
    assert "no better" not in told(tmp_path, "dm", 52.0, 50.0)
    assert "within the spread" in told(tmp_path, "dm", 50.4, 50.0)
    assert "within the spread" not in told(tmp_path, "dm", 51.4, 50.0)
