"""Reading true accuracies of networks of a space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.files.artifacts import damaged, read_tensors
from condense.files.headers import TruthHeader, header_as

if TYPE_CHECKING:
    import numpy as np


def read_truth(path: Path) -> tuple[dict[str, np.ndarray], TruthHeader, dict[str, Any]]:
    """True accuracies and what their file says of itself, known and whole: the numbers of the `candidates`
    (n,), and of the networks trained of each their `accuracies` (n, m) in percent and, if they were measured,
    the `seconds` (n, m) that they took.

    Raises UserError as `read_tensors` does, and naming what does not fit.
    """
    tensors, header = read_tensors(path, "truth")
    return tensors, check_truth(path, tensors, header), header


def check_truth(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> TruthHeader:
    """What true accuracies say of themselves. Raises UserError naming what does not fit."""
    import numpy as np

    known = header_as(TruthHeader, header, path)
    candidates, accuracies = tensors.get("candidates"), tensors.get("accuracies")
    if (
        candidates is None
        or candidates.dtype != np.int64
        or candidates.ndim != 1
        or len(candidates) < 2
        or candidates[0] < 0
        or not (np.diff(candidates) > 0).all()
    ):
        raise damaged(path, "its candidates are no ascending numbers of at least two networks")
    if (
        accuracies is None
        or accuracies.dtype != np.float64
        or accuracies.ndim != 2
        or len(accuracies) != len(candidates)
        or not accuracies.size
        or not ((accuracies >= 0) & (accuracies <= 100)).all()
    ):
        raise damaged(path, "it has no percentage for each of its candidates")
    seconds = tensors.get("seconds")
    if (seconds is None) != bool(known.benchmark):
        raise damaged(path, "it has seconds without networks that were trained, or these without seconds")
    if seconds is not None and (
        seconds.dtype != np.float64
        or seconds.shape != accuracies.shape
        or not ((seconds >= 0) & (seconds < 1e11)).all()
    ):
        raise damaged(path, "it does not have the seconds of each training")
    return known
