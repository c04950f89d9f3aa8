"""What images follow under observers, beside the class that these take them for: the statistics of layers,
flatness, spread, and what is known of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.common import not_above, unused


def _above_zero(where: str, **numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise UserError(f"{where}: {name}: must be above 0, found {value:g}")
        not_above({f"{where}: {name}": value})


def _a_share(where: str, one: bool = False, **numbers: float) -> None:
    for name, value in numbers.items():
        if not (0 <= value < 1 or one and value == 1):
            raise UserError(f"{where}: {name}: must lie in [0, 1{']' if one else ')'}, found {value:g}")


@dataclass(frozen=True)
class LayerStatistics:
    """How much it counts that means and variances of what layers are given differ from those of the real
    images: `weight`, and `first` as many times for the first layer of a network.

    The layers are the batch norms, which know those of all real images; with `convolutions` also these, by
    channel and by patch of 4 x 4 places, whose statistics, as those of classes, are gathered beforehand.
    Source: SRe2L (Yin et al. 2023), eq. (7); G-VBSM (Shao et al. 2023), section 3.2; EDC (2024), eq. (5).
    """

    weight: float = 0.01
    first: float = 10.0
    # how much of it is the gap to the statistics of the classes in a batch (1 - alpha), in place of those of
    # all images
    classes: float = 0.0
    convolutions: bool = False
    # the share of the mean over the steps so far in what is compared, of each batch by itself
    running: float = 0.0
    from_zero: bool = False  # that mean starts at 0, as in the authors' code, and not at the first batch
    skipped: float = 0.0  # the chance that a convolution does not count at a step
    # patches of classes have their means and variances exchanged, as the authors' code stores them
    exchanged: bool = False
    # each class in a batch by itself, weighted by its share of the images, as the paper writes it: the
    # authors' code compares the whole batch with the mean over its labels, which cannot tell classes apart
    # that are looked at together. Running means are of batches, and these gaps have none.
    by_class: bool = False

    def __post_init__(self) -> None:
        _above_zero("statistics", weight=self.weight, first=self.first)
        _a_share("statistics", one=True, classes=self.classes)
        _a_share("statistics", running=self.running, skipped=self.skipped)
        if not self.convolutions:
            why = "without `convolutions` it is of no layer"
            unused(self, ("skipped", "exchanged"), why, "statistics")
        if not self.classes:
            why = "without `classes` nothing is compared with them"
            unused(self, ("exchanged", "by_class"), why, "statistics")
        if not self.running:
            unused(self, ("from_zero",), "without `running` there is no mean", "statistics")

    @property
    def gathered(self) -> bool:
        """Whether a pass over the real images has to say what layers are given."""
        return self.convolutions or self.classes > 0


@dataclass(frozen=True)
class LogitFlatness:
    """The divergence of an observer's softmax of logits / `temperature` from that of the running mean of the
    images, in which each step counts 1 - `decay`. Source: EDC (2024), eq. (7), L'_FR."""

    passes: ClassVar[tuple[int, int]] = (1, 0)  # further ones of a batch: forward, and there and back

    name: Literal["logits"]
    weight: float = 0.25
    decay: float = 0.99
    temperature: float = 4.0

    def __post_init__(self) -> None:
        _above_zero("flatness", weight=self.weight, temperature=self.temperature)
        _a_share("flatness", decay=self.decay)


@dataclass(frozen=True)
class StatisticFlatness:
    """The gap of the statistics of layers to those of the running mean of the images, as `LogitFlatness` has
    it. Source: EDC (2024), eq. (6), L_FR."""

    passes: ClassVar[tuple[int, int]] = (1, 0)

    name: Literal["statistics"]
    weight: float = 0.25
    decay: float = 0.99

    def __post_init__(self) -> None:
        _above_zero("flatness", weight=self.weight)
        _a_share("flatness", decay=self.decay)


@dataclass(frozen=True)
class SharpnessAware:
    """How much higher the loss is at a distance of `radius` along its gradient. Source: Foret et al. 2020;
    EDC (2024), eqs. (19) and (29), its 'vanilla SAM', which names no radius."""

    passes: ClassVar[tuple[int, int]] = (0, 1)
    decay: ClassVar[None] = None  # no running mean of the images is needed

    name: Literal["sharpness"]
    weight: float = 0.25
    radius: float = 0.05

    def __post_init__(self) -> None:
        _above_zero("flatness", weight=self.weight, radius=self.radius)


AnyFlatness = LogitFlatness | StatisticFlatness | SharpnessAware


@dataclass(frozen=True)
class Spread:
    """How much it counts that the images of a class in a batch are alike: the divergence of the softmax of
    the eigenvalues of their products from that of the eigenvalues / `temperature`. Source: G-VBSM (Shao et
    al. 2023), section 3.1."""

    weight: float = 1.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        _above_zero("spread", weight=self.weight, temperature=self.temperature)


@dataclass(frozen=True)
class PixelPrior:
    """Weights of the total variation of the images, by sizes (`tv_l1`) and by lengths (`tv_l2`), and of the
    length of an image (`l2`). Source: SRe2L (Yin et al. 2023), eq. (5), whose code has weights of 0."""

    tv_l1: float = 0.0
    tv_l2: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        values = {"tv_l1": self.tv_l1, "tv_l2": self.tv_l2, "l2": self.l2}
        for name, value in values.items():
            if value < 0:
                raise UserError(f"prior: {name}: must not be negative, found {value:g}")
        not_above({f"prior: {name}": value for name, value in values.items()})
        if not any(values.values()):
            raise UserError("prior: all its weights are 0; leave it out, or give one of them")
