"""Images in a folder of class folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from condense.config import UserError
from condense.data.classes import alike, brief, of_names
from condense.data.entries import holds_folders, visible
from condense.files.artifacts import canonical, file_sha256

# Folders that are no classes
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation", "dev")

CLASSES_FILE = "classes.json"  # beside class folders: their names and order, as an export writes them
# Notes, tables and lists: files that by their names are no images.
_NOTES = (
    *(
        ".txt",
        ".md",
        ".rst",
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".xml",
        ".yaml",
        ".yml",
        ".html",
        ".htm",
        ".log",
        ".ini",
        ".cfg",
    ),
    *(
        ".url",
        ".webloc",
        ".lnk",
        ".py",
        ".ipynb",
        ".pdf",
        ".doc",
        ".docx",
        ".odt",
        ".rtf",
        ".xls",
        ".xlsx",
        ".ods",
    ),
    *(
        ".md5",
        ".sha1",
        ".sha256",
        ".parquet",
        ".pq",
        ".db",
        ".sqlite",
        ".part",
        ".crdownload",
        ".aux",
        ".bib",
        ".license",
    ),
    # Beside the images of cameras and phones, and of what Windows downloads
    *(".xmp", ".aae", ".thm", ":zone.identifier"),
)
_NOTES_WITHOUT_ENDING = (
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "authors",
    "citation",
    "changelog",
    "md5sums",
    "sha256sums",
)


@dataclass(frozen=True)
class Listing:
    """The images of a folder: class names, and for each image its label and its path within `root`.

    `passed_over` are the paths of notes among the images, and of files beside the class folders that are no
    notes.
    """

    root: Path
    class_names: list[str]
    files: list[str]
    labels: list[int]
    passed_over: list[str] = field(default_factory=list)


def list_images(root: Path, only: Iterable[str] = ()) -> Listing:
    """The images in the class folders of `root`, or in those of the classes `only`, sorted by class and name.

    A class is called as its folder, and classes have the order of their names, unless a CLASSES_FILE says
    otherwise. Hidden files, litter and notes are passed over. Raises UserError for a folder that is absent or
    empty, for fewer than two classes, for a class folder that is empty or nested, for a link that leads
    nowhere, and naming one of `only` that is absent.
    """
    root, only = Path(root), {alike(name): name for name in only}
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; a folder with one folder of images a class is needed")
    entries = visible(root)
    chosen = [
        (folder, name) for folder, name in _class_folders(root, entries) if not only or alike(name) in only
    ]
    absent = sorted(only[name] for name in set(only) - {alike(name) for _, name in chosen})
    if absent:
        raise UserError(f"{root}: has no folder for the class '{absent[0]}', which the description asks for")
    if not chosen:
        beside = [name for name, is_folder in entries if not is_folder]
        but = f", but {len(beside)} file(s) ({brief(beside)})" if beside else ""
        raise UserError(
            f"{root}: holds no class folders{but}; a folder with one folder of images a class is needed, or "
            "a parquet file"
        )
    files, labels = [], []
    passed_over = [
        name for name, is_folder in entries if not is_folder and "." in name and not _is_note(name)
    ]
    for label, (folder, name) in enumerate(chosen):
        images, notes = _images_in(root, folder)
        if not images:
            tables = any(note.lower().endswith((".parquet", ".pq")) for note in notes)
            contents = (
                "parquet files instead, whose labels have to be in a column"
                if tables
                else "other files"
                if notes
                else "nothing"
            )
            raise UserError(f"{root / folder}: the class '{name}' has no images: the folder holds {contents}")
        files += [f"{folder}/{image}" for image in images]  # as text: a million paths would fill a memory
        labels += [label] * len(images)
        passed_over += [f"{folder}/{note}" for note in notes]
    names = of_names([name for _, name in chosen], labels, str(root)).names
    if len(names) < 2:
        raise UserError(f"{root}: holds one class only ({names[0]}); at least 2 class folders are needed")
    return Listing(root, names, files, labels, passed_over)


def _images_in(root: Path, folder: str) -> tuple[list[str], list[str]]:
    """The names of the images and of the other files in a class folder."""
    images: list[str] = []
    notes: list[str] = []
    for name, is_folder in visible(root / folder):
        if is_folder:
            raise UserError(
                f"{root / folder / name}: a folder inside a class folder; give a folder whose folders are "
                f"the classes{_holder(root, folder)}, or lay the images of a class side by side"
            )
        (notes if _is_note(name) else images).append(name)
    return images, notes


def _is_note(name: str) -> bool:
    return name.lower().endswith(_NOTES) or name.lower() in _NOTES_WITHOUT_ENDING


def _holder(root: Path, nested: str) -> str:
    """The folder whose folders are likely the classes, in brackets: rather the one for training than the one
    for testing; '' if none has two."""
    train = [name for name, is_folder in visible(root) if is_folder and name.lower() in TRAIN]
    likely = root / (train[0] if train and holds_folders(root / train[0]) else nested)
    return f" ({likely}?)" if sum(is_folder for _, is_folder in visible(likely)) > 1 else ""


def _class_folders(root: Path, entries: list[tuple[str, bool]]) -> list[tuple[str, str]]:
    """The class folders and the names of their classes, in the order of the classes."""
    folders = [name for name, is_folder in entries if is_folder]
    if (CLASSES_FILE, False) not in entries:
        return [(name, name) for name in folders]
    path = root / CLASSES_FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        listed = None
    if not isinstance(listed, dict) or listed.get("kind") != "classes":
        return [(name, name) for name in folders]  # another program's
    classes = listed.get("classes")
    pairs: list[tuple[str, str]] = []
    for entry in classes if isinstance(classes, list) else []:
        if (
            isinstance(entry, dict)
            and isinstance(entry.get("folder"), str)
            and isinstance(entry.get("name"), str)
        ):
            pairs.append((entry["folder"], entry["name"]))
    if not pairs or not isinstance(classes, list) or len(pairs) < len(classes):
        raise UserError(f"{path}: damaged: every class needs its 'folder' and its 'name'; mend or remove it")
    known = {alike(name): name for name in folders}
    if len(known) < len(folders):
        of_names(folders, [], str(root))  # refuses the two
    for name in [alike(folder) for folder, _ in pairs] + list(known):
        if name not in known or name not in {alike(folder) for folder, _ in pairs}:
            lacking = (
                f"has no folder '{name}', which {path} names"
                if name not in known
                else f"has a folder '{name}' that {path} lacks"
            )
            raise UserError(
                f"{root}: {lacking}: mend {CLASSES_FILE}, or remove it to call the classes as their folders"
            )
    return [(known[alike(folder)], name) for folder, name in pairs]


def aligned(listings: list[Listing]) -> list[Listing]:
    """The listings with the names and numbers that the classes have in the first.

    Raises UserError naming a class that only one of the folders has.
    """
    first, names = listings[0], {alike(name): label for label, name in enumerate(listings[0].class_names)}
    numbered = [first]
    for listing in listings[1:]:
        theirs = [alike(name) for name in listing.class_names]
        lone = sorted(set(names) ^ set(theirs))
        if lone:
            holder, lacker = (first, listing) if lone[0] in names else (listing, first)
            raise UserError(
                f"{lacker.root}: has no folder for the class '{lone[0]}' of {holder.root}: both need the "
                "same classes"
            )
        numbers = [names[name] for name in theirs]
        numbered.append(
            replace(
                listing, class_names=first.class_names, labels=[numbers[label] for label in listing.labels]
            )
        )
    return numbered


def read(path: Path) -> bytes:
    """The bytes of a file. Raises UserError naming it if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def encoded(listing: Listing) -> Iterator[tuple[str, bytes]]:
    """Each image's place, for messages, and its bytes. Raises UserError naming a file that cannot be read."""
    for name in listing.files:
        path = listing.root / name
        yield str(path), read(path)


def fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over the bytes of files, in this order, each with its role (such as its split and class); where
    they lie does not count.

    Raises UserError naming a file that cannot be read.
    """
    total = hashlib.sha256()
    for role, path in files:
        try:
            total.update(canonical([role, file_sha256(path)]).encode())
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return total.hexdigest()


def listing_roles(listings: list[Listing]) -> Iterator[tuple[str, Path]]:
    """The files of a training folder and perhaps a test folder with the roles that `fingerprint` wants."""
    for split, listing in zip(("train", "test"), listings, strict=False):
        for name, label in zip(listing.files, listing.labels, strict=True):
            yield f"{split}/{listing.class_names[label]}", listing.root / name
