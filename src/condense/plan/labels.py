"""Labels that observers give a set beforehand, in a plan. Floor 0."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from condense.files.artifacts import digest
from condense.files.relabels import RELABELS
from condense.plan.numerics import NUMERICS
from condense.plan.parent import ParentCell
from condense.specs import Protocol, number_of_epochs
from condense.specs.costs.work import FLOAT, Work, pixels_of


@dataclass(frozen=True)
class LabelsCell(ParentCell):
    """The labels of every epoch that the observers of `protocol` give a set, under the augmentation
    `strategy`. `synthetic`: its file; `set_key`: its key; `images`: as many as networks see of it, those that
    its stored ones are decoded to. `arch` is that of the first observer."""

    kind: ClassVar[str] = "stored_labels"
    file: ClassVar[str] = RELABELS
    room: ClassVar[str] = "labels"
    title: ClassVar[str] = "stored labels"

    protocol: Protocol
    strategy: str
    synthetic: str
    set_key: str = ""
    images: int = 0
    observers: Mapping[str, ParentCell] = field(default_factory=dict)

    @classmethod
    def setting_names(cls) -> list[str]:
        """Those of its settings that whoever makes it takes; the others are for the plan alone."""
        return ["protocol", "strategy", "synthetic"]

    @classmethod
    def names_made_from(cls, values: Mapping[str, Any]) -> Collection[str]:
        """Those of the observers."""
        return list(values["protocol"].observers)

    @property
    def parents(self) -> Mapping[str, ParentCell]:
        return self.observers

    @property
    def inputs(self) -> list[str]:
        return [self.synthetic, self.data.train, *(cell.path for cell in self.observers.values())]

    @cached_property
    def key(self) -> str:
        given_by = {name: cell.key for name, cell in self.observers.items()}
        parts = [self.set_key, self.protocol.computed_part(), self.strategy, self.seed, given_by]
        return digest([*parts, NUMERICS["evaluate"]])

    @property
    def made_by(self) -> str:
        return self.protocol.name

    def work(self, on_gpu: bool = False) -> Work:
        protocol, data = self.protocol, self.data.spec
        epochs, batches = number_of_epochs(protocol, self.images), math.ceil(self.images / protocol.batch)
        networks = [self.data.profile(cell.arch, cell.options) for cell in self.observers.values()]
        work = protocol.observing_work(networks, self.images, epochs, on_gpu)
        bytes_out = protocol.label_bytes(self.images, data.classes)
        return replace(
            work,
            draws=epochs * batches,
            images=epochs * self.images,
            bytes_out=bytes_out,
            peak_bytes=work.peak_bytes + self.images * pixels_of(data) * FLOAT,
            # The real images, whose classes the observers must know, and the labels twice: they are gathered
            # epoch by epoch
            host_bytes=data.train * pixels_of(data) + 2 * bytes_out,
        )

    @property
    def pace(self) -> int:
        return number_of_epochs(self.protocol, self.images)
