"""Files changed by chance and sealed anew, as a hand or another program could leave them."""

import copy
import json
import re

import numpy as np

from condense.files.artifacts import canonical, read_tensors, write_tensors

JUNK = [None, -1, 0, 10**6, 10**30, 0.5, -0.5, 1e30, float("nan"), float("inf"), True]
JUNK += ["x", "../x", "", [], {}, [1], [None], [[]], {"a": 1}]
FOREIGN = ["", "{", "[]", "{}", "5", "null", "[" * 3000, "\0"]
FOREIGN += ['{"kind": "metrics"}', '{"kind": []}', '{"name": "left-pad", "version": "1.0.0"}']
SEALED = {"kind", "schema", "content_sha256", "header_sha256"}


def _ways(value, here=()):
    yield here
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value[:6]) if isinstance(value, list) else ()
    )
    for key, entry in entries:
        yield from _ways(entry, (*here, key))


def changed_value(value, draw):
    """A JSON value with one entry, anywhere in it, removed, renamed, put into a list or made another value;
    and what was done."""
    value = copy.deepcopy(value)
    ways = [way for way in _ways(value) if way]
    if not ways:
        return draw.choice(JUNK), "all"
    *way, last = draw.choice([way for way in ways if len(way) == 1] + ways)
    holder = value
    for key in way:
        holder = holder[key]
    how = draw.choice(["remove", "rename", "wrap", "negate", "shorten", "junk", "junk", "junk"])
    if how == "remove":
        del holder[last]
    elif how == "rename" and isinstance(holder, dict):
        holder[f"{last}2"] = holder.pop(last)
    elif how == "wrap":
        holder[last] = [holder[last]]
    elif how == "negate" and type(holder[last]) in (int, float):
        holder[last] = -holder[last] - 1
    elif how == "shorten" and isinstance(holder[last], (list, str)):
        holder[last] = holder[last][:-1]
    else:
        holder[last] = draw.choice(JUNK)
    return value, f"{'.'.join(map(str, (*way, last)))} {how}"


def change_text(path, draw):
    """Changes a JSON file, or a line of a file of JSON lines; says how."""
    text = path.read_text()
    if draw.random() < 0.15:
        new = draw.choice([*FOREIGN, text[: len(text) // 2]])
        path.write_text(new)
        return f"is {new[:30]!r}"
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        place = draw.randrange(len(lines))
        value, how = changed_value(json.loads(lines[place]), draw)
        lines[place] = json.dumps(value)
        path.write_text("".join(f"{line}\n" for line in lines))
        return f"line {place}: {how}"
    value, how = changed_value(json.loads(text), draw)
    path.write_text(json.dumps(value))
    return how


def _changed_tensor(values, draw):
    """A tensor with other values or another shape; and what was done."""
    how = draw.choice(["nan", "inf", "negate", "huge", "zeros", "shorten", "empty", "flatten", "type"])
    if how in ("nan", "inf") and values.dtype.kind == "f" and values.size:
        values.reshape(-1)[draw.randrange(values.size)] = float(how)
    elif how == "negate" and values.dtype.kind in "if":
        values = -values - 1
    elif how == "huge" and values.dtype.kind in "if":
        values = (values.astype("float64") * 1e6 + 1e9).astype(values.dtype)
    elif how == "zeros" and values.size:
        values.reshape(-1)[: values.size // 2 + 1] = 0
    elif how == "shorten" and values.ndim:
        values = values[:-1]
    elif how == "flatten" and values.ndim > 1:
        values = values.reshape(-1)
    elif how == "type":
        values = values.astype("float64" if values.dtype != np.float64 else "int64")
    else:
        values, how = values.reshape(-1)[:0], "empty"
    return values, how


def change_tensors(path, draw):
    """Changes a tensor or an entry of the header of a safetensors file, whose checksums are right again; says
    how."""
    arrays, note = read_tensors(path)
    if arrays and draw.random() < 0.4:
        name = draw.choice(sorted(arrays))
        if draw.random() < 0.2:
            del arrays[name]
            how = "remove"
        else:
            arrays[name], how = _changed_tensor(arrays[name].copy(), draw)
        how = f"tensor {name}: {how}"
    else:
        entries, how = changed_value(
            {name: entry for name, entry in note.items() if name not in SEALED}, draw
        )
        note = {"kind": note["kind"], **entries} if isinstance(entries, dict) else {"kind": note["kind"]}
        if re.search(r"NaN|Infinity", json.dumps(note)):  # which nobody can seal
            return change_tensors(path, draw)
    write_tensors(path, arrays, json.loads(canonical(note)))
    return how
