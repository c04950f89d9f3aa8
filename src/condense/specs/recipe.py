"""What the recipes of all engines share: how they are called, where they stand, and what the plan asks them.

Each engine has a class of its own, in a file of its own, with its own settings and checks;
`engines.AnyRecipe` is the union.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, Literal

from condense.config import UserError, unknown
from condense.specs.common import REPEATS, Ipc, Source, at_least, check_name, check_names, not_by_default
from condense.specs.costs.work import Shard, Work
from condense.specs.parent import Parent, PlannedParent

MARKERS = "os^vD<>pPX*hd_|+x"
# what a recipe may require to be brought along; `plan.brought` knows whether it is here
Required = Literal["clip"]


@dataclass(frozen=True)
class Look:
    """How a method looks in figures: its colour as #rrggbb, told apart by colour-blind readers, and its
    marker as matplotlib has it."""

    color: str
    marker: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"#[0-9a-f]{6}", self.color):
            raise UserError(f"color: #rrggbb in hexadecimal digits is needed, found {self.color!r}")
        if self.marker not in MARKERS:
            raise unknown("marker", self.marker, MARKERS, "look")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to condense. See `params/methods/`; `catalogue.resolve` lays overrides, scale and cell over it.

    A subclass has the field `engine`, a Literal of one name. What enters a key is all that is not at its
    default, but for what only describes: so a setting that recipes did not have before leaves their keys as
    they are, and a default is never changed without raising `NUMBER`.
    """

    # of the engine's mathematics and defaults: raised by hand when a change alters results
    NUMBER: ClassVar[int]
    DESCRIBING: ClassVar[tuple[str, ...]] = (
        *("title", "label", "look", "source", "discrepancy", "space", "tricks"),
        *("requires", "evaluation", "overrides", "minutes", "otherwise"),
    )
    can_require: ClassVar[tuple[str, ...]] = ()  # what `requires` may name: what the engine makes use of
    makes_set: ClassVar[bool] = True  # False: stands for the whole training set
    # Changes that make any recipe so short that tests of the engine take a moment; several, where it has
    # several ways to work.
    trials: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    # Images are computed, so that scales may split the work
    condenses: ClassVar[bool] = True

    name: str
    title: str
    label: str = ""  # what tables and figures call the method; by default the name in capitals
    look: Look | None = None  # in figures; by default one that follows from the name
    source: Source
    engine: str
    revision: int = 1
    discrepancy: Literal["generalization", "value", "parameter", "distribution", "selection", "none"] = "none"
    space: Literal["data", "model", "none"] = "data"
    tricks: list[str] = field(default_factory=list)
    requires: Required | None = None  # what has to be brought along
    evaluation: dict[str, Any] = field(default_factory=dict)  # changes to the evaluation protocol
    # by dataset or `any`, then by images a class (`all`, or such as `ipc>=10`): settings that hold there;
    # a scale may have some too
    overrides: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    # what `condense run` takes in all before judging, where neither minutes nor steps are asked for;
    # null: the steps of the scale
    minutes: float | None = None
    # the method that takes its place where nobody named one and the images do not suit it
    otherwise: str | None = None

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.requires is not None and self.requires not in self.can_require:
            raise UserError(f"requires: the engine '{self.engine}' has no use for '{self.requires}'")
        at_least({"revision": self.revision}, 0, REPEATS)
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UserError(f"minutes: a positive number is needed, found {self.minutes}")
        check_names({"otherwise": self.otherwise})

    def computed_part(self) -> dict[str, Any]:
        """The settings that decide the result, without those that have their default; it enters the key."""
        return dict(self._computed)

    @cached_property
    def _computed(self) -> dict[str, Any]:
        """Reckoned once: all seeds and numbers of images of a method ask for it, each for its key."""
        return {key: value for key, value in not_by_default(self).items() if key not in self.DESCRIBING}

    @classmethod
    def setting_names(cls) -> set[str]:
        """The settings of this engine's recipes; of changes for several methods each takes those it has."""
        return {entry.name for entry in fields(cls)}

    def parents(self) -> dict[str, Parent]:
        """What has to be made before a set, by name; `condense synthesize --with NAME=PATH` takes it by the
        same names."""
        return {}

    def arch_with(self, arch: str, parents: Mapping[str, PlannedParent]) -> str:
        """The architecture in the path of a set that is asked for with `arch`; 'none' for one that no network
        condenses."""
        return arch

    def splits_by(self, ties_batch: bool) -> Literal["classes", "images"] | None:
        """What jobs of their own may make: some classes, some of the images of each class, or (None) only the
        whole set.

        `ties_batch`: batch norm in the set's network ties the images of a batch together.
        """
        return None

    def class_by_class(self, ties_batch: bool) -> bool:
        """Whether the images of a class are made from the real images of this class alone, by nothing that
        has seen another; `ties_batch` as in `splits_by`."""
        return self.splits_by(ties_batch) is not None and not self.parents()

    @property
    def stream(self) -> dict[str, Any] | None:
        """What decides the real side of every step: sets that agree in it, in data, network and seed share
        that side. None: it is shared with nobody."""
        return None

    @property
    def number_of_steps(self) -> int:
        """Of the optimisation of the images; 0 where there is none."""
        return 0

    @property
    def number_of_snapshots(self) -> int:
        """How many times the set is kept while it is made."""
        return 0

    @property
    def networks_before(self) -> int:
        """How many networks a set's bank is made of, all trained beforehand; 0 where no setting says so."""
        return 0

    @property
    def images_a_stored(self) -> int:
        """How many images of full size a stored one holds."""
        return 1

    @property
    def few_before(self) -> int:
        """With how many networks in its bank a set becomes nearly what it does with all of them."""
        return 1

    def trained_for(self, networks: int | None, epochs: int | None) -> dict[str, Any]:
        """The change that makes so many networks be trained beforehand, for so many epochs (None: as many as
        the recipe says); what only a protocol says is not in it."""
        return {}

    def suits(self, ipc: int, smallest_class: int, size: int) -> bool:
        """Whether classes of at least `smallest_class` images of `size` pixels a side are large enough for
        `ipc` images a class."""
        return self.images_needed(ipc) <= smallest_class

    def images_needed(self, ipc: int) -> int:
        """How many real images of a class `ipc` synthetic ones are made from, at least."""
        return ipc

    def check_ipc(self, ipc: int) -> None:
        """Raises UserError if the recipe cannot make so many images of a class, whatever the data."""
        if ipc < 1:
            raise UserError(f"{self.name}: ipc {ipc} asked for; at least 1 image per class is needed")

    def asked(self, ipc: Ipc) -> str:
        """What is asked for by `ipc`, in words, for those who have fewer images."""
        needed = ipc if ipc == "full" else self.images_needed(ipc)
        return f"ipc {ipc} asked for" + (
            f", which starts from {needed} real images a class" if needed != ipc else ""
        )

    def within(self, strategy: str) -> dict[str, Any]:
        """The change that leaves of the recipe's augmentation what keeps the labels of a dataset, whose
        operations `strategy` names."""
        return {}

    def work(self, shard: Shard) -> Work:
        """What it costs to make a shard of a set, but for writing it."""
        raise NotImplementedError(f"the engine '{self.engine}' does not say what a set costs")
