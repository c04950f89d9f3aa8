"""Checkpoints of long jobs: under a name of their own beside the output, bound to the key of what is being
made."""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from condense.config import UserError
from condense.files.artifacts import damaged, read_tensors, write_tensors
from condense.files.headers import header_as
from condense.files.states import check_checkpoint, check_numbers, check_shapes, shapes_of
from condense.machine import spent, stopping

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import DataclassInstance

State = TypeVar("State", bound="DataclassInstance")
_log = logging.getLogger(__name__)
INTERVAL = "CONDENSE_CHECKPOINT_SECONDS"  # environment variable


def checkpoint_path(output: Path) -> Path:
    """Where the checkpoint of the job that makes `output` lies."""
    return Path(f"{output}.resume")


class Checkpoint:
    """Where a job was. A checkpoint of another key is left aside, since it belongs to other settings; so is
    one that something else computed, such as torch's operations instead of compiled kernels: the job would
    end with other bytes than an unbroken one.

    `path` None keeps nothing. Raises UserError if the interval in the environment is not a number.
    """

    def __init__(self, path: Path | None, key: str, computed_by: str = ""):
        self.path, self.key, self.computed_by = path, key, computed_by
        self.blame = ""  # what an error is to say after a checkpoint was taken up
        text = os.environ.get(INTERVAL, "60")
        try:
            self.seconds = float(text)
        except ValueError:
            raise UserError(
                f"environment variable {INTERVAL}: a number of seconds is needed, found '{text}'"
            ) from None
        self.last = time.monotonic()

    @classmethod
    def beside(cls, output: Path, key: str, computed_by: str = "") -> Checkpoint:
        """The checkpoint of the job that makes `output`; from now on a request to stop waits for its next
        save."""
        stopping.hold()
        return cls(checkpoint_path(output), key, computed_by)

    def part(self, name: str | int) -> Checkpoint:
        """The checkpoint of a part of this job."""
        return Checkpoint(
            self.path and self.path.with_name(f"{self.path.name}.{name}"),
            f"{self.key}-{name}",
            self.computed_by,
        )

    def load(
        self, state: type[State], unbounded: Collection[str] = ()
    ) -> tuple[dict[str, np.ndarray], State] | None:
        """Tensors and state, a dataclass, of the last `save` under the same key by the same means, or None.

        Tensors are finite, but for those that are named `unbounded`. Raises UserError if the file is damaged,
        or if it holds anything else; `check` is for what only the job can know.
        """
        if self.path is None or not self.path.exists():
            return None
        tensors, header = read_tensors(self.path, "checkpoint")
        note = check_checkpoint(self.path, tensors, header)
        if note.key != self.key:
            _log.info("%s: belongs to other settings; beginning anew", self.path)
            return None
        by = note.computed_by
        if by != self.computed_by:
            told = (
                "%s: was computed by %s, and this process computes by %s; beginning anew, so that it ends as "
                "an unbroken job does"
            )
            _log.warning(told, self.path, by or "something unknown", self.computed_by or "something unknown")
            return None
        check_numbers(self.path, {name: values for name, values in tensors.items() if name not in unbounded})
        spent.of_job().go_on(self.path, asdict(note.spent))
        self.blame = f"; or, if {self.path}, from which this went on, was changed, delete it"
        return tensors, header_as(state, note.state, self.path, "its state")

    def check(self, fits: bool, why: str) -> None:
        """Raises UserError, naming the file and `why` it is damaged, unless what was loaded `fits` the
        job."""
        if not fits and self.path is not None:
            raise damaged(self.path, why)

    def check_shapes(self, tensors: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Raises UserError unless what was loaded has every tensor of `wanted`, in its type and shape."""
        if self.path is not None:
            check_shapes(self.path, tensors, wanted)

    def due(self) -> bool:
        """Whether it is time to save again."""
        return stopping.asked() or (self.path is not None and time.monotonic() - self.last >= self.seconds)

    def write(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint."""
        import numpy as np

        if self.path is not None:
            note = {
                "kind": "checkpoint",
                "key": self.key,
                "computed_by": self.computed_by,
                "state": dict(state),
            }
            note["spent"] = spent.of_job().told(self.path)
            note["tensors"] = shapes_of(
                {name: np.ascontiguousarray(values) for name, values in tensors.items()}
            )
            write_tensors(self.path, tensors, note)
            self.last = time.monotonic()

    def save(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint; raises KeyboardInterrupt after it if a stop was asked for."""
        self.write(tensors, state)
        stopping.stop_if_asked()

    def remove(self) -> None:
        """To be called once the output is whole. Its parts go too: a start may have left some that the next
        had no use for, as where other networks were trained side by side."""
        if self.path is not None:
            for part in self.path.parent.glob(f"{glob.escape(self.path.name)}.*"):
                part.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
