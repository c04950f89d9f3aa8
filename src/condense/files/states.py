"""Reading what was trained: teachers, banks of networks and their parts, and the checkpoints of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.files.artifacts import damaged, read_tensors
from condense.files.headers import BankHeader, CheckpointHeader, PartHeader, TeacherHeader, header_as

if TYPE_CHECKING:
    import numpy as np

_RUN = 64  # zeros in a row that no training leaves in the weights of a layer
_LARGEST = 1e8  # of a weight or a running statistic; those of networks that tell classes apart are below 1e5


def read_teacher(path: Path) -> tuple[dict[str, np.ndarray], TeacherHeader]:
    """The tensors of a trained classifier and what it says of itself.

    Raises UserError as `read_tensors` does, and naming what does not fit; whether the weights are those of
    its architecture shows when it is built.
    """
    tensors, header = read_tensors(path, "teacher")
    return tensors, check_teacher(path, tensors, header)


def check_teacher(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> TeacherHeader:
    """What a trained classifier says of itself. Raises UserError naming what does not fit."""
    import numpy as np

    known = header_as(TeacherHeader, header, path)
    events = tensors.get("forgetting_events")
    # Of weights of others they are -1: nobody has counted them
    if (
        events is None
        or (events.dtype != np.int64 or events.ndim != 1)
        or not ((events >= 0).all() or (events == -1).all())
    ):
        raise damaged(path, "it does not count the forgetting events of its images")
    check_weights(path, {name: value for name, value in tensors.items() if name.startswith("network.")})
    return known


def read_bank(path: Path) -> tuple[dict[str, np.ndarray], BankHeader, dict[str, Any]]:
    """The tensors of a bank of networks, what it says of itself, and its whole header; its parts are files of
    their own.

    Raises UserError as `read_tensors` does, and naming what does not fit.
    """
    tensors, header = read_tensors(path, "bank")
    return tensors, check_bank(path, tensors, header), header


def check_bank(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> BankHeader:
    """What a bank says of itself. Raises UserError naming what does not fit."""
    import numpy as np

    known = header_as(BankHeader, header, path)
    queue = known.queue
    if queue is None:
        return known
    for name in ("sampled", "trained", "trainings", "right"):
        if name not in tensors or tensors[name].dtype != np.int32:
            raise damaged(path, f"its schedule lacks '{name}'")
    right, most = tensors["right"], queue.train_steps * queue.batch
    if right.shape != (int(tensors["trainings"].sum()),) or (
        right.size and not 0 <= right.min() <= right.max() <= most
    ):
        raise damaged(
            path,
            f"it does not count for each of its trainings how many of {most} images were classified rightly",
        )
    return known


def check_part(path: Path, states: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Raises UserError for a part of a bank whose states, `<name>.<tensor>`, are those of no trained
    networks."""
    header_as(PartHeader, header, path)
    momentum = {name for name in states if name.partition(".")[2].startswith("velocity.")}
    check_weights(path, {name: values for name, values in states.items() if name not in momentum})
    check_numbers(path, {name: states[name] for name in momentum})


def check_checkpoint(
    path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> CheckpointHeader:
    """What a checkpoint says of itself. Raises UserError if its tensors are not those that it lists."""
    known = header_as(CheckpointHeader, header, path)
    if known.tensors is not None and known.tensors != shapes_of(tensors):
        raise damaged(path, "its tensors are not those that it lists")
    return known


def shapes_of(tensors: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """Name -> [type, shape] of tensors, as a checkpoint lists them."""
    return {name: [str(values.dtype), list(values.shape)] for name, values in tensors.items()}


def check_numbers(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Raises UserError for tensors with values that are no numbers, and for whole ones, which count
    something, below 0."""
    import numpy as np

    for name, values in tensors.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise damaged(path, f"some values of its '{name}' are no numbers")
        if values.dtype.kind == "i" and values.size and values.min() < 0:
            raise damaged(path, f"some counts of its '{name}' are negative")


def check_shapes(path: Path, tensors: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises UserError unless `tensors` has every tensor of `wanted`, numpy's or torch's, in its type and
    shape.

    A file holds no scalars: what has the shape () lies there as a list of one.
    """
    for name, like in wanted.items():
        if name not in tensors:
            raise damaged(path, f"it lacks '{name}'")
        there, needed = tuple(tensors[name].shape), tuple(like.shape) or (1,)
        types = [str(values.dtype).removeprefix("torch.") for values in (tensors[name], like)]
        if (there or (1,)) != needed or types[0] != types[1]:
            raise damaged(
                path, f"its '{name}' is {types[0]} {list(there)} instead of {types[1]} {list(needed)}"
            )


def check_weights(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Raises UserError for weights of a trained network that are no numbers, beyond all bounds, or
    overwritten by zeros."""
    import numpy as np

    check_numbers(path, {name: values for name, values in weights.items() if values.dtype.kind == "f"})
    for name, values in weights.items():
        if values.dtype.kind != "f":
            continue
        if values.size and np.abs(values).max() > _LARGEST:
            raise damaged(path, f"some of its weights '{name}' are beyond all bounds")
        if name.endswith("weight") and not values.any():
            raise damaged(path, f"its weights '{name}' were overwritten by zeros")
        if values.ndim < 2 or values.all():
            continue
        flat = np.flatnonzero(np.concatenate([[1], values.reshape(-1), [1]]))
        if np.diff(flat).max() > _RUN:
            raise damaged(path, f"a part of its weights '{name}' was overwritten by zeros")
