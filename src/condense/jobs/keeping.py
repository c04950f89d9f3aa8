"""Results that are there already. A rule of the workflow that is run again leaves them as they are and says so.

Their paths hold their keys, so that making them again would give the same; a file under another key is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from condense.artifacts import damaged, read_header, read_json
from condense.config import UserError
from condense.store import offered
from condense.terminal import tell


def keeps_file(out: Path, kind: str, key: str) -> bool:
    """Whether the artifact or metrics file `out` is there; says so if it is.

    Raises UserError if what is there is damaged, of another kind, or of another key.
    """
    if not out.exists():
        return False
    header = _metrics(out) if out.suffix == ".json" else read_header(out, kind)
    if header.get("key") != key:
        raise UserError(f"{out}: belongs to the key {header.get('key')}, not to {key}; delete it and run the same command again")
    say_kept(out)
    return True


def keeps_data(folder: Path) -> bool:
    """Whether a prepared dataset is there, whole; says so if it is. Raises UserError if a file of it is damaged."""
    summary = folder / "dataset.json"  # written last
    if not summary.exists():
        return False
    read_json(summary)
    for split in ("train", "test"):
        read_header(folder / f"{split}.safetensors", "dataset")
    say_kept(folder)
    return True


def is_made(path: Path, key: str) -> bool:
    """Whether a set is there under its key, in the results or among what is kept, so that its shards are not needed.

    Raises UserError if it is damaged.
    """
    if path.exists():
        return read_header(path, "synthetic").get("key") == key
    return path.parts[:1] == ("results",) and offered(str(path))


def _metrics(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != "metrics":
        raise damaged(path, "it holds no metrics")
    return value


def say_kept(result: Path) -> None:
    """Says that a job leaves `result` as it is, and what makes it anew."""
    tell(f"kept: {result} (it is whole; to make it anew delete it, or give Snakemake --config anew=true)")
