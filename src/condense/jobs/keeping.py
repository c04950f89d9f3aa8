"""Results that are there already. A rule of the workflow that is run again leaves them as they are and says
so.

Their paths hold their keys, so that making them again would give the same; a file under another key is an
error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.files import (
    check_part,
    check_prepared,
    other_key,
    read_artifact,
    read_facts,
    read_history,
    read_metrics,
    read_set,
)
from condense.files.artifacts import read_header
from condense.files.relabels import RELABELS, read_relabels
from condense.files.store import offered
from condense.machine.terminal import tell
from condense.plan import parent_files


def keeps_file(out: Path, kind: str, key: str) -> bool:
    """Whether the artifact or metrics file `out` is there, whole; says so if it is. Raises UserError as
    `is_whole` does."""
    if not is_whole(out, kind, key):
        return False
    say_kept(out)
    return True


def is_whole(out: Path, kind: str, key: str) -> bool:
    """Whether the artifact or metrics file `out` is there; all of it is read.

    Raises UserError if what is there is damaged, of another kind, or of another key.
    """
    if not out.exists():
        return False
    header = _READERS.get(kind, _header_of_all)(out)
    if header.get("kind") != kind:
        needed = f"a file with '{kind}' is needed; delete it and run the same command again"
        raise UserError(f"{out}: holds '{header.get('kind')}', but {needed}")
    if header.get("key") != key:
        raise other_key(out, header.get("key"), key)
    check_beside(out, header)
    return True


def check_beside(path: Path, header: dict[str, Any]) -> None:
    """Raises UserError if what lies beside a file and belongs to it, as the parts of a bank do, is missing or
    damaged."""
    if header["kind"] in _BESIDE:
        _BESIDE[header["kind"]](path, header)


def _header_of_all(path: Path) -> dict[str, Any]:
    return read_artifact(path, also=parent_files())[1]


def _header_of_mapped(path: Path) -> dict[str, Any]:
    """Not read into the memory: the labels of a set may be larger than that."""
    header = read_header(path)
    if header["kind"] == RELABELS:
        read_relabels(path)
    return header


# What reads a file of a kind as a whole, where not every kind is read so
_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "metrics": read_metrics,
    RELABELS: _header_of_mapped,
}


def _check_record(path: Path, header: dict) -> None:
    """Raises UserError if the record, the history or the snapshots that lie beside a set are damaged."""
    record, history, snapshots = (
        path.with_name(name) for name in ("run.json", "history.jsonl", "snapshots.safetensors")
    )
    if record.exists():
        read_facts(record)
    if history.exists():
        read_history(history)
    if snapshots.exists():
        read_set(snapshots, "snapshots")


def keeps_data(folder: Path) -> bool:
    """Whether all files of a prepared dataset are there; says so if they are. Raises UserError if one of them
    is damaged."""
    if not is_prepared(folder):
        return False
    # Not read as a whole: a dataset may be larger than the memory
    from condense.data.mapped import map_tensors

    check_prepared(folder)
    for split in ("train", "test"):
        map_tensors(folder / f"{split}.safetensors", "dataset")
    say_kept(folder)
    return True


def is_prepared(folder: Path) -> bool:
    """Whether all files of a prepared dataset are there: the one written last may be, while others have
    been deleted since."""
    return all((folder / name).exists() for name in ("dataset.json", "train.safetensors", "test.safetensors"))


def _check_parts(bank: Path, header: dict) -> None:
    """Raises UserError if a part of a bank of networks is missing or damaged."""
    from condense.data.mapped import map_tensors
    from condense.networks.parts import Parts, part_path

    Parts(bank, header["parts"], {})
    for number in range(len(header["parts"])):
        path = part_path(bank, number)
        tensors, said = map_tensors(path, "bank part")
        check_part(path, {name: tensor.numpy() for name, tensor in tensors.items()}, said)


# What lies beside a file and belongs to it, by the kind of the file.
_BESIDE: dict[str, Callable[[Path, dict], None]] = {"synthetic": _check_record, "bank": _check_parts}


def is_made(path: Path, key: str) -> bool:
    """Whether a set is there under its key, in the results or among what is kept, so that its shards are not
    needed.

    Raises UserError if it is damaged.
    """
    if path.exists():
        header = read_artifact(path)[1]
        return header.get("kind") == "synthetic" and header.get("key") == key
    return path.parts[:1] == ("results",) and offered(str(path))


def say_kept(result: Path) -> None:
    """Says that a job leaves `result` as it is, and what makes it anew."""
    tell(f"kept: {result} (it is whole; to make it anew delete it, or give Snakemake --config anew=true)")
