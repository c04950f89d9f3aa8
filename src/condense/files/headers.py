"""What the headers of our safetensors files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from condense.config import UserError, read
from condense.files.artifacts import damaged
from condense.specs import Decode, QueueNetworks
from condense.specs.common import MANY, at_least

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
# The tensor of a set, and the entry of its header that says of which kind they are
SOFT_LABELS = "soft_labels"


def header_as(kind: type[T], note: Mapping[str, Any], path: Path, where: str = "its header") -> T:
    """The entries of a header, or of another JSON object, that the dataclass `kind` names; others are left
    aside.

    Raises UserError naming the file and the entry for one that is missing or of the wrong type.
    """
    known = {entry.name for entry in fields(kind)}
    try:
        return read(kind, {name: value for name, value in note.items() if name in known}, where)
    except UserError as error:
        raise damaged(path, str(error)) from None


def check_time(seconds: float | None, dates: Mapping[str, str]) -> None:
    """Raises UserError for seconds that no job takes, and for dates, by the names of their entries, that are
    none."""
    if not 0 <= (seconds or 0) < 1e11:
        raise UserError(f"seconds: must not be negative, nor thousands of years, found {seconds}")
    for name, text in dates.items():
        try:
            datetime.fromisoformat(text or "2000-01-01")
        except ValueError:
            raise UserError(f"{name}: '{text[:40]}' is no date") from None


def _check_constants(mean: list[float], std: list[float], channels: int | None = None) -> None:
    """Raises UserError for constants of a normalisation that nothing could be normalised with."""
    for name, values in {"mean": mean, "std": std}.items():
        if not values or len(values) != (channels or len(values)):
            raise UserError(f"'{name}' is no list of a number a channel")
    if not all(0 < value < 1e6 for value in std) or not all(abs(value) < 1e6 for value in mean):
        raise UserError("'std' must be positive, and neither it nor 'mean' be huge")


@dataclass(frozen=True)
class SetHeader:
    """Of a synthetic set, its snapshots, or a shard of it. `ipc` images a class; `stored`: the type of the
    pixels in the file.

    `images`: of a shard that has only some images of each of its classes, the numbers of the first and the
    last. `carries`: further tensors by name, each with an entry an image or of the set as a whole;
    `soft_labels`: what kind these are. `class_steps`: where it was put together of sets of some classes each,
    these classes, in the order in which they came.
    """

    dataset: str
    method: str
    arch: str
    data_sha256: str
    class_names: list[str]
    mean: list[float]
    std: list[float]
    ipc: int | None = None
    seed: int | None = None
    key: str | None = None
    classes: list[int] | None = None
    images: list[int] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    decode: Decode | None = None
    steps: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    snapshot_steps: list[int] | None = None
    stored: Literal["float32", "float16"] = "float32"
    carries: dict[str, Literal["image", "set"]] = field(default_factory=dict)
    soft_labels: Literal["probabilities", "logits"] | None = None
    class_steps: list[list[int]] | None = None

    def __post_init__(self) -> None:
        _check_constants(self.mean, self.std)
        at_least({"ipc": self.ipc}, 1)
        at_least({"steps": self.steps, "seed": self.seed}, 0, 1 << 62)
        if self.classes is not None and sorted(
            set(self.classes) & set(range(len(self.class_names)))
        ) != sorted(self.classes):
            raise UserError(
                f"'classes' are not numbers of its {len(self.class_names)} class names, each once"
            )
        if self.class_steps is not None and sorted(sum(self.class_steps, [])) != list(
            range(len(self.class_names))
        ):
            raise UserError(
                f"'class_steps' do not hold each number of its {len(self.class_names)} classes once"
            )
        if self.images is not None and not (
            len(self.images) == 2 and 0 <= self.images[0] <= self.images[1] < (self.ipc or 0)
        ):
            raise UserError(f"'images' are not the first and the last of its {self.ipc} images a class")
        if (self.soft_labels is None) != (self.carries.get(SOFT_LABELS) != "image"):
            raise UserError(
                "'soft_labels' and 'carries' do not both say that its images have soft labels, or that they "
                "have none"
            )
        steps = self.snapshot_steps or []
        if steps != sorted(set(steps)) or (steps and steps[0] < 0):
            raise UserError("'snapshot_steps' are not ascending numbers from 0 on")

    @property
    def numbers(self) -> range:
        """Which images of each class it holds."""
        return range(self.images[0], self.images[1] + 1) if self.images else range(self.ipc or 0)


@dataclass(frozen=True)
class DatasetHeader:
    """Of a split of a prepared dataset: `counts` images of each class, one class after the other."""

    dataset: str
    split: Literal["train", "test"]
    class_names: list[str]
    counts: list[int]
    channels: int
    size: int
    mean: list[float]
    std: list[float]
    data_sha256: str

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or not 0 < self.size <= 16_384:
            raise UserError(
                f"images of {self.channels} x {self.size} x {self.size} are none that it could hold"
            )
        _check_constants(self.mean, self.std, self.channels)
        if len(self.counts) != len(self.class_names):
            raise UserError(f"it has {len(self.counts)} counts for {len(self.class_names)} class names")
        for number in self.counts:
            at_least({"counts": number}, 0)

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(self.counts)


@dataclass(frozen=True)
class Shape:
    """Of the images that a network takes, and the number of classes that it tells apart."""

    channels: int
    size: int
    classes: int

    def __post_init__(self) -> None:
        at_least({"channels": self.channels, "size": self.size, "classes": self.classes}, 1, MANY)


@dataclass(frozen=True)
class TeacherHeader:
    """Of a trained classifier: its network, and the images it was trained on."""

    arch: str
    shape: Shape
    data_sha256: str
    key: str
    options: dict[str, Any] = field(default_factory=dict)
    train_accuracy: float = 0.0
    class_names: list[str] = field(default_factory=list)  # of its outputs; older ones do not name them

    def __post_init__(self) -> None:
        if not 0 <= self.train_accuracy <= 100:
            raise UserError("'train_accuracy' is no percentage")
        if self.class_names and len(self.class_names) != self.shape.classes:
            raise UserError(f"it names {len(self.class_names)} classes, and tells {self.shape.classes} apart")


@dataclass(frozen=True)
class FinishedNetworks:
    """Of a bank: networks whose training is over, numbered from 0; or, with `epochs`, those at the ends of so
    many epochs, the ones of a training after each other."""

    kind: Literal["finished"]
    count: int
    epochs: int | None = None

    def __post_init__(self) -> None:
        at_least({"count": self.count, "epochs": self.epochs}, 1)
        if self.epochs and self.count % self.epochs:
            raise UserError(f"its {self.count} networks are not those of all {self.epochs} epochs")


@dataclass(frozen=True)
class BankHeader:
    """Of a bank of networks: what they are of, and the checksums of its parts, which hold `states_a_part`
    states each.

    A bank of a queue says for how many `steps` it was made, and the `spacing` between the states that it
    keeps.
    """

    dataset: str
    data_sha256: str
    arch: str
    options: dict[str, Any]
    shape: Shape
    seed: int
    key: str
    networks: FinishedNetworks | QueueNetworks
    parts: list[str]
    states_a_part: int
    steps: int | None = None
    spacing: int | None = None

    @property
    def finished(self) -> FinishedNetworks | None:
        """The networks whose training is over; None for a queue."""
        return self.networks if isinstance(self.networks, FinishedNetworks) else None

    @property
    def queue(self) -> QueueNetworks | None:
        """The queue that it holds; None for finished networks."""
        return None if isinstance(self.networks, FinishedNetworks) else self.networks

    def __post_init__(self) -> None:
        at_least({"seed": self.seed}, 0, 1 << 62)
        at_least({"states_a_part": self.states_a_part}, 1)
        at_least({"steps": self.steps, "spacing": self.spacing}, 1, 1 << 62)
        if self.finished:
            wanted = -(-self.finished.count // self.states_a_part)
            if len(self.parts) != wanted:
                raise UserError(
                    f"it lists {len(self.parts)} parts, but its {self.finished.count} networks take {wanted}"
                )
        elif self.steps is None or self.spacing is None:
            raise UserError("it does not say how many steps of its queue it holds, nor what it keeps of them")


@dataclass(frozen=True)
class PartHeader:
    """Of one of the files that hold the states of a bank's networks."""

    key: str
    part: int

    def __post_init__(self) -> None:
        at_least({"part": self.part}, 0)


