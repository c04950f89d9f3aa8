"""What several jobs cost that made one result together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condense.artifacts import damaged


def cost_facts(facts: Any, path: Path) -> dict[str, Any]:
    """`facts` as they stand in `path`. Raises UserError if they do not say the seconds and the peak memory of a job."""
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), (int, float)) for name in ("seconds", "peak_memory_bytes")):
        raise damaged(path, "it lacks the seconds and the memory of a job")
    return facts


def joined_facts(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first job's facts with the earliest start, the seconds of all, the largest peak memory, and the number of jobs."""
    peak = max(fact["peak_memory_bytes"] for fact in facts)
    seconds = round(sum(fact["seconds"] for fact in facts), 3)
    starts = sorted(fact["started"] for fact in facts if "started" in fact)  # in one time zone, so that texts sort as times do
    begun = {"started": starts[0]} if starts else {}
    return {**facts[0], **begun, "seconds": seconds, "peak_memory_bytes": peak, "jobs": len(facts)}
