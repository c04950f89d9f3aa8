"""What a dataset is, known before any job runs: its size, counts, source and constants.

Imports neither torch nor numpy, because the workflow reads these descriptions for every job.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from condense import config
from condense.config import UserError
from condense.data.origin import WHITE, Source, ground_levels
from condense.machine import seeds
from condense.specs.common import MANY, check_groups

SPEC_FOLDER = Path("params/datasets")
# The augmentation of images of one's own, which all keep their label under it
OWN_STRATEGY = "color_crop_cutout_flip_scale_rotate"


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset of square images with `channels` x `size` x `size` pixels.

    `train` and `test` are numbers of images after the split, `smallest_class` that of the smallest training
    class (no ipc can exceed it). `mean` and `std` per channel are in units of the pixel range [0, 1]; absent,
    they are computed from the training images. `resize` scales the shorter side to that many pixels and cuts
    out the centre; `holdout` is the stratified fraction of the training images that becomes the test set
    where the source has none. `strategy` is the siamese augmentation that suits it. With `counts: at_least`,
    `train` and `smallest_class` are bounds from below, for images whose numbers are published nowhere.
    """

    name: str
    title: str
    channels: int
    size: int
    classes: int
    train: int
    test: int
    smallest_class: int
    source: Source
    strategy: str
    class_names: list[str] | None = None
    resize: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    holdout: float | None = None
    counts: Literal["exact", "at_least"] = "exact"
    note: str = ""
    # the dataset whose settings, in recipes and scales, hold for this one too, such as the original of a copy
    like: str | None = None
    # the dataset whose images these are in another coding: what papers print of it stands beside what is
    # measured here
    copies: str | None = None

    def __post_init__(self) -> None:
        checks = {
            f"name: '{self.name}' must consist of lower-case letters, digits, '_' and '-'": re.fullmatch(
                r"[a-z0-9][a-z0-9_-]*", self.name
            ),
            f"channels: 1 or 3 are possible, found {self.channels}": self.channels in (1, 3),
            f"classes: at least 2 are needed, found {self.classes}": self.classes >= 2,
            f"classes: the source names {len(self.source.classes)}, but {self.classes} are expected": len(
                self.source.classes
            )
            in (0, self.classes),
            f"classes: at most 1,000,000 are possible, found {self.classes}": self.classes <= 1_000_000,
            f"size: a positive number, at most 16,384, is needed, found {self.size}": 0 < self.size <= 16_384,
            f"train, test: at most {MANY:,} images are possible": max(self.train, self.test) <= MANY,
            "smallest_class: it must lie between 1 and train / classes": 1
            <= self.smallest_class * self.classes
            <= self.train,
            f"test: a positive number is needed, found {self.test}": self.test > 0
            or (self.source.is_handed_over and self.test == 0),
            f"resize: it must equal size ({self.size})": self.resize in (None, self.size),
            f"class_names: {self.classes} different names are needed": self.class_names is None
            or len(set(self.class_names)) == len(self.class_names) == self.classes,
            "mean, std: give both or neither": (self.mean is None) == (self.std is None),
            f"mean, std: {self.channels} numbers are needed": {
                len(v) for v in (self.mean, self.std) if v is not None
            }
            <= {self.channels},
            "mean: numbers from 0 to 1 are needed": all(0 <= value <= 1 for value in self.mean or ()),
            "std: positive numbers, from 0.000001 to 1000, are needed": all(
                1e-6 <= value <= 1e3 for value in self.std or ()
            ),
            "holdout: a fraction between 0 and 1 is needed": self.holdout is None or 0 < self.holdout < 1,
            "copies: names another dataset": self.copies != self.name,
        }
        for message, fine in checks.items():
            if not fine:
                raise UserError(message)
        check_groups(self.strategy, "strategy")
        has_test = bool(self.source.files) or self.source.test is not None
        if not self.source.is_handed_over and has_test == (self.holdout is not None):
            raise UserError(
                "holdout: the source has "
                + ("a test split already" if has_test else "no test split: give a fraction")
            )

    def identity(self) -> dict[str, Any]:
        """What decides the prepared images, as JSON values, for the key in the paths; not where they were
        found or how they are shown."""
        values = dataclasses.asdict(self)
        for key in ("title", "note", "strategy", "like", "copies"):
            del values[key]
        source = values["source"]
        del source["mirror"]
        # Only where they are given, so that what was made before they existed keeps its name.
        if self.counts == "exact":
            del values["counts"]
        classes = source.pop("classes")
        if classes:
            source["classes"] = sorted(classes)
        ground = ground_levels(source.pop("ground"))
        if ground != ground_levels(WHITE):
            source["ground"] = list(ground)
        source["files"] = {file.name: file.checksum for file in self.source.files}
        if self.source.fingerprint:
            del source["train"], source["test"]
        return values


def load_spec(name: str | Path, folder: Path = SPEC_FOLDER) -> DatasetSpec:
    """The description of a dataset, by the path of its YAML file or by its name in `folder`.

    Raises UserError for an unknown name (with the nearest known one) and for any fault in the file.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and path.name == str(name):
        path = Path(folder) / f"{name}.yaml"
        if not path.is_file():
            raise config.unknown(
                "dataset", name, [entry.stem for entry in Path(folder).glob("*.yaml")], str(folder)
            )
    spec = config.read(DatasetSpec, config.load_yaml(path), str(path))
    if spec.source.is_handed_over:
        raise UserError(
            f"{path}: source: kind: '{spec.source.kind}' is for images handed over in Python; save "
            "them as parquet or as a folder of class folders, and name these"
        )
    for key in ("train", "test"):
        value = getattr(spec.source, key) or ""
        if ".." in Path(value).parts or "\0" in value:
            raise UserError(
                f"{path}: source: {key}: a path without '..' is needed, found '{value[:80]}'; a folder "
                "elsewhere is its 'mirror'"
            )
    if spec.name != path.stem:
        raise UserError(f"{path}: name: is '{spec.name}', but the file is called '{path.stem}'")
    return spec


def data_folder() -> Path:
    """Where downloaded and hand-placed data live: the environment variable CONDENSE_DATA, else `data` in the
    working directory."""
    return Path(os.environ.get("CONDENSE_DATA") or "data").expanduser()


def held_out_count(images: int, fraction: float) -> int:
    """How many of a class's `images` (at least 2) are held out: at least one, and at least one stays."""
    return min(max(round(images * fraction), 1), images - 1)


def held_out_places(label: int, images: int, fraction: float) -> list[int]:
    """Which of a class's images, numbered in the order of the source, are held out for testing.

    Drawn by the named stream ("holdout", class, image), so independent of other classes, of libraries and of
    run seeds.
    """
    return sorted(range(images), key=lambda image: seeds.stream(0, "holdout", label, image))[
        : held_out_count(images, fraction)
    ]
