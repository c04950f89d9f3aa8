"""What may stand in the YAML files, told by the dataclasses that read them: a page for people and JSON
schemas for editors.

`python -m condense.command.documented` writes `docs/settings.md` and `params/schemas/`; a test compares them
with the code.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from condense.config import is_record, kinds_alone
from condense.specs import catalogue
from condense.specs.common import not_by_default

_PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


@dataclass(frozen=True)
class Setting:
    """One key: its type, its default as YAML ('' where it has to be given), and what the comment beside it
    says."""

    name: str
    type: Any
    default: str
    meaning: str


@cache
def _comments(kind: type) -> dict[str, str]:
    """Name of a field that stands in the class itself -> the comment at the end of its line, or else above
    it."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    fields_by_name = {
        node.target.id: node
        for node in body.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    beside, alone = _remarks(source)
    meanings = {}
    for name, node in fields_by_name.items():
        above: list[str] = []
        while (line := node.lineno - 1 - len(above)) in alone:
            above.insert(0, alone[line])
        if meaning := beside.get(node.end_lineno or node.lineno) or " ".join(above):
            meanings[name] = meaning
    return meanings


def _remarks(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """The comments of `source` by their line: those behind code, and those that have the line for
    themselves."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    behind = {token.start[0] for token in comments if token.line[: token.start[1]].strip()}
    texts = {token.start[0]: token.string.lstrip("# ").strip() for token in comments}
    return {line: texts[line] for line in behind}, {line: texts[line] for line in texts.keys() - behind}


def settings_of(kind: type) -> list[Setting]:
    """The keys that a mapping read as `kind` may have, in the order of the class; of a Literal that the class
    names in `NOT_IN_FILES` the values that files may have."""
    hints = typing.get_type_hints(kind)
    for name, values in getattr(kind, "NOT_IN_FILES", {}).items():
        left = tuple(value for value in typing.get_args(hints[name]) if value not in values)
        hints[name] = typing.Literal[left]
    comments: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        comments |= _comments(owner) if is_dataclass(owner) else {}
    return [
        Setting(field.name, hints[field.name], _default(field), comments.get(field.name, ""))
        for field in fields(kind)
        if field.init
    ]


def _default(field: Field) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return ""
    value = field.default if field.default_factory is MISSING else field.default_factory()
    plain = not_by_default(value)
    if is_dataclass(value) and not plain:
        return "its defaults"
    return json.dumps(plain)


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type that `config.convert` reads, with the classes that it uses under `$defs`."""
    definitions: dict[str, Any] = {}
    top = _schema(kind, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": definitions}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if origin in (typing.Union, types.UnionType):
        schemas = [_schema(choice, definitions) for choice in arguments]
        alone = kinds_alone(arguments)
        return {"anyOf": [*schemas, {"enum": alone}] if alone else schemas}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (list, tuple):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if not is_record(kind):
        raise TypeError(f"{kind} is no type of a setting")
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # a class that holds itself ends here
        definitions[kind.__name__] = _of_class(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _of_class(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    known = settings_of(kind)
    properties = {}
    for setting in known:
        described = {"description": setting.meaning} if setting.meaning else {}
        properties[setting.name] = _schema(setting.type, definitions) | described
    required = [setting.name for setting in known if not setting.default]
    about = inspect.cleandoc(kind.__doc__ or "")
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def type_text(kind: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return "anything"
    if kind in _PLAIN:
        return {
            int: "whole number",
            float: "number",
            str: "text",
            bool: "true or false",
            type(None): "nothing",
        }[kind]
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(type_text(choice) for choice in arguments if choice is not type(None))
    if origin is typing.Literal:
        return " | ".join(f"`{choice}`" for choice in arguments)
    if origin in (list, tuple):
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return f"mapping of names to {type_text(arguments[1])}"
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def classes_in(kind: Any) -> Iterator[type]:
    """The dataclasses that a type consists of, from the outside in, each once."""
    seen: dict[type, None] = {}

    def visit(inner: Any) -> None:
        if is_record(inner):
            if inner not in seen:
                seen[inner] = None
                for setting in settings_of(inner):
                    visit(setting.type)
        else:
            for argument in typing.get_args(inner):
                visit(argument)

    visit(kind)
    yield from seen


def page(kinds: dict[str, Any]) -> str:
    """`docs/settings.md`: for each kind of file the keys of its classes. `kinds`: the folder of the files ->
    what they are read as."""
    lines = ["# What may stand in the YAML files", ""]
    lines += [
        "Made from the classes that read them (`src/condense/specs/`) by `python -m "
        "condense.command.documented`; editors that know"
    ]
    lines += ["JSON schemas find them in `params/schemas/`. A key without a default has to be given.", ""]
    told: set[type] = set()
    for folder, kind in kinds.items():
        lines += [f"## `{folder}/`", ""]
        for record in classes_in(kind):
            if record not in told:
                told.add(record)
                lines += _section(record)
    return "\n".join(lines).rstrip() + "\n"


def _section(kind: type) -> list[str]:
    lines = [f"### {kind.__name__}", "", inspect.cleandoc(kind.__doc__ or ""), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for setting in settings_of(kind):
        default = (
            f"`{setting.default}`"
            if setting.default and setting.default != "its defaults"
            else setting.default
        )
        cells = [f"`{setting.name}`", type_text(setting.type), default, setting.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def kinds_of_files() -> dict[str, Any]:
    """The folder of settings -> the type that its files are read as."""
    from condense.data.spec import DatasetSpec
    from condense.specs.engines import AnyRecipe
    from condense.specs.protocol import Protocol
    from condense.specs.scale import Scale
    from condense.specs.tables import AnyTable

    return {
        "params/methods": AnyRecipe,
        "params/protocols": Protocol,
        "params/datasets": DatasetSpec,
        "params/tables": AnyTable,
        "params/scales": Scale,
    }


def methods_table() -> str:
    """The methods as a table: name, what it is, and where it comes from."""
    lines = ["| method | what it is | source |", "|---|---|---|"]
    for name in catalogue.names_in("methods"):
        recipe = catalogue.recipe(name)
        source = recipe.source
        where = f"eq. {source.equation}" if source.equation.startswith("(") else source.equation
        origin = ": ".join(filter(None, [", ".join(filter(None, [source.paper, where])), source.note]))
        cells = [f"`{name}`", recipe.title, origin]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def notes_index(notes: str) -> str:
    """Where the notes tell of each method, by their headings."""
    links: dict[str, str] = {}
    for heading in re.findall(r"^## (.*)$", notes, re.MULTILINE):
        anchor = re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        links |= {
            name: f"[{name}](#{anchor})"
            for name in re.findall(r"`([a-z0-9_]+)`", heading)
            if name in catalogue.names_in("methods")
        }
    return textwrap.fill(
        ", ".join(links[name] for name in sorted(links)), 128, break_long_words=False, break_on_hyphens=False
    )


def between(text: str, name: str, content: str) -> str:
    """`text` with `content` between its marks `<!-- {name} -->` and `<!-- end of {name} -->`."""
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not end:
        raise ValueError(f"the text has no marks {first} and {last}")
    return f"{before}{first}\n{content}\n{last}{after}"


def documents() -> dict[Path, str]:
    """The files that are made from the classes and recipes, or in part, with their content."""
    kinds = kinds_of_files()
    made = {Path("docs/settings.md"): page(kinds)}
    readme, notes = Path("README.md"), Path("docs/reproduction-notes.md")
    made[readme] = between(readme.read_text(encoding="utf-8"), "methods", methods_table())
    text = notes.read_text(encoding="utf-8")
    made[notes] = between(text, "index", notes_index(text))
    for folder, kind in kinds.items():
        text = json.dumps(schema_of(kind), indent=1, ensure_ascii=False) + "\n"
        made[Path("params/schemas") / f"{Path(folder).name}.json"] = text
    return made


def write(documents: Mapping[Path, str]) -> str:
    """Writes the documents that are not as they ought to be, and says which."""
    written = []
    for path, content in documents.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            written.append(str(path))
    return f"written: {', '.join(written)}" if written else "nothing to write: all is as the classes say"


if __name__ == "__main__":
    print(write(documents()))
