"""Removing results that no scale asks for any more, and what interrupted jobs left behind.

Only files at the paths that the workflow gives its results are looked at; whatever else lies there stays.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from condense.config import UserError
from condense.files import read_index
from condense.machine.drafts import draft_of, is_dead
from condense.machine.terminal import several
from condense.plan import lacks, parent_rooms
from condense.plan.groups import groups
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together
from condense.specs import catalogue

_KEY, _NAME, _SET = "[0-9a-f]{12}", "[a-z0-9_-]+", r"ipc(?:[0-9]+|full)/seed[0-9]+-(?P<key>[0-9a-f]{12})"
_EVALUATION = rf"{_NAME}/{_NAME}/{_NAME}/{_NAME}/{_SET.replace('key', 'parent')}/{_NAME}-(?P<key>{_KEY})"
_CHECKPOINT = re.compile(r"(?P<output>.+?)\.resume(\.[a-z0-9]+)*")
_DRAFT = re.compile(r"\.(?P<output>.+)\.(?:[0-9a-f]{32}\.part|lock)")  # or the lock of a maker
_WHOLE = {"shards": "its set is whole", "parts": "its metrics are whole"}
_DAY = 86400.0  # seconds; a job may still be writing what is younger


def _owned() -> dict[str, str]:
    """Folder of the results -> pattern of the paths (from the results on) of what one key owns: a folder,
    or a file of metrics."""
    return {
        "data": rf"data/{_NAME}/(?P<key>{_KEY})",
        **{room: rf"{room}/{_NAME}/{_NAME}/{_NAME}/seed[0-9]+-(?P<key>{_KEY})" for room in parent_rooms()},
        "groups": rf"groups/{_NAME}/{_NAME}/(?P<key>{_KEY})",
        "shards": rf"shards/{_NAME}/{_NAME}/{_NAME}/{_SET}",
        "synthetic": rf"synthetic/{_NAME}/{_NAME}/{_NAME}/{_SET}",
        "parts": rf"parts/{_EVALUATION}",
        "metrics": rf"metrics/{_EVALUATION}\.json",
        "together": rf"together/(?P<key>{_KEY})\.json",
    }


def prune_results(results: Path, dry: bool) -> str:
    """Removes from `results` what no scale asks for, shards and parts of what is whole, and what interrupted
    jobs left more than a day ago.

    A checkpoint is left behind if its output exists; one of a job that is still to be finished stays. Says
    what was removed, or with `dry` only what would be. Tables, figures, tracking and files that are not at a
    path of the workflow are left alone.
    Raises UserError if `results` is not a folder.
    """
    results = Path(results)
    if not results.is_dir():
        raise UserError(f"{results}: no such folder; give the folder of the results with --results")
    asked, lines, count, total = _asked(), [], 0, 0
    removable = [
        entry
        for kind in _owned()
        if (results / kind).is_dir()
        for entry in _removable(results / kind, results, asked)
    ]
    for path, why in removable:
        files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
        size = sum(file.stat().st_size for file in files)
        count, total = count + len(files), total + size
        lines.append(f"{path}  {why}, {_counted(len(files), size)}")
        if not dry:
            _remove(path, results)
    said = "would be removed" if dry else "removed"
    return "\n".join([*lines, f"{_counted(count, total)} {said} from {results}"])


def sweep(results: Path) -> list[Path]:
    """Removes what killed jobs left: checkpoints, drafts and locks beside finished files, drafts that nobody
    writes any more, shards and parts of what is whole, and notes of what was evaluated together; says what.

    To be called by the head, or by `condense run`, alone and at its end, when all that it asked for is made:
    then nobody writes these any more.
    """
    gone = []
    for path in sorted(
        path for path in results.rglob("*") if path.name.startswith(".") or ".resume" in path.name
    ):
        draft = _DRAFT.fullmatch(path.name)
        checkpoint = _CHECKPOINT.fullmatch(draft["output"] if draft else path.name)
        left = checkpoint or draft
        if left is None or not path.is_file():
            continue
        if path.with_name(left["output"]).exists() or (draft_of(path.name) and is_dead(path)):
            gone.append(path)
    pieces = [*sorted(results.glob("shards/*/*/*/*/*")), *sorted(results.glob("parts/*/*/*/*/*/*/*"))]
    gone += [folder for folder in pieces if _joined_path(folder, results).is_file()]
    gone += sorted(results.glob("together/*.json"))
    for path in gone:
        if path.exists():  # and did not go with the folder around it
            _remove(path, results)
    for index in [
        index for index in sorted(results.glob("groups/*/*/*/*.json")) if not _shards_left(index, results)
    ]:
        gone.append(index)
        _remove(index, results)
    return gone


def _shards_left(index: Path, results: Path) -> bool:
    """Whether a shard that the index of a group names is still there."""
    try:
        return any((results.parent / shard).exists() for shard in read_index(index).shards.values() if shard)
    except UserError:  # of no use to any job
        return False


def _asked() -> dict[str, set[str]]:
    """The keys that all scales together ask for, by folder of the results."""
    asked: dict[str, set[str]] = {kind: set() for kind in _owned()}
    for name in catalogue.names_in("scales"):
        plan = Plan(name)
        asked["data"] |= set(plan.data)
        for cell in plan.parents.values():
            asked[cell.room].add(cell.key)
        asked["groups"] |= {group.key for group in groups(plan)}
        asked["together"] |= {group.key for group in evaluations_together(plan)}
        asked["shards"] |= set(plan.synthetic)
        asked["synthetic"] |= set(plan.synthetic)
        asked["metrics"] |= {cell.key for cell in plan.metrics.values()}
    asked["parts"] = asked["metrics"]
    return asked


def _removable(folder: Path, results: Path, asked: dict[str, set[str]]) -> Iterator[tuple[Path, str]]:
    """Files and folders to remove with the reason, none inside another; links are not followed."""
    for path in sorted(folder.iterdir()):
        why = _why(path, results, asked)
        if why:
            yield path, why
        elif path.is_dir() and not path.is_symlink():
            yield from _removable(path, results, asked)


def _why(path: Path, results: Path, asked: dict[str, set[str]]) -> str:
    """Why a file or folder is to be removed; '' if it stays."""
    kind, key = _owner(path, results)
    if key and key not in asked[kind]:
        return "" if _unplanned(path, results) else "no scale asks for it"
    if key and kind in _WHOLE:
        return _WHOLE[kind] if _joined_path(path, results).is_file() else ""
    draft = _DRAFT.fullmatch(path.name)
    checkpoint = _CHECKPOINT.fullmatch(draft["output"] if draft else path.name)
    left = checkpoint or draft
    if key or left is None or not path.is_file() or time.time() - path.stat().st_mtime < _DAY:
        return ""
    output = path.with_name(left["output"])
    key = _owner(output, results)[1] or _owner(output.parent, results)[1]
    unasked = key not in asked[kind] and not _unplanned(path, results)
    return "left behind by a job" if key and (draft or unasked or output.exists()) else ""


def _joined_path(pieces: Path, results: Path) -> Path:
    """The set of a folder of shards, or the metrics of a folder of parts."""
    kind, *names = pieces.relative_to(results).parts
    if kind == "shards":
        return results.joinpath("synthetic", *names, "synthetic.safetensors")
    return results.joinpath("metrics", *names[:-1], f"{names[-1]}.json")


def _owner(path: Path, results: Path) -> tuple[str, str]:
    """The folder of the results that a path lies in, and the key that owns it; '' if none does."""
    relative = path.relative_to(results).as_posix()
    kind = relative.partition("/")[0]
    owned = re.fullmatch(_owned()[kind], relative)
    return kind, owned["key"] if owned else ""


def _unplanned(path: Path, results: Path) -> bool:
    """Whether a path belongs to a method that no plan can name here, since what it requires, such as weights
    of CLIP, is not here."""
    lacking = {name for name in catalogue.names_in("methods") if lacks(catalogue.recipe(name))}
    return bool(lacking & set(path.relative_to(results).parts))


def _remove(path: Path, results: Path) -> None:
    """Removes a file or folder, and the folders around it that become empty, up to `results`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    for folder in path.parents:
        if folder == results or any(folder.iterdir()):
            break
        folder.rmdir()


def _counted(files: int, size: int) -> str:
    return f"{several(files, 'file')}, {size / 1e6:.1f} MB"
