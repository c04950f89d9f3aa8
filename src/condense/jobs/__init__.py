"""The jobs of the workflow: each reads files, calls one engine, and writes one artifact with its
provenance."""

from condense.jobs.assembling import assemble
from condense.jobs.condensing import ShardJob, condense_shard, condense_shards, run_facts_path
from condense.jobs.costing import RecipeJob, recipe_measure
from condense.jobs.grouping import Member, check_indexed, condense_group
from condense.jobs.joining import join_parts, leave_out_part
from condense.jobs.judging import EvaluationJob, evaluate_set
from condense.jobs.keeping import check_beside, is_made, is_prepared, is_whole, keeps_data, keeps_file
from condense.jobs.machine import Machine
from condense.jobs.making import gather
from condense.jobs.parents import ParentJob, make_parent, make_trained_bank, maker_of, pretrain_teacher
from condense.jobs.relabelling import RelabelJob, labels_of, relabel
from condense.jobs.taking import Reading, take_in

__all__ = [
    "EvaluationJob",
    "Machine",
    "Member",
    "ParentJob",
    "Reading",
    "RecipeJob",
    "RelabelJob",
    "ShardJob",
    "assemble",
    "check_beside",
    "check_indexed",
    "condense_group",
    "condense_shard",
    "condense_shards",
    "evaluate_set",
    "gather",
    "is_made",
    "is_prepared",
    "is_whole",
    "join_parts",
    "keeps_data",
    "keeps_file",
    "leave_out_part",
    "make_parent",
    "make_trained_bank",
    "maker_of",
    "pretrain_teacher",
    "run_facts_path",
    "recipe_measure",
    "labels_of",
    "relabel",
    "take_in",
]
