"""The images of one set while an optimiser moves them: where they start, what networks see of them, their
mean over the steps."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.augment import formations
from condense.data.dataset import Images
from condense.engines.starts import check_starts, initial_images
from condense.engines.units import grey, units
from condense.specs import MovedRecipe


class MovingImages:
    """Images (C, ipc, channels, size, size) of some classes, as `values` in the units of the recipe, which
    the optimiser moves in place.

    `start`: normalised images (C, ipc, ...) to start from, by default those that the recipe draws.
    Raises UserError if the classes do not have the real images that they start from.
    """

    def __init__(
        self,
        recipe: MovedRecipe,
        data: Images,
        classes: tuple[int, ...],
        *,
        ipc: int,
        seed: int,
        device: torch.device,
        start: Tensor | None = None,
    ):
        check_starts(recipe, data, classes, ipc)
        self.recipe = recipe
        self._units, self._grey = units(recipe.optimised, data, device), grey(data, device)
        if start is None:
            start = initial_images(data, classes, ipc, recipe.init, seed, recipe.decode)
        self.values = self._units.values(start).to(device).requires_grad_(True)
        self.averaged = self.values.detach().clone() if recipe.averaging is not None else None
        # Of the images shown
        self.labels = torch.tensor(classes, device=device)[:, None].expand(-1, ipc * recipe.images_a_stored)

    def shown(self) -> Tensor:
        """What networks see: normalised images of full size (C, M, ...), with gradient.

        M is more than ipc where a set stores formations.
        """
        return formations.decode(self._units.images(self.values), self.recipe.decode, self._grey)

    def matched(self) -> tuple[Tensor, Tensor]:
        """What a step matches to the real images: those shown, followed, where the recipe says so, by their
        mirror images; (C, M, ...), and labels (C, M). Source: FYI (2024), its flip of the set."""
        images = self.shown()
        if not self.recipe.mirrored:
            return images, self.labels
        return torch.cat([images, images.flip(-1)], 1), torch.cat([self.labels, self.labels], 1)

    @property
    def kept(self) -> Tensor:
        """What the set keeps: normalised images (C, ipc, ...) without gradient, the last ones or their mean
        over the steps."""
        return self._units.images(self.values.detach() if self.averaged is None else self.averaged)

    @property
    def largest(self) -> float:
        """The largest size of a normalised pixel."""
        return self._units.images(self.values.detach()).abs().max().item()

    @property
    def unmoved(self) -> bool:
        """Whether the last step gave them a gradient of zeros alone."""
        return self.values.grad is not None and not self.values.grad.any().item()

    @torch.no_grad()
    def clip(self) -> None:
        """Brings pixels back into [0, 1], where the recipe asks for it."""
        if self.recipe.clip:
            self.values.clamp_(self._units.low, self._units.high)

    def average(self, done: int) -> None:
        """Takes the images after so many steps into their mean, where the recipe asks for one."""
        eta = self.recipe.averaging
        if self.averaged is not None and eta is not None:
            # Polynomial-decay averaging (Shamir and Zhang 2013, section 4): a constant share of the run,
            # whatever its length.
            self.averaged.lerp_(self.values.detach(), (eta + 1) / (eta + done))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of them, by name."""
        return {"values": self.values.detach()} | (
            {"averaged": self.averaged} if self.averaged is not None else {}
        )

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes up what `state` gave."""
        self.values.copy_(tensors["values"])
        if self.averaged is not None:
            self.averaged.copy_(tensors["averaged"])
