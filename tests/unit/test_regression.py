"""Results do not move unnoticed: a tiny run of every recipe against stored values.

Where this fails after a change of the mathematics, raise the recipe's `revision` or the `NUMBER` of its
class, and store the new values with `CONDENSE_STORE_REGRESSION=1 pytest tests/unit/test_regression.py`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from contract_helpers import needed_parents
from matching_helpers import ARCH, METHODS, equals_the_plain_loop, tiny
from matching_helpers import recipe as small

from condense import jobs
from condense.files import artifacts

pytestmark = pytest.mark.usefixtures("double", "one_thread")

STORED = Path(__file__).with_name("regression.json")
# Adam turns any gradient, even the rounding error of none, into a step: in float32 another order of a sum
# shows.
STEADY = [
    method for method in METHODS if getattr(getattr(tiny(method), "optimizer", None), "name", "") != "adamw"
]


@pytest.fixture
def single():
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def images(digits, teacher, bank_of, tmp_path):
    """The images of a tiny run of a recipe; its teacher and bank are in float64 always."""

    def made(recipe):
        parents = needed_parents(recipe, teacher, bank_of)
        job = jobs.ShardJob(
            recipe, digits / "train.safetensors", **ARCH, ipc=2, seed=0, key="k", parents=parents
        )
        jobs.condense_shard(tmp_path / "x.safetensors", job, jobs.Machine("cpu", 1))
        return artifacts.read_tensors(tmp_path / "x.safetensors", "shard")[0]["images"]

    return made


def fingerprint(images: np.ndarray) -> list[float]:
    """Four projections of the images, so that any change of them shows."""
    directions = np.random.RandomState(0).standard_normal((4, images.size)) / np.sqrt(images.size)
    return [round(float(value), 6) for value in directions @ images.ravel().astype(np.float64)]


def check(recipe, images, kind, tolerance):
    """Compares with the values stored for `kind`, or stores them."""
    found = fingerprint(images(recipe))
    number = recipe.NUMBER
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    own = stored.get(recipe.name, {})
    if os.environ.get("CONDENSE_STORE_REGRESSION") == "1":
        numbers = {"numerics": number, "revision": recipe.revision}
        artifacts.write_json(STORED, stored | {recipe.name: own | numbers | {kind: found}})
        pytest.skip("stored")
    assert kind in own, "no stored values for this recipe yet; store them as the head of this file says"
    assert (own["numerics"], own["revision"]) == (number, recipe.revision), (
        "store the values of the new number"
    )
    assert found == pytest.approx(own[kind], rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_a_tiny_run_gives_the_stored_images(method, images):
    check(tiny(method), images, "float64", 1e-5)


@pytest.mark.parametrize("method", STEADY)
def test_so_does_one_in_float32(method, single, images):
    """Other stored values, as torch draws other numbers."""
    check(tiny(method), images, "float32", 2e-3)


@pytest.mark.parametrize("name", ["dm", "ed", "cpdm"])
def test_the_engine_equals_a_plain_loop_over_classes_to_nine_digits(name, train, critic):
    equals_the_plain_loop(small(name, steps=5), train, critic, 1e-9)
