"""What is kept as one: where it lies, what is compared of it, and when it is right. Floor 0.

results/synthetic/{dataset}/{method}/...       kept/sets/{dataset}/{method}/synthetic/...
results/metrics/{task}/{dataset}/{method}/...  kept/sets/{dataset}/{method}/metrics/{task}/...
results/shards/{dataset}/{method}/...          kept/sets/{dataset}/{method}/shards/...  (of unfinished sets)
results/data/{dataset}/...                     kept/data/{dataset}/...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from condense.config import UserError
from condense.files import (
    check_prepared,
    read_artifact,
    read_facts,
    read_history,
    read_metrics,
    read_prepared,
)
from condense.files.artifacts import canonical, read_header, read_tensors
from condense.files.dvcfiles import Listed, file_md5
from condense.files.states import check_checkpoint

KEPT = PurePosixPath("kept")
SETS, DATA = KEPT / "sets", KEPT / "data"
# What is written last into a folder that is kept as a whole: with it, the folder is finished.
_LAST = {"synthetic": "synthetic.safetensors", "data": "dataset.json"}
# Drawn again from the set by whoever shows it; as large as the set itself.
_DRAWN_AGAIN = {"grid.png"}
_BESIDE = {"run.json": read_facts, "history.jsonl": read_history}


@dataclass(frozen=True)
class Unit:
    """What is kept and taken as one: a set with the files beside it, a prepared dataset, one metrics file, or
    one file of an unfinished set (a shard, what it cost, or a checkpoint)."""

    kind: str  # synthetic, data, metrics or shard
    group: PurePosixPath  # the folder with a `.dvc` file that it belongs to
    inner: PurePosixPath  # its folder (or, for metrics and shards, its file) inside the group
    home: PurePosixPath  # the same under results/

    @property
    def dataset(self) -> str:
        """The dataset that it is of."""
        return self.group.name if self.kind == "data" else self.group.parent.name

    @property
    def last(self) -> PurePosixPath:
        """The file, seen from `home` and from `inner`, whose presence says that the unit is finished."""
        return PurePosixPath(_LAST.get(self.kind, ""))

    def entries(self, files: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the `files` of its group that belong to it."""
        return {
            name: value for name, value in files.items() if PurePosixPath(name).is_relative_to(self.inner)
        }

    def sources(self, root: Path) -> dict[str, Path]:
        """Name inside the group -> file of the finished unit, the one that finishes it first; drafts and
        checkpoints are left out."""
        home = root / self.home
        if self.kind not in _LAST:
            return {str(self.inner): home}
        visible = [
            file
            for file in home.iterdir()
            if file.is_file() and not file.name.startswith(".") and not is_checkpoint(file)
        ]
        kept = [file for file in visible if file.name not in _DRAWN_AGAIN]
        return {
            str(self.inner / file.name): file
            for file in sorted(kept, key=lambda file: (file.name != self.last.name, file.name))
        }


def unit_of(path: str | PurePosixPath) -> Unit:
    """The unit that a path under results/ belongs to. Raises UserError for what is not kept."""
    parts = PurePosixPath(path).parts
    match parts:
        case ("results", "synthetic", dataset, method, *inner, _) if inner:
            return Unit(
                "synthetic",
                SETS / dataset / method,
                PurePosixPath("synthetic", *inner),
                PurePosixPath(*parts[:-1]),
            )
        case ("results", "metrics", task, dataset, method, *inner) if inner:
            return Unit(
                "metrics",
                SETS / dataset / method,
                PurePosixPath("metrics", task, *inner),
                PurePosixPath(*parts),
            )
        case ("results", "shards", dataset, method, *inner, file) if inner:
            return Unit(
                "shard",
                SETS / dataset / method,
                PurePosixPath("shards", *inner, file),
                PurePosixPath(*parts),
            )
        case ("results", "data", dataset, *inner, _) if inner:
            return Unit("data", DATA / dataset, PurePosixPath(*inner), PurePosixPath(*parts[:-1]))
    raise UserError(
        f"{path}: only synthetic sets, their shards, metrics and prepared data under results/ are kept"
    )


def is_checkpoint(file: Path) -> bool:
    """Whether a job left `file` to go on from."""
    return ".resume" in file.suffixes


