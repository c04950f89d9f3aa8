"""Networks that train on images whose style is drifted towards that of others, inside the network.

Source: ddm, Appendix A and Figures 1c, 1d: "during the training of a CNN" its feature maps are given a mixed style and then pass
through the remaining layers; images are tested as they are. What the paper leaves open is read so: the maps of one stage drift, behind its
pooling, the first unless asked otherwise, as Figure 1a shows the style of the first layer; the i-th image of a class drifts
towards the i-th image of this class in the other set, under the same augmentation; the gradient flows through both styles.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from condense.config import UserError
from condense.discrepancy.style import drifted
from condense.models.base import StagedNetwork


@dataclass(frozen=True)
class StyleDrift:
    """By how much, from 0 to 1, the style drifts, and behind which stage of the network, counted from 1."""

    ratio: float
    stage: int


class Drifting(nn.Module):
    """`network`, whose training batches come with partners: the style of each image is drifted towards its partner's.

    Its parameters are those of `network`, in the same order. Raises UserError for a network without stages or without this one.
    """

    def __init__(self, network: nn.Module, drift: StyleDrift) -> None:
        super().__init__()
        if not isinstance(network, StagedNetwork):
            raise UserError(f"a network of kind {type(network).__name__} has no stages to drift: take 'convnet', say")
        if not 1 <= drift.stage <= len(network.stages):
            raise UserError(f"stage {drift.stage} is asked for, but the network has stages 1 to {len(network.stages)}")
        self.network, self.drift = network, drift

    @property
    def fused(self) -> bool:
        """See `models.base.Network`."""
        return self.network.fused

    def forward(self, images: Tensor, partners: Tensor | None = None) -> Tensor:
        """Logits (n, classes) of images (n, c, h, w), as they are or, with `partners` of the same shape, drifted."""
        if partners is None:
            return self.network(images)
        maps, others = self._to_stage(images), self._to_stage(partners)
        x = drifted(maps.float(), others.float(), self.drift.ratio).to(maps.dtype)
        for stage in self.network.stages[self.drift.stage :]:
            x = stage(x)
        return self.network.head(self.network.neck(x))

    def _to_stage(self, images: Tensor) -> Tensor:
        x = self.network.enlarge(images)
        for stage in self.network.stages[: self.drift.stage]:
            x = stage(x)
        return x
