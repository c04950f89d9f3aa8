"""Published files: found in a mirror or the data folder, or downloaded; never used before their checksum is
verified."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import sys
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tqdm import tqdm

from condense.config import UserError
from condense.data.origin import File
from condense.data.spec import DatasetSpec, data_folder
from condense.files.artifacts import whole

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte
# Bytes that one file of an archive may have: far above any published one, and below what fills a memory
_LARGEST = 2 << 30
log = logging.getLogger(__name__)
T = TypeVar("T")


def progress(text: str, total: int, unit: str, steps: Iterable[T] | None = None) -> tqdm:
    """A bar on standard error over `steps`, or to be moved by hand; one log line instead where that is no
    terminal."""
    if not sys.stderr.isatty():
        log.info("%s (%s %s)", text, f"{total:,}", unit)
    return tqdm(
        steps, desc=text, total=total or None, unit=unit, unit_scale=unit == "B", disable=None, leave=False
    )


def obtain(spec: DatasetSpec) -> dict[str, Path]:
    """The files of the source by name, each verified. Downloads what neither the mirror nor the data folder
    has.

    Raises UserError naming the file, its address, its checksum and the folder to put it into.
    """
    return {file.name: _obtain(spec, file) for file in spec.source.files}


def _obtain(spec: DatasetSpec, file: File) -> Path:
    folder = data_folder() / spec.name
    paths = [folder / file.name]
    if spec.source.mirror:
        mirror = Path(spec.source.mirror).expanduser()
        single = mirror.is_file() and len(spec.source.files) == 1
        paths.insert(0, mirror if single else mirror / file.name)
    for path in paths:
        if path.is_file():
            _verify(path, file)
            return path
    _download(spec, file, folder / file.name)
    return folder / file.name


def _verify(path: Path, file: File) -> None:
    kind, wanted = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    try:
        with open(path, "rb") as opened:
            checksum = hashlib.file_digest(opened, kind).hexdigest()
        if checksum == wanted or (file.contents_sha256 and _contents_sha256(path) == file.contents_sha256):
            return
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    raise UserError(
        f"{path}: wrong checksum: its {kind} is {checksum}, but {wanted} is expected; delete it and run "
        f"again to get {file.url}"
    )


def _contents_sha256(path: Path) -> str | None:
    """SHA-256 of what a gzip file holds, None if it is not a whole gzip file."""
    try:
        with gzip.open(path) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None


def _download(spec: DatasetSpec, file: File, path: Path) -> None:
    kind, wanted = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    total = hashlib.new(kind)
    help_yourself = (
        f"get it by other means, put it into {path.parent} as {file.name} ({kind} {wanted}) and run again, "
        f"or set CONDENSE_DATA to a folder that holds {spec.name}/{file.name}"
    )
    with whole(path) as draft:
        with open(draft, "wb") as target:
            for chunk in _chunks(file, path, help_yourself):
                total.update(chunk)
                target.write(chunk)
        if total.hexdigest() != wanted:
            raise UserError(
                f"{file.url}: wrong checksum: what came has the {kind} {total.hexdigest()}, but {wanted} is "
                f"expected; nothing was kept: {help_yourself}"
            )


def _chunks(file: File, path: Path, help_yourself: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(file.url, timeout=_TIMEOUT) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            with progress(f"downloading {file.url} to {path.parent}", size, "B") as bar:
                while chunk := answer.read(_CHUNK):
                    yield chunk
                    bar.update(len(chunk))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{path}: not found, and {file.url} cannot be downloaded ({reason}): {help_yourself}"
        ) from None


def gunzipped(path: Path) -> bytes:
    """What a verified gzip file holds. Raises UserError if it is damaged."""
    try:
        with gzip.open(path) as opened:
            content = opened.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})") from None
    _refuse_bomb(path, path.stem, len(content))
    return content


def tar_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of the named plain files of a gzipped tar archive, read without unpacking it.

    Raises UserError if one is absent, or if any member's path would leave the folder it is unpacked in.
    """
    wanted = set(names)
    contents = {
        member.name: content for member, content in tar_walk(path, wanted.__contains__) if content is not None
    }
    if wanted - set(contents):
        raise UserError(f"{path}: lacks the files {', '.join(sorted(wanted - set(contents)))}")
    return contents


def tar_walk(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """The members of a gzipped tar archive in their order, read without unpacking it, with the contents of
    the plain files `wanted`.

    Raises UserError if the archive is damaged, or if a member's path would leave the folder it is unpacked
    in.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                _refuse_escape(path, member.name)
                content = None
                if member.isfile() and wanted(member.name):
                    _refuse_bomb(path, member.name, member.size)
                    file = archive.extractfile(member)
                    content = file.read() if file else None
                yield member, content
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole tar.gz archive ({error})") from None


class Zip:
    """A zip archive whose members are read without unpacking it; members whose path would leave the folder
    are refused."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{path}: not a whole zip archive ({error})") from None
        self.names = [name for name in self._archive.namelist() if not name.endswith("/")]
        for name in self._archive.namelist():
            _refuse_escape(path, name)

    def read(self, name: str) -> bytes:
        """The contents of one member. Raises UserError if it is absent or damaged."""
        try:
            _refuse_bomb(self.path, name, self._archive.getinfo(name).file_size)
            return self._archive.read(name)
        except KeyError:
            raise UserError(f"{self.path}: lacks the file {name}") from None
        # The last two: encrypted
        except (
            zipfile.BadZipFile,
            OSError,
            EOFError,
            zlib.error,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise UserError(f"{self.path}: {name} is damaged or encrypted ({error})") from None

    def lines(self, name: str) -> list[str]:
        """The lines of one member that is a text."""
        return self.read(name).decode("utf-8").splitlines()


def _refuse_escape(path: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"{path}: refused, since its member '{name}' points outside the archive")


def _refuse_bomb(path: Path, name: str, size: int) -> None:
    if size > _LARGEST:
        raise UserError(f"{path}: refused, since its member '{name}' would take more than {_LARGEST:,} bytes")
