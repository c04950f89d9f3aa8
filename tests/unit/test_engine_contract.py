"""The contract of engines: whatever is in `engines.ENGINES` keeps it, so that an engine is tested by being
registered."""

import pytest
from contract_helpers import (
    Workshop,
    check_cost,
    check_key,
    check_read,
    check_resumed,
    check_set,
    check_shares,
    needed_parents,
    recipes_of,
    tried,
    variants,
)

from condense import engines
from condense.command import cli
from condense.specs import catalogue

pytestmark = pytest.mark.usefixtures("double", "one_thread")
RECIPES = [name for engine in sorted(engines.ENGINES) for name in recipes_of(engine)]


@pytest.fixture
def workshop(digits, tmp_path, teacher, bank_of):
    return Workshop(digits, tmp_path, lambda recipe: needed_parents(recipe, teacher, bank_of))


def test_every_engine_has_a_recipe_that_can_be_tried():
    assert {catalogue.recipe(name).engine for name in RECIPES} == set(engines.ENGINES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_set_has_the_images_that_were_ordered(name, workshop):
    check_set(workshop, tried(name))


@pytest.mark.parametrize("name", RECIPES)
def test_shares_join_to_the_set_made_in_one_piece(name, workshop):
    for recipe in variants(name):
        check_shares(workshop, recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_stopped_at_every_checkpoint_gives_the_same_bytes(name, workshop, monkeypatch):
    for recipe in variants(name):
        check_resumed(workshop, recipe, monkeypatch)


@pytest.mark.parametrize("engine", sorted(engines.ENGINES))
def test_every_setting_enters_the_key_however_deep_it_lies(engine):
    assert len(check_key(tried(recipes_of(engine)[0]))) > 3


@pytest.mark.parametrize("engine", sorted(engines.ENGINES))
def test_every_setting_is_read(engine, workshop, monkeypatch):
    check_read(engine, workshop, monkeypatch)


@pytest.mark.parametrize("name", RECIPES)
def test_the_plan_and_the_estimate_answer_for_it(name, capsys):
    check_cost(catalogue.recipe(name))
    assert cli.main(["list", "methods"]) == 0
    assert name in capsys.readouterr().out
