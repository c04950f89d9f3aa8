"""The engine `statistics`: images that trained networks take for their classes, and whose statistics in the
layers of these networks are those of the real images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from condense.config import UserError, naming, unknown
from condense.machine import fitting
from condense.specs.beside import Beside
from condense.specs.common import at_least, check_name, groups_of, unused
from condense.specs.costs.work import FLOAT, Shard, Work, both, pixels_of, statistics_bytes
from condense.specs.image_losses import AnyFlatness, LayerStatistics, PixelPrior, Spread
from condense.specs.images import MovedRecipe
from condense.specs.parent import P, Parent, PlannedData, PlannedParent, Planning, TeacherNeed
from condense.specs.patches import Patches
from condense.specs.schedules import ConstantSchedule, CosineSchedule


@dataclass(frozen=True)
class Observers:
    """The trained classifiers that look at the images, one after the other: their architectures, and the
    protocol by which they are trained on the real images; `protocol_of`: that of single architectures."""

    protocol: str
    archs: list[str]
    protocol_of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("observers: protocol", self.protocol)
        if not self.archs or len(set(self.archs)) < len(self.archs):
            raise UserError(
                f"observers: archs: at least one architecture, and none twice, is needed; found {self.archs}"
            )
        for arch in self.archs:
            check_name("observers: archs", arch)
        for arch, protocol in self.protocol_of.items():
            check_name("observers: protocol_of", protocol)
            if arch not in self.archs:
                raise unknown("architecture", arch, self.archs, "observers: protocol_of")


@dataclass(frozen=True)
class Crop:
    """A box of the images, enlarged to their size, whose share of the area is drawn from `least` to `most`,
    and its sides from 3:4 to 4:3.

    `falls`: the least area starts at `most` and falls to `least` over the part `over` of the steps, as in
    CDA.
    """

    least: float = 0.08
    most: float = 1.0
    falls: Literal["never", "cosine", "linear", "step"] = "never"
    over: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.most <= 1:
            raise UserError(
                "view: crop: 0 < least <= most <= 1 is needed, found least "
                f"{self.least:g}, most {self.most:g}"
            )
        if not 0 < self.over <= 1:
            raise UserError(f"view: crop: over: must lie in (0, 1], found {self.over:g}")
        if self.falls == "never":
            unused(self, ("over",), "the least area does not fall (`falls: never`)", "view: crop")


@dataclass(frozen=True)
class View:
    """How a batch of images is looked at, by one draw for all of them: a crop, a flip by chance, a roll by up
    to so many pixels each way, and a shift by up to so many, behind which there is grey. Rolls go `one_way`,
    down and to the right alone, in the codes of SRe2L, CDA and G-VBSM, but for SRe2L's of Tiny-ImageNet."""

    crop: Crop | None = None
    flip: bool = False
    roll: int = 0
    shift: int = 0
    one_way: bool = False

    def __post_init__(self) -> None:
        at_least({"view: roll": self.roll, "view: shift": self.shift}, 0, 4096)
        if self.one_way and not self.roll:
            raise UserError("view: one_way: is of rolls, and there are none; give a `roll`, or leave it out")


@dataclass(frozen=True)
class Batches:
    """Which images are looked at together, `images` of them at most: one of each of so many classes
    (`of_each_class`), or all of one class and then those of the next (`class_by_class`)."""

    images: int = 100
    order: Literal["of_each_class", "class_by_class"] = "of_each_class"

    def __post_init__(self) -> None:
        at_least({"batches: images": self.images}, 2)


@dataclass(frozen=True)
class LayerStatisticsNeed:
    """What the layers of an observer are given for the real images of each class."""

    made_as: ClassVar[str] = "layer_statistics"
    needed: ClassVar[bool] = True
    what: ClassVar[str] = "the statistics of an observer's layers"
    making: ClassVar[str] = "`condense parent --help` says how, of the kind 'layer_statistics'"

    observer: TeacherNeed

    @property
    def protocol(self) -> str:
        """By which the observer is trained."""
        return self.observer.protocol

    @property
    def arch(self) -> str | None:
        """Of the observer."""
        return self.observer.arch

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """The statistics of the observer that serves the sets of all seeds."""
        settings: dict[str, Any] = {
            "protocol": plan.protocol(self.observer.protocol),
            "strategy": data.spec.strategy,
        }
        return plan.parent(self.made_as, data, self.observer.arch or arch, **settings)


