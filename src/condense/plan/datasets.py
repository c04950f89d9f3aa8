"""Prepared datasets of a plan. Floor 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from condense.costs.profile import Profile
from condense.data.spec import DatasetSpec
from condense.files.artifacts import digest
from condense.plan.numerics import NUMERICS
from condense.plan.profiles import profile

RESULTS = PurePosixPath("results")


@dataclass(frozen=True)
class DataCell:
    """A prepared dataset: `{folder}/train.safetensors` and `{folder}/test.safetensors`."""

    spec: DatasetSpec

    @property
    def name(self) -> str:
        return self.spec.name

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
