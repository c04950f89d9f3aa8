"""Synthetic sets in formats that other programs read."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError, read, unknown
from condense.files import SOFT_LABELS, carried, read_set
from condense.files.artifacts import write_json
from condense.machine.drafts import whole, whole_folder
from condense.specs import Decode

if TYPE_CHECKING:
    import numpy as np


def export_set(path: Path, to: str, out: Path | None, *, as_stored: bool = False) -> str:
    """Writes a synthetic set as `to` (png, npz or parquet) to `out`, by default beside the set, and says
    where.

    Where the set stores formations these are decoded, unless `as_stored`. png: a folder
    `<number>_<class>/<index>.png` of 8-bit images, clipped, whose class folders sort in the order of the
    labels, with the names in `classes.json`; npz: `images` float32 (N, C, H, W) in pixels, not clipped,
    `labels` int64 (N,) and `class_names`, and all else that the set carries, such as `soft_labels`
    (N, classes); parquet: the columns `image` (bytes of a PNG and its path), `label` and `soft_labels`, if
    the set has these, with the class names. What a format does not hold is said.
    Raises UserError if the file is no synthetic set or damaged, and if the target exists.
    """
    path = Path(path)
    if to not in _EXPORTS:
        raise unknown("format", to, _EXPORTS, "--to")
    tensors, header = read_set(path)
    target = Path(out) if out is not None else path.with_name("png" if to == "png" else f"{path.stem}.{to}")
    if target.exists():
        raise UserError(f"{target}: exists already; remove it or name another place with --out")
    remark = ""
    if header.get("decode") is not None:
        remark = (
            f", each of which holds {read(Decode, header['decode'], f'{path}: decode').factor ** 2} smaller "
            "ones,"
        )
        if not as_stored:
            remark = f" (decoded from {len(tensors['labels'])} stored ones; --as-stored writes those)"
            tensors = _decoded(path, tensors, header)
    held = [name for name in carried(tensors) if name in _HELD[to] or _HELD[to] == "all"]
    left = [name for name in carried(tensors) if name not in held]
    _EXPORTS[to](target, {name: tensors[name] for name in ("images", "labels", *held)}, header)
    told = (
        f"{len(tensors['labels'])} images{remark} of {header['method']} on {header['dataset']} written to "
        f"{target}"
    )
    holders = [name for name in _HELD if _HELD[name] == "all" or set(left) <= set(_HELD[name])]
    return told + (f"; {to} does not hold its {', '.join(left)}, {' or '.join(holders)} does" if left else "")


def _decoded(path: Path, tensors: Mapping[str, np.ndarray], header: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a set of formations as they train, class-major: pixels float32 (n, C, H, W), labels
    (n,), soft labels (n, classes).

    What else it carries belongs to the stored images, and stays as it is.
    """
    import numpy as np

    from condense.evaluate.synthetic import decoded_pixels

    how = read(Decode, header["decode"], f"{path}: decode")
    images = decoded_pixels(tensors["images"], how)
    labels = np.tile(tensors["labels"], how.factor**2)
    order = np.argsort(labels, kind="stable")
    soft = {
        name: np.tile(tensors[name], (how.factor**2, 1))[order] for name in (SOFT_LABELS,) if name in tensors
    }
    return {**tensors, **soft, "images": images[order], "labels": labels[order]}


def _pngs(images: np.ndarray, labels: np.ndarray, names: list[str]) -> Iterable[tuple[str, bytes]]:
    """For every image its place `<class>/<index>.png`, numbered within the class, and its 8-bit PNG."""
    import numpy as np
    from PIL import Image

    folders = _folders(names)
    seen: Counter[int] = Counter()
    for image, label in zip(images, labels.tolist(), strict=True):
        pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(buffer, "PNG")
        yield f"{folders[label]}/{seen[label]:05}.png", buffer.getvalue()
        seen[label] += 1


def _folders(names: list[str]) -> list[str]:
    """A folder name for every class, numbered so that they sort in the order of the labels, as other programs
    number classes."""
    digits = max(4, len(str(len(names) - 1)))
    plain = [re.sub(r"[^\w .-]+", "_", name).strip(" .") for name in names]
    # File systems count bytes
    short = [name.encode()[:160].decode(errors="ignore").strip(" .") for name in plain]
    return [f"{label:0{digits}}_{name}" for label, name in enumerate(short)]


def _to_png(target: Path, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    from condense.data.folder import CLASSES_FILE

    images, labels = tensors["images"], tensors["labels"]
    names, present = header["class_names"], set(labels.tolist())
    folders = _folders(names)
    with whole_folder(target) as draft:
        for path, data in _pngs(images, labels, names):
            file = draft / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        listed = [
            {"folder": folders[label], "name": name} for label, name in enumerate(names) if label in present
        ]
        write_json(draft / CLASSES_FILE, {"kind": "classes", "dataset": header["dataset"], "classes": listed})


def _to_npz(target: Path, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    import numpy as np

    with whole(target) as draft, open(draft, "wb") as file:
        # Any: savez also takes a switch, `allow_pickle`, among the names of arrays, and not in every version
        # of numpy.
        arrays: dict[str, Any] = {**tensors, "class_names": np.array(header["class_names"], dtype=np.str_)}
        np.savez_compressed(file, **arrays)


def _to_parquet(target: Path, tensors: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = [
        {"bytes": data, "path": path}
        for path, data in _pngs(tensors["images"], tensors["labels"], header["class_names"])
    ]
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": header["class_names"], "_type": "ClassLabel"},
    }
    columns = {"image": pa.array(pictures, kind), "label": pa.array(tensors["labels"], pa.int64())}
    if SOFT_LABELS in tensors:
        columns[SOFT_LABELS] = pa.array(tensors[SOFT_LABELS].tolist(), pa.list_(pa.float32()))
        features[SOFT_LABELS] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=metadata)
    with whole(target) as draft:
        pq.write_table(pa.Table.from_arrays(list(columns.values()), schema=schema), draft)


_EXPORTS: dict[str, Callable[[Path, Any, dict[str, Any]], None]] = {
    "png": _to_png,
    "npz": _to_npz,
    "parquet": _to_parquet,
}
# What each holds of what a set carries beside images and labels.
_HELD: dict[str, tuple[str, ...] | str] = {"png": (), "npz": "all", "parquet": (SOFT_LABELS,)}
