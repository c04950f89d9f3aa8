"""One reader for each kind of file that the package writes; it says what does not fit. Floor 0.

A checksum does not say that: whoever can write a file can write its checksum too.
"""

from condense.files.carried import carried, carrying, joined
from condense.files.facts import check_history, facts_of, read_facts, read_history
from condense.files.headers import (
    SOFT_LABELS,
    BankHeader,
    DatasetHeader,
    SetHeader,
    TeacherHeader,
    TruthHeader,
    header_as,
)
from condense.files.notes import number_in, read_index, read_prepared, read_request, read_rows, read_together
from condense.files.records import (
    OtherKey,
    check_accuracies,
    metrics_in,
    other_key,
    read_metrics,
    read_part,
    spread,
)
from condense.files.states import (
    check_numbers,
    check_part,
    check_shapes,
    check_weights,
    read_bank,
    read_teacher,
)
from condense.files.tensors import (
    check_dataset,
    check_prepared,
    dataset_header,
    read_artifact,
    read_dataset_header,
    read_set,
    read_shard,
)
from condense.files.truths import read_truth

__all__ = [
    "SOFT_LABELS",
    "BankHeader",
    "DatasetHeader",
    "SetHeader",
    "TeacherHeader",
    "TruthHeader",
    "carried",
    "carrying",
    "check_accuracies",
    "check_dataset",
    "check_history",
    "check_numbers",
    "check_part",
    "check_prepared",
    "check_shapes",
    "check_weights",
    "dataset_header",
    "facts_of",
    "header_as",
    "joined",
    "metrics_in",
    "number_in",
    "OtherKey",
    "other_key",
    "read_artifact",
    "read_bank",
    "read_dataset_header",
    "read_facts",
    "read_history",
    "read_index",
    "read_metrics",
    "read_part",
    "read_prepared",
    "read_request",
    "read_rows",
    "read_set",
    "read_shard",
    "read_teacher",
    "read_together",
    "read_truth",
    "spread",
]
