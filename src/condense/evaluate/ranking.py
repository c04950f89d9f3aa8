"""Scores that tell a set's worth from that of its judge: label-robust and augmentation-robust.

Source: DD-Ranking (Li et al. 2025), sections on LRS and ARS. Accuracies are fractions here, as its definition
has them; its code puts percentages into the exponential.
"""

from __future__ import annotations

import math

from condense.config import UserError


def label_robust(
    *, real_hard: float, hard: float, own: float, random_own: float, weight: float = 0.5
) -> float:
    """LRS of a set, from test accuracies in [0, 1]: 0 to 1, .269 for one that is worth as much as random
    images and as the whole training set.

    `real_hard`, `hard`: networks trained with hard labels on the whole training set and on the set. `own`,
    `random_own`: on the set and on as many random images, by the method's own protocol, such as with soft
    labels. `weight` is that of the gain over random. Raises UserError for what is no fraction.
    """
    _check(real_hard=real_hard, hard=hard, own=own, random_own=random_own, weight=weight)
    lost, gained = real_hard - hard, own - random_own
    return normalised(weight * gained - (1 - weight) * lost)


def augmentation_robust(
    *, augmented: float, random_augmented: float, plain: float, random_plain: float, weight: float = 0.5
) -> float:
    """ARS of a set, from test accuracies in [0, 1]: 0 to 1, .269 for one that is worth as much as random.

    `augmented` and `plain`: networks trained on the set with and without augmentation, else alike;
    `random_...`: on as many random images. `weight` is that of the augmented ones. Raises UserError for what
    is no fraction.
    """
    _check(
        augmented=augmented,
        random_augmented=random_augmented,
        plain=plain,
        random_plain=random_plain,
        weight=weight,
    )
    return normalised(weight * (augmented - random_augmented) + (1 - weight) * (plain - random_plain))


def normalised(gain: float) -> float:
    """(e^gain - e^-1) / (e - e^-1): from -1, 1 to 0, 1."""
    return (math.exp(gain) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(**fractions: float) -> None:
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise UserError(
                f"{name}: a fraction from 0 to 1 is needed, found {value}; divide percentages by 100"
            )
