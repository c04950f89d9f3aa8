"""What keeps the samples of a class apart."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.discrepancy.distances import distances


def intra_class_diversity(embedding: Tensor, neighbours: int, through_neighbours: bool = True) -> Tensor:
    """Minus the sum over samples of KL(softmax(z) || softmax(mean of the k nearest other samples)):
    (..., m, d) -> (...).

    Nearest by Euclidean distance. 0 where k or m - 1 is 0; k is at most m - 1. `through_neighbours`: the
    gradient also goes through the mean, which the paper leaves open. Units: nats; at most 0.
    Source: ddm, eq. (8).
    """
    count = embedding.shape[-2]
    neighbours = min(neighbours, count - 1)
    if neighbours < 1:
        return embedding.sum((-2, -1)) * 0
    with torch.no_grad():
        apart = distances(embedding, embedding)
        apart.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
        nearest = apart.topk(neighbours, largest=False).indices  # (..., m, k)
    others = embedding if through_neighbours else embedding.detach()
    rows = nearest.flatten(-2).unsqueeze(-1).expand(*nearest.shape[:-2], -1, embedding.shape[-1])
    mean = others.gather(-2, rows).unflatten(-2, nearest.shape[-2:]).mean(-2)
    log_p, log_q = embedding.log_softmax(-1), mean.log_softmax(-1)
    return -(log_p.exp() * (log_p - log_q)).sum((-2, -1))
