"""Finished results worth keeping: copied into `kept/`, which DVC tracks, and taken back from there.

Floor 0. DVC tracks this separate folder and not `results/` itself, because `dvc pull` refuses to check out a tracked
folder that holds files it does not know, and a set made locally is such a file. What is kept lies under the same keys:

    results/synthetic/{dataset}/{method}/...       kept/sets/{dataset}/{method}/synthetic/...
    results/metrics/{task}/{dataset}/{method}/...  kept/sets/{dataset}/{method}/metrics/{task}/...
    results/data/{dataset}/...                     kept/data/{dataset}/...

Each group (one DVC output) has a manifest with the checksum of every file; only what it lists is ever taken back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from condense.artifacts import SCHEMA, canonical, damaged, file_sha256, read_header, read_json, read_tensors, whole, write_json
from condense.config import UserError, load_yaml

KEPT = PurePosixPath("kept")
MANIFEST = "manifest.json"
# What is written last into a folder that is kept as a whole: with it, the folder is finished.
_LAST = {"synthetic": "synthetic.safetensors", "data": "dataset.json"}


@dataclass
class Kept:
    """What `keep` did, as paths under results/: `absent` ones are not finished. `size` is that of all kept files, in bytes."""

    added: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True)
class _Unit:
    """What is kept and taken as one: a set with the files beside it, a prepared dataset, or one metrics file."""

    kind: str  # synthetic, data or metrics
    group: PurePosixPath  # the DVC output it belongs to
    inner: PurePosixPath  # its folder (or, for metrics, its file) inside the group
    home: PurePosixPath  # the same under results/

    @property
    def last(self) -> PurePosixPath:
        """The file, seen from `home` and from `inner`, whose presence says that the unit is finished."""
        return PurePosixPath(_LAST.get(self.kind, ""))


def _unit(path: str | PurePosixPath) -> _Unit:
    parts = PurePosixPath(path).parts
    match parts:
        case ("results", "synthetic", dataset, method, *inner, _) if inner:
            return _Unit("synthetic", KEPT / "sets" / dataset / method, PurePosixPath("synthetic", *inner), PurePosixPath(*parts[:-1]))
        case ("results", "metrics", task, dataset, method, *inner) if inner:
            return _Unit("metrics", KEPT / "sets" / dataset / method, PurePosixPath("metrics", task, *inner), PurePosixPath(*parts))
        case ("results", "data", dataset, *inner, _) if inner:
            return _Unit("data", KEPT / "data" / dataset, PurePosixPath(*inner), PurePosixPath(*parts[:-1]))
    raise UserError(f"{path}: only synthetic sets, metrics and prepared data under results/ are kept")


def kept_path(path: str) -> str:
    """Where the kept copy of `path` lies, whether or not there is one: the input of the workflow's rules that take results back."""
    unit = _unit(path)
    return str(unit.group / unit.inner / PurePosixPath(path).relative_to(unit.home))


def reusable(path: str, root: Path = Path()) -> bool:
    """Whether `path` can be taken from what is kept."""
    inner = PurePosixPath(kept_path(path)).relative_to(_unit(path).group)
    return str(inner) in _manifest(root / _unit(path).group) and (root / kept_path(path)).is_file()


