"""What a trained classifier makes of a batch of images: how far it takes them for their classes, and how far
what its layers are given is from what they are given for the real images; and the loss that follows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from condense.augment import views
from condense.augment.views import Look
from condense.config import naming
from condense.discrepancy.flatness import spectral_spread
from condense.discrepancy.priors import length, variation_by_lengths, variation_by_sizes
from condense.discrepancy.statistics import (
    Moments,
    category_gap,
    class_gaps,
    moment_gap,
    moments,
    moments_of_labels,
    running_mean,
    weighted,
)
from condense.kernels import winograd
from condense.models import Network
from condense.models.observing import LayerInputs
from condense.networks.layer_statistics import LAYERS, LayerKnowledge
from condense.specs import StatisticsRecipe
from condense.specs.image_losses import LayerStatistics


@dataclass(frozen=True)
class Observed:
    """Of a batch: logits (n, k), the mean cross-entropy with its labels (), the gap of the statistics of all
    layers (), and the moments of every layer, None for those that were left out; all with gradients.

    `means`: the running means of the moments with these taken in, as far as they are compared.
    """

    logits: Tensor
    classification: Tensor
    statistics: Tensor
    found: Sequence[Moments | None]
    means: Sequence[Moments | None]


class Observer:
    """A trained classifier that looks at batches."""

    def __init__(
        self,
        network: Network,
        name: str,
        settings: LayerStatistics,
        known: Sequence[LayerKnowledge] | None = None,
    ):
        """`known`: of every layer of the kinds `LAYERS`, where the settings ask for what was gathered.

        Raises UserError, beginning with `name`, for a network without a layer whose statistics count.
        """
        self.network, self.settings = network, settings
        winograd.keep_windows(network)
        with naming(name):
            self.layers = LayerInputs(network, LAYERS if settings.convolutions else LAYERS[:1])
        self.convolutional = [isinstance(layer, nn.Conv2d) for layer in self.layers.layers]
        gathered = {}
        if known is not None:
            gathered = dict(zip(map(id, LayerInputs(network, LAYERS).layers), known, strict=True))
        self.wanted: list[Moments] = []
        self.of_classes: list[Moments] = []
        for layer, convolutional in zip(self.layers.layers, self.convolutional, strict=True):
            if convolutional:
                self.wanted.append(gathered[id(layer)].of_all)
            else:
                self.wanted.append((layer.running_mean, layer.running_var))
            if settings.classes:
                of_classes = gathered[id(layer)].of_classes
                self.of_classes.append(_exchanged(of_classes) if settings.exchanged else of_classes)

    def observe(
        self,
        images: Tensor,
        labels: Tensor,
        before: Sequence[Moments | None] | None = None,
        left_out: Collection[int] = (),
    ) -> Observed:
        """Of normalised images (n, ...) and labels (n,).

        `before`: where running means are compared, those of the moments of every layer so far, None for one
        that has not begun; `left_out`: the layers that do not count, by number.
        """
        with self.layers as layers:
            logits = self.network(images)
        found: list[Moments | None] = []
        means: list[Moments | None] = []
        gaps: list[Tensor] = []
        for number, maps in enumerate(layers.taken()):
            if number in left_out:
                found.append(None)
                means.append(None)
                gaps.append(logits.new_zeros(()))
                continue
            seen = compared = moments(maps, self.convolutional[number])
            mean = before[number] if before is not None else None
            if mean is not None:
                compared = running_mean(mean, seen, self.settings.running)
            found.append(seen)
            means.append(compared)
            gaps.append(self._gap(number, maps, compared, labels))
        statistics = weighted(gaps, self.settings.first)
        return Observed(logits, F.cross_entropy(logits, labels), statistics, found, means)

    def _gap(self, number: int, maps: Tensor, compared: Moments, labels: Tensor) -> Tensor:
        wanted, share = self.wanted[number], self.settings.classes
        if not share:
            return moment_gap(compared, wanted)
        of_classes = self.of_classes[number]
        if self.settings.by_class:
            gaps = class_gaps(maps, labels, of_classes, self.convolutional[number])
            return (1 - share) * moment_gap(compared, wanted) + share * gaps
        return category_gap(compared, wanted, moments_of_labels(of_classes, labels), share)

    def gap_between(self, one: Observed, other: Observed) -> Tensor:
        """The gap of the statistics of all layers of two batches: ()."""
        gaps = [
            one.logits.new_zeros(()) if first is None or second is None else moment_gap(first, second)
            for first, second in zip(one.found, other.found, strict=True)
        ]
        return weighted(gaps, self.settings.first)


def _exchanged(of_classes: Moments) -> Moments:
    """The same with the means and the variances of patches in each other's place."""
    return *of_classes[:2], *reversed(of_classes[2:])


class RunningMeans:
    """The running means of the moments of the layers of an observer, of each batch by itself."""

    def __init__(self, observer: Observer, batches: int):
        self.from_zero = observer.settings.from_zero
        self._shapes = [[len(each) for each in wanted] for wanted in observer.wanted]
        sizes = sum(sum(shape) for shape in self._shapes)
        like = observer.wanted[0][0]
        self.values = like.new_zeros((batches, sizes))
        self.begun = like.new_zeros((batches, len(self._shapes)))  # 1 for a layer whose mean has begun

    def of(self, batch: int) -> list[Moments | None]:
        """Those of a batch, layer by layer; None for a layer that no step has seen."""
        if self.from_zero:
            return list(self._layers(batch))
        begun = self.begun[batch].tolist()
        return [mean if seen else None for mean, seen in zip(self._layers(batch), begun, strict=True)]

    def take(self, batch: int, means: Sequence[Moments | None]) -> None:
        """Keeps those of a batch after a step; layers without one stay as they are."""
        for number, (kept, mean) in enumerate(zip(self._layers(batch), means, strict=True)):
            if mean is None:
                continue
            for place, value in zip(kept, mean, strict=True):
                place.copy_(value.detach())
            self.begun[batch, number] = 1

    def _layers(self, batch: int) -> list[Moments]:
        parts = iter(self.values[batch].split([size for shape in self._shapes for size in shape]))
        return [tuple(next(parts) for _ in shape) for shape in self._shapes]


@dataclass(frozen=True)
class Looked:
    """The loss () of a batch, with gradient, its parts by the names of their columns, and what the observer
    made of it."""

    loss: Tensor
    parts: Mapping[str, Tensor]
    observed: Observed


@dataclass(frozen=True)
class BatchLoss:
    """The loss of images (n, ...) of `labels` (n,), as often as it is asked for at a step: each time under
    the same look, by the same observer, to the same running means."""

    recipe: StatisticsRecipe
    observer: Observer
    labels: Tensor
    look: Look
    before: Sequence[Moments | None] | None
    left_out: Collection[int]

    def __call__(self, images: Tensor) -> Looked:
        recipe, seen = self.recipe, views.seen(images, self.look)
        observed = self.observer.observe(seen, self.labels, self.before, self.left_out)
        parts = {"classification": observed.classification, "statistics": observed.statistics}
        loss = observed.classification + recipe.statistics.weight * observed.statistics
        if recipe.spread is not None:
            spread = spectral_spread(seen, self.labels, recipe.spread.temperature)
            parts["spread"] = recipe.spread.weight * spread
            loss = loss + parts["spread"]
        if recipe.prior is not None:
            parts["prior"] = (
                recipe.prior.tv_l1 * variation_by_sizes(seen)
                + recipe.prior.tv_l2 * variation_by_lengths(seen)
                + recipe.prior.l2 * length(seen)
            )
            loss = loss + parts["prior"]
        return Looked(loss, parts, observed)
