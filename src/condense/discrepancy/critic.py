"""What a frozen classifier says about the synthetic images."""

from __future__ import annotations

from torch import Tensor


def classifier_critic(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labels under the critic: minus the mean log-probability that it gives them.

    Shapes: logits (..., m, k), labels (..., m) integers in [0, k) -> (...). Units: nats.
    Source: cpdm, eq. (3) and the second term of eq. (7), whose weight is the caller's.
    """
    return -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1).mean(-1)


def prediction_kl(real_logits: Tensor, synthetic_logits: Tensor) -> Tensor:
    """KL(p(y | real) || p(y | synthetic)) of the critic's predictions, pairwise, averaged over the m pairs.

    Shapes: (..., m, k), (..., m, k) -> (...); the real batch is already cut to the m images of the synthetic
    set. Units: nats.
    Raises: ValueError if the shapes differ.
    Source: cpdm, section 6.3 (ablation "+ KL").
    """
    if real_logits.shape != synthetic_logits.shape:
        raise ValueError(
            f"the real batch must be cut to the synthetic one: {tuple(real_logits.shape)}, "
            f"{tuple(synthetic_logits.shape)}"
        )
    target = real_logits.log_softmax(-1)
    return (target.exp() * (target - synthetic_logits.log_softmax(-1))).sum(-1).mean(-1)
