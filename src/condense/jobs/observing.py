"""What artifacts say of the classifiers that labelled batches, and where these, or others that were made
beforehand, are not those that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from condense.files.artifacts import read_header
from condense.machine.terminal import tell
from condense.specs import Protocol


def said_of_observers(protocol: Protocol, files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """By the names of `protocol` who its observers are; empty where none of `files` is one. Raises UserError
    for a file that holds no classifier."""
    found = {}
    for name, path in files.items():
        if name in protocol.observers:
            header = read_header(path, "teacher")
            for line in others(f"protocol '{protocol.name}'", protocol.observers[name], path, header):
                tell(f"{line}; the metrics say which file it was")
            said = {entry: header.get(entry) for entry in ("arch", "protocol", "key")}
            said["sha256"] = header["content_sha256"]
            found[name] = {entry: value for entry, value in said.items() if value is not None}
    return found


_OTHERS = {
    "protocol": "was trained by the protocol '{given}', where {asker} names '{asked}'",
    "arch": "is a {given}, where {asker} names {asked}",
}


def others(asker: str, need: object, path: Path, header: Mapping[str, Any]) -> Iterator[str]:
    """A line for each setting, protocol or architecture, in which a file with this header is not what the
    `asker` needs."""
    for setting, text in _OTHERS.items():
        asked, given = getattr(need, setting, None), header.get(setting)
        if asked and given and given != asked:
            yield f"{path} {text.format(asker=asker, given=given, asked=asked)}"
