"""The terms a matching recipe may name, and their weights over the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from condense import specs
from condense.config import UserError, unknown, without_function
from condense.discrepancy import contrast, mean, similarity, style
from condense.discrepancy.barycentre import distance_to_atoms, wasserstein_barycentre
from condense.discrepancy.critic import classifier_critic, prediction_kl
from condense.discrepancy.diversity import intra_class_diversity
from condense.discrepancy.energy import diversity, energy_distance
from condense.discrepancy.hyperbolic import hyperbolic_centroids
from condense.discrepancy.kernels import kernel_mmd
from condense.discrepancy.samples import real_weights
from condense.discrepancy.schedules import linear_decay
from condense.engines.characteristic import characteristic_energy_term, characteristic_function_term
from condense.engines.map_statistics import Statistic
from condense.engines.views import Views
from condense.machine import seeds
from condense.specs import Term, Weight

Statistics = Callable[[Any], list[Statistic]]


@dataclass(frozen=True)
class Objective:
    """A term as the engine uses it: its value (C,), one a class, the statistics of feature maps it asks for,
    and what it does `after` the images of a step have moved, without gradient."""

    value: Callable[[Views, Any], Tensor]
    statistics: Statistics = lambda term: []
    after: Callable[[Views, Any], None] | None = None


def _of_samples(function: Callable[..., Tensor], *options: str) -> Callable[[Views, Term], Tensor]:
    """A function of a real and a synthetic sample, which takes these options of the term by their names."""

    def value(views: Views, term: Term) -> Tensor:
        given = {name: getattr(term, name) for name in options}
        return function(views.real_embedding, views.synthetic_embedding, views.mask, **given)

    return value


def _energy_distance(views: Views, term: Term) -> Tensor:
    # Without the mean distance inside the real batch, which has no gradient and costs most.
    return energy_distance(views.real_embedding, views.synthetic_embedding, views.mask, constant=False)


def _diversity(views: Views, term: Term) -> Tensor:
    return diversity(views.synthetic_embedding)


def _classifier_critic(views: Views, term: Any) -> Tensor:
    return classifier_critic(views.critic_logits(term.sees), views.labels)


def _prediction_kl(views: Views, term: Any) -> Tensor:
    return prediction_kl(views.critic_real_logits(term.sees), views.critic_logits(term.sees))


def _cross_entropy(views: Views, term: Any) -> Tensor:
    logits = views.network_logits(term.sees) if term.under == "network" else views.trained_logits(term.sees)
    value = classifier_critic(logits, views.labels)
    if not term.by_accuracy:
        return value
    if views.side.accuracy is None:
        raise ValueError(
            "a loss that is weighted by the training accuracy was given networks that are not trained"
        )
    return value * views.side.accuracy


def _intra_class_diversity(views: Views, term: Any) -> Tensor:
    # Of the images of a class as they train: where a set stores formations, of the decoded ones.
    neighbours = round(term.neighbours * views.synthetic_embedding.shape[1])
    return intra_class_diversity(views.synthetic_embedding, neighbours, term.through_neighbours)


def _historical_mean(views: Views, term: Any) -> Tensor:
    """Against the running mean of the real means (C, d), which takes in those of this step first."""
    real = views.real_embedding
    mean = (real_weights(real, views.mask).unsqueeze(-1) * real).sum(-2)
    before = views.memory.get("mean")
    kept = mean if before is None else term.momentum * before + (1 - term.momentum) * mean
    views.memory["mean"] = kept
    return style.squared_distance(kept, views.synthetic_embedding.mean(-2))


def _synthetic_history(views: Views, term: Any) -> Tensor:
    """Against the moving average of the synthetic means (C, d), from its part `begins` of the steps on."""
    mean = views.synthetic_embedding.mean(-2)
    kept = views.memory.get("mean")
    if kept is None or views.side.seed[1] < term.begins * views.steps:
        return 0 * mean.sum(-1)
    return style.squared_distance(kept, mean) / (mean.shape[-1] if term.per_feature else 1)


def _keep_synthetic_mean(views: Views, term: Any) -> None:
    mean, before = views.synthetic_embedding.mean(-2), views.memory.get("mean")
    views.memory["mean"] = mean if before is None else term.momentum * before + (1 - term.momentum) * mean


def _intra_class_contrast(views: Views, term: Any) -> Tensor:
    embedding, anchor = views.synthetic_embedding, views.class_embedding
    if term.row_normalised:
        embedding, anchor = normalize(embedding, dim=-1), normalize(anchor, dim=-1)
    return contrast.intra_class_contrast(embedding, anchor, term.temperature)


def _inter_class_margin(views: Views, term: Any) -> Tensor:
    return contrast.inter_class_margin(views.synthetic_embedding.mean(1), term.margin)


def _network_contrast(views: Views, term: Any) -> Tensor:
    embeddings = normalize(views.two_embeddings, dim=-1) if term.row_normalised else views.two_embeddings
    return contrast.network_contrast(embeddings, term.temperature)


def _barycentre(views: Views, term: Any) -> Tensor:
    if "atoms" not in views.memory:
        views.memory["atoms"] = _atoms(views)
    return distance_to_atoms(views.synthetic_embedding, views.memory["atoms"])


def _atoms(views: Views) -> Tensor:
    """As many atoms (C, M, d) of the barycentre of each class as it has synthetic images, of all its real
    images without augmentation."""
    side, (_, count, features), atoms = views.side, views.synthetic_embedding.shape, []
    for label in views.labels[:, 0].tolist():
        images = side.data.of_class(label).to(views.synthetic.device)
        real = side.without_gradient(side.network.embed, images.unsqueeze(0), dtype=torch.float32)[0]
        start = torch.randn(count, features, generator=seeds.generator(side.seed[0], "barycentre", label))
        atoms.append(wasserstein_barycentre(real, start)[0])
    return torch.stack(atoms).to(views.synthetic_embedding)


def _of_layers(name: str, function: Callable[[Tensor], Tensor], layers: Sequence[int] | None) -> Statistic:
    """A statistic of the maps behind the pooling of some stages, side by side."""
    where = "all" if layers is None else "-".join(map(str, layers))
    return Statistic(
        f"{name} {where}",
        lambda maps: torch.cat([function(layer) for layer in style.chosen(maps, layers)], 1),
    )


def _moments_of(term: Any) -> list[Statistic]:
    def function(maps: Tensor) -> Tensor:
        moments = style.moments(maps, term.spread)
        return moments / maps.shape[1] ** 0.5 if term.over_channels == "mean" else moments

    return [_of_layers(f"moments {term.spread} {term.over_channels}", function, term.layers)]


def _gram_of(term: Any) -> list[Statistic]:
    return [_of_layers("gram", style.gram, term.layers)]


def _raw_moments_of(term: Any) -> list[Statistic]:
    where = "all" if term.layers is None else "-".join(map(str, term.layers))
    return [
        Statistic(f"raw moments {where}", lambda maps: style.raw_moments(style.chosen(maps, term.layers)))
    ]


def _class_statistics(views: Views, term: Any) -> Tensor:
    (statistic,) = _raw_moments_of(term)
    return style.distance_of_statistics(views.side.mean_of(statistic), views.mean_of(statistic))


def _attention_of(term: Any) -> list[Statistic]:
    def function(maps: list[Tensor]) -> Tensor:
        if term.layers is None and len(maps) < 2:
            raise UserError(
                "terms: attention: looks at all stages of a network but the last, and this network has one; "
                "name it (`layers: [1]`), or take a deeper network"
            )
        shown = style.chosen(maps, term.layers or range(1, len(maps)))
        return torch.cat([style.attention(layer, term.power) for layer in shown], 1)

    layers = "-".join(map(str, term.layers or [])) or "all but the last"
    return [Statistic(f"attention {term.power} {layers}", function, pooled=False)]


def _matched(of: Statistics, factor: float = 1.0) -> Objective:
    """The squared distance of the class means of statistics."""

    def value(views: Views, term: Any) -> Tensor:
        distances = (
            style.squared_distance(views.side.mean_of(statistic), views.mean_of(statistic))
            for statistic in of(term)
        )
        return factor * reduce(torch.add, distances)

    return Objective(value, of)


# Every term maps the views of a step to one value a class, (C,).
TERMS: dict[str, Objective] = {
    "mean": Objective(_of_samples(mean.mean_discrepancy)),
    "energy_distance": Objective(_energy_distance),
    "diversity": Objective(_diversity),
    "variance": Objective(_of_samples(mean.variance_discrepancy)),
    "covariance": Objective(_of_samples(mean.covariance_discrepancy, "unbiased", "per_feature")),
    "historical_mean": Objective(_historical_mean),
    "synthetic_history": Objective(_synthetic_history, after=_keep_synthetic_mean),
    "classifier_critic": Objective(_classifier_critic),
    "prediction_kl": Objective(_prediction_kl),
    "clip_critic": Objective(_classifier_critic),  # the same function; the engine is given CLIP as the critic
    "cross_entropy": Objective(_cross_entropy),
    "moments": _matched(_moments_of, 0.5),  # ddm, eq. (4): half of it
    "gram": _matched(_gram_of),
    "attention": _matched(_attention_of),
    "intra_class_diversity": Objective(_intra_class_diversity),
    "kernel_mmd": Objective(_of_samples(kernel_mmd, "kernel")),
    "characteristic_function": Objective(characteristic_function_term),
    "characteristic_energy": Objective(characteristic_energy_term),
    "representative": Objective(_of_samples(similarity.representative, "reading")),
    "cosine_diversity": Objective(lambda views, term: similarity.cosine_diversity(views.synthetic_embedding)),
    "intra_class_contrast": Objective(_intra_class_contrast),
    "inter_class_margin": Objective(_inter_class_margin),
    "network_contrast": Objective(_network_contrast),
    "network_cosine": Objective(lambda views, term: contrast.network_cosine(views.two_embeddings)),
    "discrimination": Objective(_of_samples(contrast.discrimination)),
    "barycentre": Objective(_barycentre),
    "hyperbolic_centroid": Objective(_of_samples(hyperbolic_centroids)),
    "class_statistics": Objective(_class_statistics, _raw_moments_of),
}


def objective(name: str) -> Objective:
    """The term `name` as the engine uses it. Raises UserError if it has no function here."""
    if name not in TERMS and name in specs.TERMS:
        raise without_function("term", name, "condense.engines.terms.TERMS", "a class in AnyTerm")
    if name not in TERMS:
        raise unknown("term", name, TERMS)
    return TERMS[name]


SCHEDULES: dict[str, Callable[[int, int], float]] = {"linear_decay": linear_decay}


def weight_at(weight: float | Weight, step: int, steps: int) -> float:
    """The weight of a term at `step` of `steps`."""
    if not isinstance(weight, Weight):
        return weight
    if weight.schedule not in SCHEDULES:
        raise unknown("schedule", weight.schedule, SCHEDULES)
    return weight.start * SCHEDULES[weight.schedule](step, steps)
