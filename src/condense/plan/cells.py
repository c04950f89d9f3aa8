"""Cells: what can be made, under which key and path, from which parents.

Floor 0. A key is known before any job runs: it hashes everything that decides the bytes of a result (the
resolved recipe, the numbers of the mathematics, the dataset's description, the keys of the parents) and
nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from condense.files.artifacts import canonical, digest
from condense.plan.brought import brought_for
from condense.plan.datasets import RESULTS, DataCell
from condense.plan.numerics import NUMERICS
from condense.plan.parents import ParentCell
from condense.plan.ranges import Share, ranges, shares
from condense.specs import Protocol, Recipe, Task
from condense.specs.common import Ipc
from condense.specs.labels import STORED


@dataclass(frozen=True)
class SyntheticCell:
    """One synthetic set. `arch` is 'none' for methods without a network, `ipc` 'full' for the whole set.

    `parents`: what has to be made before it, by the names that its recipe gives them. `joins`: where it is
    put together of sets of some classes each (`ClassesCell`), these sets, in the order in which they come.
    """

    data: DataCell
    recipe: Recipe
    arch: str
    options: str
    ipc: Ipc
    seed: int
    parents: Mapping[str, ParentCell] = field(default_factory=dict)
    stored: str = "float32"  # the type of the pixels in the file
    joins: tuple[SyntheticCell, ...] = ()

    @property
    def images_a_class(self) -> int:
        """`ipc` as a number. Raises ValueError for the whole set, which has no number of images that all
        classes share."""
        if self.ipc == "full":
            raise ValueError(f"{self.subpath}: the whole set has no number of images a class")
        return self.ipc

    @property
    def images_trained(self) -> int:
        """How many images networks that are trained on it see: those that its stored ones are decoded to."""
        if self.ipc == "full":
            return self.data.spec.train
        return self.data.spec.classes * self.images_a_class * self.recipe.images_a_stored

    @cached_property
    def key(self) -> str:
        """Digest of the recipe, the network, ipc, the seed and the keys of what the set is made with; or of
        the sets that it is put together of."""
        if self.joins:
            return digest([self.data.key, "joins", [cell.key for cell in self.joins]])
        made_with = [self.data.key, *self._made_with()]
        made_with += [entry.identity() for entry in brought_for(self.recipe)]
        made_with += [self.stored] if self.stored != "float32" else []
        return digest(
            [
                self.recipe.computed_part(),
                self.recipe.NUMBER,
                self.arch,
                self.options,
                self.ipc,
                self.seed,
                made_with,
            ]
        )

    def _made_with(self) -> list[Any]:
        """The keys of the parents that decide the set; with the names of those that are not called after
        their files.

        So two teachers that change places give another key, and a set with one teacher keeps the key that it
        had before names mattered.
        """
        deciding = {name: parent for name, parent in self.parents.items() if parent.decides}
        plain = [parent.key for name, parent in deciding.items() if name == parent.file]
        named = {name: parent.key for name, parent in deciding.items() if name != parent.file}
        return [*plain, named] if named else plain

    @cached_property
    def settings(self) -> str:
        """The resolved recipe as one line of JSON, for command lines; Snakemake asks for it several times."""
        return canonical(asdict(self.recipe))

    @cached_property
    def subpath(self) -> str:
        """The part of the paths that shards, sets and metrics of this cell share."""
        return f"{self.data.name}/{self.recipe.name}/{self.arch}/ipc{self.ipc}/seed{self.seed}-{self.key}"

    @property
    def folder(self) -> str:
        return f"{RESULTS}/synthetic/{self.subpath}"

    @cached_property
    def path(self) -> str:
        return f"{self.folder}/synthetic.safetensors"

    @property
    def snapshots(self) -> str:
        return f"{self.folder}/snapshots.safetensors"

    @property
    def _ties_batch(self) -> bool:
        return self.arch != "none" and bool(self.data.profile(self.arch, self.options).ties_batch)

    @property
    def class_by_class(self) -> bool:
        """Whether each class of it is made from its own images alone."""
        return self.recipe.class_by_class(self._ties_batch)

    def shards(self, classes_per_job: int | None, images_per_job: int | None = None) -> list[Share]:
        """What separate jobs make of it, by so many classes or images a class; all of it where its recipe
        does not split so, or computes no images. Nothing of one that is put together of others."""
        if self.joins:
            return []
        classes = self.data.spec.classes
        if classes_per_job is None and images_per_job is None:
            return shares("classes", classes, classes)
        # Choosing images takes less than a job
        splits = self.recipe.splits_by(self._ties_batch) if self.recipe.condenses else None
        if splits == "images" and images_per_job is not None:
            return shares("images", self.images_a_class, images_per_job)
        return shares(
            "classes", classes, classes_per_job if splits == "classes" and classes_per_job else classes
        )

    def size_of(self, share: Share | int | None) -> tuple[int, int]:
        """Classes and images a class of a share of it, of so many of its classes, or (None) of all."""
        classes, ipc = self.data.spec.classes, self.images_a_class
        return share.size(classes, ipc) if isinstance(share, Share) else (share or classes, ipc)

    def shard_path(self, share: Share) -> str:
        return f"{RESULTS}/shards/{self.subpath}/{share}.safetensors"


@dataclass(frozen=True)
class MetricsCell:
    """What a task gives of networks trained on one synthetic set (or on the whole set).

    `sets` holds the further sets of the task under the names that it gives them, `parents` what has to be
    made before it. Raises UserError for those that are not the task's.
    """

    task: Task
    synthetic: SyntheticCell
    eval_arch: str
    options: str
    protocol: Protocol
    n_networks: int
    sets: Mapping[str, SyntheticCell] = field(default_factory=dict)
    parents: Mapping[str, ParentCell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task.check_further(list(self.sets))
        self.task.check_parents(list(self.parents), self.protocol)

    @cached_property
    def key(self) -> str:
        parts = [
            self.synthetic.key,
            self.synthetic.data.spec.strategy,
            self.eval_arch,
            self.options,
            self.protocol.computed_part(),
        ]
        parts += self.task.key_parts({name: cell.key for name, cell in self.given.items()})
        return digest([*parts, self.n_networks, NUMERICS["evaluate"]])

    @cached_property
    def judge(self) -> str:
        """Digest of what decides, for any set of this dataset, what networks trained on it make of it.

        Accuracies of one judge can be compared; how many networks gave them is no part of it.
        """
        trained = [self.eval_arch, self.options, self.protocol.computed_part()]
        labelled = self.parents[STORED].parents if STORED in self.parents else self.parents
        observed = {name: labelled[name].key for name in self.protocol.observers if name in labelled}
        trained += [observed] if observed else []
        return digest([self.synthetic.data.key, self.synthetic.data.spec.strategy, *trained])

    @property
    def all_sets(self) -> list[SyntheticCell]:
        """The sets that are read: first the one that is judged, then the further ones of the task. None is
        judged where a recipe is read, which `synthetic` then tells of."""
        return [*([] if self.reads_recipe else [self.synthetic]), *self.sets.values()]

    @property
    def reads_recipe(self) -> bool:
        """Whether the recipe of its set is run anew, and the set itself not needed."""
        return self.task.reads == "recipe"

    @property
    def given(self) -> dict[str, SyntheticCell | ParentCell]:
        """By the names of the task its further sets and what is made before it."""
        return {**self.sets, **self.parents}

    @property
    def judged(self) -> str:
        """The file that is judged: of the set, or of its snapshots."""
        return f"{self.synthetic.folder}/{self.task.reads}.safetensors"

    @cached_property
    def task_settings(self) -> str:
        """The task as one line of JSON, for command lines."""
        return canonical(asdict(self.task))

    @cached_property
    def settings(self) -> str:
        """The protocol as one line of JSON, for command lines."""
        return canonical(asdict(self.protocol))

    @cached_property
    def subpath(self) -> str:
        """The part of the paths that the metrics and their parts share."""
        return f"{self.task.folder}/{self.synthetic.subpath}/{self.eval_arch}-{self.protocol.name}-{self.key}"

    @cached_property
    def path(self) -> str:
        return f"{RESULTS}/metrics/{self.subpath}.json"

    def parts(self, networks_per_job: int | None) -> list[str]:
        """Ranges 'first-last' of networks that are trained as separate jobs."""
        return ranges(self.n_networks, networks_per_job or self.n_networks)

    def part_path(self, networks: str) -> str:
        return f"{RESULTS}/parts/{self.subpath}/networks{networks}.json"
