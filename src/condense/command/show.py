"""What a file of ours says of itself, and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError
from condense.files import (
    header_as,
    metrics_in,
    read_artifact,
    read_facts,
    read_history,
    read_index,
    read_metrics,
    read_part,
    read_prepared,
    read_request,
    read_together,
)
from condense.files.artifacts import canonical, damaged, file_sha256, read_json
from condense.files.notes import INDEX, TOGETHER, Manifest, RatesNote
from condense.files.records import PART
from condense.jobs.keeping import check_beside
from condense.machine.terminal import deviating
from condense.plan import parent_files
from condense.report.speed import read_speed
from condense.specs import task_class

if TYPE_CHECKING:
    import numpy as np

_PLAIN = (
    "kind dataset split method ipc arch eval_arch options protocol seed key steps n_networks mean std unit "
    "train_accuracy"
).split()
_OF_OTHERS = (".pt", ".pth", ".npz", ".npy", ".parquet", ".pq")  # sets of other programs, and exported ones
_SHOWN_ELSEWHERE = {
    "class_names",
    "classes",
    "counts",
    "recipe",
    "history",
    "content_sha256",
    "header_sha256",
    "schema",
    "state",
    "run",
    "origin",
}


def describe(path: Path) -> str:
    """What a file of ours holds, of whatever kind it is, in aligned lines.

    Tensors are read whole and their checksum verified. Raises UserError if the file is absent, damaged or not
    ours.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in _OF_OTHERS:
        raise UserError(
            f"{path}: only files of ours that end in .safetensors, .json or .jsonl are read here; a set in "
            "another form is looked at, and judged, by another command: `condense judge --help`"
        )
    if path.suffix == ".jsonl":
        return _aligned([("file", str(path)), ("kind", "history"), *_last_loss(read_history(path))])
    if _is_json(path):
        return _aligned([("file", str(path)), *_json_facts(_our_json(path))])
    tensors, header = read_artifact(path, also=parent_files())
    lines = [("file", f"{path} ({path.stat().st_size:,} bytes)"), *_header_facts(header)]
    lines += [(name, _tensor(tensor)) for name, tensor in sorted(tensors.items())[:20]]
    if len(tensors) > 20:
        lines.append(("more", f"{len(tensors) - 20} further tensors"))
    check_beside(path, header)
    of = f"sha256 {header['content_sha256']} of the tensors" if tensors else "the header"
    lines.append(("checksum", f"verified: {of}, and the files that belong to it"))
    beside = path.with_name(f"{path.stem}.run.json" if header["kind"] == "shard" else "run.json")
    if beside.is_file():
        lines += _run_facts(read_facts(beside))
    return _aligned(lines)


def _is_json(path: Path) -> bool:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    return path.suffix == ".json"


def _our_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file, read as its kind is where it is used."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise damaged(path, "it holds no JSON object")
    kind = value.get("kind")
    if isinstance(kind, str) and kind in _JSON:
        _JSON[kind](path)
    elif kind is None and "seconds" in value:
        read_facts(path)
    elif kind is None and value.keys() >= {"name", "scale", "inputs", "shows"}:
        header_as(Manifest, value, path, "its entries")
    else:
        known = ", ".join(sorted(_JSON))
        raise UserError(
            f"{path}: is none of the JSON files that are known by their 'kind' ({known}), nor a record of a "
            "run"
        )
    return value


_JSON: dict[str, Callable[[Path], object]] = {
    "metrics": read_metrics,
    PART: read_part,
    INDEX: read_index,
    TOGETHER: read_together,
    "dataset": read_prepared,
    "request": read_request,
    "rates": lambda path: header_as(RatesNote, read_json(path), path, "its entries"),
    "benchmark": read_speed,
    # Of an exported folder; `condense run` reads it with the folders that it names
    "classes": lambda path: None,
    "part that was not needed": lambda path: None,
}


def _last_loss(history: list[dict[str, float]]) -> list[tuple[str, str]]:
    rows = [("rows", str(len(history)))]
    return (
        rows + [("last loss", ", ".join(f"{name} {value:.6g}" for name, value in history[-1].items()))]
        if history
        else rows
    )


