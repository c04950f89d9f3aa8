"""What is to be made: cells with their keys, tables and figures of a scale, groups of sets, and what papers printed. No torch here."""

from condense.plan.cells import (
    CLIP_MODEL,
    CLIP_WEIGHTS,
    MetricsCell,
    SyntheticCell,
    clip_identity,
)
from condense.plan.datasets import RESULTS, DataCell
from condense.plan.maker import Maker, changed_protocol, data_cell
from condense.plan.parents import PARENTS, ParentCell, parent_files, parent_rooms

__all__ = [
    "CLIP_MODEL",
    "CLIP_WEIGHTS",
    "PARENTS",
    "RESULTS",
    "DataCell",
    "Maker",
    "MetricsCell",
    "ParentCell",
    "SyntheticCell",
    "changed_protocol",
    "clip_identity",
    "data_cell",
    "parent_files",
    "parent_rooms",
]
