"""What sets synthetic samples apart by inner products: from each other, from other classes, and across
networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from condense.discrepancy.distances import distances
from condense.discrepancy.samples import checked, real_weights


def intra_class_contrast(embedding: Tensor, anchor: Tensor, temperature: float = 1.0) -> Tensor:
    """-log of e^(<h_i, c> / t) / (e^(<h_i, c> / t) + sum over j != i of e^(<h_i, h_j> / t)), averaged over
    the samples i of a class.

    Shapes: embedding (..., m, d), anchor (..., d), the class embedding c -> (...). Units: nats; at least 0,
    and 0 for a single sample.
    Source: discrepancy, A.2.1, L_intra (Zhang et al. 2023). Cost: m^2 d products.
    """
    to_anchor = (embedding * anchor.unsqueeze(-2)).sum(-1)
    itself = torch.eye(embedding.shape[-2], dtype=torch.bool, device=embedding.device)
    scores = (embedding @ embedding.mT / temperature).masked_fill(itself, 0) + torch.diag_embed(
        to_anchor / temperature
    )
    return -scores.log_softmax(-1).diagonal(dim1=-2, dim2=-1).mean(-1)


def inter_class_margin(means: Tensor, margin: float) -> Tensor:
    """Sum over the other classes of what the distance of two class means lacks to `margin`: (C, d) -> (C,),
    one value a class.

    So the sum over classes counts every pair twice, as the printed one does. Units: those of the features; at
    least 0.
    Source: discrepancy, A.2.1, L_inter (Zhang et al. 2023).
    """
    itself = torch.eye(len(means), dtype=torch.bool, device=means.device)
    return (margin - distances(means, means)).relu().masked_fill(itself, 0).sum(-1)


def network_contrast(embeddings: Tensor, temperature: float = 1.0) -> Tensor:
    """-1 / H^2 of the sum over pairs of networks j != k of the mean over i of log (e^(<h_j(x_i), h_k(x_i)> /
    t) / the same over x_t).

    The denominator is printed as the sum over samples t of e^(<h_j(x_i), h_t(x_i)> / t), though t counts
    samples and h networks; after the text, which contrasts with "other class-y samples", it is the sum of
    e^(<h_j(x_i), h_k(x_t)> / t) here.
    Shapes: embeddings (..., H, m, d) of the same m samples under H networks -> (...). Units: nats; at least
    0.
    Source: discrepancy, A.2.3, L_con (Liu et al. 2022). Cost: H^2 m^2 d products.
    """
    scores = embeddings.unsqueeze(-3) @ embeddings.unsqueeze(-4).mT / temperature  # (..., H, H, m, m)
    return _over_pairs(-scores.log_softmax(-1).diagonal(dim1=-2, dim2=-1).mean(-1))


def network_cosine(embeddings: Tensor) -> Tensor:
    """1 / H^2 of the sum over pairs of networks j != k of the mean cosine similarity of h_j(x_i) and
    h_k(x_i).

    Shapes: embeddings (..., H, m, d) -> (...). Units: none; from -(H - 1) / H to (H - 1) / H.
    Source: discrepancy, A.2.3, L_cos (Liu et al. 2022), with the printed sign: what is made small is the
    agreement of the networks.
    """
    rows = normalize(embeddings, dim=-1)
    return _over_pairs((rows.unsqueeze(-3) * rows.unsqueeze(-4)).sum(-1).mean(-1))


def _over_pairs(values: Tensor) -> Tensor:
    """The sum over j != k of (..., H, H), divided by H^2."""
    count = values.shape[-1]
    if count < 2:
        raise ValueError("networks are compared in pairs: at least 2 are needed")
    return (values.sum((-2, -1)) - values.diagonal(dim1=-2, dim2=-1).sum(-1)) / count**2


def discrimination(real: Tensor, synthetic: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the real samples of a class of -log softmax(inner products with all class means of synthetic
    ones), divided by C.

    Shapes: real (C, n, d), synthetic (C, m, d), mask (C, n) boolean or None -> (C,), one value a class, whose
    sum is the printed loss.
    Units: nats. Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: discrepancy, A.2.4 (Wang et al. 2022). Cost: C^2 n d products.
    """
    weights = real_weights(real, mask)
    real, synthetic, dtype = checked(real, synthetic, mask)
    scores = real @ synthetic.mean(-2).mT  # (C, n, C)
    log_probabilities = scores.log_softmax(-1).diagonal(dim1=0, dim2=2).mT  # (C, n)
    return -((log_probabilities * weights).sum(-1) / len(real)).to(dtype)
