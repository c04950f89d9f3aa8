"""The finished files of which MLflow is told, each with what it is for and how its record is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from condense.files import SetHeader, header_as, read_metrics, read_request
from condense.files.artifacts import damaged, digest, file_sha256, read_header
from condense.tracking.records import BESIDE, Record, condensation, evaluation

FORM = 3  # of the records; a run of another form is replaced


@dataclass(frozen=True)
class Use:
    """What a scale needs a file for: tables and figures ('cpdm/table1') and the settings they ask for."""

    tables: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A finished file. `group` is the source of the set that it is or judges; `read` gives the digest and how
    to build the record."""

    name: str
    path: Path
    group: str
    beside: tuple[Path, ...]
    read: Callable[[], tuple[str, Callable[[], Record]]]

    def signature(self) -> tuple[Any, ...]:
        """Changes when a file changes, and costs no reading."""
        return tuple(_state(path) for path in (self.path, *self.beside))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def is_run_folder(results: Path) -> bool:
    """Whether `results` is the output of `condense run` and not the results of a workflow."""
    return (results / "request.json").is_file()


def sources(results: Path, uses: dict[str, Use] | None, scale: str | None) -> Iterator[Source]:
    """The finished sets and metrics under `results`, sets first; with `uses` (by source) only those of a
    scale."""
    if is_run_folder(results):
        yield from _run_sources(results)
        return
    for path in sorted(results.glob("synthetic/*/*/*/*/*/synthetic.safetensors")):
        name = path.relative_to(results).as_posix()
        if uses is None or name in uses:
            yield set_source(path, name, _used(uses, name, scale))
    for path in sorted(results.glob("metrics/*/*/*/*/*/*/*.json")):
        name = path.relative_to(results).as_posix()
        if uses is None or name in uses:
            group = f"synthetic/{'/'.join(name.split('/')[2:-1])}/synthetic.safetensors"
            yield metrics_source(path, name, group, _used(uses, name, scale), results)


def _run_sources(results: Path) -> Iterator[Source]:
    request = read_request(results / "request.json")
    tags = {"scale": request.scale, "folder": str(results.absolute())}
    start = f"run/{results.absolute().name}-{request.key}"
    for folder, prefix in ((results, start), (results / "random", f"{start}/random")):
        path, metrics = folder / "synthetic.safetensors", folder / "metrics.json"
        if path.is_file():
            yield set_source(path, f"{prefix}/synthetic.safetensors", tags)
        if metrics.is_file():
            yield metrics_source(
                metrics, f"{prefix}/metrics.json", f"{prefix}/synthetic.safetensors", tags, results
            )


def _used(uses: dict[str, Use] | None, name: str, scale: str | None) -> dict[str, str]:
    use = (uses or {}).get(name, Use())
    papers = sorted({table.split("/")[0] for table in use.tables})
    tags = {"paper": papers, "table": use.tables, "setting": use.settings, "scale": [scale] if scale else []}
    return {tag: ", ".join(values) for tag, values in tags.items() if values}


def set_source(path: Path, name: str, tags: dict[str, str]) -> Source:
    """The source of a synthetic set; `tags` say what it is for."""
    beside = tuple(path.with_name(file_name) for file_name in BESIDE)

    def read() -> tuple[str, Callable[[], Record]]:
        header = read_header(path, "synthetic")
        header_as(SetHeader, header, path)
        totals = [file_sha256(file) if file.is_file() else None for file in beside]
        total = digest([FORM, name, header["content_sha256"], *totals], 32)
        return total, partial(_built, path, condensation, header, tags)

    return Source(name, path, name, beside, read)


def metrics_source(path: Path, name: str, group: str, tags: dict[str, str], results: Path) -> Source:
    """The source of an evaluation; `group` is the source of the set that it judges."""

    def read() -> tuple[str, Callable[[], Record]]:
        return digest([FORM, name, file_sha256(path)], 32), partial(
            _built, path, evaluation, read_metrics(path), tags, results
        )

    return Source(name, path, group, (), read)


def _built(path: Path, build: Callable[..., Record], values: Any, *more: Any) -> Record:
    try:
        return build(path, values, *more)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged(path, f"a value is missing or of another kind: {error!r}") from None
