"""What several jobs cost that made one result together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condense.files import facts_of
from condense.files.artifacts import damaged


def cost_facts(facts: Any, path: Path) -> dict[str, Any]:
    """`facts` as they stand in `path`. Raises UserError if they do not say the seconds and the peak memory of
    a job, or do not fit."""
    known = facts_of(facts, path)
    if known.seconds is None or known.peak_memory_bytes is None:
        raise damaged(path, "it lacks the seconds and the memory of a job")
    return facts


def joined_facts(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first job's facts with the earliest start, the seconds of all, the largest peak memory, the number
    of jobs, and that of their starts where one went on from a checkpoint; of how many results one made at
    once, and of how many its process made before, the largest.

    `notes` are those of all jobs, and say so where they were not done by the same means; `graphs` is true
    where it is for every job.
    """
    peak = max(fact["peak_memory_bytes"] for fact in facts)
    seconds = round(sum(fact["seconds"] for fact in facts), 3)
    # In one time zone, so that texts sort as times do
    starts = sorted(fact["started"] for fact in facts if "started" in fact)
    joint = {"started": starts[0]} if starts else {}
    if any("graphs" in fact for fact in facts):
        joint["graphs"] = all(fact.get("graphs", False) for fact in facts)
    if any("starts" in fact for fact in facts):
        joint["starts"] = sum(fact.get("starts", 1) for fact in facts)
    notes = list(dict.fromkeys(note for fact in facts for note in fact.get("notes", ())))
    for name in ("precision", "kernels"):
        values = dict.fromkeys(_in_words(fact[name]) for fact in facts if name in fact)
        notes += [f"{name} was not the same for all jobs: {'; '.join(values)}"] if len(values) > 1 else []
    joint |= {"notes": notes} if notes else {}
    for name in ("after", "shared_by"):
        if any(name in fact for fact in facts):
            joint[name] = max(fact.get(name, 0) for fact in facts)
    return {**facts[0], **joint, "seconds": seconds, "peak_memory_bytes": peak, "jobs": len(facts)}


def _in_words(value: Any) -> str:
    return (
        ", ".join(f"{name} {entry}" for name, entry in value.items())
        if isinstance(value, dict)
        else str(value)
    )
