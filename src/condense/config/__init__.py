"""Strict reading of settings: a value has the type its field names, and a wrong name is answered with the
right one.

Floor 0: imports neither torch nor numpy, because every cluster job reads the Snakefile, and with it this
module, anew.
"""

from condense.config.faults import UserError, naming, unknown, without_function
from condense.config.files import load_yaml
from condense.config.kinds import by_name, is_record, kinds_alone, told_apart
from condense.config.merging import labels_of, merged
from condense.config.reading import convert, read

__all__ = [
    "UserError",
    "by_name",
    "convert",
    "is_record",
    "kinds_alone",
    "labels_of",
    "load_yaml",
    "merged",
    "naming",
    "read",
    "told_apart",
    "unknown",
    "without_function",
]
