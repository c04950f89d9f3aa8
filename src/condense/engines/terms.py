"""The terms a matching recipe may name, and their weights over the steps."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from condense.config import unknown
from condense.discrepancy.energy import diversity, energy_distance
from condense.discrepancy.mean import mean_discrepancy
from condense.engines.views import Views
from condense.regularizers.critic import classifier_critic, prediction_kl
from condense.regularizers.schedules import linear_decay
from condense.specs import Term, Weight


def _mean(views: Views, term: Term) -> Tensor:
    return mean_discrepancy(views.real_embedding, views.synthetic_embedding, views.mask)


def _energy_distance(views: Views, term: Term) -> Tensor:
    # Without the mean distance inside the real batch, which has no gradient and costs most.
    return energy_distance(views.real_embedding, views.synthetic_embedding, views.mask, constant=False)


def _diversity(views: Views, term: Term) -> Tensor:
    return diversity(views.synthetic_embedding)


def _classifier_critic(views: Views, term: Term) -> Tensor:
    return classifier_critic(views.critic_logits(term.sees), views.labels)


def _prediction_kl(views: Views, term: Term) -> Tensor:
    return prediction_kl(views.critic_real_logits(term.sees), views.critic_logits(term.sees))


# Every term maps the views of a step to one value a class, (C,).
TERMS: dict[str, Callable[[Views, Term], Tensor]] = {
    "mean": _mean,
    "energy_distance": _energy_distance,
    "diversity": _diversity,
    "classifier_critic": _classifier_critic,
    "prediction_kl": _prediction_kl,
    "clip_critic": _classifier_critic,  # the same objective; the engine is given CLIP as the critic
}

SCHEDULES: dict[str, Callable[[int, int], float]] = {"linear_decay": linear_decay}


def weight_at(weight: float | Weight, step: int, steps: int) -> float:
    """The weight of a term at `step` of `steps`."""
    if not isinstance(weight, Weight):
        return weight
    if weight.schedule not in SCHEDULES:
        raise unknown("schedule", weight.schedule, SCHEDULES)
    return weight.start * SCHEDULES[weight.schedule](step, steps)