def shard_files(set_path: str, root: Path = Path()) -> list[str]:
    """What jobs have made so far of the set at `set_path` (results/synthetic/...), as paths under
    results/shards; nothing once the set is finished."""
    folder = shard_folder(set_path)
    if (root / set_path).is_file() or not (root / folder).is_dir():
        return []
    names = sorted(file.name for file in (root / folder).iterdir() if file.is_file())
    return [str(folder / name) for name in names if not name.startswith(".")]


def shard_folder(set_path: str) -> PurePosixPath:
    """Where the shards of the set at `set_path` lie."""
    return PurePosixPath("results", "shards", *PurePosixPath(set_path).parts[2:-1])


def kept_path(path: str) -> str:
    """Where the kept copy of `path` lies, whether or not there is one: the input of the workflow's rules that
    take results back."""
    unit = unit_of(path)
    return str(unit.group / unit.inner / PurePosixPath(path).relative_to(unit.home))


def kept_name(path: str) -> str:
    """The same, seen from the group."""
    return str(PurePosixPath(kept_path(path)).relative_to(unit_of(path).group))


def described(unit: Unit, root: Path) -> dict[str, Any]:
    """What prepared data were made from, and the checksums of what was made; whoever prepares or pulls them
    gets the same."""
    value = read_prepared(root / unit.home / unit.last)
    splits = {"train": value.splits.train, "test": value.splits.test}
    parts = {
        name: {"images": split.images, "data_sha256": split.data_sha256} for name, split in splits.items()
    }
    return {"title": value.title, "source": value.source, "prepared": parts}


def largest_of(unit: Unit, root: Path) -> int:
    """Bytes of the largest file that would be kept."""
    return max(file.stat().st_size for file in unit.sources(root).values())


def _content(unit: Unit, file: Path) -> Any:
    """What is compared of a file: its tensors or values, without the cost of making them."""
    if file.suffix == ".safetensors":
        return read_header(file)["content_sha256"]
    if unit.kind == "metrics":
        return canonical({name: value for name, value in read_metrics(file).items() if name != "run"})
    return file_md5(file) if is_checkpoint(file) else file.name


def same(unit: Unit, files: Mapping[str, Listed], root: Path) -> bool:
    """Whether what is kept of a unit is whole and has the same tensors and values as what lies under
    results/."""
    listed, sources = unit.entries(files), unit.sources(root)
    if listed.keys() != sources.keys():
        return False
    kept = {name: root / unit.group / name for name in listed}
    intact = all(kept[name].is_file() and file_md5(kept[name]) == listed[name].md5 for name in listed)
    return intact and all(_content(unit, sources[name]) == _content(unit, kept[name]) for name in listed)


def verify(unit: Unit, root: Path) -> None:
    """Raises UserError unless every file of the unit is what its reader takes and the unit lies under its own
    key."""
    if unit.kind == "data":
        check_prepared(root / unit.home)
    for file in unit.sources(root).values():
        if unit.kind == "metrics":
            key = read_metrics(file)["key"]
            if not file.stem.endswith(f"-{key}"):
                raise UserError(
                    f"{file}: belongs to the key {key}, not to its name; delete it and make it anew"
                )
        elif file.name in _BESIDE:
            _BESIDE[file.name](file)
        elif unit.kind == "shard" and file.name.endswith(".run.json"):
            read_facts(file)
        elif is_checkpoint(file):
            tensors, header = read_tensors(file, "checkpoint")
            key = check_checkpoint(file, tensors, header).key.split("-")[0]
            _require_home(file, key, unit.home.parent)
        if file.suffix == ".safetensors":
            _, header = read_artifact(file)
            if unit.kind != "data":
                _require_home(
                    file, header.get("key"), unit.home if unit.kind == "synthetic" else unit.home.parent
                )


def _require_home(file: Path, key: Any, folder: PurePosixPath) -> None:
    """Raises UserError unless `file`, which is of `key`, lies in the folder of that key."""
    if not folder.name.endswith(f"-{key}"):
        raise UserError(
            f"{file}: belongs to the key {key}, not to the folder it lies in; delete the folder and make it "
            "anew"
        )
