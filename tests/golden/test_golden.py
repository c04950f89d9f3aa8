"""Golden numbers: every entry of the manifest in the folder that CONDENSE_FIXTURES names, compared within its
tolerance.

A case bears the entry's id. What is not built yet is skipped under `<id>:<output>`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, NOT_BUILT, Fixture

from condense.config import unknown

FOLDER = Path(os.environ.get("CONDENSE_FIXTURES") or Path(__file__).parent / "fixtures")
ENTRIES = {
    entry["id"]: entry
    for entry in json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))["fixtures"]
}


def pending_outputs(entry: dict[str, Any]) -> list[str]:
    """The outputs of an entry that nothing computes yet: for a family that is not built, all those the
    manifest lists."""
    if entry["family"] in NOT_BUILT:
        return list(entry["outputs"])
    family = FAMILIES.get(entry["family"])
    return [name for name in entry["arrays"] if family and re.fullmatch(family.pending, name)]


def load(entry: dict[str, Any]) -> Fixture:
    with np.load(FOLDER / entry["file"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    stated = {name: (tuple(facts["shape"]), facts["dtype"]) for name, facts in entry["arrays"].items()}
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == stated, (
        "the file is not what the manifest says"
    )
    return Fixture(entry, arrays)


def assert_close(name: str, ours: Any, golden: np.ndarray, rtol: float, atol: float) -> None:
    """|ours - golden| <= atol + rtol * |golden| everywhere; a scalar is stored with shape (1,)."""
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours)
    if golden.shape == (1,):
        ours = ours.reshape(1) if ours.size == 1 else ours
    assert ours.shape == golden.shape, f"{name}: shape {ours.shape} instead of {golden.shape}"
    np.testing.assert_allclose(
        ours.astype(np.float64),
        golden.astype(np.float64),
        rtol=rtol,
        atol=atol,
        equal_nan=False,
        err_msg=name,
    )


@pytest.mark.parametrize("name", ENTRIES)
def test_golden(name: str) -> None:
    entry = ENTRIES[name]
    if entry["family"] in NOT_BUILT:
        pytest.skip(
            f"the family '{entry['family']}' is not built yet: "
            + ", ".join(f"{name}:{output}" for output in entry["outputs"])
        )
    if entry["family"] not in FAMILIES:
        raise unknown("family", entry["family"], {*FAMILIES, *NOT_BUILT}, name)
    family, fixture = FAMILIES[entry["family"]], load(entry)
    ours = family.compute(fixture)
    given = {output for output in fixture.arrays if re.fullmatch(f"{family.inputs}|{family.pending}", output)}
    assert set(ours) == set(fixture.arrays) - given, (
        "every output is compared, and every array is an output, an input or pending"
    )
    for output, value in ours.items():
        assert_close(f"{name}:{output}", value, fixture.arrays[output], **entry["tolerance"])


@pytest.mark.parametrize(
    "case", [f"{name}:{output}" for name, entry in ENTRIES.items() for output in pending_outputs(entry)]
)
def test_not_built(case: str) -> None:
    pytest.skip("not built yet")
