"""How far a finished set is from the real images, by discrepancies that methods make small.

Each is computed as in the losses (`condense.discrepancy`), but of the whole set, with as many real images as
the task asks for, under networks as the judge draws them. Sources: DM (Zhao and Bilen 2023) for the means;
discrepancy, section 5.1.4, for variances and covariances; cpdm, eq. (6), for the energy distance; M3D (Zhang
et al. 2024) for the kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from condense.config import UserError
from condense.discrepancy.energy import energy_distance
from condense.discrepancy.kernels import kernel_mmd
from condense.discrepancy.mean import covariance_discrepancy, mean_discrepancy, variance_discrepancy
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.evaluate.untrained import measured_untrained
from condense.machine import seeds
from condense.models import Network
from condense.specs.tasks.discrepancies import Discrepancies
from condense.training.sets import TrainingSet

_BATCH = 128  # images embedded at once
# embeddings of real images (n, d) and of those of a set (m, d) of one class -> ()
MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean_discrepancy,
    "variance": variance_discrepancy,
    "covariance": covariance_discrepancy,
    "energy": energy_distance,
    "kernel": kernel_mmd,
}


def discrepancies(task: Discrepancies, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """The discrepancies of each network. Raises UserError for a set that lacks images of a class."""
    made, real = sets.judged.by_step[0](), sets.training_images()
    classes = len(trainer.test.counts)
    places = [_of_class(made, label) for label in range(classes)]
    empty = [label for label, rows in enumerate(places) if not len(rows)]
    if empty:
        raise UserError(f"{made.name}: has no image of class {empty[0]}, which nothing can be compared with")

    def measure(number: int, network: Network) -> dict[str, float]:
        network.train()  # batch norm by the images of each batch, as in matching
        found: dict[str, list[float]] = {name: [] for name in MEASURES}
        for label, rows in enumerate(places):
            stream = seeds.generator(trainer.seed, "discrepancies", number, label)
            of_class = _of_class(real, label)
            drawn = of_class[torch.randperm(len(of_class), generator=stream)[: task.real].to(of_class.device)]
            sides = embedded(network, real, drawn), embedded(network, made, rows)
            for name, discrepancy in MEASURES.items():
                found[name].append(discrepancy(*sides).item())
        return {name: sum(values) / classes for name, values in found.items()}

    return measured_untrained(trainer, measure, "discrepancies")


def _of_class(images: TrainingSet, label: int) -> Tensor:
    return (images.labels == label).nonzero()[:, 0]


@torch.no_grad()
def embedded(network: Network, images: TrainingSet, rows: Tensor) -> Tensor:
    """The embeddings (n, d), in float64, of the images at `rows` (n,)."""
    return torch.cat([network.embed(images.fetch(some)).flatten(1).double() for some in rows.split(_BATCH)])
