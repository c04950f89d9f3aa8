"""Choosing k of the n images of one class: at random, by herding, by greedy k-centre, by forgetting events.

Features are (n, d), numpy arrays or tensors, and are measured in double precision. Every choice is an int64
array (k,) of distinct indices, in the order of choice, so that its first entries are the choice for a smaller
k (a random one: for the same generator state). Equal candidates are taken in the order of their indices. All
raise UserError if k is not between 1 and n.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from condense.config import UserError


def random_choice(n: int, k: int, generator: torch.Generator) -> NDArray[np.int64]:
    """k of n, uniformly, without replacement."""
    check_size(k, n)
    return torch.randperm(n, generator=generator)[:k].numpy()


def herding(features: ArrayLike | torch.Tensor, k: int) -> NDArray[np.int64]:
    """Step i (from 0) takes the unused sample nearest to (i + 1) * mean - sum of those taken, so their mean
    stays near the mean.

    Source: Welling 2009; the nearest sample, not the farthest as one published implementation has it.
    """
    points = as_double(features)
    check_size(k, len(points))
    # Around the mean the target is minus the sum of those taken, and stays small.
    points = points - points.mean(0)
    squares = np.square(points).sum(1)
    total = np.zeros(points.shape[1])
    order = np.empty(k, dtype=np.int64)
    free = np.ones(len(points), dtype=bool)
    for step in range(k):
        distance = squares + 2 * (points @ total)
        order[step] = np.where(free, distance, np.inf).argmin()
        free[order[step]] = False
        total += points[order[step]]
    return order


def k_center(features: ArrayLike | torch.Tensor, k: int, first: int) -> NDArray[np.int64]:
    """Greedy k-centre: after `first`, always the sample farthest (Euclidean) from its nearest centre.

    Raises ValueError if `first` is not an index. Source: Sener & Savarese 2018.
    """
    features = as_double(features)
    check_size(k, len(features))
    if not 0 <= first < len(features):
        raise ValueError(f"the first of {len(features)} samples cannot be {first}")
    order = np.empty(k, dtype=np.int64)
    order[0] = first
    nearest = np.full(len(features), np.inf)
    for step in range(1, k):
        nearest = np.minimum(nearest, _squares_to(features, order[step - 1]))
        # A copy of a centre is at distance 0 too, and the centre itself must not come twice
        nearest[order[:step]] = -1
        order[step] = nearest.argmax()
    return order


def k_center_radius(features: ArrayLike | torch.Tensor, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """The covering radius after each choice: the greatest Euclidean distance of a sample to its nearest
    centre so far."""
    features = as_double(features)
    nearest = np.full(len(features), np.inf)
    radius = np.empty(len(order))
    for step, centre in enumerate(order):
        nearest = np.minimum(nearest, _squares_to(features, centre))
        radius[step] = np.sqrt(nearest.max())
    return radius


def forgetting_counts(correct: ArrayLike | torch.Tensor) -> NDArray[np.int64]:
    """How often each sample was forgotten: correct (visits, n) booleans, one row a visit -> (n,).

    A forgetting event is a visit at which a sample is wrong after it was right at the visit before. One that
    was never right has 0. `correct` is recorded in training batches, augmentation included. Source: Toneva et
    al. 2019; DeepCore.
    """
    correct = np.asarray(torch.as_tensor(correct).cpu(), dtype=bool)
    return (correct[:-1] & ~correct[1:]).sum(0, dtype=np.int64)


def forgetting(counts: ArrayLike | torch.Tensor, k: int) -> NDArray[np.int64]:
    """The k samples with the most forgetting events (n,)."""
    counts = np.asarray(torch.as_tensor(counts).cpu(), dtype=np.int64)
    check_size(k, len(counts))
    return np.argsort(-counts, kind="stable")[:k]


def as_double(features: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    """Features as an array in double precision."""
    return torch.as_tensor(features).detach().to("cpu", torch.float64).numpy()


def _squares_to(features: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    return np.square(features - features[index]).sum(1)


def check_size(k: int, n: int) -> None:
    """Raises UserError if k is not between 1 and n."""
    if not 1 <= k <= n:
        raise UserError(f"{k} images were asked of a class that has {n}: choose an ipc from 1 to {n}")
