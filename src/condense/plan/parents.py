"""Parents: what has to be made before the sets that use it, such as a classifier or a bank of networks.

Floor 0. A kind of parents is one class here, named in `PARENTS`, whose fields are its settings; a function
that makes it, named under the same kind in `jobs.parents.MAKERS`; and what a recipe asks for it by
(`specs.parent.Parent`). Plan, groups, rules, estimate, `condense run` and prune ask the cell what they have
to know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from condense.config import UserError
from condense.files.artifacts import digest
from condense.plan.labels import LabelsCell
from condense.plan.numerics import NUMERICS
from condense.plan.parent import ParentCell
from condense.plan.truths import TruthCell
from condense.specs import Protocol, QueueNetworks, TrainedNetworks, TrajectoryNetworks, number_of_epochs
from condense.specs.common import at_least, not_by_default
from condense.specs.costs.work import FLOAT, Work, pixels_of, statistics_bytes
from condense.specs.protocol import TRIED

_READ, _CALLS = 16, 12  # products for a value, and calls for a layer, that its moments take


@dataclass(frozen=True)
class TeacherCell(ParentCell):
    """A classifier pretrained on the whole training set."""

    kind: ClassVar[str] = "teacher"
    file: ClassVar[str] = "teacher"
    room: ClassVar[str] = "teachers"
    title: ClassVar[str] = "teachers"

    protocol: Protocol
    strategy: str  # the augmentation of the data

    @cached_property
    def key(self) -> str:
        parts = [
            self.data.key,
            self.strategy,
            self.arch,
            self.options,
            self.protocol.computed_part(),
            self.seed,
        ]
        return digest([*parts, NUMERICS["teachers"]])

    @property
    def made_by(self) -> str:
        return self.protocol.name

    def work(self, on_gpu: bool = False) -> Work:
        network, data = self.data.profile(self.arch, self.options), self.data.spec
        bytes_out = network.parameters * FLOAT + 8 * data.train
        if self.protocol.weights:
            peak = 3 * (network.parameters + network.largest) * FLOAT
            return Work(flops_forward=TRIED * network.forward, peak_bytes=peak, bytes_out=bytes_out)
        work = self.protocol.training_work(network, data, data.train, 1, data.train, on_gpu=on_gpu)
        return replace(work, bytes_out=bytes_out)

    @property
    def epochs(self) -> int:
        return 0 if self.protocol.weights else self.protocol.epochs

    @property
    def pace(self) -> int:
        return number_of_epochs(self.protocol, self.data.spec.train)


@dataclass(frozen=True)
class LayerStatisticsCell(ParentCell):
    """What the layers of such a classifier are given for the real images, all of them and those of each
    class: means and variances, from one pass under the augmentation of its training."""

    kind: ClassVar[str] = "layer_statistics"
    file: ClassVar[str] = "statistics"
    room: ClassVar[str] = "statistics"
    title: ClassVar[str] = "statistics of layers"
    made_from: ClassVar[tuple[str, ...]] = ("observer",)

    protocol: Protocol
    strategy: str

    @cached_property
    def parents(self) -> Mapping[str, ParentCell]:
        shared = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"observer": TeacherCell(**shared)}

    @cached_property
    def key(self) -> str:
        return digest([self.parents["observer"].key, NUMERICS["statistics"]])

    @property
    def made_by(self) -> str:
        return self.protocol.name

    def work(self, on_gpu: bool = False) -> Work:
        network, data = self.data.profile(self.arch, self.options), self.data.spec
        batch = min(self.protocol.batch, data.train)
        held = batch * (network.kept + 3 * network.largest)
        bytes_out = statistics_bytes(data.classes, network)
        return Work(
            # The moments of all layers, of the batch and of each image, read what the layers are given twice
            flops_forward=data.train * (network.forward + _READ * network.kept),
            calls_forward=math.ceil(data.train / batch) * _CALLS * network.layers,
            images=data.train,
            bytes_out=bytes_out,
            # Sums in float64, and the file in float32 beside them
            peak_bytes=data.train * pixels_of(data) + math.ceil(held) * FLOAT + 3 * bytes_out,
            host_bytes=data.train * pixels_of(data) + 3 * bytes_out,
        )


@dataclass(frozen=True)
class BankCell(ParentCell):
    """Networks trained on the real images before the condensation."""

    file: ClassVar[str] = "bank"
    room: ClassVar[str] = "banks"
    title: ClassVar[str] = "banks of networks"
    of_stream: ClassVar[bool] = True

    networks: QueueNetworks | TrainedNetworks | TrajectoryNetworks

    @property
    def made_by(self) -> str:
        return self.networks.kind

    def _digest(self, *more: Any) -> str:
        parts = [self.data.key, self.arch, self.options, not_by_default(self.networks), self.seed]
        return digest([*parts, *more, NUMERICS["teachers"]])


@dataclass(frozen=True)
class TrainedBankCell(BankCell):
    """Finished networks, trained by `protocol`."""

    kind: ClassVar[str] = "trained_bank"

    networks: TrainedNetworks | TrajectoryNetworks
    protocol: Protocol
    strategy: str

    @classmethod
    def values_from(cls, settings: object, where: str) -> dict[str, Any]:
        values = super().values_from(settings, where)
        networks, protocol = values["networks"], values["protocol"]
        if protocol.name != networks.protocol:
            raise UserError(
                f"{where}: networks: they are trained by the protocol '{networks.protocol}', and "
                f"'{protocol.name}' is given"
            )
        return values | {"protocol": networks.trained_by(protocol)}

    @cached_property
    def key(self) -> str:
        return self._digest(0, self.protocol.computed_part(), self.strategy)

    def work(self, on_gpu: bool = False) -> Work:
        network, data, count = self.data.profile(self.arch, self.options), self.data.spec, self.networks.count
        work = self.protocol.training_work(network, data, data.train, count, 0, on_gpu=on_gpu)
        return replace(work, bytes_out=count * network.parameters * FLOAT)

    @property
    def epochs(self) -> int:
        return self.protocol.epochs

    @property
    def pace(self) -> int:
        return self.networks.count * number_of_epochs(self.protocol, self.data.spec.train)


@dataclass(frozen=True)
class TrajectoryBankCell(TrainedBankCell):
    """The networks at the ends of all epochs of such trainings."""

    kind: ClassVar[str] = "trajectory_bank"

    networks: TrajectoryNetworks

    def work(self, on_gpu: bool = False) -> Work:
        work = super().work(on_gpu)
        held = number_of_epochs(self.protocol, self.data.spec.train) * work.bytes_out  # until all are there
        here = (0, held) if on_gpu else (held, 0)
        return replace(
            work,
            bytes_out=held,
            peak_bytes=work.peak_bytes + here[0],
            host_bytes=work.host_bytes + here[1],
        )


@dataclass(frozen=True)
class QueueBankCell(BankCell):
    """The networks of a queue for `steps` steps. A queue is the same with a bank and without."""

    kind: ClassVar[str] = "queue_bank"
    decides: ClassVar[bool] = False
    fills_room: ClassVar[bool] = True

    networks: QueueNetworks
    steps: int
    max_mb: int  # what does not fit is trained again

    @cached_property
    def key(self) -> str:
        return self._digest(self.steps, self.max_mb)

    def work(self, on_gpu: bool = False) -> Work:
        network = self.data.profile(self.arch, self.options)
        work = self.networks.training_work(network, self.data.spec, self.steps)
        return replace(work, bytes_out=min(self.max_mb * 10**6, self.steps * network.parameters * FLOAT))

    @property
    def pace(self) -> int:
        return self.steps

    @property
    def reach(self) -> int:
        return self.steps

    def for_all(self) -> str:
        return replace(self, steps=0).key

    @classmethod
    def values_from(cls, settings: object, where: str) -> dict[str, Any]:
        values = super().values_from(settings, where)
        at_least({f"{where}: steps": values["steps"]}, 1)
        at_least({f"{where}: max_mb": values["max_mb"]}, 0)
        return values


PARENTS: dict[str, type[ParentCell]] = {
    cell.kind: cell
    for cell in (
        *(TeacherCell, LayerStatisticsCell, TrainedBankCell, TrajectoryBankCell, QueueBankCell),
        *(TruthCell, LabelsCell),
    )
}


def parent_rooms() -> list[str]:
    """The folders of the results in which parents lie."""
    return sorted({cell.room for cell in PARENTS.values()})


def parent_files() -> Mapping[str, str]:
    """The kinds of the files of parents, with what all of a kind are called."""
    return {cell.file: cell.title for cell in PARENTS.values()}
