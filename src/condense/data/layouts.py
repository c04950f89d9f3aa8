"""Which files of what a user gives are for training and which for testing: the usual arrangements of folders
and shards."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from condense.config import UserError
from condense.data import parquet
from condense.data.classes import brief
from condense.data.entries import holds_folders, visible
from condense.data.folder import TEST, TRAIN

# Words beside 'train' and 'test' in the names of folders that say nothing more, also joined with them, as in
# 'trainset'.
_FILLERS = (
    "dataset",
    "data",
    "set",
    "split",
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "pics",
    "photos",
    "folder",
    "dir",
)


@dataclass(frozen=True)
class Layout:
    """Where the images are: a folder of class folders, or a parquet file, a folder or a pattern of them; and
    notes on what was chosen."""

    kind: str  # image_folder or parquet, as sources have it
    train: Path
    test: Path | None = None
    notes: list[str] = field(default_factory=list)


def layout_of(images: Path, test: Path | None) -> Layout:
    """What to train and to test on if the user gives `images` and perhaps `test`.

    Folders train/ and test/ (or val/) with class folders or shards in them are understood, and so are shards
    whose names begin so.
    Raises UserError with what to give instead for arrangements that do not say what the images show.
    """
    chosen = _splits(images, testing=False)
    if test is None:
        return chosen
    tested = _splits(test, testing=True)
    if tested.kind != chosen.kind:
        raise UserError(f"{images}, {test}: give either two folders or two parquet files")
    notes = [f"Training images: {chosen.train}."] if chosen.train != images else []
    notes += [f"Test images: {tested.train}."] if tested.train != test else []
    return Layout(chosen.kind, chosen.train, tested.train, notes)


def _splits(path: Path, testing: bool) -> Layout:
    if not path.is_dir():
        return Layout("parquet", path)
    listed = visible(path)
    folders = [name for name, is_folder in listed if is_folder]
    if not folders and parquet.in_folder(path):
        return _of_shards(path, testing)
    if folders == ["data"] and parquet.in_folder(path / "data"):
        return _of_shards(path / "data", testing)
    purposes = _purposes(folders)
    train = [name for name in folders if purposes.get(name) in TRAIN]
    filled = [name for name in train if _is_filled(path / name)]
    if len(filled) > 1:
        raise UserError(
            f"{path}: which folder is for training, {' or '.join(filled)}? Give it alone, and --test for the "
            "other"
        )
    if filled:
        return _of_folders(path, filled[0], purposes, folders, testing)
    if train and len(purposes) == len(folders):
        raise UserError(
            f"{path}: {' and '.join(folders)} are no classes, and the images in {path / train[0]} have no "
            "class folders that would say what they show (a table beside them is not read): sort them into "
            f"{path / train[0]}/CLASS/ and give the same command again, or write them with their labels into "
            "a parquet file"
        )
    tests = _by_preference(purposes)
    if testing and tests and len(tests) == len(folders) and _is_filled(path / tests[0]):
        return _as_one(path / tests[0])
    if not testing and tests and len(purposes) == len(folders) and _is_filled(path / tests[0]):
        raise UserError(
            f"{path}: has no folder for training beside {', '.join(folders)}; to use one of them, give "
            f"{path / tests[0]}"
        )
    notes = [f"Taken for classes like the others: {', '.join(purposes)}."] if purposes else []
    return Layout("image_folder", path, notes=notes)


def _purposes(folders: Sequence[str]) -> dict[str, str]:
    """The folders whose names say what they are for -> that word of TRAIN or TEST, as 'Train', 'test_images',
    'val2017' do.

    'seg_train' says so if there is a 'seg_test', too: a 'bullet train' alone is a class.
    """
    parted = {name: _parted(name) for name in folders}
    rests = Counter((rest, word in TRAIN) for word, rest in parted.values() if word)
    return {
        name: word
        for name, (word, rest) in parted.items()
        if word and (not rest or rests[rest, word not in TRAIN])
    }


def _parted(name: str) -> tuple[str, tuple[str, ...]]:
    """The word of TRAIN or TEST in the name of a folder, empty if there is none, and the other words that say
    something."""
    words = [_without_filler(word) for word in re.findall(r"[^\W\d_]+", name.lower())]
    word = next((word for word in words if word in (*TRAIN, *TEST)), "")
    return word, tuple(entry for entry in words if entry and entry != word)


def _without_filler(word: str) -> str:
    filler = next((filler for filler in _FILLERS if word.endswith(filler)), "")
    bare = word.removesuffix(filler)
    return bare if not bare or bare in (*TRAIN, *TEST) else word


def _is_filled(path: Path) -> bool:
    """Whether a folder holds class folders or shards."""
    return holds_folders(path) or bool(parquet.in_folder(path))


def _as_one(path: Path) -> Layout:
    """All of a folder as one set."""
    return Layout("parquet" if parquet.in_folder(path) and not holds_folders(path) else "image_folder", path)


def _is_sorted(path: Path) -> bool:
    """Whether a folder holds class folders, and not one alone for all images, or shards."""
    return sum(is_folder for _, is_folder in visible(path)) > 1 or bool(parquet.in_folder(path))


def _by_preference(purposes: Mapping[str, str]) -> list[str]:
    """Those that are for testing, the best first."""
    return sorted(
        (name for name, word in purposes.items() if word in TEST), key=lambda name: TEST.index(purposes[name])
    )


def _of_folders(
    path: Path, train: str, purposes: Mapping[str, str], folders: list[str], testing: bool
) -> Layout:
    candidates = _by_preference(purposes)
    usable = [name for name in candidates if _is_sorted(path / name)]
    if testing:
        if not usable:
            raise UserError(
                f"{path}: is for training, as its folder {train} says; give a folder of class folders for "
                "testing"
            )
        return _as_one(path / usable[0])
    chosen = _as_one(path / train)
    if candidates and not usable and _is_sorted(path / train):
        raise UserError(
            f"{path / candidates[0]}: its images have no class folders that would say what they show, so "
            "they cannot test; give the training images alone, of which a fifth is then held out: `condense "
            f"run {shlex.quote(str(path / train))} --out condensed`"
        )
    test = path / usable[0] if usable else None
    if test and _as_one(test).kind != chosen.kind:
        raise UserError(
            f"{path / train}, {test}: either two folders of class folders or two of parquet files are needed"
        )
    unused = [name for name in folders if name not in (train, *usable[:1])]
    notes = [f"Training images: {path / train}{f'; test images: {test}' if test else ''}."]
    notes += [f"Not used: {', '.join(unused)}."] if unused else []
    return Layout(chosen.kind, path / train, test, notes)


def _of_shards(path: Path, testing: bool) -> Layout:
    """Shards in one folder, told apart by a word in their names."""
    groups: dict[str, list[Path]] = {}
    for file in parquet.in_folder(path):
        groups.setdefault(_split_in(file.name).lower(), []).append(file)
    train = [word for word in groups if word in TRAIN]
    tests = _by_preference({word: word for word in groups})
    if testing and tests:
        return Layout("parquet", _pattern(path, groups[tests[0]]))
    if not train and tests and "" in groups:
        raise UserError(
            f"{path}: are the files beside {brief([file.name for word in tests for file in groups[word]])} "
            f"for training ({brief([file.name for file in groups['']])})? Begin their names with 'train', or "
            "give folders of their own and --test"
        )
    if not train:
        files = [file.name for group in groups.values() for file in group]
        return Layout(
            "parquet",
            path,
            notes=[f"All {len(files)} files are one set: {brief(files)}."] if len(files) > 1 else [],
        )
    unused = [file.name for word in groups if word not in (train[0], *tests[:1]) for file in groups[word]]
    chosen, test = _pattern(path, groups[train[0]]), _pattern(path, groups[tests[0]]) if tests else None
    notes = [f"Training images: {chosen}{f'; test images: {test}' if test else ''}."]
    notes += [f"Not used: {brief(unused)}."] if unused else []
    return Layout("parquet", chosen, test, notes)


def _split_in(name: str) -> str:
    """The word in the name of a file that says what its rows are for, as it is written there; empty if there
    is none."""
    return next((word for word in re.split("[^A-Za-z]+", name) if word.lower() in (*TRAIN, *TEST)), "")


def _pattern(path: Path, files: list[Path]) -> Path:
    """One file, or the pattern that fits these files of the folder and no others."""
    if len(files) == 1:
        return files[0]
    word = _split_in(files[0].name)
    begun = "" if files[0].name.startswith(word) else "*"
    pattern = path / f"{begun}{word}*{files[0].suffix}"
    if parquet.files_of(pattern) != files:
        raise UserError(
            f"{path}: the names of {files[0].name} and of the other files with '{word}' do not fit "
            f"{pattern.name}: rename them"
        )
    return pattern
