"""Where the embedding networks of matching come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from condense.config import UserError
from condense.specs.common import REPEATS, at_least, check_name, not_above, unused
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import FLOAT, Sizes, Work, pixels_of
from condense.specs.parent import P, Parent, PlannedData, Planning
from condense.specs.protocol import Protocol
from condense.specs.training import NetworkSGD


class NetworkSource:
    """What the networks of a recipe give to the terms of a step."""

    trained_beside: ClassVar[bool] = False  # a trained network beside that of the step

    @property
    def trained_as_it_goes(self) -> bool:
        """Whether networks are trained between the steps, so that their running training accuracy is
        known."""
        return False

    @property
    def give_pairs(self) -> bool:
        """Whether a step may have a second network, drawn as the first."""
        return True

    @property
    def stay_the_same(self) -> bool:
        """Whether all steps have one network."""
        return False

    # with how many networks trained beforehand sets become nearly what they do with more
    few: ClassVar[int] = 3

    @property
    def before(self) -> int:
        """How many networks are trained beforehand; 0 where none is."""
        return 0

    def trained_for(self, networks: int | None, epochs: int | None) -> dict[str, Any]:
        """The change of these settings that trains so many beforehand, for so many epochs (None: as it
        is)."""
        return {}

    def parents(self) -> dict[str, Parent]:
        """What has to be made before a set that uses these networks, by name."""
        return {}

    def training_work(self, network: Profile, data: Sizes, steps: int) -> Work:
        """The trainings that a job of so many steps does as it goes, where it is given no parent."""
        return Work()


@dataclass(frozen=True)
class Networks(NetworkSource):
    """Where the embedding networks come from: `random` draws a freshly initialised one for every step."""

    kind: Literal["random"] = "random"


@dataclass(frozen=True)
class QueueNetworks(NetworkSource):
    """A queue of networks trained on real images, of which every step uses one. Source: IDM
    (Zhao et al. 2023), algorithm 1.

    The defaults are those of the authors' code. The printed algorithm is `{push_every: 1, trained: sampled}`.
    A step pushes a new network where `push_every` divides its number, taking the oldest out of a queue that
    holds `largest`; one network is then sampled for matching; then `trained` others, drawn anew and each at
    most once (or the sampled one), take `train_steps` steps of `batch` images without augmentation, each with
    a momentum of its own. The running training accuracy of a network starts anew after every `accuracy_over`
    steps (0: never), as in that code at every evaluation.
    """

    made_as: ClassVar[str] = "queue_bank"
    needed: ClassVar[bool] = False  # without a bank it is trained as it goes
    what: ClassVar[str] = "a queue of networks"
    making: ClassVar[str] = "`condense bank --help` says how"
    give_pairs: ClassVar[bool] = False

    kind: Literal["queue"]
    start: int = 3
    push_every: int = 30
    largest: int = 100
    trained: int | Literal["sampled"] = 2
    train_steps: int = 10
    batch: int = 256
    optimizer: NetworkSGD = NetworkSGD(lr=0.01, momentum=0.9, weight_decay=5e-4)
    accuracy_over: int = 100

    def __post_init__(self) -> None:
        least_one = ("push_every", "largest", "train_steps", "batch")
        at_least({name: getattr(self, name) for name in least_one}, 1)
        at_least({"start": self.start, "accuracy_over": self.accuracy_over}, 0)
        at_least({"trained": self.trained if isinstance(self.trained, int) else None}, 0)
        if self.start > self.largest:
            raise UserError(f"start: at most 'largest', which is {self.largest}, found {self.start}")
        if self.trained == 0:
            unused(
                self,
                ("train_steps", "batch", "optimizer", "accuracy_over"),
                "with `trained: 0` no network is trained",
                "networks",
            )

    @property
    def trained_as_it_goes(self) -> bool:
        """Whether any of its networks is trained."""
        return self.trained != 0

    def parents(self) -> dict[str, Parent]:
        return {"bank": self}

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """The bank of the queue for so many steps, if the scale has room for one; without it the queue is
        trained by every job."""
        room = plan.scale.bank_mb
        return (
            plan.parent(self.made_as, data, arch, seed, networks=self, steps=steps, max_mb=room)
            if room
            else None
        )

    def training_work(self, network: Profile, data: Sizes, steps: int) -> Work:
        """The trainings of the queue for `steps` steps; no more than this, since networks that are never
        sampled are not trained."""
        trained = 1 if self.trained == "sampled" else self.trained
        updates, batch = steps * trained * self.train_steps, min(self.batch, data.train)
        return Work(
            flops_training=updates * batch * 3 * network.forward,
            calls_training=updates * network.layers,
            parameters_drawn=steps / self.push_every * network.parameters,
            peak_bytes=(batch * network.kept + 2 * self.largest * network.parameters) * FLOAT,
            host_bytes=data.train * pixels_of(data),
        )


class TrainedBefore(NetworkSource):
    """What networks share that are trained on the real images by a protocol, and come from a bank, which
    serves the sets of all seeds."""

    made_as: ClassVar[str]
    what: ClassVar[str]
    needed: ClassVar[bool] = True
    making: ClassVar[str] = "`condense bank --help` says how"
    trained_beside: ClassVar[bool] = True
    of_all_epochs: ClassVar[bool] = False  # whether the bank has the networks at the ends of all epochs

    protocol: str
    count: int
    epochs: int | None

    def __post_init__(self) -> None:
        check_name("protocol", self.protocol)
        at_least({"count": self.count}, 1, REPEATS)
        at_least({"epochs": self.epochs}, 1)

    @property
    def before(self) -> int:
        return self.count

    def trained_for(self, networks: int | None, epochs: int | None) -> dict[str, Any]:
        given = {"count": networks, "epochs": epochs}
        return {name: value for name, value in given.items() if value is not None}

    def trained_by(self, protocol: Protocol) -> Protocol:
        """`protocol` with the epochs of these networks, if they have their own."""
        return protocol if self.epochs is None else replace(protocol, epochs=self.epochs)

    def parents(self) -> dict[str, Parent]:
        return {"bank": self}

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """The bank of the networks."""
        protocol = self.trained_by(plan.protocol(self.protocol))
        return plan.parent(
            self.made_as, data, arch, networks=self, protocol=protocol, strategy=data.spec.strategy
        )


@dataclass(frozen=True)
class TrainedNetworks(TrainedBefore):
    """`count` networks trained on the real images by `protocol`, from a bank; every step uses one of them,
    drawn anew.

    `mixed`: with its parameters on a random place of the line from its first draw to its end, the trained one
    standing beside it. `epochs`: so many in place of the protocol's, and of what a scale makes of them.
    Source: NCFM (Wang et al. 2025), as its authors' code does it; not mixed, figure 3 of IDM
    (Zhao et al. 2023).
    """

    made_as: ClassVar[str] = "trained_bank"
    what: ClassVar[str] = "trained networks"

    kind: Literal["trained"]
    protocol: str
    count: int = 20
    mixed: bool = True
    epochs: int | None = None

    @property
    def give_pairs(self) -> bool:
        """Two of the bank."""
        return self.count > 1

    @property
    def stay_the_same(self) -> bool:
        """The only one of the bank, as it was trained."""
        return self.count == 1 and not self.mixed


@dataclass(frozen=True)
class TrajectoryNetworks(TrainedBefore):
    """The networks at the ends of all epochs of `count` trainings by `protocol`, from a bank, and their first
    draws.

    Every step draws a training and uses its network after e epochs, e from 0 to all E of them, each as likely
    as any other; the one after e' epochs, from e to the smaller of e + `ahead` and E, stands beside it as the
    trained one. `epochs`: E, in place of the protocol's, and of what a scale makes of it.
    Source: TGDD (AAAI 2026), with five trainings of 60 epochs; one does nearly as well.
    """

    made_as: ClassVar[str] = "trajectory_bank"
    what: ClassVar[str] = "networks of whole trainings"
    of_all_epochs: ClassVar[bool] = True
    give_pairs: ClassVar[bool] = False
    few: ClassVar[int] = 1

    kind: Literal["trajectory"]
    protocol: str
    count: int = 5
    ahead: int = 6
    epochs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"ahead": self.ahead}, 0, 1_000_000)


@dataclass(frozen=True)
class SubspaceNetworks(NetworkSource):
    """A freshly drawn network for every step, brought towards the span of training trajectories by
    `threshold`.

    The span is that of `count` networks trained by `protocol` and of their first draws. What a draw has off
    the span is made smaller by `threshold` in every parameter, and 0 where it is not larger: the proximal
    step of threshold times L_proj.
    Source: discrepancy, section 5.2.2 (Ma et al. 2023), expert subspace projection.
    """

    kind: Literal["subspace"]
    protocol: str
    count: int = 5
    threshold: float = 0.01

    def __post_init__(self) -> None:
        check_name("protocol", self.protocol)
        at_least({"count": self.count}, 1, REPEATS)
        if self.threshold < 0:
            raise UserError(f"threshold: must not be negative, found {self.threshold}")
        not_above({"threshold": self.threshold})

    @property
    def before(self) -> int:
        return self.count

    def trained_for(self, networks: int | None, epochs: int | None) -> dict[str, Any]:
        return {} if networks is None else {"count": networks}

    @property
    def trained(self) -> TrainedNetworks:
        """The networks of the bank that it needs."""
        return TrainedNetworks("trained", self.protocol, self.count)

    def parents(self) -> dict[str, Parent]:
        return {"bank": self.trained}


AnyNetworks = Networks | QueueNetworks | TrainedNetworks | TrajectoryNetworks | SubspaceNetworks
