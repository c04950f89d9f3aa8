"""Prepared datasets of a plan. Floor 0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

from condense.data.spec import DatasetSpec
from condense.files.artifacts import digest
from condense.plan.numerics import NUMERICS
from condense.plan.profiles import profile
from condense.specs.costs.profile import Profile

RESULTS = PurePosixPath("results")


@dataclass(frozen=True)
class DataCell:
    """A prepared dataset: `{folder}/train.safetensors` and `{folder}/test.safetensors`."""

    spec: DatasetSpec

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_part(self) -> bool:
        """Whether it holds some classes of another alone."""
        return False

    @property
    def settings_of(self) -> str:
        """The dataset whose settings hold for it: in recipes, and of networks in scales."""
        return self.name

    @cached_property
    def key(self) -> str:
        return digest([self.spec.identity(), NUMERICS["data"]])

    def profile(self, arch: str, options: str) -> Profile:
        """What one of its images costs in a network. Raises UserError as `models.build` does."""
        return profile(arch, options, self.spec.channels, self.spec.size, self.spec.classes)

    @property
    def folder(self) -> str:
        return f"{RESULTS}/data/{self.name}/{self.key}"

    @property
    def train(self) -> str:
        return f"{self.folder}/train.safetensors"

    @property
    def test(self) -> str:
        return f"{self.folder}/test.safetensors"


@dataclass(frozen=True)
class ClassesCell(DataCell):
    """Some classes of a prepared dataset, as a dataset of their own: what is made from it has seen no other.

    `chosen`: their numbers in `whole`, ascending; here they are numbered from 0 on in that order.
    """

    whole: DataCell
    chosen: tuple[int, ...]

    @cached_property
    def key(self) -> str:
        return digest([self.whole.key, list(self.chosen), NUMERICS["data"]])

    @property
    def is_part(self) -> bool:
        return True

    @property
    def settings_of(self) -> str:
        return self.whole.settings_of


def classes_of(whole: DataCell, chosen: tuple[int, ...]) -> ClassesCell:
    """The classes `chosen` of `whole`, ascending, as a dataset of their own. Raises UserError for fewer than
    two.

    How many images they have is reckoned, by their share of the classes, for estimates alone: who prepares
    them counts.
    """
    spec, share = whole.spec, len(chosen) / whole.spec.classes
    part = replace(
        spec,
        # The same classes have one name, whatever asks for them
        name=f"{whole.name}-{len(chosen)}of{spec.classes}-{digest(list(chosen), 6)}",
        title=f"{spec.title} ({len(chosen)} of {spec.classes} classes)",
        classes=len(chosen),
        train=max(len(chosen) * spec.smallest_class, int(spec.train * share)),
        test=max(1, int(spec.test * share)),
        class_names=[spec.class_names[label] for label in chosen] if spec.class_names else None,
        source=replace(spec.source, classes=[]),
        counts="at_least",
    )
    return ClassesCell(part, whole, chosen)
