"""Coreset selection as an engine: the synthetic set consists of chosen real images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense import seeds
from condense.config import UserError
from condense.data.dataset import Images
from condense.engines.matching import Outcome
from condense.select import coreset, covering
from condense.specs import Recipe


@torch.inference_mode()
def class_features(network: nn.Module, images: Tensor, device: torch.device, batch: int = 256) -> Tensor:
    """Embeddings (n, d) of normalised images (n, ...), on the CPU."""
    return torch.cat([network.embed(part.to(device)).cpu() for part in images.split(batch)])


def choose(
    recipe: Recipe,
    data: Images,
    classes: tuple[int, ...],
    *,
    ipc: int,
    seed: int,
    teacher: tuple[nn.Module, Tensor] | None,
    device: torch.device,
) -> Outcome:
    """ipc real images of each class, chosen by the recipe's selection.

    `teacher` is the classifier with its forgetting events, for the selections that use one.
    Raises UserError if a class has fewer than ipc images, or if the forgetting events belong to another number of images.
    """
    chosen = []
    for label in classes:
        images = data.of_class(label)
        generator = seeds.generator(seed, "select", label)
        if recipe.selection == "random":
            order = coreset.random_choice(len(images), ipc, generator)
        elif recipe.selection == "forgetting":
            counts = teacher[1][data.class_slice(label)]
            if len(teacher[1]) != len(data):
                raise UserError(f"{data.dataset}: the teacher saw {len(teacher[1])} images, not {len(data)}")
            order = coreset.forgetting(counts.numpy(), ipc)
        else:
            features = class_features(teacher[0], images, device)
            if recipe.selection == "herding":
                order = coreset.herding(features, ipc)
            else:
                first = int(torch.randint(len(images), (1,), generator=generator))
                if recipe.selection == "k_center":
                    order = coreset.k_center(features, ipc, first)
                else:
                    order = covering.minimum_covering(features, ipc, first, recipe.covering)
        chosen.append(images[torch.as_tensor(order.copy())])
    return Outcome(torch.stack(chosen))
