"""What sets on the leaderboard cost: bytes of images and labels, and seconds and memory of condensing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condense.files import artifacts
from condense.plan import MetricsCell, SyntheticCell
from condense.report.provenance import run_of, seconds_of_runs


def cost(sets: Sequence[SyntheticCell]) -> dict[str, Any]:
    """Bytes of images and labels of a set as they lie in its file, and what condensing took; the memory only
    where it was a set's own. Raises UserError for a file that is damaged."""
    runs = [run for run in map(run_of, sets) if run]
    found: dict[str, Any] = {}
    seconds, shared_by = seconds_of_runs(runs)
    found |= {} if seconds is None else {"seconds": seconds}
    found |= {"shared_by": shared_by} if shared_by else {}
    memory = [run.own_peak_memory_bytes for run in runs if run.own_peak_memory_bytes]
    if memory:
        found["memory_bytes"] = max(memory)
    devices = sorted({run.device for run in runs if run.device})
    if devices:
        found["device"] = ", ".join(devices)
    path = Path(sets[0].path)
    if sets[0].recipe.makes_set and path.is_file():
        found |= _bytes_in(path)
    return found


def label_bytes(cell: MetricsCell) -> int:
    """The bytes of the labels that a network of an evaluation learns from, where these are not the set's."""
    data, made = cell.synthetic.data.spec, cell.synthetic
    stored = data.train if made.ipc == "full" else data.classes * made.images_a_class
    return cell.protocol.label_bytes(stored * made.recipe.images_a_stored, data.classes)


def _bytes_in(path: Path) -> dict[str, int]:
    """The bytes of the images of a set, and of all that stands beside them, as its file holds them."""
    artifacts.read_header(path, "synthetic")  # refuses what is damaged
    with open(path, "rb") as file:
        sizes = {name: end - begin for name, (_, _, begin, end) in artifacts.extents(file).items()}
    return {"image_bytes": sizes.pop("images"), "label_bytes": sum(sizes.values())}
