"""The jobs of the workflow: each reads files, calls one engine, and writes one artifact with its provenance."""

from condense.jobs.condensing import ShardJob, condense_shard, condense_shards, run_facts_path
from condense.jobs.joining import join_parts
from condense.jobs.judging import DriftJob, EvaluationJob, evaluate_set
from condense.jobs.machine import Machine
from condense.jobs.making import gather, make_bank, make_trained_bank, pretrain_teacher

__all__ = [
    "DriftJob",
    "EvaluationJob",
    "Machine",
    "ShardJob",
    "condense_shard",
    "condense_shards",
    "evaluate_set",
    "gather",
    "join_parts",
    "make_bank",
    "make_trained_bank",
    "pretrain_teacher",
    "run_facts_path",
]