def _manifest(group: Path) -> dict[str, str]:
    """Inner path -> SHA-256 of the files of a group; empty where nothing is kept."""
    path = group / MANIFEST
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or found.get("kind") != "kept" or not isinstance(found.get("files"), dict):
        raise damaged(path, "it lists no kept files")
    if found.get("schema") != SCHEMA:
        raise UserError(f"{path}: written with schema {found.get('schema')}; this version reads {SCHEMA}")
    for name, total in found["files"].items():
        if not isinstance(total, str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise damaged(path, f"it names {name[:80]!r}, which does not lie beside it")
    return found["files"]


def _write_manifest(group: Path, files: dict[str, str]) -> None:
    _without_link(group / MANIFEST)
    write_json(group / MANIFEST, {"schema": SCHEMA, "kind": "kept", "files": files})


def _without_link(path: Path) -> None:
    """Removes a link into DVC's cache, which must not be written: DVC puts links there where it is told to (`cache.type`)."""
    if path.is_symlink():
        path.unlink()


def _entries(unit: _Unit, files: dict[str, str]) -> dict[str, str]:
    """Those of the manifest's `files` that belong to `unit`."""
    return {name: total for name, total in files.items() if PurePosixPath(name).is_relative_to(unit.inner)}


def _copy(pairs: list[tuple[Path, Path, str | None]], advice: str) -> list[str]:
    """Copies (source, target, expected SHA-256); no target appears unless all copies are right, the first one appears last.

    Returns the SHA-256 of each copy. Raises UserError naming a source whose bytes are not the expected ones.
    """
    totals = []
    with ExitStack() as drafts:
        for source, target, expected in pairs:
            draft = drafts.enter_context(whole(target))
            if not source.is_file():
                raise UserError(f"{source}: is listed beside it but missing; {advice}")
            shutil.copyfile(source, draft)
            totals.append(file_sha256(draft))
            if expected is not None and totals[-1] != expected:
                raise UserError(f"{source}: damaged (its checksum differs from the one in {MANIFEST}); {advice}")
    return totals


def restore(path: str, root: Path = Path()) -> None:
    """Takes `path`, with what is kept beside it, from `kept/` into `results/`; does nothing where `path` already exists.

    Every copy is checked against the manifest before any of them appears. Raises UserError if nothing is kept for `path`,
    or naming the kept file that is damaged.
    """
    if (root / path).is_file():
        return
    unit = _unit(path)
    listed = _entries(unit, _manifest(root / unit.group))
    if str(PurePosixPath(kept_path(path)).relative_to(unit.group)) not in listed:
        raise UserError(f"{path}: nothing is kept under this key; make it with the workflow, or fetch kept results with 'dvc pull'")
    finish = str(unit.inner / unit.last)
    names = sorted(listed, key=lambda name: (name != finish, name))
    pairs = [(root / unit.group / name, root / unit.home / PurePosixPath(name).relative_to(unit.inner), listed[name]) for name in names]
    _copy(pairs, f"delete {unit.group} and run 'dvc pull {unit.group}' again; if it comes back damaged, delete .dvc/cache too")


def restore_all(paths: Iterable[str], root: Path = Path()) -> list[str]:
    """Takes those of `paths` that are kept and not there yet; returns them. Raises UserError as `restore` does."""
    taken = []
    for path in paths:
        if not (root / path).is_file() and reusable(path, root):
            restore(path, root)
            taken.append(path)
    return taken


def keep(paths: Iterable[str], root: Path = Path()) -> Kept:
    """Copies the finished ones of `paths` (sets, metrics, prepared data under results/) into `kept/`; adds, never removes.

    A set is verified before it is copied, and the manifest is written last. What is kept already stays as it is, also if
    its cost or date differ; what has other numbers is replaced.
    Raises UserError for a damaged file, one that lies under another key than its own, or a group not pulled before.
    """
    summary, groups = Kept(), {}
    for path, unit in {_unit(path).home: (path, _unit(path)) for path in paths}.values():
        if not (root / unit.home / unit.last).is_file():
            summary.absent.append(path)
            continue
        if unit.group not in groups:
            _check_pulled(unit.group, root)
            groups[unit.group] = dict(_manifest(root / unit.group))
        if _same(unit, groups[unit.group], root):
            summary.unchanged.append(path)
            continue
        _verify(unit, root)
        groups[unit.group] = _copied(unit, groups[unit.group], root)
        summary.added.append(path)
    for group, files in groups.items():
        if files != _manifest(root / group):
            _write_manifest(root / group, files)
    summary.size = sum(file.stat().st_size for file in (root / KEPT).rglob("*") if file.is_file())
    return summary


def drop_others(paths: Iterable[str], root: Path = Path()) -> list[str]:
    """Removes what is kept and belongs to none of `paths`; returns the removed files. The DVC remote is cleaned by `dvc gc`."""
    units, removed = [_unit(path) for path in paths], []
    for manifest in sorted((root / KEPT).rglob(MANIFEST)):
        group = PurePosixPath(manifest.parent.relative_to(root))
        files = _manifest(manifest.parent)
        wanted = {name for unit in units if unit.group == group for name in _entries(unit, files)}
        gone = sorted(files.keys() - wanted)
        if not gone:
            continue
        _check_pulled(group, root)
        _write_manifest(manifest.parent, {name: total for name, total in files.items() if name in wanted})
        for name in gone:
            file = manifest.parent / name
            file.unlink(missing_ok=True)
            for folder in file.relative_to(manifest.parent).parents:
                if folder != Path() and not any((manifest.parent / folder).iterdir()):
                    (manifest.parent / folder).rmdir()
            removed.append(str(group / name))
    return removed


def _files(unit: _Unit, root: Path) -> dict[str, Path]:
    """Name inside the group -> file of a finished unit, the one that finishes it first; drafts and checkpoints are left out."""
    home = root / unit.home
    if unit.kind == "metrics":
        return {str(unit.inner): home}
    visible = [file for file in home.iterdir() if file.is_file() and not file.name.startswith(".") and ".resume" not in file.suffixes]
    return {str(unit.inner / file.name): file for file in sorted(visible, key=lambda file: (file.name != unit.last.name, file.name))}


def _copied(unit: _Unit, files: dict[str, str], root: Path) -> dict[str, str]:
    """The manifest's `files` after `unit` was copied into its group."""
    sources = _files(unit, root)
    for name in sources:
        _without_link(root / unit.group / name)
    totals = _copy([(source, root / unit.group / name, None) for name, source in sources.items()], "run the same command again")
    others = {name: total for name, total in files.items() if name not in _entries(unit, files)}
    return others | dict(zip(sources, totals, strict=True))


def _content(unit: _Unit, file: Path) -> Any:
    """What is compared of a file: its tensors or values, without the cost of making them."""
    if file.suffix == ".safetensors":
        return read_header(file)["content_sha256"]
    if unit.kind == "metrics":
        return canonical({name: value for name, value in _metrics(file).items() if name != "run"})
    return file.name


def _same(unit: _Unit, files: dict[str, str], root: Path) -> bool:
    listed, sources = _entries(unit, files), _files(unit, root)
    if listed.keys() != sources.keys():
        return False
    kept = {name: root / unit.group / name for name in listed}
    intact = all(kept[name].is_file() and file_sha256(kept[name]) == listed[name] for name in listed)
    return intact and all(_content(unit, sources[name]) == _content(unit, kept[name]) for name in listed)


def _metrics(file: Path) -> dict[str, Any]:
    values = read_json(file)
    if not isinstance(values, dict) or values.get("kind") != "metrics" or not values.get("accuracies"):
        raise damaged(file, "it holds no metrics")
    return values


def _verify(unit: _Unit, root: Path) -> None:
    """Raises UserError unless the tensors match their checksums and the unit lies under its own key."""
    for file in _files(unit, root).values():
        if unit.kind == "metrics":
            _metrics(file)
        if file.suffix == ".safetensors":
            _, header = read_tensors(file)
            if unit.kind == "synthetic" and not unit.home.name.endswith(f"-{header.get('key')}"):
                raise UserError(
                    f"{file}: belongs to the key {header.get('key')}, not to the folder it lies in; delete the folder and make it anew"
                )


def _check_pulled(group: PurePosixPath, root: Path) -> None:
    """Raises UserError if DVC tracks more files of `group` than are here: adding to it would lose the others."""
    pointer = root / f"{group}.dvc"
    if not pointer.is_file():
        return
    tracked = load_yaml(pointer)["outs"][0]["nfiles"]
    present = sum(file.is_file() for file in (root / group).rglob("*"))
    if present < tracked:
        raise UserError(f"{group}: holds {present} of the {tracked} files that {group}.dvc tracks; run 'dvc pull --force {group}' first")
