"""`condense run --minutes`: steps and epochs that fit, by an estimate whose numbers are known."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from condense.command import minutes
from condense.command.minutes import command, recipe_steps
from condense.command.pipeline import bind
from condense.command.requests import Request, data_of, plan_request
from condense.config import UserError

BEFORE, STEP, EPOCH = 30.0, 0.25, 0.5  # seconds


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
    assert command(chosen) == "--method dm --steps 20000"
    few = fitted(request(tmp_path, minutes=0.5))
    assert command(few) == f"--method dm --steps 120 --epochs {few.epochs}" and few.epochs == 30
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
        ({"minutes": 1.0, "epochs": 5}, "--epochs: --minutes chooses"),
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
