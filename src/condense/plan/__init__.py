"""What is to be made: cells with their keys, tables and figures of a scale, groups of sets, and what papers printed. No torch here."""

from condense.plan.cells import (
    CLIP_MODEL,
    CLIP_WEIGHTS,
    RESULTS,
    BankCell,
    DataCell,
    MetricsCell,
    ParentCell,
    SyntheticCell,
    TeacherCell,
    clip_identity,
)
from condense.plan.maker import Maker, changed_protocol, data_cell

__all__ = [
    "CLIP_MODEL",
    "CLIP_WEIGHTS",
    "RESULTS",
    "BankCell",
    "DataCell",
    "Maker",
    "MetricsCell",
    "ParentCell",
    "SyntheticCell",
    "TeacherCell",
    "changed_protocol",
    "clip_identity",
    "data_cell",
]
