"""Networks that train on images whose style is drifted towards that of others, inside the network.

Source: ddm, Appendix A and Figures 1c, 1d: "during the training of a CNN" its feature maps are given a mixed
style and then pass through the remaining layers; images are tested as they are. What the paper leaves open is
read so: the maps of one stage drift, behind its pooling, the first unless asked otherwise, as Figure 1a shows
the style of the first layer; the i-th image of a class drifts towards the i-th image of this class in the
other set, under the same augmentation; the gradient flows through both styles.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from condense.config import UserError
from condense.discrepancy.style import drifted
from condense.evaluate.trained import measured_accuracy
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.models.base import StagedNetwork
from condense.specs import Drift
from condense.training.sets import TrainingSet


class Drifting(nn.Module):
    """`network`, whose training batches come with partners: the style of each image is drifted towards its
    partner's.

    Its parameters are those of `network`, in the same order. Raises UserError for a network without stages or
    without this one.
    """

    def __init__(self, network: nn.Module, drift: Drift) -> None:
        super().__init__()
        if not isinstance(network, StagedNetwork):
            raise UserError(
                f"a network of kind {type(network).__name__} has no stages to drift: take 'convnet', say"
            )
        if not 1 <= drift.stage <= len(network.stages):
            raise UserError(
                f"stage {drift.stage} is asked for, but the network has stages 1 to {len(network.stages)}"
            )
        self.network, self.drift = network, drift

    @property
    def fused(self) -> bool:
        """See `models.base.Network`."""
        return self.network.fused

    def forward(self, images: Tensor, partners: Tensor | None = None) -> Tensor:
        """Logits (n, classes) of images (n, c, h, w), as they are or, with `partners` of the same shape,
        drifted."""
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


def drift(task: Drift, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """Networks are trained on the set with the style of its images drifted towards that of the further set
    `style`, and tested without.

    Raises UserError if an image has no partner of its class in the other set, and for networks that have no
    such stage.
    """
    style = sets.further["style"]
    images, others = sets.judged.by_step[0](), style.by_step[0]()
    if images.labels.tolist() != others.labels.tolist():
        raise UserError(
            f"{style.path}: every image of {sets.judged.path} needs a partner of its class there, in the "
            "same order"
        )
    paired = {0: lambda: replace(images, beside=others.fetch)}
    return trainer.measured(
        paired, partial(measured_accuracy, tested), lambda network: Drifting(network, task)
    )
