"""What every task says of itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from condense.config import UserError, by_name, unknown
from condense.specs.common import check_name, not_by_default
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import Sizes, Work
from condense.specs.labels import STORED
from condense.specs.parent import Parent
from condense.specs.tasks.metrics import ACCURACY, Metric, OnBoard

if TYPE_CHECKING:
    from condense.specs.protocol import Protocol


# The numbers of the classes that come in each step, where they come one after another
ClassSteps: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all tasks have. The fields of a task's own class, all but `kind`, are its settings."""

    folder: ClassVar[str]  # of its metrics, in paths and in their files
    title: ClassVar[str]  # what it is, in a line
    metrics: ClassVar[Mapping[str, Metric]]
    # numbers of all networks of an evaluation together, which are computed from its metrics where they are
    # shown (`evaluate.joint`) and stand in no file
    joint: ClassVar[Mapping[str, Metric]] = {}
    # of its mathematics, to be said by each; None: nothing beside that of training and testing
    numerics: ClassVar[int | None]
    # the file of a set that networks are trained on; or the recipe, of which no set has to be there
    reads: ClassVar[Literal["synthetic", "snapshots", "recipe"]] = "synthetic"
    # whether its 'accuracy' is that of networks trained on the set as it is, as other such tasks give it
    comparable: ClassVar[bool] = False
    best: ClassVar[str] = ""  # the metric that has the best accuracy of several test passes
    over_steps: ClassVar[bool] = False  # its metrics are curves over steps, not one value for each network
    last_counts: ClassVar[bool] = False  # of such a curve a row of a table shows the end
    variants: ClassVar[int] = 1  # in how many ways papers ask for it, whose values they pool
    # what the steps of its curves are: those of the condensation, those in which classes come, the points of
    # a square, row by row, the networks of a space by their numbers, or percentages
    steps_are: ClassVar[Literal["steps", "classes", "grid", "networks", "percents"]] = "steps"
    further: ClassVar[Mapping[str, str]] = {}  # further sets by name: what each of them is
    # what the metrics call a further set, where that is not its name
    told_as: ClassVar[Mapping[str, str]] = {}
    # what the synthetic set must be, where the whole training set cannot take its place
    of_a_set: ClassVar[str] = ""
    # what tells its runs in MLflow from the plain evaluation of a set; None: the folder
    remark: ClassVar[str | None] = None
    # in `results.csv`, values of the column `task` that it measures; None: all
    answers: ClassVar[tuple[str, ...] | None] = None
    # what its networks are trained on by the protocol: the set, all real training images, or nothing at all
    trained_on: ClassVar[Literal["set", "real", "nothing"]] = "set"
    # why observers must not label its batches; '' where they may
    unobserved: ClassVar[str] = ""
    # why labels that observers gave beforehand do not serve its trainings; '' where they do
    unstored: ClassVar[str] = ""
    together: ClassVar[bool] = True  # whether a GPU may train several of its networks side by side

    if TYPE_CHECKING:
        kind: str  # a field of each task's class, of one value

    def variant(self, number: int) -> Task:
        """The way of this number, from 0 on, of its `variants`; itself where it has one."""
        return self

    def fitted(self, classes: int) -> Task:
        """The task as a dataset of so many classes allows it; itself where any does."""
        return self

    def class_steps(self, classes: int) -> ClassSteps | None:
        """Of a dataset of so many classes, which come in each step, where they come one after another: no
        image may be made with classes of a later step. None: all classes are there at once."""
        return None

    @property
    def board(self) -> Mapping[str, OnBoard]:
        """What the leaderboard shows of it beside the accuracy, by column, on the rows of the judges that
        measured it."""
        return {}

    @property
    def network_options(self) -> dict[str, Any]:
        """Options of the architecture, over which it lays its own."""
        return {}

    def parents(self) -> dict[str, Parent]:
        """What has to be made before its evaluations, beside their sets, by name."""
        return {}

    def trainings(self, whole: bool) -> int:
        """How many networks are trained for each one that is asked for, on the whole training set or on
        another."""
        return 1

    def images_tested(self, tests: int) -> int:
        """On how many images a network is tested in a pass, where the dataset has so many test images."""
        return tests

    @property
    def passes(self) -> float:
        """How many images go through a network for each one that it is trained on."""
        return 1

    @property
    def test_passes(self) -> int:
        """How often each network is tested."""
        return 1

    def measuring_work(self, network: Profile, data: Sizes, images: int, networks: int, sets: int) -> Work:
        """What it costs beside training the networks and testing them: so many networks that are measured on
        so many sets of so many images each."""
        return Work()

    def followed(self, tests: int) -> Task:
        """The task that also follows the accuracy by so many test passes; itself where it measures something
        else."""
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings, those at their default left out."""
        return {name: value for name, value in not_by_default(self).items() if name != "kind"}

    def key_parts(self, further: Mapping[str, str]) -> list[Any]:
        """What the key of its metrics holds besides set, network and protocol; `further`: the keys of the
        further sets, and of what was made beforehand, by name.

        Nothing for a task that has neither settings nor further sets nor mathematics of its own.
        """
        parts = [self.kind, dict(further), self.settings, self.numerics]
        return [parts] if further or self.settings or self.numerics is not None else []

    def described(self, further: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What its metrics say of its settings and its further sets; empty where it has neither."""
        said = {
            **self.settings,
            **{self.told_as.get(name, name): dict(about) for name, about in further.items()},
        }
        return {self.folder: said} if said else {}

    def needs(self, protocol: Protocol, given: Collection[str] = ()) -> dict[str, Parent]:
        """What has to be made before an evaluation by `protocol`, by name: for the task, and for training its
        networks. `given`: the names of files that are there, where one may take the place of others."""
        labelled = protocol.labels is not None and self.trained_on != "nothing"
        return self.parents() | (protocol.labels.asked(given) if protocol.labels and labelled else {})

    def check_parents(self, names: Sequence[str], protocol: Protocol, option: str = "parents") -> None:
        """Raises UserError, beginning with `option`, unless `names` are those of what it needs beforehand,
        and for a protocol whose observers it has no use for."""
        if protocol.observers and self.unobserved:
            raise UserError(
                f"task {self.kind}: the protocol '{protocol.name}' has observers that label the batches, and "
                f"{self.unobserved}; choose a protocol without `labels`"
            )
        if STORED in names and protocol.labels and self.unstored:
            raise UserError(
                f"{option}: stored labels are of one training by the protocol, and task {self.kind} "
                f"{self.unstored}; take a protocol without `stored: true`, and its observers"
            )
        needed = self.needs(protocol, names)
        for name in names:
            if name not in needed:
                raise unknown("name", name, needed, f"{option}: task {self.kind} by '{protocol.name}'")
        for name, parent in needed.items():
            if parent.needed and name not in names:
                by = f"task {self.kind}" if name in self.parents() else f"the protocol '{protocol.name}'"
                raise UserError(f"{option}: {by} needs '{name}', {parent.what}; {parent.making}")

    def check_further(self, names: Sequence[str], option: str = "sets") -> None:
        """Raises UserError, beginning with `option`, unless `names` are those of its further sets."""
        for name in names:
            if name not in self.further:
                raise unknown("set", name, self.further, f"{option}: task {self.kind}")
        for name, meaning in self.further.items():
            if name not in names:
                raise UserError(f"{option}: task {self.kind} needs '{name}', {meaning}")

    def sets_in(self, snapshots: int) -> float:
        """How many times the images of the file that it reads its networks are trained on, where so many
        snapshots were kept."""
        return 1

    def steps_run(self) -> int:
        """How many steps of a recipe it runs."""
        return 0

    @property
    def grid(self) -> list[float]:
        """Of a task whose steps are the points of a square, row by row: where those of each side lie."""
        return []

    @property
    def explained(self) -> str:
        """What a figure of its metrics says of its settings."""
        return ""

    @property
    def traces_accuracy(self) -> bool:
        """Whether it gives the accuracy over the steps of the condensation."""
        return self.over_steps and self.steps_are == "steps" and ACCURACY in self.metrics.values()

    @classmethod
    def numbers(cls) -> dict[str, Metric]:
        """All that can be shown of it: its metrics, and its numbers of all networks together."""
        return {**cls.metrics, **cls.joint}

    @classmethod
    def is_curve(cls, metric: str) -> bool:
        """Whether it gives its metric of this name over steps."""
        return cls.over_steps and metric not in cls.joint and not cls.metrics[metric].once

    @classmethod
    def curve(cls) -> str:
        """Of a task that gives curves over steps, the first metric that is one."""
        return next(name for name, metric in cls.metrics.items() if not metric.once)

    @classmethod
    def is_plain(cls) -> bool:
        """Whether its only metric is the accuracy, which then stands in the metrics by itself."""
        return set(cls.metrics) == {"accuracy"}


_SAID = ("folder", "title", "metrics", "numerics")  # by every task of itself


def check_class(task: type[Task]) -> None:
    """Raises UserError for a task that does not say what each has to, or whose folder or names of metrics
    could not stand in paths and files."""
    for name in _SAID:
        if not hasattr(task, name):
            raise UserError(f"task {task.__name__}: does not say its `{name}`; see `Task`")
    check_name("folder", task.folder)
    for name in (*task.numbers(), *task.further):
        check_name(task.folder, name)


def tasks_of(tasks: tuple[type[Task], ...]) -> dict[str, type[Task]]:
    """Tasks by their kinds. Raises TypeError for one that lacks what each says of itself, and for one of the
    kind or the folder of another."""
    for task in tasks:
        try:
            check_class(task)
        except UserError as error:
            raise TypeError(str(error)) from None
    folders: dict[str, str] = {}
    for task in tasks:
        if task.folder in folders:
            raise TypeError(f"{task.__name__}: folder '{task.folder}': {folders[task.folder]} has it already")
        folders[task.folder] = task.__name__
    return by_name(tasks, "kind")
