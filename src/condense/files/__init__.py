"""One reader for each kind of file that the package writes; it says what does not fit. Floor 0.

A checksum does not say that: whoever can write a file can write its checksum too.
"""

from condense.files.headers import DatasetHeader, SetHeader, TeacherHeader, header_as
from condense.files.records import read_facts, read_metrics
from condense.files.tensors import check_dataset, check_weights, read_artifact, read_dataset_header, read_set, read_shard, read_teacher

__all__ = [
    "DatasetHeader",
    "SetHeader",
    "TeacherHeader",
    "check_dataset",
    "check_weights",
    "header_as",
    "read_artifact",
    "read_dataset_header",
    "read_facts",
    "read_metrics",
    "read_set",
    "read_shard",
    "read_teacher",
]
