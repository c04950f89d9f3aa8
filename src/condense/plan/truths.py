"""True accuracies of networks of a space, in a plan. Floor 0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from condense.files.artifacts import digest
from condense.plan.numerics import NUMERICS
from condense.plan.parent import ParentCell
from condense.specs import Protocol, number_of_epochs
from condense.specs.common import at_least
from condense.specs.costs.work import Work
from condense.specs.truth import told_of_truth


@dataclass(frozen=True)
class TruthCell(ParentCell):
    """The true accuracies of `candidates` networks of the space of its architecture, drawn by the seed
    `draw`: each trained `networks` times by `protocol` on all training images (`images`: null) or on so many,
    and tested; or, with the checksum of a `table` in place of '', what a published benchmark says of them."""

    kind: ClassVar[str] = "truth"
    file: ClassVar[str] = "truth"
    room: ClassVar[str] = "truths"
    title: ClassVar[str] = "true accuracies of networks"

    candidates: int
    draw: int
    networks: int
    images: int | None
    table: str
    protocol: Protocol
    strategy: str

    @cached_property
    def key(self) -> str:
        parts = [self.data.key, self.arch, self.candidates, self.draw, NUMERICS["truths"]]
        if self.table:
            return digest([*parts, self.table])
        trained = [self.options, self.protocol.computed_part(), self.strategy, self.networks, self.images]
        return digest([*parts, *trained, self.seed])

    @property
    def made_by(self) -> str:
        return "published" if self.table else self.protocol.name

    @property
    def inputs(self) -> list[str]:
        return [self.data.train, self.data.test]

    @property
    def note(self) -> str:
        return told_of_truth(
            self.candidates, self.networks, self.images, "" if not self.table else self.arch, self.protocol
        )

    def work(self, on_gpu: bool = False) -> Work:
        bytes_out = self.candidates * (8 + 16 * self.networks)
        if self.table:
            return Work(bytes_out=bytes_out, light=True)
        network, data = self.data.profile(self.arch, self.options), self.data.spec
        images, networks = min(self.images or data.train, data.train), self.candidates * self.networks
        work = self.protocol.training_work(network, data, images, networks, data.test, on_gpu=on_gpu)
        return replace(work, bytes_out=bytes_out)

    @property
    def epochs(self) -> int:
        return 0 if self.table else self.protocol.epochs

    @property
    def pace(self) -> int:
        images = min(self.images or self.data.spec.train, self.data.spec.train)
        return 0 if self.table else self.candidates * self.networks * number_of_epochs(self.protocol, images)

    @classmethod
    def values_from(cls, settings: object, where: str) -> dict[str, Any]:
        values = super().values_from(settings, where)
        at_least({f"{where}: candidates": values["candidates"]}, 2)
        at_least({f"{where}: {name}": values[name] for name in ("networks", "images")}, 1)
        at_least({f"{where}: draw": values["draw"]}, 0)
        return values
