"""Finished results worth keeping: copied into `kept/`, and taken back from there. Floor 0, without DVC and
git.

`kept/` is part of git, so that a clone, an unpacked archive and a git address hold it. Each group of it (a
method on a dataset, or a dataset) has a `.dvc` file that lists names and checksums: only what it lists is
ever taken back. The store holds the same bytes under their MD5, where DVC finds them; git stores equal bytes
once. The bytes of a large dataset are in neither, unless asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from condense.config import UserError
from condense.files.dvcfiles import (
    Listed,
    drop,
    file_md5,
    listing,
    notes,
    pointer,
    put,
    stored,
    stored_of,
    write_pointer,
)
from condense.files.kept import (
    KEPT,
    Unit,
    described,
    kept_path,
    largest_of,
    same,
    shard_files,
    shard_folder,
    unit_of,
    verify,
)
from condense.files.restoring import (
    copied_whole,
    offered,
    restore,
    restore_all,
    restore_unfinished,
    reusable,
    unfinished,
)
from condense.machine.drafts import whole

__all__ = [
    "Kept",
    "drop_others",
    "keep",
    "kept_path",
    "offered",
    "restore",
    "restore_all",
    "restore_unfinished",
    "reusable",
    "shard_files",
    "shard_folder",
    "tracked",
    "unfinished",
]

# What has a file above this size, in bytes, is kept only if asked, for a remote: git holds everything for
# ever. A set of ten images of 32 x 32 pixels a class is below it with its five snapshots, one of fifty is
# above.
LARGE = 3_200_000
# A checkpoint holds the images, their momentum and a network: about thrice a set. It leaves `kept/` when the
# set is whole, so that a run of hours may go on elsewhere.
LARGE_UNFINISHED = 4_000_000
_NOTES = "condense"  # our part of `meta` in a `.dvc` file


@dataclass
class Kept:
    """What `keep` did, as paths under results/. `size` is that of all kept files, in bytes."""

    added: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)  # not finished
    # Left out for their size; of data, the `.dvc` file says what they are
    large: list[str] = field(default_factory=list)
    size: int = 0


def limit(name: str | PurePosixPath) -> int:
    """The largest size, in bytes, of what git keeps under this name in a group."""
    return LARGE_UNFINISHED if PurePosixPath(name).parts[0] == "shards" else LARGE


def keep(paths: Iterable[str], root: Path = Path(), with_bytes: Collection[str] = ()) -> Kept:
    """Copies the finished ones of `paths` (sets, metrics, prepared data under results/) into `kept/`; adds,
    never removes.

    A set is verified before it is copied, and the `.dvc` file is written last. What is kept already stays as
    it is, also if its cost or date differ; what has other numbers is replaced. What is `LARGE` is kept for
    the datasets named in `with_bytes`; of other large data the `.dvc` file tells source and checksums.
    Raises UserError for a damaged file, finished or kept, one that lies under another key than its own, or
    kept files that are not here.
    """
    summary = Kept()
    groups: dict[PurePosixPath, _Group] = {}
    for path, unit in {unit_of(path).home: (path, unit_of(path)) for path in paths}.values():
        if not (root / unit.home / unit.last).is_file():
            summary.absent.append(path)
            continue
        group = groups.get(unit.group) or _Group.read(unit.group, root)
        groups[unit.group] = group
        if unit.kind == "data":
            group.meta.setdefault(_NOTES, {})[unit.home.name] = described(unit, root)
        if (
            unit.dataset not in with_bytes
            and largest_of(unit, root) > limit(unit.inner)
            and not unit.entries(group.files)
        ):
            summary.large.append(path)
            continue
        if same(unit, group.files, root):
            summary.unchanged.append(path)
            continue
        verify(unit, root)
        group.add(unit, root)
        summary.added.append(path)
    for group in groups.values():
        group.check(root)
        group.write(root)
    summary.size = sum(file.stat().st_size for file in (root / KEPT).rglob("*") if file.is_file())
    return summary


def drop_others(paths: Iterable[str], root: Path = Path()) -> list[str]:
    """Removes what is kept and belongs to none of `paths`, from the store too; returns the removed files."""
    units, removed = [unit_of(path) for path in paths], []
    for path in _groups(root):
        group = _Group.read(path, root)
        wanted: set[str] = set()
        mine = [unit for unit in units if unit.group == path]
        for unit in mine:
            wanted |= unit.entries(group.files).keys()
        keys = {unit.home.name for unit in mine}
        notes_left = {key: value for key, value in group.meta.get(_NOTES, {}).items() if key in keys}
        gone = sorted(group.files.keys() - wanted)
        group.files = {name: entry for name, entry in group.files.items() if name in wanted}
        group.meta = {**group.meta, _NOTES: notes_left} if notes_left else {}
        group.write(root)
        for name in gone:
            file = root / path / name
            file.unlink(missing_ok=True)
            for folder in file.relative_to(root / path).parents:
                if (root / path / folder).is_dir() and not any((root / path / folder).iterdir()):
                    (root / path / folder).rmdir()
            removed.append(str(path / name))
    return removed


def tracked(root: Path = Path()) -> list[str]:
    """What belongs into git: the `.dvc` files, the kept files and what the store holds of them, but nothing
    large."""
    paths: set[PurePosixPath] = set()
    for path in _groups(root):
        files = listing(path, root)
        large = _large_folders(files)
        small = {name: entry for name, entry in files.items() if str(PurePosixPath(name).parent) not in large}
        paths |= {pointer(path), *(path / name for name in small)} | stored_of(files)
        paths -= {stored(entry.md5) for name, entry in files.items() if name not in small}
        paths |= {path.parent / ".gitignore"} if (root / path.parent / ".gitignore").is_file() else set()
    return sorted(str(path) for path in paths)


def _large_folders(files: Mapping[str, Listed]) -> list[str]:
    """The folders inside a group that hold a large file: with all that lies in them, they are no business of
    git."""
    return sorted(
        {str(PurePosixPath(name).parent) for name, entry in files.items() if entry.size > limit(name)}
    )


def _groups(root: Path) -> list[PurePosixPath]:
    return [
        PurePosixPath(path.relative_to(root)).with_suffix("") for path in sorted((root / KEPT).rglob("*.dvc"))
    ]


@dataclass
class _Group:
    """What a `.dvc` file says, and what it said before."""

    path: PurePosixPath
    files: dict[str, Listed]
    meta: dict[str, Any]
    before: tuple[dict[str, Listed], dict[str, Any]]

    @classmethod
    def read(cls, path: PurePosixPath, root: Path) -> _Group:
        files, meta = listing(path, root), notes(path, root)
        return cls(path, files, meta, (dict(files), {name: dict(value) for name, value in meta.items()}))

    def add(self, unit: Unit, root: Path) -> None:
        """Copies a unit into the group and the store."""
        sources = unit.sources(root)
        for name in sources:
            # Into the store, which must not be written; DVC can be told to (`cache.type`)
            if (root / self.path / name).is_symlink():
                (root / self.path / name).unlink()
        copied = copied_whole(
            [(source, root / self.path / name, None) for name, source in sources.items()], ""
        )
        remaining = {
            name: entry for name, entry in self.files.items() if name not in unit.entries(self.files)
        }
        for name in unit.entries(self.files).keys() - sources.keys():
            (root / self.path / name).unlink(missing_ok=True)
        self.files = remaining | {name: copied[source] for name, source in sources.items()}

    def check(self, root: Path) -> None:
        """Raises UserError naming a kept file that is not what the list says: it would go into git."""
        for name, entry in self.files.items():
            file = root / self.path / name
            if file.is_file() and file_md5(file) != entry.md5:
                raise UserError(
                    f"{file}: damaged (its checksum differs from that of {pointer(self.path)}); delete it, "
                    f"and 'git checkout -- {self.path}' or 'dvc pull {self.path}' brings it back"
                )

    def write(self, root: Path) -> None:
        """Brings the store and the `.dvc` file up to date; nothing is touched where nothing changed."""
        if (self.files, self.meta) == self.before:
            # Other commands, as `dvc commit`, write the same in another form
            write_pointer(self.path, self.files, root, self.meta)
            return
        for name, entry in self.files.items():
            self._complete(name, entry, root)
        _leave_out_of_git(self.path, _large_folders(self.files), root)
        write_pointer(self.path, self.files, root, self.meta)
        drop(_needless(stored_of(self.before[0]) - stored_of(self.files), root), root)

    def _complete(self, name: str, entry: Listed, root: Path) -> None:
        """Sees to it that a listed file is both in the group and in the store."""
        file, object_ = root / self.path / name, root / stored(entry.md5)
        if file.is_file():
            put(file, entry.md5, root)
        elif object_.is_file():
            copied_whole([(object_, file, entry.md5)], "'git checkout -- {}' brings it back")
        else:
            raise UserError(
                f"{self.path / name}: is listed in {pointer(self.path)} but not here; run 'dvc pull "
                f"{self.path}' first"
            )


def _leave_out_of_git(group: PurePosixPath, folders: list[str], root: Path) -> None:
    """Names these folders of a group, and no others, in the `.gitignore` beside it."""
    path, mine = root / group.parent / ".gitignore", f"/{group.name}/"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    wanted = sorted(
        [line for line in lines if not line.startswith(mine)] + [f"{mine}{folder}/" for folder in folders]
    )
    if wanted != lines and wanted:
        with whole(path) as draft:
            draft.write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
    elif wanted != lines:
        path.unlink()


def _needless(objects: set[PurePosixPath], root: Path) -> set[PurePosixPath]:
    """Those of `objects` that no group needs: equal files of two groups are one in the store."""
    return (
        objects.difference(*(stored_of(listing(path, root)) for path in _groups(root)))
        if objects
        else objects
    )
