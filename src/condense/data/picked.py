"""Some classes of a prepared dataset as a dataset of their own, for what must not have seen the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from condense.config import UserError
from condense.data.dataset import load
from condense.files import check_prepared
from condense.files.artifacts import content_sha256, write_json, write_tensors
from condense.machine.drafts import require_place

SPLITS = ("train", "test")


def pick_classes(whole: Path, chosen: Sequence[int], name: str, out: Path) -> None:
    """Writes the classes `chosen` (numbers, ascending) of the prepared dataset in the folder `whole` into the
    folder `out`, as the dataset `name`; dataset.json comes last.

    They are numbered from 0 on; images, names and the constants of the normalisation stay those of the whole
    dataset. Its checksums stand as the source. Raises UserError for fewer than two classes, and for numbers
    that are not ascending or that no class has.
    """
    if len(chosen) < 2 or list(chosen) != sorted(set(chosen)):
        raise UserError(
            f"--choose: two or more numbers of classes are needed, ascending, each once; found "
            f"{' '.join(map(str, chosen)) or 'none'}"
        )
    known = check_prepared(whole)
    require_place(out / "dataset.json")
    shared: dict[str, Any] = {}
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        images = load(whole / f"{split}.safetensors", chosen)
        shared = {
            "kind": "dataset",
            "dataset": name,
            "title": f"{known.title} ({len(chosen)} of {len(known.class_names)} classes)",
            "class_names": list(images.class_names),
            "channels": images.channels,
            "size": images.size,
            "mean": list(images.mean),
            "std": list(images.std),
            "source": {
                "dataset": known.dataset,
                "classes": list(chosen),
                **{role: getattr(known.splits, role).data_sha256 for role in SPLITS},
            },
        }
        labels = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor(images.counts))
        tensors = {"images": images.images.numpy(), "labels": labels.numpy()}
        checksum = content_sha256(tensors)
        about = shared | {"counts": list(images.counts), "data_sha256": checksum, "split": split}
        write_tensors(out / f"{split}.safetensors", tensors, about)
        splits[split] = {
            "file": f"{split}.safetensors",
            "images": len(labels),
            "counts": list(images.counts),
            "data_sha256": checksum,
        }
    write_json(out / "dataset.json", {**shared, "note": known.note, "splits": splits})
