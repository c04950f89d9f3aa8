"""What artifacts say of the classifiers that labelled batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condense.files.artifacts import read_header
from condense.specs import Protocol


def said_of_observers(protocol: Protocol, files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """By the names of `protocol` who its observers are; empty where none of `files` is one. Raises UserError
    for a file that holds no classifier."""
    found = {}
    for name, path in files.items():
        if name in protocol.observers:
            header = read_header(path, "teacher")
            said = {entry: header.get(entry) for entry in ("arch", "protocol", "key")}
            said["sha256"] = header["content_sha256"]
            found[name] = {entry: value for entry, value in said.items() if value is not None}
    return found
