"""Where the images of a dataset come from: published files, folders, parquet, or a program.

Imports neither torch nor numpy, because the workflow reads these descriptions for every job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from condense import config
from condense.config import UserError

# Only published files whose reading needs no pickle; the name is torchvision's class for the same data.
TORCHVISION = {
    "MNIST": "idx",
    "FashionMNIST": "idx",
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "SVHN": "svhn",
}
ARCHIVES = ("tiny_imagenet", "class_folders")
_NEEDS = {
    "sklearn_digits": (),
    "torchvision": ("dataset", "files"),
    "archive": ("format", "files"),
    "parquet": ("train",),
    "image_folder": ("train",),
    "arrays": ("fingerprint",),
}
_ALLOWS = {
    "parquet": ("test", "fingerprint", "mirror"),
    "image_folder": ("test", "classes", "fingerprint", "mirror"),
    "sklearn_digits": (),
    "arrays": (),
}
_ARRAYS = ("torchvision", "sklearn_digits", "arrays")
_ALONE = ("arrays",)  # what has training images alone, and comes in no YAML
WHITE = "white"  # what transparent images are laid on if nobody says otherwise
_GROUNDS = {WHITE: (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0)}
_OPTIONAL = ("dataset", "format", "files", "train", "test", "classes", "fingerprint", "mirror")


@dataclass(frozen=True)
class File:
    """A published file and the checksums (hex) of it; `contents_sha256` is that of what a gzip file holds."""

    name: str
    url: str
    md5: str | None = None
    sha256: str | None = None
    contents_sha256: str | None = None

    def __post_init__(self) -> None:
        if not (self.md5 or self.sha256):
            raise UserError(f"the file '{self.name}' needs an md5 or a sha256")
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}", self.name):
            raise UserError(
                f"the file name '{self.name[:80]}' must consist of letters, digits, '_', '.', '+' and '-', "
                "without folders"
            )
        if not re.match(r"https?://[^/\s]", self.url) or any(ord(letter) <= 32 for letter in self.url):
            raise UserError(
                f"the file '{self.name}': url: an address http:// or https:// is needed, found "
                f"'{self.url[:80]}'"
            )
        for kind, digits in (("md5", 32), ("sha256", 64), ("contents_sha256", 64)):
            total = getattr(self, kind)
            if total is not None and not re.fullmatch(f"[0-9a-f]{{{digits}}}", total):
                raise UserError(
                    f"the file '{self.name}': {kind}: {digits} digits 0-9a-f are needed, found '{total[:80]}'"
                )

    @property
    def checksum(self) -> str:
        """The checksum that identifies the data, the same whichever copy was read: `kind:hex`."""
        if self.contents_sha256:
            return f"contents_sha256:{self.contents_sha256}"
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


@dataclass(frozen=True)
class Source:
    """Where the images come from.

    torchvision: `dataset` (its class name) and `files`; archive: `format` and `files`; parquet and
    image_folder: `train` and `test`, paths relative to `mirror` or to the data folder (of parquet a file, a
    folder of shards, or a pattern such as `pets/train-*.parquet`); `image` and `label` are the columns of a
    parquet file; `classes` are the classes of an image_folder that are used, all without it, numbered in the
    order of their names. `ground` is the colour that transparent images are laid on. `mirror` is a local
    folder (or the one file) tried before the data folder and the network. `fingerprint` is the checksum of
    all bytes of a parquet file or folder, refused when it differs.
    """

    # arrays: images that a Python program hands over (`condense.condense`), which have no test images

    NOT_IN_FILES: ClassVar[dict[str, tuple[str, ...]]] = {"kind": _ALONE}  # `spec` refuses them there

    kind: Literal["sklearn_digits", "torchvision", "archive", "parquet", "image_folder", "arrays"]
    dataset: str | None = None
    format: str | None = None
    files: list[File] = field(default_factory=list)
    train: str | None = None
    test: str | None = None
    classes: list[str] = field(default_factory=list)
    image: str = "image"
    label: str = "label"
    ground: str = WHITE
    fingerprint: str | None = None
    mirror: str | None = None

    def __post_init__(self) -> None:
        needed = _NEEDS[self.kind]
        allowed = (*needed, *_ALLOWS.get(self.kind, ("mirror",)))
        for key in _OPTIONAL:
            if key in needed and not getattr(self, key):
                raise UserError(f"a source of kind {self.kind} needs the key '{key}'")
            if key not in allowed and getattr(self, key):
                raise UserError(
                    f"a source of kind {self.kind} has no key '{key}' (its keys: "
                    f"{', '.join(allowed) or 'none'})"
                )
        for key in ("image", "label"):
            if self.kind != "parquet" and getattr(self, key) != key:
                raise UserError(
                    f"a source of kind {self.kind} has no key '{key}': it names a column of a parquet file"
                )
        if self.ground != WHITE and self.kind not in ("parquet", "image_folder", "archive"):
            raise UserError(
                f"a source of kind {self.kind} has no key 'ground': its images have no transparency"
            )
        ground_levels(self.ground)
        for name in self.classes:
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise UserError(f"classes: the name of a folder is needed, found '{name[:80]}'")
        if self.fingerprint is not None and not re.fullmatch("[0-9a-f]{64}", self.fingerprint):
            raise UserError(f"fingerprint: 64 digits 0-9a-f are needed, found '{self.fingerprint[:80]}'")
        twice = [name for index, name in enumerate(self.classes) if name in self.classes[:index]]
        if twice:
            raise UserError(f"classes: '{twice[0]}' is given twice")
        if self.kind == "torchvision" and self.dataset not in TORCHVISION:
            raise config.unknown("torchvision dataset", self.dataset, TORCHVISION)
        if self.kind == "archive" and self.format not in ARCHIVES:
            raise config.unknown("archive format", self.format, ARCHIVES)

    @property
    def is_arrays(self) -> bool:
        """Whether it is read as a whole, as arrays; else its images are decoded one after the other."""
        return self.kind in _ARRAYS

    @property
    def is_handed_over(self) -> bool:
        """Whether a program hands over the images, those for training alone."""
        return self.kind in _ALONE

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of class folders."""
        return self.kind == "image_folder"

    @property
    def layout(self) -> str:
        """The name of the reader for this source."""
        return (
            TORCHVISION[self.dataset]
            if self.kind == "torchvision" and self.dataset
            else self.format or self.kind
        )


def ground_levels(ground: str) -> tuple[int, int, int]:
    """The red, green and blue (0..255) of a ground: white, grey, black or #rrggbb. Raises UserError for
    anything else."""
    if re.fullmatch("#[0-9a-fA-F]{6}", ground):
        red, green, blue = bytes.fromhex(ground[1:])
        return red, green, blue
    if ground not in _GROUNDS:
        raise config.unknown("ground", ground, [*_GROUNDS, "#rrggbb"])
    return _GROUNDS[ground]
