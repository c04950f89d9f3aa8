"""Minimum finite covering: k images of a class within the smallest possible distance of all others.

For a subset of a class the Hausdorff distance to the class is its covering radius, so this is the discrete
k-centre problem. Whether k centres cover everything within a radius is a set-cover programme in binary
variables (solved by HiGHS); the smallest radius is found by bisection over the distances that occur. Source:
discrepancy, section 5.1.4 (Chen & Selvan 2025).
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack
from scipy.spatial.distance import cdist

from condense.config import UserError
from condense.select.coreset import as_double, check_size, k_center

_BATCH = 20  # images that a solution leaves uncovered and that enter the programme at once


class Search(Protocol):
    """How far centres are searched for; `specs.selection.Covering` says what each setting means."""

    @property
    def candidates(self) -> int | Literal["all"]: ...
    @property
    def largest(self) -> int: ...
    @property
    def nodes(self) -> int: ...


def minimum_covering(
    features: ArrayLike | torch.Tensor, k: int, first: int, settings: Search
) -> NDArray[np.int64]:
    """Which k of the images (n, d) of a class cover it within the smallest Euclidean distance: (k,) distinct
    indices, ascending.

    With `candidates: all` no k images are better. Otherwise none are among the candidates: the centres that
    greedy k-centre finds from `first`, and those images that would be the best single centres of what these
    have around them, taken in turns. So it is never worse than greedy k-centre. Equal sets are told apart by
    the solver alone. Raises: UserError if k is not between 1 and n, if `all` is asked for of more than
    `largest` images, or if a programme needs more than `nodes` nodes.
    """
    features = as_double(features)
    check_size(k, len(features))
    if settings.candidates == "all" and len(features) > settings.largest:
        raise UserError(
            f"a class has {len(features)} images, more than the {settings.largest} up to which the best "
            "covering is searched for among all: give a number of candidates (covering: candidates) in the "
            "recipe, or raise 'largest'"
        )
    greedy = k_center(features, k, first)
    if settings.candidates == "all":
        candidates = np.arange(len(features))
    else:
        candidates = _candidates(features, greedy, settings.candidates)
    apart = cdist(features, features[candidates])
    chosen = _best_centres(apart, np.searchsorted(candidates, greedy), greedy, k, settings.nodes)
    return np.sort(_filled(features, candidates[chosen], k))


def _candidates(features: NDArray[np.float64], centres: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` images (but all centres), ascending; see `minimum_covering`."""
    cluster = cdist(features, features[centres]).argmin(1)
    rank = np.zeros(len(features), dtype=np.int64)
    for number in range(len(centres)):
        members = (cluster == number).nonzero()[0]
        reach = cdist(features[members], features[members]).max(1)
        rank[members[np.argsort(reach, kind="stable")]] = np.arange(len(members))
    rank[centres] = -1
    return np.sort(np.argsort(rank, kind="stable")[: max(count, len(centres))])


def _best_centres(
    apart: NDArray[np.float64], start: NDArray[np.int64], rows: NDArray[np.int64], k: int, nodes: int
) -> NDArray[np.int64]:
    """At most k columns of the distances (n, c) within whose smallest possible radius all rows lie.

    `start` are the k columns of greedy k-centre, `rows` their rows, with which the programmes begin.
    """
    best, radius = start, apart[:, start].min(1).max()
    # Nothing covers within less than this: every row needs a column; and the greedy centres with the image
    # farthest from them lie at least `radius` apart, but two of these k + 1 share a column.
    least = max(apart.min(1).max(), radius / 2 * (1 - 1e-9))
    radii = np.unique(apart[(apart >= least) & (apart < radius)])
    low, high = 0, len(radii)  # what is below `low` does not do, radii[high] and beyond do
    while low < high:
        middle = (low + high) // 2
        centres, rows = _cover(apart, radii[middle], rows, k, nodes)
        if centres is None:
            low = middle + 1
        else:
            best = centres
            high = int(np.searchsorted(radii, apart[:, centres].min(1).max()))
    return best


def _cover(
    apart: NDArray[np.float64], radius: float, rows: NDArray[np.int64], k: int, nodes: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """At most k columns within `radius` of all rows of the distances (n, c), or None; and the rows that the
    programme had to know.

    It is asked for some rows first, then also for those that its answer leaves farthest away, until it leaves
    none or has no answer.
    """
    near = apart <= radius
    while (chosen := _programme(near[rows], k, nodes)) is not None:
        gap = apart[:, chosen].min(1)
        left = (gap > radius).nonzero()[0]
        if not len(left):
            break
        rows = np.concatenate([rows, left[np.argsort(-gap[left], kind="stable")[:_BATCH]]])
    return chosen, rows


def _programme(near: NDArray[np.bool_], k: int, nodes: int) -> NDArray[np.int64] | None:
    """At most k columns of which every row has one, or None if there are no such columns."""
    count = near.shape[1]
    table = vstack([csr_array(near.astype(np.float64)), csr_array(np.ones((1, count)))])
    rule = LinearConstraint(table, [*np.ones(len(near)), 0], [*np.full(len(near), np.inf), k])
    answer = milp(
        np.zeros(count),
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        constraints=rule,
        options={"node_limit": nodes},
    )
    if answer.status == 2:
        return None
    if answer.x is None or answer.status not in (0, 1):
        raise UserError(
            f"no covering is found within {nodes} nodes, nor ruled out: raise covering: nodes, or take fewer "
            "candidates"
        )
    return (answer.x > 0.5).nonzero()[0]


def _filled(features: NDArray[np.float64], chosen: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Where fewer than k do, the images farthest from those chosen so far beside them, as greedy k-centre
    would take them."""
    while len(chosen) < k:
        nearest = cdist(features, features[chosen]).min(1)
        nearest[chosen] = -1
        chosen = np.append(chosen, nearest.argmax())
    return chosen