@dataclass(frozen=True)
class TruthHeader:
    """Of true accuracies of networks of a space: which were drawn from it, what was trained on how many
    `images`, or the `benchmark` that they are of."""

    space: str
    draw: int
    told: str  # where they come from, in a line
    dataset: str
    data_sha256: str
    key: str
    options: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    images: int | None = None
    test_sha256: str = ""
    benchmark: str = ""
    table_sha256: str = ""

    def __post_init__(self) -> None:
        at_least({"draw": self.draw}, 0, 1 << 62)
        at_least({"images": self.images}, 1)
        if bool(self.benchmark) == bool(self.protocol):
            raise UserError("it does not say which benchmark it is of, or else how it was measured")


@dataclass(frozen=True)
class SpentNote:
    """Seconds of all starts of a job, when the first was, and their number; 0 where nothing is said."""

    seconds: float = 0.0
    started: str = ""
    starts: int = 0

    def __post_init__(self) -> None:
        check_time(self.seconds, {"started": self.started})
        at_least({"starts": self.starts}, 0, 1 << 62)


@dataclass(frozen=True)
class CheckpointHeader:
    """Of a checkpoint: what it is bound to, where the job was, its tensors' types and shapes, and how long
    the job had taken."""

    key: str
    state: dict[str, Any]
    computed_by: str = ""
    tensors: dict[str, list[Any]] | None = None  # name -> [type, shape]; older files do not say
    spent: SpentNote = SpentNote()  # older files do not say
