"""What is to be made: cells with their keys, tables and figures of a scale, groups of sets, and what papers
printed. No torch here."""

from condense.plan.brought import BROUGHT, brought_for, clip_identity, lacks
from condense.plan.cells import (
    MetricsCell,
    SyntheticCell,
)
from condense.plan.datasets import RESULTS, ClassesCell, DataCell
from condense.plan.maker import Maker, changed_protocol, data_cell, judge_of, require_architectures
from condense.plan.parents import PARENTS, ParentCell, parent_files, parent_rooms

__all__ = [
    "BROUGHT",
    "PARENTS",
    "RESULTS",
    "ClassesCell",
    "DataCell",
    "Maker",
    "MetricsCell",
    "ParentCell",
    "SyntheticCell",
    "brought_for",
    "changed_protocol",
    "clip_identity",
    "data_cell",
    "judge_of",
    "require_architectures",
    "lacks",
    "parent_files",
    "parent_rooms",
]
