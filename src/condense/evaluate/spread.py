"""The mean and the spread of accuracies, as the papers state them. Without torch: joining parts needs no more than this."""

from __future__ import annotations

import math
from collections.abc import Sequence


def spread(accuracies: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation."""
    mean = math.fsum(accuracies) / len(accuracies)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in accuracies) / len(accuracies))
