"""How far one ranking agrees with another.

Source: Spearman's rank correlation, equal values sharing their mean rank; the bootstrap interval of
percentiles (Efron & Tibshirani 1993, section 13.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from condense.machine import seeds

LEVEL = 0.95  # of the interval


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The ranks (n,) of values (n,), from 1, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


def spearman(scores: Sequence[float] | np.ndarray, truth: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation of two rankings of the same n things, from -1 to 1.

    0 where all values of one are equal: such a ranking says nothing of the other. Raises ValueError for
    fewer than two things, or for rankings of different length.
    """
    if len(scores) != len(truth) or len(scores) < 2:
        raise ValueError(f"rankings of {len(scores)} and {len(truth)} things have no correlation")
    first, second = (values - values.mean() for values in (ranks(scores), ranks(truth)))
    size = math.sqrt(float(first @ first) * float(second @ second))
    return min(1.0, max(-1.0, float(first @ second) / size)) if size else 0.0


def best_places(scores: Sequence[float], share: float, least: int) -> list[int]:
    """The places of the best `share` of the scores, but of no fewer than `least` of them; of as many more as
    are equal to the last of these."""
    count = min(len(scores), max(least, math.ceil(share * len(scores))))
    last = sorted(scores, reverse=True)[count - 1]
    return [place for place, score in enumerate(scores) if score >= last]


def spearman_of_best(scores: Sequence[float], truth: Sequence[float], share: float, least: int) -> float:
    """Spearman's rank correlation among those that the scores rank best; see `best_places`."""
    places = best_places(scores, share, least)
    return spearman([scores[place] for place in places], [truth[place] for place in places])


def truth_of_first(scores: Sequence[float], truth: Sequence[float]) -> float:
    """The truth of what the scores rank first; of several first ones the mean, since any of them might be
    chosen."""
    first = [true for score, true in zip(scores, truth, strict=True) if score == max(scores)]
    return math.fsum(first) / len(first)


def spearman_interval(
    scores: Sequence[float], truth: Sequence[float], resamples: int, seed: int
) -> tuple[float, float]:
    """The interval of the central 95 % of Spearman's correlation over `resamples` draws, with replacement, of
    as many of the things as there are."""
    rng = np.random.RandomState(seeds.stream(seed, "bootstrap") % 2**32)
    given, true = np.asarray(scores, dtype=float), np.asarray(truth, dtype=float)
    draws = rng.randint(0, len(given), (resamples, len(given)))
    found = [spearman(given[places], true[places]) for places in draws]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
