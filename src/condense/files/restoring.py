"""Takes kept results back from `kept/` into `results/`, each copy checked against the `.dvc` file. Floor 0,
without DVC and git."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from condense.config import UserError
from condense.files.dvcfiles import Listed, file_md5, listing, pointer, stored
from condense.files.kept import kept_name, kept_path, shard_files, shard_folder, unit_of
from condense.machine.drafts import whole


def reusable(path: str, root: Path = Path()) -> bool:
    """Whether `path` can be taken from what is kept."""
    entry = listing(unit_of(path).group, root).get(kept_name(path))
    return entry is not None and ((root / kept_path(path)).is_file() or (root / stored(entry.md5)).is_file())


def offered(path: str, root: Path = Path()) -> bool:
    """Whether the workflow is to take `path` from what is kept instead of making it; with CONDENSE_KEPT=off
    it makes everything."""
    return os.environ.get("CONDENSE_KEPT") != "off" and (root / kept_path(path)).is_file()


def restore(path: str, root: Path = Path()) -> None:
    """Takes `path`, with what is kept beside it, from `kept/` into `results/`; does nothing where `path`
    already exists.

    Every copy is checked against the `.dvc` file before any of them appears; a file that is not in `kept/`
    comes from the store.
    Raises UserError if nothing is kept for `path`, or naming the kept file that is damaged.
    """
    if (root / path).is_file():
        return
    unit = unit_of(path)
    files = unit.entries(listing(unit.group, root))
    if kept_name(path) not in files:
        raise UserError(
            f"{path}: nothing is kept under this key; make it with the workflow, or look for newer results "
            "with 'git pull'"
        )
    advice = (
        f"delete it, and 'dvc pull {unit.group}' or 'git checkout -- {unit.group}' brings it back; if "
        f"damaged again, the same for {{}}"
    )
    pairs = []
    for name in sorted(files, key=lambda name: (name != str(unit.inner / unit.last), name)):
        here, there = unit.group / name, stored(files[name].md5)
        source = here if (root / here).is_file() else there
        if not (root / source).is_file():
            raise UserError(
                f"{here}: is listed in {pointer(unit.group)} but not here; run 'dvc pull {unit.group}'"
            )
        pairs.append(
            (root / source, root / unit.home / PurePosixPath(name).relative_to(unit.inner), files[name].md5)
        )
    copied_whole(pairs, advice)


def restore_all(paths: Iterable[str], root: Path = Path()) -> list[str]:
    """Takes those of `paths` that are kept and not there yet; returns them. Raises UserError as `restore`
    does."""
    taken = []
    for path in paths:
        if not (root / path).is_file() and reusable(path, root):
            restore(path, root)
            taken.append(path)
    return taken


def unfinished(sets: Iterable[str], root: Path = Path()) -> list[str]:
    """What is kept of those of `sets` (paths under results/synthetic) that are not kept whole, as paths under
    results/shards."""
    kept = []
    for path in sets:
        files, folder = listing(unit_of(path).group, root), shard_folder(path)
        if kept_name(path) not in files:
            # The files of two sets of a method may be called alike
            asked = [(str(folder / PurePosixPath(name).name), name) for name in files]
            kept += [shard for shard, name in asked if kept_name(shard) == name]
    return kept


def restore_unfinished(sets: Iterable[str], root: Path = Path()) -> list[str]:
    """Takes what is kept of those of `sets` of which nothing is here, so that jobs go on with them; returns
    these sets. Raises UserError as `restore` does."""
    taken = []
    for path in sets:
        kept = [name for name in unfinished([path], root) if reusable(name, root)]
        if kept and not (root / path).is_file() and not shard_files(path, root):
            for name in kept:
                restore(name, root)
            taken.append(path)
    return taken


def copied_whole(pairs: list[tuple[Path, Path, str | None]], advice: str) -> dict[Path, Listed]:
    """Copies (source, target, expected MD5); no target appears unless all copies are right, the first one
    appears last.

    Returns what was copied, by source. Raises UserError naming a source whose bytes are not the expected
    ones.
    """
    copied = {}
    with ExitStack() as drafts:
        for source, target, expected in pairs:
            draft = drafts.enter_context(whole(target))
            shutil.copyfile(source, draft)
            # Into kept/: Snakemake takes no result again that is as old as its kept copy
            if expected is None:
                os.utime(draft, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
            copied[source] = Listed(file_md5(draft), draft.stat().st_size)
            if expected is not None and copied[source].md5 != expected:
                raise UserError(
                    f"{source}: damaged (its checksum differs from that of the .dvc file); "
                    f"{advice.format(stored(expected))}"
                )
    return copied
