"""Coreset selection as an engine: the synthetic set consists of chosen real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from condense.config import UserError, unknown
from condense.data.dataset import Images
from condense.engines.orders import Order, Outcome, Site
from condense.machine import seeds
from condense.models import Network
from condense.networks.pretrain import load_teacher
from condense.select import clustering, coreset, covering
from condense.specs import SelectionRecipe

Teacher = tuple[Network, Tensor]  # the trained classifier with the forgetting events of its training


@torch.inference_mode()
def class_features(
    network: Network, data: Images, label: int, device: torch.device, batch: int = 256
) -> Tensor:
    """Embeddings (n, d) of all images of a class, on the CPU; so many images are read at a time."""
    count = data.counts[data.classes.index(label)]
    return torch.cat(
        [
            network.embed(data.of_class(label, slice(start, start + batch)).to(device)).cpu()
            for start in range(0, count, batch)
        ]
    )


class Candidates:
    """The images of one class, of which `ipc` are chosen; what a selection looks at is read and computed when
    it is first asked for."""

    def __init__(
        self, data: Images, label: int, ipc: int, seed: int, teacher: Teacher | None, device: torch.device
    ):
        self.data, self.label, self.ipc, self.device = data, label, ipc, device
        self.generator = seeds.generator(seed, "select", label)
        self._teacher = teacher

    def __len__(self) -> int:
        return self.data.counts[self.data.classes.index(self.label)]

    @property
    def teacher(self) -> Teacher:
        """Raises ValueError if none was given."""
        if self._teacher is None:
            raise ValueError("this selection uses a trained classifier")
        return self._teacher

    @cached_property
    def features(self) -> Tensor:
        """Embeddings (n, d) by the trained classifier."""
        return class_features(self.teacher[0], self.data, self.label, self.device)

    @cached_property
    def first(self) -> int:
        """One of the images, drawn at random, from which a selection starts."""
        return int(torch.randint(len(self), (1,), generator=self.generator))

    @property
    def forgotten(self) -> np.ndarray:
        """How often each image was forgotten in training. Raises UserError if the events belong to another
        number of images."""
        counts = self.teacher[1]
        if len(counts) != len(self.data):
            raise UserError(
                f"{self.data.dataset}: the teacher saw {len(counts)} images, not {len(self.data)}"
            )
        if (counts < 0).any():
            raise UserError(
                f"{self.data.dataset}: nobody has counted what the teacher forgot, whose weights are of "
                "others; train one (`condense teach --help`)"
            )
        return counts[self.data.class_slice(self.label)].numpy()


def _random(candidates: Candidates, recipe: SelectionRecipe) -> np.ndarray:
    return coreset.random_choice(len(candidates), candidates.ipc, candidates.generator)


def _herding(candidates: Candidates, recipe: SelectionRecipe) -> np.ndarray:
    return coreset.herding(candidates.features, candidates.ipc)


def _k_center(candidates: Candidates, recipe: SelectionRecipe) -> np.ndarray:
    return coreset.k_center(candidates.features, candidates.ipc, candidates.first)


def _k_means(candidates: Candidates, recipe: SelectionRecipe) -> np.ndarray:
    return clustering.k_means(candidates.features, candidates.ipc, candidates.generator)


def _forgetting(candidates: Candidates, recipe: SelectionRecipe) -> np.ndarray:
    return coreset.forgetting(candidates.forgotten, candidates.ipc)


def _minimum_covering(candidates: Candidates, recipe: SelectionRecipe) -> np.ndarray:
    if recipe.covering is None:
        raise ValueError(f"{recipe.name}: 'minimum_covering' without its settings")
    return covering.minimum_covering(candidates.features, candidates.ipc, candidates.first, recipe.covering)


# Each gives the places (ipc,) of the chosen among the images of a class, in their order; names as in
# `specs.SELECTIONS`.
CHOICES: dict[str, Callable[[Candidates, SelectionRecipe], np.ndarray]] = {
    "random": _random,
    "herding": _herding,
    "k_center": _k_center,
    "k_means": _k_means,
    "forgetting": _forgetting,
    "minimum_covering": _minimum_covering,
}


def choose(
    recipe: SelectionRecipe,
    data: Images,
    classes: tuple[int, ...],
    *,
    ipc: int,
    seed: int,
    teacher: Teacher | None,
    device: torch.device,
) -> Outcome:
    """ipc real images of each class, chosen by the recipe's selection.

    `teacher` is the classifier with its forgetting events, for the selections that use one.
    Raises UserError if a class has fewer than ipc images, or if the forgetting events belong to another
    number of images.
    """
    if recipe.selection not in CHOICES:
        raise unknown("selection", recipe.selection, CHOICES)
    chosen = []
    for label in classes:
        candidates = Candidates(data, label, ipc, seed, teacher, device)
        places = CHOICES[recipe.selection](candidates, recipe)
        chosen.append(data.of_class(label, torch.as_tensor(places.copy())))
    return Outcome(torch.stack(chosen))


def select(site: Site, orders: Sequence[Order[SelectionRecipe]]) -> list[Outcome]:
    """The engine `select`: every set by itself."""
    outcomes = []
    for order in orders:
        teacher = (
            load_teacher(order.parents["teacher"], site.data, site.device)
            if "teacher" in order.parents
            else None
        )
        made = choose(
            order.recipe,
            site.data,
            site.classes,
            ipc=order.ipc,
            seed=site.seed,
            teacher=teacher,
            device=site.device,
        )
        outcomes.append(made)
    return outcomes
