"""Rank correlations on planted rankings, against the closed form and by counting."""

import math

import numpy as np
import pytest

from condense.evaluate.correlation import (
    best_places,
    ranks,
    spearman,
    spearman_interval,
    spearman_of_best,
    truth_of_first,
)


def planted(count, seed=0):
    return np.random.RandomState(seed).permutation(count).astype(float)


def test_equal_values_share_the_mean_of_their_ranks():
    assert ranks([30.0, 10.0, 20.0]).tolist() == [3, 1, 2]
    assert ranks([5.0, 7.0, 5.0, 5.0, 9.0]).tolist() == [2, 4, 2, 2, 5]


@pytest.mark.parametrize("count", [2, 5, 12, 100])
def test_a_ranking_agrees_with_itself_and_is_the_opposite_of_its_reverse(count):
    truth = planted(count)
    assert spearman(truth, truth) == spearman(np.exp(truth / count), truth) == 1.0
    assert spearman(-truth, truth) == -1.0


@pytest.mark.parametrize("count, moves", [(10, [(0, 9)]), (12, [(0, 1), (4, 7)]), (100, [(3, 60), (10, 11)])])
def test_planted_exchanges_have_the_closed_form(count, moves):
    """Without ties it is 1 - 6 sum d^2 / (n (n^2 - 1)); an exchange of two ranks has twice their squared
    distance."""
    truth = np.arange(count, dtype=float)
    scores = truth.copy()
    for one, other in moves:
        scores[[one, other]] = scores[[other, one]]
    squares = sum(2 * (one - other) ** 2 for one, other in moves)
    order = planted(count, 3).astype(int)  # the order of the things does not matter
    expected = 1 - 6 * squares / (count * (count**2 - 1))
    assert spearman(scores[order], truth[order]) == pytest.approx(expected)


def test_with_ties_it_is_pearsons_correlation_of_the_ranks():
    scores, truth = [1.0, 1.0, 3.0, 4.0, 4.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    expected = np.corrcoef([1.5, 1.5, 3, 4.5, 4.5], [2, 1, 4, 3, 5])[0, 1]
    assert spearman(scores, truth) == pytest.approx(expected)
    assert spearman([7.0] * 5, truth) == spearman(truth, [7.0] * 5) == 0.0


@pytest.mark.parametrize("given", [([1.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])])
def test_what_has_no_correlation_is_an_error(given):
    with pytest.raises(ValueError, match="have no correlation"):
        spearman(*given)


def test_the_best_are_a_share_but_never_fewer_than_the_least():
    scores = [float(value) for value in range(100)]
    assert best_places(scores, 0.05, 3) == [95, 96, 97, 98, 99]
    assert best_places(scores, 0.05, 8) == list(range(92, 100))
    assert best_places(scores, 0.041, 1) == [95, 96, 97, 98, 99]  # a part of one counts as one
    assert best_places([1.0, 2.0], 0.05, 5) == [0, 1]
    assert best_places([5.0, 3.0, 3.0, 3.0, 1.0], 0.1, 2) == [0, 1, 2, 3]  # equals of the last are in


def test_the_correlation_of_the_best_looks_at_them_alone():
    """The best ten are in the reverse order, all others in the right one."""
    truth = np.arange(50, dtype=float)
    scores = truth.copy()
    scores[40:] = scores[40:][::-1]
    assert spearman_of_best(scores.tolist(), truth.tolist(), 0.2, 3) == -1.0
    assert spearman_of_best(scores.tolist(), truth.tolist(), 0.01, 3) == -1.0
    assert spearman(scores, truth) > 0.9


def test_the_first_is_the_one_that_the_scores_choose():
    assert truth_of_first([1.0, 9.0, 3.0], [90.0, 70.0, 80.0]) == 70.0
    assert truth_of_first([9.0, 9.0, 3.0], [90.0, 70.0, 10.0]) == 80.0


def test_the_interval_is_that_of_resampled_things():
    rng = np.random.RandomState(1)
    truth = rng.randn(60)
    scores = truth + rng.randn(60)
    low, high = spearman_interval(scores, truth, 2000, 0)
    found = spearman(scores, truth)
    assert low < found < high
    assert (
        (low, high) == spearman_interval(scores, truth, 2000, 0) != spearman_interval(scores, truth, 2000, 1)
    )
    # Fisher's transform has the standard error 1 / sqrt(n - 3), for ranks some percent more
    width = math.atanh(high) - math.atanh(low)
    assert width == pytest.approx(2 * 1.96 * 1.06 / math.sqrt(57), rel=0.25)
    assert spearman_interval(truth, truth, 200, 0) == (1.0, 1.0)


def test_the_interval_of_a_ranking_by_chance_holds_zero():
    low, high = spearman_interval(planted(40, 5), planted(40, 6), 1000, 0)
    assert low < 0 < high
