"""The free-support Wasserstein barycentre of a class, and the distance of a synthetic class from its
atoms."""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS, STOP = 100, 1e-7  # those of the authors, which are POT's
_PIVOTS = 100_000_000  # of the network simplex, far more than it takes


def wasserstein_barycentre(
    sample: Tensor, start: Tensor, iterations: int = ITERATIONS, stop: float = STOP
) -> tuple[Tensor, float]:
    """k atoms of equal weight near to a sample in the 2-Wasserstein distance, and the cost of carrying them
    there.

    An optimal plan is solved for and every atom is moved into the mean of what it is carried to, until the
    squared way of all atoms together is at most `stop`, or `iterations` times. Not the best atoms of all, but
    those that the start leads to.
    Shapes: sample (n, d), start (k, d) -> (k, d) float64 on the CPU; the cost is that of the last atoms.
    Units: those of the features; the cost their square. Raises: ArithmeticError if a plan is not solved to
    the end.
    Source: WMDD (Liu et al. 2023); Cuturi & Doucet 2014, algorithm 2 without a line search. Cost:
    `iterations` exact plans of n x k.
    """
    sample, atoms = (values.detach().to("cpu", torch.float64) for values in (sample, start))
    for _ in range(iterations):
        plan, _ = _plan(atoms, sample)
        moved = len(atoms) * plan @ sample
        way, atoms = (moved - atoms).square().sum(), moved
        if way <= stop:
            break
    return atoms, _plan(atoms, sample)[1]


def _plan(atoms: Tensor, sample: Tensor) -> tuple[Tensor, float]:
    """An optimal plan (k, n) between both, of equal weights, and its cost."""
    from ot.lp import emd  # it takes seconds to load, which only those pay who ask for a barycentre

    costs = torch.cdist(atoms, sample, compute_mode="donot_use_mm_for_euclid_dist").square().numpy()
    weights = [
        torch.full((len(points),), 1 / len(points), dtype=torch.float64).numpy() for points in (atoms, sample)
    ]
    plan, facts = emd(*weights, costs, numItermax=_PIVOTS, log=True)
    if facts["warning"] is not None:
        raise ArithmeticError(
            f"the transport between {len(atoms)} atoms and {len(sample)} samples is not solved: "
            f"{facts['warning']}"
        )
    return torch.from_numpy(plan), float(facts["cost"])


def distance_to_atoms(embedding: Tensor, atoms: Tensor) -> Tensor:
    """Euclidean (Frobenius) distance of a class from its atoms, the i-th sample from the i-th atom:
    (..., m, d), (..., m, d) -> (...).

    Units: those of the features. Raises: ValueError if the shapes differ.
    Source: WMDD (Liu et al. 2023), as its authors' code has it: the norm, not its square, over all samples
    together.
    """
    if embedding.shape != atoms.shape:
        raise ValueError(
            f"every sample has its atom: need the same shapes, got {tuple(embedding.shape)} and "
            f"{tuple(atoms.shape)}"
        )
    return torch.linalg.vector_norm(embedding - atoms, dim=(-2, -1))
