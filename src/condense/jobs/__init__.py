"""The jobs of the workflow: each reads files, calls one engine, and writes one artifact with its provenance."""

from condense.jobs.judging import EvaluationJob, evaluate_set, join_parts
from condense.jobs.machine import Machine
from condense.jobs.making import ShardJob, condense_shard, gather, pretrain_teacher, run_facts_path

__all__ = [
    "EvaluationJob",
    "Machine",
    "ShardJob",
    "condense_shard",
    "evaluate_set",
    "gather",
    "join_parts",
    "pretrain_teacher",
    "run_facts_path",
]