@dataclass(frozen=True, kw_only=True)
class StatisticsRecipe(MovedRecipe):
    """Images that observers take for their classes, and whose statistics in their layers are those of the
    real images.

    A step moves all images of the set, batch by batch: a batch depends on no other. `schedule` is that of the
    images' rate over the steps. With `patches` the images start from such, which the first observer finds
    easiest, in place of `init`.
    Source: SRe2L (Yin et al. 2023), eqs. (5) to (7); CDA (Yin and Shen 2023), section 3; G-VBSM (Shao et al.
    2023); EDC (2024), section 3.2.
    """

    NUMBER: ClassVar[int] = 1
    trials: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"steps": 4, "view": {"roll": 1}},
        {"steps": 4, "statistics": {"classes": 0.5, "convolutions": True, "running": 0.8}},
    )

    engine: Literal["statistics"]
    observers: Observers
    statistics: LayerStatistics = LayerStatistics()
    flatness: AnyFlatness | None = None
    spread: Spread | None = None
    prior: PixelPrior | None = None
    beside: Beside | None = None
    view: View = View()
    batches: Batches = Batches()
    schedule: CosineSchedule | ConstantSchedule = ConstantSchedule("constant")
    patches: Patches | None = None
    # the set is cut to the 256 levels of a file of 8 bits a channel, as codes store it
    eight_bit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patches is not None:
            unused(self, ("init",), "the images start from `patches`")
            if self.decode is not None:
                raise UserError("patches: are of full size, and `decode` stores smaller ones; leave one out")
        if self.spread is not None and self.batches.order == "of_each_class":
            raise UserError(
                "spread: a batch holds one image of a class, which is not like any other; give `batches: "
                "{order: class_by_class}`"
            )
        unused(self.schedule, ("warmup",), "the rate of images does not rise at first", "schedule")
        for setting in ("plateau", "class_turns"):
            unused(
                self.optimizer, (setting,), "the rate of these images follows `schedule` alone", "optimizer"
            )

    def parents(self) -> dict[str, Parent]:
        observers = self.observers
        needs = {
            arch: TeacherNeed(observers.protocol_of.get(arch, observers.protocol), arch)
            for arch in observers.archs
        }
        found: dict[str, Parent] = {f"observer_{arch}": need for arch, need in needs.items()}
        if self.statistics.gathered:
            found |= {f"statistics_{arch}": LayerStatisticsNeed(need) for arch, need in needs.items()}
        return found

    def arch_with(self, arch: str, parents: Mapping[str, PlannedParent]) -> str:
        # No network but the observers condenses; the first stands in the path
        return parents[f"observer_{self.observers.archs[0]}"].arch

    def splits_by(self, ties_batch: bool) -> Literal["classes", "images"] | None:
        # Cells of a mosaic, mirror images and patches of several are numbered over the whole set
        stitched = self.patches is not None and self.patches.factor > 1
        alone = self.batches.order == "of_each_class" and self.images_matched == 1 and not stitched
        # Terms compare all images of a class with its real ones
        alone = alone and self.beside is None
        return "images" if alone else None

    def within(self, strategy: str) -> dict[str, Any]:
        change: dict[str, Any] = {}
        if self.view.flip and "flip" not in groups_of(strategy):
            change["view"] = {"flip": False}
        if self.beside is not None:
            change["beside"] = {"augment": self.beside.augment.within(strategy)}
        return change

    def images_needed(self, ipc: int) -> int:
        return super().images_needed(ipc) if self.patches is None else self.patches.images_needed(ipc)

    def check_ipc(self, ipc: int) -> None:
        super().check_ipc(ipc)
        if self.patches is not None:
            self.patches.check_ipc(ipc)
        if self.beside is not None:
            with naming(self.name):
                self.beside.check_batch(ipc * self.images_matched)

    def work(self, shard: Shard) -> Work:
        """A step is a pass of every image through one observer, and one back to the images; flatness asks for
        further ones."""
        data = shard.data
        observers = [shard.parents[f"observer_{arch}"] for arch in self.observers.archs]
        there, back = self.flatness.passes if self.flatness else (0, 0)
        matched = shard.classes * shard.ipc * self.images_matched
        batch = min(self.batches.images, matched)
        batches = self.number_of_steps * math.ceil(matched / batch)

        def mean(name: str) -> float:
            return sum(getattr(network, name) for network in observers) / len(observers)

        kept = max(network.kept for network in observers)
        weights = sum(network.parameters for network in observers)
        copies = fitting.COPIES if shard.on_gpu else 1 + 2 * fitting.WINDOWS
        held = 3 * batch * kept + copies * weights + 8 * matched * pixels_of(data)
        passed = self.number_of_steps * matched * mean("forward")
        # What is known of the layers of all observers, and their running means, of each batch
        known = [
            statistics_bytes(data.classes if self.statistics.classes else 0, network) for network in observers
        ]
        means = [statistics_bytes(math.ceil(matched / batch) - 1, network) for network in observers]
        remembered = sum(known) * self.statistics.gathered + sum(means) * (self.statistics.running > 0)
        crops = shard.classes * self.patches.looked_at(data) if self.patches else 0
        plain = Work(
            flops_forward=there * passed + crops * observers[0].forward,
            flops_moving=2 * (1 + back) * passed,
            calls_forward=there * batches * mean("layers"),
            calls_training=(1 + back) * batches * mean("layers"),
            draws=batches,
            images=self.number_of_steps * matched,
            peak_bytes=2 * data.train * pixels_of(data)
            + math.ceil(held) * FLOAT * (1 + (self.number_of_snapshots > 0))
            + remembered,
            host_bytes=2 * data.train * pixels_of(data),
        )
        if self.beside is None:
            return plain
        return both(plain, self.beside.work(shard, matched, self.number_of_steps, observers[0]))
