"""The consistency ratio: whether synthetic images lie among real ones of their own class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_AT_ONCE = 1 << 24  # distances held at a time


def consistency_ratio(
    features_real: Tensor,
    labels_real: Tensor,
    features_synthetic: Tensor,
    labels_synthetic: Tensor,
    ks: Sequence[int],
) -> Tensor:
    """For each k of `ks` the share of the k nearest real neighbours of a synthetic image that have its class,
    mean over the images.

    Shapes: features (n, d) and (m, d), labels (n,) and (m,) -> (len(ks),), in [0, 1], float64. Nearest in
    Euclidean distance; of real images equally far, which ones count is left to the sort. With k = n it is the
    mean share of a synthetic image's class.
    Raises ValueError for a k that is not in 1..n.
    Source: idm, section 5.3 and Figure 4. Cost: m n d multiplications.
    """
    if not ks or min(ks) < 1 or max(ks) > len(features_real):
        raise ValueError(f"k must lie between 1 and the {len(features_real)} real images, found {list(ks)}")
    chosen = torch.tensor(ks, device=labels_real.device) - 1
    total = torch.zeros(len(ks), dtype=torch.float64, device=labels_real.device)
    rows = max(1, _AT_ONCE // len(features_real))
    for features, labels in zip(features_synthetic.split(rows), labels_synthetic.split(rows), strict=True):
        # Not by products: neighbours are near, where that form has lost its digits.
        distances = torch.cdist(features, features_real, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.topk(max(ks), largest=False).indices
        agreeing = (labels_real[nearest] == labels[:, None]).double().cumsum(1)
        total += (agreeing[:, chosen] / (chosen + 1)).sum(0)
    return total / len(labels_synthetic)
