"""The job of the rule `synthesize`: the shards of a group of sets, and the index that says they are all
there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from condense.files import read_facts, read_index, read_shard
from condense.files.artifacts import SCHEMA, damaged, write_json
from condense.files.notes import INDEX
from condense.jobs.condensing import ShardJob, condense_shards, run_facts_path
from condense.jobs.keeping import is_made, say_kept
from condense.jobs.machine import Machine
from condense.machine.drafts import require_place


@dataclass(frozen=True)
class Member:
    """A set of a group: the job that makes its shard, and the path that the whole set will have."""

    job: ShardJob
    whole: Path


def condense_group(index: Path, members: Mapping[Path, Member], *, keep: bool, machine: Machine) -> None:
    """Makes the shards of a group, by output, and then the file `index`.

    With `keep`, shards that are there and those of sets that are whole or kept are left out.
    Raises UserError as `condense_shards` does, and if a file that is there is damaged.
    """
    require_place(index)
    needed = {
        out: member for out, member in members.items() if not (keep and is_made(member.whole, member.job.key))
    }
    missing = {
        out: member.job for out, member in needed.items() if not (keep and _is_shard(out, member.job.key))
    }
    for out in members.keys() - missing.keys():
        say_kept(out if out in needed else members[out].whole)
    if missing:
        condense_shards(missing, machine)
    shards = {members[out].job.key: str(out) if out in needed else None for out in members}
    write_json(index, {"schema": SCHEMA, "kind": INDEX, "shards": shards})


def check_indexed(index: Path, key: str) -> None:
    """Raises UserError if `index` is damaged or knows of no shard of the set `key`."""
    if read_index(index).shards.get(key) is None:
        raise damaged(index, f"when it was written, the set {key} was whole")


def _is_shard(out: Path, key: str) -> bool:
    if not (out.exists() and run_facts_path(out).exists()):
        return False
    _, header = read_shard(out)
    read_facts(run_facts_path(out))
    return header.get("key") == key
