"""Settings that papers print in tables, beside those of the resolved recipes. Floor 0.

Whatever scale a report is of, these are the settings of the scale `paper`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass

from condense.config import UserError, unknown
from condense.plan import data_cell
from condense.plan.cells import SyntheticCell
from condense.plan.maker import Maker
from condense.plan.parents import ParentCell
from condense.specs import Protocol, SettingsSpec, catalogue, number_of_epochs
from condense.specs.common import groups_of
from condense.specs.settings import EVERYWHERE

SCALE = "paper"
USUAL_IPC = 10  # of a printed setting that holds at any number of images
FILE = "hyperparameters.csv"
TEACHER = "teacher"  # the parent that the printed settings of this stage are of


@dataclass(frozen=True)
class PrintedSetting:
    """A row of `params/published/hyperparameters.csv` and what the recipes have: values of their settings,
    several where the row is of a range of images per class and they change within it.

    `reason`: why the recipes have nothing there; `note`: why they differ.
    """

    row: dict[str, str]
    ours: tuple[object, ...] = ()
    reason: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        """What the recipes have, as it is shown."""
        return " and ".join(map(shown, self.ours))

    @property
    def differs(self) -> bool:
        """Whether the recipes have something else than what is printed."""
        return bool(self.row["value"] and self.ours) and not all(
            agree(self.row["value"], value) for value in self.ours
        )


def shown(value: object) -> str:
    """A setting as text: 1.0 -> '1', 0.0005 -> '0.0005'."""
    return f"{value:.10g}" if isinstance(value, (int, float)) else str(value)


def agree(printed: str, ours: object) -> bool:
    """Whether a printed text says the setting `ours`: numbers by value, words by their letters and digits."""
    if isinstance(ours, (int, float)):
        try:
            return float(printed) == float(ours)
        except ValueError:
            return False
    letters = [re.sub(r"[^a-z0-9]", "", text.lower()) for text in (printed, str(ours))]
    return letters[0] == letters[1]


@dataclass(frozen=True)
class Resolved:
    """What a printed setting is compared with: a set as the scale makes it, and the protocol, if the table
    names one, that judges it."""

    cell: SyntheticCell
    judge: Protocol | None = None

    @property
    def teacher(self) -> ParentCell:
        """Raises UserError if the recipe has none."""
        if TEACHER not in self.cell.parents:
            raise UserError(f"{self.cell.recipe.name}: its recipe has no teacher")
        return self.cell.parents[TEACHER]

    @property
    def protocol(self) -> Protocol:
        """Raises UserError if the table names none."""
        if self.judge is None:
            raise UserError("protocol: the table prints how sets are judged; name the protocol that does")
        return self.judge

    def setting(self, name: str) -> object:
        """That of the recipe, such as 'optimizer.lr'. Raises UserError if it has none of that name."""
        value: object = self.cell.recipe
        for part in name.split("."):
            if not hasattr(value, part):
                raise UserError(f"{self.cell.recipe.name}: its recipe has no '{name}'")
            value = getattr(value, part)
        return value


Reading = Callable[[Resolved], object]


def _of_recipe(name: str) -> Reading:
    return lambda found: found.setting(name)


def _of_teacher(read: Callable[[Protocol], object]) -> Reading:
    return lambda found: read(found.teacher.values["protocol"])


def _of_judge(read: Callable[[Protocol], object]) -> Reading:
    return lambda found: read(found.protocol)


def _optimizer(found: Resolved) -> object:
    # Where nothing decays, AdamW is Adam
    plain = found.setting("optimizer.weight_decay") == 0
    return "Adam" if found.setting("optimizer.name") == "adamw" and plain else found.setting("optimizer.name")


def _start(found: Resolved) -> object:
    if found.setting("patches") is not None:
        return "RDED"
    return "Original Image" if found.setting("init") == "real" else found.setting("init")


def _epochs(found: Resolved) -> object:
    cell = found.cell
    return number_of_epochs(found.protocol, cell.data.spec.classes * cell.images_a_class)


def _schedule(protocol: Protocol) -> object:
    names = {"step": "MultiStepLR", "cosine": "Cosine", "ssrs": "SSRS"}
    smoothed = getattr(protocol.schedule, "stretch", 1.0) > 1 and protocol.schedule.kind == "cosine"
    return "Smoothing LR Schedule" if smoothed else names.get(protocol.schedule.kind, protocol.schedule.kind)


def _augmentation(protocol: Protocol) -> object:
    names = {"randaugment": "RandAugment", "resized_crop": "RandomResizedCrop"}
    words = [names.get(view.name, view.name) for view in protocol.views]
    return " ".join([*words, *(["RandomHorizontalFlip"] if "flip" in groups_of(protocol.siamese) else [])])


_JUDGED = "soft_label_and_evaluation"
# (stage, name) of a printed setting -> what a resolved recipe, or the protocol that judges its sets, has
READINGS: dict[tuple[str, str], Reading] = {
    ("synthesis", "image_learning_rate"): _of_recipe("optimizer.lr"),
    ("synthesis", "real_batch_size"): _of_recipe("batch_real"),
    ("synthesis", "iterations"): _of_recipe("steps"),
    ("synthesis", "optimizer"): _optimizer,
    ("synthesis", "adam_beta1"): _of_recipe("optimizer.beta1"),
    ("synthesis", "adam_beta2"): _of_recipe("optimizer.beta2"),
    ("synthesis", "learning_rate"): _of_recipe("optimizer.lr"),
    ("synthesis", "batch_size"): _of_recipe("batches.images"),
    ("synthesis", "initialization"): _start,
    ("synthesis", "alpha"): lambda found: 1 - float(str(found.setting("statistics.classes"))),
    ("synthesis", "beta"): _of_recipe("flatness.decay"),
    ("synthesis", "tau"): _of_recipe("flatness.temperature"),
    (_JUDGED, "epochs"): _epochs,
    (_JUDGED, "optimizer"): _of_judge(lambda protocol: protocol.optimizer.name),
    (_JUDGED, "learning_rate"): _of_judge(lambda protocol: protocol.optimizer.lr),
    (_JUDGED, "batch_size"): _of_judge(lambda protocol: protocol.batch),
    (_JUDGED, "ema_rate"): _of_judge(lambda protocol: getattr(protocol.average, "decay", "none")),
    (_JUDGED, "scheduler"): _of_judge(_schedule),
    (_JUDGED, "zeta"): _of_judge(lambda protocol: getattr(protocol.schedule, "stretch", "none")),
    (_JUDGED, "gamma"): _of_judge(lambda protocol: getattr(protocol.schedule, "factor", "none")),
    (_JUDGED, "milestones"): _of_judge(
        lambda protocol: ",".join(f"{at * protocol.epochs:g}" for at in getattr(protocol.schedule, "at", ()))
    ),
    (_JUDGED, "augmentation"): _of_judge(_augmentation),
    ("teacher", "model"): lambda found: found.teacher.arch,
    ("teacher", "batch_size"): _of_teacher(lambda protocol: protocol.batch),
    ("teacher", "epochs"): _of_teacher(lambda protocol: protocol.epochs),
    ("teacher", "learning_rate"): _of_teacher(lambda protocol: protocol.optimizer.lr),
    ("teacher", "scheduler"): _of_teacher(lambda protocol: protocol.schedule.kind),
    ("teacher", "optimizer"): _of_teacher(lambda protocol: protocol.optimizer.name),
    ("teacher", "momentum"): _of_teacher(lambda protocol: getattr(protocol.optimizer, "momentum", "none")),
    ("teacher", "weight_decay"): _of_teacher(lambda protocol: protocol.optimizer.weight_decay),
}


@catalogue.ByFolders
def hyperparameters() -> list[dict[str, str]]:
    """The rows of `params/published/hyperparameters.csv`."""
    with open(catalogue.params_folder() / "published" / FILE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def settings_of(spec: SettingsSpec) -> list[PrintedSetting]:
    """The printed settings of a table, in the paper's order, beside those of the resolved recipes.

    Raises UserError for a table without rows, a setting that nothing reads, and a note on nothing.
    """
    rows = [row for row in hyperparameters() if (row["paper"], row["table"]) == (spec.paper, spec.table)]
    if not rows:
        raise UserError(f"{spec.paper}/{spec.name}: no row of params/published/{FILE} belongs to it")
    _check_notes(spec, rows)
    maker = Maker(catalogue.scale(SCALE))
    return [_setting(maker, spec, row) for row in rows]


def _check_notes(spec: SettingsSpec, rows: list[dict[str, str]]) -> None:
    for name, places in spec.notes.items():
        mine = [row for row in rows if row["name"] == name]
        if not mine:
            raise unknown("setting", name, {row["name"] for row in rows}, "notes")
        known = {EVERYWHERE}.union(*({row["dataset"], f"{row['dataset']} {row['ipc']}"} for row in mine))
        for place in places:
            if place not in known:
                raise unknown("place", place, known, f"notes: {name}")


def _setting(maker: Maker, spec: SettingsSpec, row: dict[str, str]) -> PrintedSetting:
    read = READINGS.get((row["stage"], row["name"]))
    if read is None:
        names = [name for stage, name in READINGS if stage == row["stage"]]
        raise unknown(f"setting of the stage '{row['stage']}'", row["name"], names, spec.name)
    dataset, method = row["dataset"], row["method"]
    if dataset not in catalogue.names_in("datasets"):
        return PrintedSetting(row, reason="no such dataset here")
    if method not in catalogue.names_in("methods"):
        return PrintedSetting(row, reason="method not built yet")
    data, arch = data_cell(dataset), spec.architectures.get(dataset, "convnet")
    numbers = [ipc for ipc in _numbers(row["ipc"]) if ipc <= data.spec.smallest_class]
    if not numbers:
        return PrintedSetting(row, reason=f"a class has {data.spec.smallest_class} images")
    found = []
    for ipc in numbers:
        judge = maker.judge_of(spec.protocol, data, ipc, arch) if spec.protocol else None
        found.append(Resolved(maker.synthetic(data, method, arch, ipc, 0), judge))
    setting = PrintedSetting(row, tuple(dict.fromkeys(map(read, found))))
    note = spec.note_of(row["name"], dataset, row["ipc"]) if setting.differs else ""
    return PrintedSetting(row, setting.ours, note=note)


def _numbers(ipc: str) -> list[int]:
    """The numbers of images at which a recipe is resolved for a row: its own; of a range such as '>=300'
    where it begins, and the next."""
    text = ipc.removeprefix(">=")
    if text in ("", "all"):
        return [USUAL_IPC]
    return [int(text)] if text == ipc else [int(text), int(text) + 1]