def _header_facts(header: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [(name, _value(header[name])) for name in _PLAIN if header.get(name) is not None]
    pictured = header["kind"] in ("dataset", "shard", "synthetic", "snapshots")
    names, classes = (header.get(name) if pictured else None for name in ("class_names", "classes"))
    if names:
        chosen = [names[label] for label in classes] if classes else names
        lines.append(("classes", f"{len(chosen)}: {_brief(chosen)}"))
    if header["kind"] == "dataset":
        lines.append(
            ("images", f"{sum(header['counts'])}, {min(header['counts'])} to {max(header['counts'])} a class")
        )
    if header["kind"] == "shard":
        lines += _last_loss(header["history"])[1:]
    if isinstance(header.get("state"), dict):
        lines += [(name, _value(value)) for name, value in header["state"].items()]
    # Of a set that another program made: its file, and how that was read
    origin = header.get("origin")
    lines += [(f"origin: {name}", _value(value)) for name, value in origin.items()] if origin else []
    skip = {*_PLAIN, *_SHOWN_ELSEWHERE}
    return lines + [
        (name, _value(value)) for name, value in header.items() if name not in skip and value is not None
    ]


def _json_facts(value: dict[str, Any]) -> list[tuple[str, str]]:
    if "kind" not in value and "seconds" in value:
        return [("kind", "provenance"), *_run_facts(value)]
    if value.get("kind") != "metrics":
        return [(name, _value(entry)) for name, entry in value.items()]
    shown = [
        name
        for name in ("kind", "task", *_PLAIN[1:])
        if name in value and name not in ("mean", "std", "protocol")
    ]
    lines = [(name, _value(value[name])) for name in shown]
    lines += [
        (f"{value['task']}: {name}", _value(entry)) for name, entry in value.get(value["task"], {}).items()
    ]
    protocol = value.get("protocol", {})
    told = [
        form.format(protocol[name])
        for name, form in (("epochs", "{} epochs"), ("batch", "batch {}"))
        if name in protocol
    ]
    lines += (
        [("protocol", f"{protocol['name']}: {', '.join(told)}" if told else protocol["name"])]
        if protocol
        else []
    )
    lines += [(f"labels by {name}", _labeller(said)) for name, said in value.get("observers", {}).items()]
    if "out_of_memory" in value:
        lines += [("out of memory", f"{value['out_of_memory'] / 1e9:.3g} GB needed")]
    lines += [
        line
        for name, metric in metrics_in(value).items()
        for line in _metric(
            name,
            metric,
            value.get("steps") if isinstance(metric["mean"], list) else None,
            task_class(value["task"]).steps_are == "networks",
        )
    ]
    lines += [
        (name, value[name])
        for name in ("synthetic_key", "synthetic_sha256", "data_sha256", "test_sha256")
        if value.get(name)
    ]
    return lines + _run_facts(value.get("run", {}))


def _labeller(said: dict[str, str]) -> str:
    """Who labelled the batches, and whether beforehand."""
    by = f"{said.get('arch', 'a network')} of '{said.get('protocol', 'an unknown protocol')}'"
    return f"{by}{', stored' if 'stored' in said else ''} ({said['sha256'][:12]})"


def _metric(
    name: str, metric: dict[str, Any], steps: list[int] | None, of_networks: bool
) -> list[tuple[str, str]]:
    """The mean and the spread of a metric, at every step where it is a curve over them; the range of its
    values where it is of many networks."""
    if steps is not None and of_networks:
        values = [value for row in metric["values"] for value in row]
        told = f"{len(metric['values'])} from {min(values):.4g} to {max(values):.4g} {metric['unit']}"
        return [(name, told.rstrip())]
    means, stds = (entry if isinstance(entry, list) else [entry] for entry in (metric["mean"], metric["std"]))
    mean_form, std_form = (".2f", ".2f") if metric["unit"] == "%" else (".4g", ".2g")
    count = len(metric["values"][0] if steps is not None else metric["values"])
    numbers = [
        deviating(f"{mean:{mean_form}}", f"{std:{std_form}}", count)
        for mean, std in zip(means, stds, strict=True)
    ]
    return [
        (f"{name} {step}".strip(), f"{number} {metric['unit']}".rstrip())
        for step, number in zip(map(str, steps) if steps else [""], numbers, strict=True)
    ]


def _run_facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    shown = {
        "seconds": lambda value: f"{value:g}",
        "peak_memory_bytes": lambda value: f"{value / 1e6:.0f} MB",
        "after": lambda value: f"{value} other jobs of the same process, which the peak memory is of too",
        "shared_by": lambda value: (
            f"{value} sets made at once: the seconds are an equal part, the peak memory is of all"
        ),
    }
    names = {"peak_memory_bytes": "peak memory", "code_version": "code version", "shared_by": "shared by"}
    return [
        (names.get(name, name), shown.get(name, _value)(value))
        for name, value in run.items()
        if value is not None
    ]


def _value(value: Any) -> str:
    if isinstance(value, dict) and all(isinstance(entry, (str, int, float)) for entry in value.values()):
        return ", ".join(f"{name} {entry}" for name, entry in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if (
        isinstance(value, list)
        and all(isinstance(entry, (int, float)) for entry in value)
        and len(value) <= 12
    ):
        return ", ".join(f"{entry:.6g}" for entry in value)
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _brief(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _tensor(tensor: np.ndarray) -> str:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    return f"{tensor.dtype} {shape}" + (f", {tensor.min():.6g} to {tensor.max():.6g}" if tensor.size else "")


def _aligned(lines: Iterable[tuple[str, str]]) -> str:
    lines = list(lines)
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in lines)


def digest_of(path: Path) -> str:
    """SHA-256, as hex, of what is compared between two runs.

    Of a safetensors file that is every byte; of metrics it is the canonical JSON without the part that says
    where and how long they were computed. Raises UserError if the file is absent, damaged or not ours.
    """
    path = Path(path)
    if not _is_json(path):
        read_artifact(path, also=parent_files())
        return file_sha256(path)
    value = {name: entry for name, entry in _our_json(path).items() if name != "run"}
    return hashlib.sha256(canonical(value).encode()).hexdigest()
