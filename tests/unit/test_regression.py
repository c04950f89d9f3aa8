"""Results do not move unnoticed: a tiny run of every recipe against stored values.

Where this fails after a change of the mathematics, raise the recipe's `revision` or the number in `numerics.py`, and
store the new values with `CONDENSE_STORE_REGRESSION=1 pytest tests/unit/test_regression.py`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from matching_helpers import ARCH, METHODS, tiny

from condense import artifacts, jobs
from condense.numerics import NUMERICS

STORED = Path(__file__).with_name("regression.json")


def fingerprint(images: np.ndarray) -> list[float]:
    """Four projections of the images, so that any change of them shows."""
    directions = np.random.RandomState(0).standard_normal((4, images.size)) / np.sqrt(images.size)
    return [round(float(value), 6) for value in directions @ images.ravel().astype(np.float64)]


def steady(method):
    """A tiny run in which what one processor rounds otherwise than another stays small: Adam turns any gradient, even none, into a step."""
    recipe = tiny(method)
    if recipe.optimizer.name != "adamw":
        return recipe
    rates = {"wmdd": 1.0}
    plain = {"name": "sgd", "lr": rates.get(method, 0.01), "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999}
    return tiny(method, optimizer=plain)


@pytest.mark.parametrize("method", METHODS)
def test_a_tiny_run_gives_the_stored_images(method, digits, teacher, bank_of, tmp_path):
    recipe = steady(method)
    trained = {"teacher": teacher if recipe.teacher else None, "bank": bank_of(recipe.networks)}
    job = jobs.ShardJob(recipe, digits / "train.safetensors", **ARCH, ipc=2, seed=0, key="k", **trained)
    jobs.condense_shard(tmp_path / "x.safetensors", job, jobs.Machine("cpu", 1))
    found = fingerprint(artifacts.read_tensors(tmp_path / "x.safetensors", "shard")[0]["images"])
    number = NUMERICS["matching" if recipe.engine == "matching" else "select"]
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if os.environ.get("CONDENSE_STORE_REGRESSION") == "1":
        artifacts.write_json(STORED, stored | {method: {"numerics": number, "revision": recipe.revision, "values": found}})
        pytest.skip("stored")
    assert method in stored, "no stored values for this recipe yet; store them as the head of this file says"
    assert (stored[method]["numerics"], stored[method]["revision"]) == (number, recipe.revision), "store the values of the new number"
    assert found == pytest.approx(stored[method]["values"], rel=2e-3, abs=2e-3)
