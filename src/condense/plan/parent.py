"""What every kind of parent says of itself. Floor 0."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, make_dataclass
from functools import cached_property
from typing import Any, ClassVar, get_type_hints

from condense.config import read
from condense.files.artifacts import canonical
from condense.plan.datasets import RESULTS, DataCell
from condense.specs.costs.work import Work


@dataclass(frozen=True)
class ParentCell:
    """What all parents have. The fields of a kind's own class are its settings; `arch` is 'none' for what has
    no network."""

    kind: ClassVar[str]  # by which `PARENTS` and the function that makes it are found
    file: ClassVar[str]  # the kind of its file, after which this is called
    room: ClassVar[str]  # the folder of the results in which such cells lie
    title: ClassVar[str]  # of all of them, where their sizes are summed up
    of_stream: ClassVar[bool] = False  # whether it belongs to what sets share that are condensed together
    decides: ClassVar[bool] = True  # whether its key enters those of sets: they are others without it
    fills_room: ClassVar[bool] = False  # whether it takes no more than `bank_mb` of the scale
    made_from: ClassVar[tuple[str, ...]] = ()  # the names of its `parents`, where all of a kind have the same

    data: DataCell
    arch: str
    options: str  # canonical JSON of the architecture's options
    seed: int

    @cached_property
    def key(self) -> str:
        """Digest of all that decides its bytes."""
        raise NotImplementedError(f"the parent '{self.kind}' does not say what its key is made of")

    @property
    def made_by(self) -> str:
        """What its path names of its settings."""
        raise NotImplementedError(f"the parent '{self.kind}' does not say what its path names")

    def work(self, on_gpu: bool = False) -> Work:
        """What it costs to make it."""
        raise NotImplementedError(f"the parent '{self.kind}' does not say what it costs")

    @property
    def pace(self) -> int:
        """Its epochs or steps, which measured seconds are of (`params/measured/rates`); 0 for what has
        none."""
        return 0

    @property
    def epochs(self) -> int:
        """For how many epochs its protocol trains it; 0 for what none trains."""
        return 0

    @property
    def reach(self) -> int:
        """For how many steps of a set it serves; 0: for any."""
        return 0

    def for_all(self) -> str:
        """What tells it from others whatever their reach."""
        return self.key

    @property
    def parents(self) -> Mapping[str, ParentCell]:
        """What has to be made before it in its turn, by the names in `names_made_from`."""
        return {}

    @property
    def inputs(self) -> list[str]:
        """The files of the images, and of its own parents, that it is made from."""
        return [self.data.train, *(parent.path for parent in self.parents.values())]

    @property
    def note(self) -> str:
        """What is said of it beside numbers that were measured with it; '' for nothing."""
        return ""

    @property
    def nickname(self) -> str:
        """What it is called among the parents of one set; two of one kind and settings, but of other
        networks, are called alike."""
        return f"{self.file}-{self.made_by}"

    @property
    def path(self) -> str:
        folder = f"{RESULTS}/{self.room}/{self.data.name}/{self.arch}/{self.made_by}"
        return f"{folder}/seed{self.seed}-{self.key}/{self.file}.safetensors"

    @classmethod
    def setting_names(cls) -> list[str]:
        """The names of its own settings."""
        shared = {entry.name for entry in fields(ParentCell)}
        return [entry.name for entry in fields(cls) if entry.name not in shared]

    @classmethod
    def names_made_from(cls, values: Mapping[str, Any]) -> Collection[str]:
        """The names of the `parents` of one of these settings."""
        return cls.made_from

    @property
    def values(self) -> dict[str, Any]:
        """Its own settings by name, as the function that makes it takes them."""
        return {name: getattr(self, name) for name in self.setting_names()}

    @cached_property
    def settings(self) -> str:
        """Its own settings as one line of JSON, for command lines."""
        given = asdict(self)
        return canonical({name: given[name] for name in self.setting_names()})

    @classmethod
    def values_from(cls, settings: object, where: str) -> dict[str, Any]:
        """The settings of a command line as `values` has them. Raises UserError for what is no such setting,
        is missing, or does not fit another one."""
        hints = get_type_hints(cls)
        shape = make_dataclass(cls.__name__, [(name, hints[name]) for name in cls.setting_names()])
        return dict(vars(read(shape, settings, where)))


def with_their_own(cells: Iterable[ParentCell]) -> list[ParentCell]:
    """Parents with what they are made from in their turn, each once, and before what is made from it."""
    found: dict[str, ParentCell] = {}
    for cell in cells:
        for one in [*with_their_own(cell.parents.values()), cell]:
            found.setdefault(one.key, one)
    return list(found.values())
