"""Tensors mapped from a file of ours; see `files.mapped`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense.files.mapped import map_arrays


def map_tensors(path: Path, kind: str, *, verify: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file; writing to a tensor does not reach the file. `verify` and errors
    as of `map_arrays`."""
    arrays, header = map_arrays(path, kind, verify=verify)
    return {name: torch.from_numpy(values) for name, values in arrays.items()}, header
