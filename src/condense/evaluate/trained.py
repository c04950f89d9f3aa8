"""Networks that were trained, one or several side by side, and what is measured of them on real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from condense.kernels.precision import computed_in
from condense.machine.fitting import test_batch
from condense.training.memory import in_smaller_batches
from condense.training.sets import TrainingSet
from condense.training.stacked import Stacked

# Logits (K, b, classes) of K networks and labels (b,) of a batch -> sums over its images (K, m), of any
# number type.
Statistic = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TrainedNetworks:
    """`network` is one network or `Stacked` ones; layers are computed in `dtype`. What is measured is the
    same either way."""

    network: nn.Module
    dtype: torch.dtype

    @property
    def count(self) -> int:
        """How many networks these are."""
        return self.network.count if isinstance(self.network, Stacked) else 1

    def logits(self, images: Tensor) -> Tensor:
        """Logits (K, b, classes) in float32 of images (b, C, H, W), which all networks see; the gradient of a
        sum over the networks is that of each."""
        with computed_in(self.dtype, images.device):
            logits = self.network(images)
        return logits if isinstance(self.network, Stacked) else logits[None]

    def sums(self, images: TrainingSet, statistic: Statistic) -> Tensor:
        """The sums (K, m), on the CPU, of a statistic over `images`, in eval mode, in one pass through the
        networks.

        Fewer images go through at a time where the memory of the device does not suffice.
        """
        self.network.eval()
        batch = test_batch(images.labels.device.type, self.count)
        return in_smaller_batches(partial(self._sums, images, statistic), batch)

    @torch.inference_mode()
    def _sums(self, images: TrainingSet, statistic: Statistic, batch: int) -> Tensor:
        total = None
        for indices in torch.arange(len(images)).split(batch):
            sums = statistic(
                self.logits(images.fetch(indices)), images.labels[indices.to(images.labels.device)]
            )
            total = sums if total is None else total + sums
        if total is None:
            raise ValueError("there are no images to measure networks on")
        return total.cpu()


Measure = Callable[[TrainedNetworks], dict[str, list[float]]]  # by metric the value of each network


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images (K, 1) each network classifies rightly."""
    return (logits.argmax(2) == labels).sum(1, keepdim=True)


def measured_accuracy(tested: TrainingSet, networks: TrainedNetworks) -> dict[str, list[float]]:
    """The percentage of `tested` that each network classifies rightly."""
    return {"accuracy": percentages(networks.sums(tested, right)[:, 0], len(tested))}


def percentages(counts: Tensor, images: int) -> list[float]:
    """Counts (K,) of so many images in percent."""
    return [100.0 * count / images for count in counts.tolist()]
