"""The real side of matching: networks, batches and augmentation, drawn by the seed, the class and the step
alone.

Methods and ipc do not enter, so sets whose recipes ask for the same stream are matched to the same real side,
computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense import models
from condense.augment import siamese
from condense.augment.selected import Selected, as_tensors
from condense.data.dataset import Images
from condense.engines.map_statistics import Statistic
from condense.engines.views import Computed, RealSide, WatchedSide
from condense.kernels.precision import Types, rounded
from condense.machine import seeds
from condense.machine.graphs import Recorded, Recorder
from condense.machine.transfer import AHEAD, Ahead, Slots, sent
from condense.networks.sources import network_source
from condense.specs import MatchingRecipe


class RealBatches:
    """The real batches of every step: the first `size` of a fresh permutation of each class."""

    def __init__(self, data: Images, classes: tuple[int, ...], size: int, seed: int, device: torch.device):
        self.classes, self.seed, self.device = classes, seed, device
        lying = [data.class_slice(label) for label in classes]
        self.counts = [rows.stop - rows.start for rows in lying]
        neighbours = all(rows.stop == following.start for rows, following in pairwise(lying))
        together = (
            data.images[lying[0].start : lying[-1].stop]
            if neighbours
            else torch.cat([data.images[rows] for rows in lying])
        )
        self.pixels = together.to(device)  # of the classes, one after the other
        self.sizes = [min(size, count) for count in self.counts]
        self.mask = None
        if min(self.sizes) < max(self.sizes):
            self.mask = torch.tensor(
                [[index < held for index in range(max(self.sizes))] for held in self.sizes], device=device
            )

    def chosen(self, step: int) -> Tensor:
        """Where in `pixels` the batches of a step lie: (C, B), on the CPU.

        A class with fewer images than B is padded with its first, which the mask leaves out.
        """
        batches, start, most = [], 0, max(self.sizes)
        for label, count, held in zip(self.classes, self.counts, self.sizes, strict=True):
            order = torch.randperm(count, generator=seeds.generator(self.seed, "real-batch", label, step))[
                :held
            ]
            if held < most:
                order = torch.cat([order, order[:1].expand(most - held)])
            batches.append(order + start)
            start += count
        return torch.stack(batches)

    def taken(self, chosen: Tensor) -> Tensor:
        """The uint8 images (C, B, ...) at places (C, B), which are on the device."""
        return self.pixels.index_select(0, chosen.flatten()).unflatten(0, chosen.shape)


@dataclass(frozen=True)
class _Drawn:
    """What is drawn for a step: places (C, B) of real images, a draw for each class, and the draws as
    tensors, where these are used."""

    chosen: Tensor
    draws: list[siamese.Draw]
    tensors: list[Tensor]


class RealStream:
    """The real side of every step for some classes, as one recipe, or several that agree in `Recipe.stream`,
    asks for it."""

    def __init__(
        self,
        recipe: MatchingRecipe,
        data: Images,
        classes: tuple[int, ...],
        *,
        arch: str,
        options: Mapping[str, Any],
        seed: int,
        device: torch.device,
        bank: Path | None = None,
        recorder: Recorder | None = None,
    ):
        """`bank` holds the networks of a queue; without one a queue is trained as it goes, on all images of
        `data`.

        With a `recorder`, steps are recorded once and repeated; see `condense.machine.graphs`.
        """
        self.settings = recipe.stream
        self.data, self.classes, self.seed, self.device = data, classes, seed, device
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced at every step
            self.network = models.build(
                arch, channels=data.channels, size=data.size, classes=len(data.counts), **options
            )
        self.network.to(device).requires_grad_(False)
        # Batch statistics belong to the whole batch, so it cannot go through the network in parts.
        self.chunked = not any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.network.modules()
        )
        self.types = Types(recipe.precision, self.network, device)
        self.real_type, self.synthetic_type = self.types.of("real"), self.types.of("synthetic")
        # The real side's own copy of the parameters, so that they are converted once a step and not once a
        # chunk.
        self.real_network = (
            self.network
            if self.real_type == torch.float32
            else copy.deepcopy(self.network).to(self.real_type)
        )
        self.batches = RealBatches(data, classes, recipe.batch_real, seed, device)
        self.wanted: tuple[Statistic, ...] = ()
        self.source = network_source(
            recipe.networks, self.network, data, arch=arch, options=options, seed=seed, bank=bank
        )
        self._drawn = Ahead(self._draw, AHEAD[device.type])
        self.recorder = recorder
        self._as_tensors = recorder is not None or device.type != "cpu"  # the draws
        self._slots: Slots | None = None
        self._recorded: Recorded | None = None

    def serves(self, recipe: MatchingRecipe) -> bool:
        """Whether a set with this recipe can be matched to this stream."""
        return recipe.stream == self.settings

    def want(self, statistics: Iterable[Statistic]) -> None:
        """Has these statistics of the real images computed at every step, in the pass that embeds them.

        Raises ValueError if they are new and steps without them have been recorded.
        """
        wanted = tuple(dict.fromkeys((*self.wanted, *statistics)))
        if wanted != self.wanted and self._recorded is not None:
            raise ValueError("sets with other statistics join a stream before its first step")
        self.wanted = wanted

    def at(self, step: int) -> RealSide:
        """The real side of a step. It is to be used before the next is asked for, which replaces the
        network."""
        self.source.at(step)
        drawn, accuracy = self._drawn.at(step), self.source.accuracy
        if self.recorder is not None:
            known = torch.tensor(0.0 if accuracy is None else accuracy)
            side, lying = self._recorded_side(self.recorder, [drawn.chosen, known, *drawn.tensors])
            side.accuracy = None if accuracy is None else lying
        else:
            places = drawn.chosen
            draws: list[siamese.Draw] | Selected = drawn.draws
            if self._as_tensors:
                places, *tensors = sent([drawn.chosen, *drawn.tensors], self.device)
                draws = self._selected(tensors)
            self._bring_parameters()
            side = self._side(self.batches.taken(places), draws)
            side.accuracy = accuracy
        side.trained, side.seed, side.draw_second = (
            self.source.trained,
            (self.seed, step),
            partial(self.source.second, step),
        )
        return side

    def close(self) -> None:
        """Ends what is done ahead of the steps."""
        self._drawn.close()
        self.source.close()

    def _draw(self, step: int) -> _Drawn:
        """Which real images, and the augmentation of each class; on the CPU."""
        augment, draws = self.settings["augment"], self._draws("augment", step)
        return _Drawn(
            self.batches.chosen(step),
            draws,
            as_tensors(draws, augment.siamese, augment.mode) if self._as_tensors else [],
        )

    def _draws(self, name: str, step: int) -> list[siamese.Draw]:
        """The augmentation of each class at a step, from the stream of random numbers called `name`."""
        augment = self.settings["augment"]
        generators = [seeds.generator(self.seed, name, label, step) for label in self.classes]
        return [
            siamese.draw(augment.siamese, self.data.size, generator, augment.mode) for generator in generators
        ]

    def with_other_draws(self, side: RealSide, name: str) -> RealSide:
        """The real side of a step under another augmentation of each class, from the stream called `name`."""
        drawn, augment = self._draws(name, side.seed[1]), self.settings["augment"]
        if not self._as_tensors:
            return replace(side, draws=drawn)
        tensors = sent(as_tensors(drawn, augment.siamese, augment.mode), self.device)
        return replace(side, draws=self._selected(tensors))

    def _bring_parameters(self) -> None:
        """Gives the real side's own network the parameters of the step, in its type."""
        if self.real_network is self.network:
            return
        for real, drawn in zip(self._tensors(self.real_network), self._tensors(self.network), strict=True):
            real.copy_(rounded(drawn, real.dtype) if real.is_floating_point() else drawn)
            if self.synthetic_type == self.real_type:
                drawn.copy_(real)  # both sides under the very same network

    def _side(
        self,
        pixels: Tensor,
        draws: list[siamese.Draw] | Selected,
        kind: type[RealSide] = RealSide,
        computed: Computed | None = None,
    ) -> RealSide:
        """The real side of these images under the networks as they are."""
        return kind(
            self.data,
            pixels,
            self.batches.mask,
            draws,
            self.network,
            real_network=self.real_network,
            chunked=self.chunked,
            dtype=self.real_type,
            wanted=self.wanted,
            computed=computed,
        )

    def _recorded_side(self, recorder: Recorder, tensors: list[Tensor]) -> tuple[RealSide, Tensor]:
        """By recorded work: `tensors`, places of the real images, the network's accuracy and draws, go where
        those of all steps lie.

        Gives the side, and the accuracy () where it lies.
        """
        if self._recorded is None or self._slots is None:
            self._slots = Slots(tensors, self.device)
            work = partial(self._seen_by, self._slots)
            self._recorded = Recorded(
                work,
                recorder,
                state=self._changing,
                computed_in=self.real_type,
                name="the real side of a step",
            )
        self._slots.fill(tensors)
        pixels, computed = self._recorded()
        _, accuracy, *draws = self._slots.tensors
        return self._side(pixels, self._selected(draws), WatchedSide, computed), accuracy

    def _seen_by(self, slots: Slots) -> tuple[Tensor, Computed]:
        """The real images of the step, and what is computed of them."""
        places, _, *draws = slots.tensors
        self._bring_parameters()
        side = self._side(self.batches.taken(places), self._selected(draws))
        return side.pixels, side.seen

    def _changing(self) -> list[Tensor]:
        """The networks, of which one is made from the other at every step."""
        return list(dict.fromkeys(chain(self._tensors(self.network), self._tensors(self.real_network))))

    def _selected(self, draws: list[Tensor]) -> Selected:
        augment = self.settings["augment"]
        return Selected(augment.siamese, augment.mode, len(self.classes), draws)

    @staticmethod
    def _tensors(network: nn.Module) -> Iterator[Tensor]:
        return chain(network.parameters(), network.buffers())
