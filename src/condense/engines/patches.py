"""Patches of real images: of each class the crops that a trained classifier finds easiest, laid side by side.

What is drawn for a class depends on the run seed and the class only.
Source: RDED (Sun et al. 2024), section 3.2 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.config import UserError, naming
from condense.data.dataset import Images
from condense.engines.orders import Order, Outcome, Site
from condense.engines.units import eight_bit
from condense.machine import seeds
from condense.models import Network
from condense.networks.pretrain import load_teacher
from condense.select import patches
from condense.specs import PatchesRecipe
from condense.specs.patches import BATCH, Patches


@torch.inference_mode()
def losses_of(network: Network, crops: Tensor, label: int, size: int) -> Tensor:
    """The cross-entropy (n,) of patches (n, c, s, s) of class `label`, each in the middle of an image of
    `size` pixels."""
    logits = network(patches.padded(crops, size))
    return F.cross_entropy(logits, torch.full((len(crops),), label, device=crops.device), reduction="none")


def easiest_patches(
    settings: Patches, data: Images, label: int, network: Network, *, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The easiest crop of each candidate of a class, (n, c, s, s) with s = size / factor, normalised, and
    their losses (n,), in the order in which the candidates were drawn; on the CPU."""
    held = data.class_slice(label)
    order = torch.randperm(held.stop - held.start, generator=seeds.generator(seed, "candidates", label))
    chosen, side = order[: settings.candidates], data.size // settings.factor
    boxes = patches.square_boxes(
        len(chosen) * settings.crops, data.size, settings.least_area, seeds.generator(seed, "crops", label)
    ).view(len(chosen), settings.crops, 3)
    at_once = max(BATCH // settings.crops, 1)
    found: list[Tensor] = []
    least: list[Tensor] = []
    for some, their_boxes in zip(chosen.split(at_once), boxes.split(at_once), strict=True):
        images = data.of_class(label, some).to(device)
        crops = patches.cropped(images.repeat_interleave(settings.crops, 0), their_boxes.flatten(0, 1), side)
        losses = torch.cat([losses_of(network, batch, label, data.size) for batch in crops.split(BATCH)])
        shape = (len(some), settings.crops)
        best, its_losses = patches.easiest(crops.unflatten(0, shape), losses.unflatten(0, shape))
        found.append(best.cpu())
        least.append(its_losses.cpu())
    return torch.cat(found), torch.cat(least)


def images_of_patches(
    settings: Patches,
    data: Images,
    classes: Sequence[int],
    *,
    ipc: int,
    network: Network,
    seed: int,
    device: torch.device,
) -> Tensor:
    """Normalised images (C, ipc, channels, size, size) of the easiest patches of each class, by a trained
    classifier in eval mode on `device`; on the CPU. A set of their own, or where other images start from.

    Raises UserError if `factor` does not divide the pixels of an image, or if a class has too few images.
    """
    settings.check_ipc(ipc)
    settings.check_size(data.size, data.dataset)
    needed, made = settings.images_needed(ipc), []
    for label in classes:
        rows = data.class_slice(label)
        if rows.stop - rows.start < needed:
            raise UserError(
                f"{data.dataset}: ipc {ipc} asked for, which is made from {needed} real images a class, but "
                f"class {label} has only {rows.stop - rows.start}"
            )
        crops, losses = easiest_patches(settings, data, label, network, seed=seed, device=device)
        made.append(patches.stitched(crops[patches.lowest(losses, needed)], settings.factor))
    return torch.stack(made)


def stitch(recipe: PatchesRecipe, site: Site, *, ipc: int, network: Network) -> Outcome:
    """One set. Raises UserError as `images_of_patches` does."""
    recipe.check_ipc(ipc)
    with naming(recipe.name):
        images = images_of_patches(
            recipe.patches,
            site.data,
            site.classes,
            ipc=ipc,
            network=network,
            seed=site.seed,
            device=site.device,
        )
    return Outcome(eight_bit(images, site.data) if recipe.eight_bit else images)


def stitch_patches(site: Site, orders: Sequence[Order[PatchesRecipe]]) -> list[Outcome]:
    """The engine `patches`: every set by itself."""
    outcomes = []
    for order in orders:
        network, _ = load_teacher(order.parents["teacher"], site.data, site.device)
        outcomes.append(stitch(order.recipe, site, ipc=order.ipc, network=network))
    return outcomes
