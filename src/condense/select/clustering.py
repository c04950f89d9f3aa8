"""K-means on the features of one class: the real images nearest to the centres of k clusters.

Not scikit-learn's, with which a test compares it: its threads add up in the order in which they end, so that
the last digits of its centres change from run to run.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from condense.select.coreset import as_double, check_size

_ROUNDS = 300  # of Lloyd's iteration, should it not come to rest before


def k_means(features: ArrayLike | torch.Tensor, k: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Which k of the images (n, d) of a class lie nearest to the centres of k clusters: (k,) distinct
    indices, ascending.

    Lloyd's iteration from centres drawn as k-means++ draws them, until no image changes its cluster. Centres
    take their images by turns, the closest pairs first, so that none is taken twice.
    Units: Euclidean distances of the features. Raises UserError if k is not between 1 and n.
    Source: the coreset "kmeans-emb" of DC-Bench (Cui et al. 2022); k-means++: Arthur & Vassilvitskii 2007.
    """
    points = as_double(features)
    check_size(k, len(points))
    centres = lloyd(points, points[_seeds(points, k, generator)])
    return np.sort(_nearest_images(_squares(points, centres)))


def lloyd(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres (k, d), each the mean of those points (n, d) to which it is the nearest, started from
    `centres`.

    A cluster that loses all its points starts anew from the point farthest from its centre.
    """
    cluster = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        squares = _squares(points, centres)
        found = squares.argmin(1)
        gap = squares[np.arange(len(points)), found]
        for empty in np.setdiff1d(np.arange(len(centres)), found):
            # Of clusters that keep another point
            gap[np.bincount(found, minlength=len(centres))[found] < 2] = -1
            far = gap.argmax()
            found[far], gap[far] = empty, -1
        if (found == cluster).all():
            break
        cluster = found
        members = np.zeros((len(centres), len(points)))
        members[cluster, np.arange(len(points))] = 1
        centres = (members @ points) / members.sum(1, keepdims=True)
    return centres


def _seeds(points: NDArray[np.float64], k: int, generator: torch.Generator) -> list[int]:
    """k distinct points: a random one, then each with a probability that grows with its squared distance to
    the nearest so far."""
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    nearest = np.square(points - points[chosen[0]]).sum(1)
    while len(chosen) < k:
        free = np.setdiff1d(np.arange(len(points)), chosen)
        # Where only copies of the chosen are left, any of them
        weight = nearest[free] if nearest[free].sum() > 0 else np.ones(len(free))
        at = float(torch.rand(1, generator=generator, dtype=torch.float64)) * weight.sum()
        place = min(int(np.searchsorted(weight.cumsum(), at, side="right")), len(free) - 1)
        chosen.append(int(free[place]))
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
    return chosen


def _squares(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances (n, k), not below 0."""
    apart = np.square(points).sum(1)[:, None] - 2 * points @ centres.T + np.square(centres).sum(1)
    return np.maximum(apart, 0)


def _nearest_images(squares: NDArray[np.float64]) -> NDArray[np.int64]:
    """For every centre, a column of the squared distances (n, k), a row of its own: the closest pair of those
    left, k times."""
    left, taken = squares.copy(), np.empty(squares.shape[1], dtype=np.int64)
    for _ in range(len(taken)):
        row, column = np.unravel_index(left.argmin(), left.shape)
        taken[column] = row
        left[row], left[:, column] = np.inf, np.inf
    return taken
