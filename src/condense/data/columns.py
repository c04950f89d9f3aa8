"""Which columns of a parquet file hold the images and the labels: never one in the place of another."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from condense.config import UserError, unknown
from condense.data.classes import brief

_IMAGE_NAMES = ("image", "img", "images")
_LABEL_NAMES = ("label", "labels", "class", "target", "category")
_PANDAS_INDEX = "__index_level_"
# Columns that say of a row where it belongs or what it is called, and never what it shows.
_NO_LABELS = (
    "fold",
    "folds",
    "split",
    "subset",
    "partition",
    "id",
    "idx",
    "index",
    "uuid",
    "row",
    "no",
    "number",
    "width",
    "height",
)


class Columns:
    """The columns of a file, `where` for messages, and what Hugging Face's `datasets` says of them in the
    metadata of the schema."""

    def __init__(self, schema: pa.Schema, where: str):
        self._schema, self._where, self._features = schema, where, _features_of(schema)

    def image(self, name: str | None) -> str:
        """The column of the images: `name`, else that of the usual name, else the only one that can be meant.

        Raises UserError if there is none, or if it holds something else.
        """
        fitting = [field.name for field in self._schema if is_image(field.type)]
        name = self._once(
            "image", self._named_or_usual("image", name, _IMAGE_NAMES, self._typed("Image"), fitting)
        )
        kind = self._schema.field(name).type
        if not (is_image(kind) or is_text(kind)):
            wanted = "encoded images (binary, a struct with 'bytes', or paths)"
            raise UserError(
                f"{self._where}: the column '{name}' must hold {wanted}, but it holds "
                f"{str(kind)[:80]}{advice_on('image')}"
            )
        return name

    def label(self, name: str | None, image: str, shown: Callable[[str], str]) -> str:
        """The column of the labels beside the images' column `image`, chosen alike; `shown` gives the first
        values of a column.

        Raises UserError if there is none, or if it holds something else.
        """
        fitting = [field.name for field in self._schema if is_label(field.type) and field.name != image]
        rivals = [
            field.name
            for field in self._schema
            if not (is_label(field.type) or is_image(field.type) or field.name == image)
        ]
        name = self._once(
            "label",
            self._named_or_usual("label", name, _LABEL_NAMES, self._typed("ClassLabel"), [*fitting, *rivals]),
        )
        kind = value_type(self._schema.field(name).type)
        if not (is_label(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            contents = (
                f"holds {str(kind)[:80]}, such as {shown(name)}: labels are names or whole numbers, one an "
                "image"
            )
            raise UserError(f"{self._where}: the column '{name}' {contents}{advice_on('label')}")
        return name

    def unchosen(self, *chosen: str) -> list[str]:
        """The columns that are not `chosen`."""
        return [
            name for name in self._schema.names if name not in chosen and not name.startswith(_PANDAS_INDEX)
        ]

    def class_names(self, label: str) -> list[str] | None:
        """The names of the labels as the metadata have them; None if there are none."""
        try:
            names = self._features[label]["names"]
        except (KeyError, TypeError):
            return None
        return [str(name) for name in names] if isinstance(names, list) and names else None

    def _typed(self, kind: str) -> list[str]:
        return [
            name
            for name in self._schema.names
            if isinstance(about := self._features.get(name), dict) and about.get("_type") == kind
        ]

    def _once(self, role: str, name: str) -> str:
        times = self._schema.names.count(name)
        if times > 1:
            raise UserError(
                f"{self._where}: has {times} columns '{name}': rename all but the one with the {role}s"
            )
        return name

    def _named_or_usual(
        self, role: str, name: str | None, usual: Sequence[str], typed: list[str], fitting: list[str]
    ) -> str:
        """The column to take. One of a usual name is taken whatever it holds, so that no other stands in for
        it unnoticed."""
        names = self._schema.names
        if name is not None:
            if name not in names:
                raise unknown(f"{role} column", name, names, self._where)
            return name
        fitting = [entry for entry in fitting if not entry.startswith(_PANDAS_INDEX)]
        lower = {entry.lower(): entry for entry in reversed(names)}
        if usual[0] in names:
            return usual[0]
        for candidates in (typed, [lower[entry] for entry in usual if entry in lower], fitting):
            doubtful = (
                candidates is fitting
                and role == "label"
                and candidates[0:1]
                and candidates[0].lower() in _NO_LABELS
            )
            if len(candidates) == 1 and not doubtful:
                return candidates[0]
            if candidates:
                raise UserError(
                    f"{self._where}: which column holds the {role}s? It may be {brief(candidates)}: name it "
                    f"with --{role}-column (`{role}:` in the source of a description)"
                )
        raise UserError(
            f"{self._where}: no column holds {role}s; its columns: {brief(names)}{advice_on(role)}"
        )


def _features_of(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def advice_on(role: str) -> str:
    """The end of a sentence on a column that cannot be used."""
    return f"; name another with --{role}-column (`{role}:` in the source of a description)"


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a column, which for a dictionary are those in it."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _any_of(*tests: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: any(test(kind) for test in tests)


is_text = _any_of(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_is_plain_label = _any_of(pa.types.is_integer, pa.types.is_boolean, is_text)


def is_label(kind: pa.DataType) -> bool:
    """Whether a column of this type can name classes."""
    return _is_plain_label(value_type(kind))


def is_image(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold encoded images, or paths of them."""
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return (index >= 0 and is_image(kind.field(index).type)) or (
            index < 0 and kind.get_field_index("path") >= 0
        )
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
