"""How much of the papers' work is done, and what its jobs ask for."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from condense.config import UserError
from condense.specs.common import REPEATS, Ipc, at_least, check_name, check_names, condition_holds, unused
from condense.specs.scores import Scores

FROM_DATA = ("name", "channels", "size", "classes")  # what of a network is not for its options to say
LARGEST_OPTION = 100_000  # of an architecture: widths, depths, sizes
_PER_JOB = ("classes_per_job", "images_per_job", "sets_per_job", "evaluations_per_job")
# of the workflow, as a scale names their resources
STAGES = ("data", "teach", "synthesize", "evaluate", "report")


@dataclass(frozen=True)
class Resources:
    """What one job of a stage asks for: threads, GPUs, memory in MB, run time in minutes."""

    threads: int = 1
    gpu: int = 0
    mem_mb: int = 3000
    runtime: int = 60

    def __post_init__(self) -> None:
        at_least({"threads": self.threads}, 1, REPEATS)
        at_least({"mem_mb": self.mem_mb, "runtime": self.runtime}, 1)
        at_least({"gpu": self.gpu}, 0, REPEATS)


def _require_reasons(empty: dict[str, str]) -> None:
    for name, reason in empty.items():
        if not reason.strip():
            raise UserError(f"empty: {name}: give the reason, which stands below the table")


@dataclass(frozen=True)
class TableLimits:
    """What a scale runs of one table or figure; an empty key means the scale's own value.

    Each of `changes` is laid over the recipes whose engines have that setting. `datasets` adds stand-ins that
    the scale has not, or replaces its own. `settings`: of the published settings of a table, or the points of
    a figure, only these; `train_archs`: of the architectures that condense; `judges`: of the protocols that a
    table names for the rows of single methods (none, if empty); `n_variants`: of the variants of its task,
    such as orders of the classes, only so many; `task`: changes of the settings of its task. `n_networks` of
    a figure that shows a plain accuracy beside its task are of the task alone. `note` stands beside the note
    of the table or figure itself.
    """

    ipc: list[int] | None = None
    n_sets: int | None = None
    n_networks: int | None = None
    n_variants: int | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, list[str]] = field(default_factory=dict)
    settings: list[str] | None = None
    train_archs: list[str] | None = None
    judges: list[str] | None = None
    task: dict[str, Any] = field(default_factory=dict)
    # method or evaluation architecture -> why its rows or curves stay empty here
    empty: dict[str, str] = field(default_factory=dict)
    run: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        counts = {"n_sets": self.n_sets, "n_networks": self.n_networks, "n_variants": self.n_variants}
        at_least(counts, 1, REPEATS)
        for ipc in self.ipc or []:
            at_least({"ipc": ipc}, 1)
        check_names({"datasets": self.datasets, "train_archs": self.train_archs, "judges": self.judges})
        _require_reasons(self.empty)
        if [] in (self.settings, self.train_archs):
            raise UserError("settings, train_archs: an empty list leaves nothing; write 'run: false'")
        if not self.run:
            unused(
                self, {entry.name for entry in fields(self)} - {"run"}, "with `run: false` nothing of it runs"
            )


@dataclass(frozen=True)
class Scale:
    """How much of the papers' work is done: on which data, with how many steps, epochs, sets and networks."""

    name: str
    title: str
    n_sets: int
    n_networks: int
    datasets: dict[str, list[str]]  # the papers' dataset -> the datasets its rows are run on here
    ipc: list[int] | None = None
    ipc_of: dict[str, list[int]] = field(default_factory=dict)  # by method, where it is made for fewer
    # by images a class, such as `ipc>=50`: how many networks judge each set there; the last that holds counts
    n_networks_of: dict[str, int] = field(default_factory=dict)
    # by engine or method; the engine's come first
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    # test passes over the epochs of each evaluation, at most one an epoch: the best of them stands beside the
    # last; 0: one, at the end
    follow: int = 0
    # changes to the protocol for training on the whole set
    whole: dict[str, Any] = field(default_factory=dict)
    # options of networks, by "architecture", over which lie those by "architecture/dataset"
    architectures: dict[str, dict[str, Any]] = field(default_factory=dict)
    # "paper/table"; others run unless `only_tables`
    tables: dict[str, TableLimits] = field(default_factory=dict)
    only_tables: bool = False  # tables and figures that are not among `tables` are left out
    methods: list[str] | None = None
    # method or evaluation architecture -> why the rows of tables that need it stay empty
    empty: dict[str, str] = field(default_factory=dict)
    # evaluation architecture -> epochs of its networks, in place of those of the protocol
    epochs_of: dict[str, int] = field(default_factory=dict)
    # method or evaluation architecture -> what a reader of its numbers should know, below them
    remarks: dict[str, str] = field(default_factory=dict)
    classes_per_job: int | None = None
    classes_per_job_of: dict[str, int] = field(default_factory=dict)  # by method, where it differs
    images_per_job: int | None = None  # of each class, for methods whose images do not depend on each other
    # at most, of the same tables; short evaluations share a process, whose start takes longer than they do
    evaluations_per_job: int = 1
    # where classes come step by step, one job makes all sets of one order, with what they are made from
    steps_in_one_job: bool = False
    # of an evaluation, by "architecture" or "architecture/dataset"
    networks_per_job: dict[str, int] = field(default_factory=dict)
    sets_per_job: int = 1  # at most; sets that share the real side of every step are condensed together
    # the type of the pixels in the files of sets; what is rounded is judged so
    stored: Literal["float32", "float16"] = "float32"
    bank_mb: int = 0  # room for a bank of networks of a queue; 0: queues are trained as they go, by every job
    # the judges behind the label-robust and augmentation-robust scores
    scores: Scores = Scores()
    resources: dict[str, Resources] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_names({"datasets": self.datasets})
        for name in self.architectures:
            check_names({"architectures": name.split("/", 1)})
        at_least({"n_sets": self.n_sets, "n_networks": self.n_networks}, 1, REPEATS)
        for numbers in (self.ipc or [], *self.ipc_of.values()):
            for ipc in numbers:
                at_least({"ipc": ipc}, 1)
        for method, numbers in self.ipc_of.items():
            for ipc in numbers:
                if self.ipc is not None and ipc not in self.ipc:
                    raise UserError(f"ipc_of: {method}: {ipc} is not among `ipc: {self.ipc}` of the scale")
        for condition in self.n_networks_of:
            condition_holds(condition, 1, "n_networks_of")
        at_least(
            {f"n_networks_of: {name}": number for name, number in self.n_networks_of.items()}, 1, REPEATS
        )
        self._check_options()
        at_least({"bank_mb": self.bank_mb}, 0)
        at_least({"follow": self.follow}, 0, 10_000)
        at_least({name: getattr(self, name) for name in _PER_JOB}, 1)
        at_least(
            {f"classes_per_job_of: {name}": number for name, number in self.classes_per_job_of.items()}, 1
        )
        at_least({f"networks_per_job: {name}": number for name, number in self.networks_per_job.items()}, 1)
        at_least({f"epochs_of: {name}": number for name, number in self.epochs_of.items()}, 1)
        _require_reasons(self.empty)

    def _check_options(self) -> None:
        """Raises UserError for options that no architecture has, or that none could be built with."""
        for arch, options in self.architectures.items():
            for name, value in options.items():
                if name in FROM_DATA:
                    raise UserError(
                        f"architectures: {arch}: '{name}' is no option of an architecture: it follows from "
                        "the data"
                    )
                if isinstance(value, (int, float)) and not 0 <= value <= LARGEST_OPTION:
                    raise UserError(
                        f"architectures: {arch}: {name}: must lie between 0 and {LARGEST_OPTION:,}, found "
                        f"{value}"
                    )

    def networks_at(self, ipc: Ipc) -> int:
        """How many networks judge a set of so many images a class, where a table says nothing else."""
        named = [
            number
            for condition, number in self.n_networks_of.items()
            if ipc != "full" and condition_holds(condition, ipc, "n_networks_of")
        ]
        return named[-1] if named else self.n_networks

    @property
    def dataset_names(self) -> list[str]:
        """All datasets that something is run on, each once, sorted."""
        maps = [self.datasets, *(limits.datasets for limits in self.tables.values())]
        return sorted({name for listed in maps for names in listed.values() for name in names})
