"""No comparison on the name of an engine, a task, a term, a kind of networks or of parents, or of what is
required, outside registries."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import pytest

import condense
from condense import specs
from condense.config import by_name
from condense.data.origin import ARCHIVES, TORCHVISION, Source
from condense.data.sources import OPENERS
from condense.engines import ENGINES
from condense.engines.matching import CRITICS
from condense.networks.sources import SOURCES
from condense.plan import BROUGHT, PARENTS
from condense.report.figures import DRAW
from condense.specs import catalogue
from condense.specs.engines import engines_of
from condense.specs.figures import DRAWINGS, Drawing
from condense.specs.recipe import Recipe, Required

PACKAGE = Path(condense.__file__).parent


def modules():
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def kind_of(settings, key="kind"):
    return get_args(get_type_hints(settings)[key])[0]


def every_name():
    """All names of engines, tasks, terms, networks and the like: each is known to a registry, and to nobody
    else."""
    tasks, networks = get_args(specs.AnyTask), get_args(specs.AnyNetworks)
    yield from [*specs.ENGINES, *specs.TERMS, *specs.SELECTIONS, *BROUGHT, *PARENTS, *DRAWINGS]
    yield from [
        *map(kind_of, [*tasks, *networks]),
        *(task.folder for task in tasks),
        *(cell.file for cell in PARENTS.values()),
    ]
    yield from [
        *catalogue.names_in("methods"),
        *catalogue.names_in("protocols"),
        *OPENERS,
        *get_args(get_type_hints(Source)["kind"]),
    ]


# Where a word of these means something else: metrics and their means, images as tensors, snapshots as a kind
# of file.
OTHERWISE = {"images", "mean", "accuracy"}
# By module: the comparisons of a registry or of an engine with its own names, as they are written there.
THEIR_OWN = {
    "tracking.stores": {"str(error.name).startswith(('mlflow', 'condense'))"},  # of packages
    "specs.selection": {"'teacher' in parents"},  # what its recipes call the parent that they ask for
    "engines.selection": {"'teacher' in order.parents"},
    "specs.terms.critics": {"self.under == 'trained'"},  # which network a term looks under
    # Of files
    "files.tensors": {"kind == 'snapshots'", "kind in ('synthetic', 'snapshots')", "'snapshots' in tensors"},
    "command.show": {"header['kind'] in ('dataset', 'shard', 'synthetic', 'snapshots')"},
    "data.origin": {
        *(
            "self.kind != 'parquet'",
            "self.kind not in ('parquet', 'image_folder', 'archive')",
            "self.kind == 'torchvision'",
        ),
        *("self.kind == 'archive'", "self.kind == 'image_folder'"),
    },
    "data.description": {"layout.kind == 'image_folder'"},  # of a user's own files, which have no source yet
}
# Attributes that hold such a name
TAGS = {"engine", "requires", "draw", "selection", "folder", "method", "networks", "task"}


def compared(tree):
    """The comparisons with text, as they are written: (text of the comparison, the constants in it, the
    attributes in it)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("startswith", "endswith")
        ):
            sides = [node.func.value, *node.args]
        elif isinstance(node, ast.Match):
            sides = [node.subject, *(case.pattern for case in node.cases)]
        else:
            continue
        plain = [
            side
            for side in sides
            if isinstance(side, (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.pattern))
        ]
        words = {entry.value for side in plain for entry in ast.walk(side) if isinstance(entry, ast.Constant)}
        attributes = {side.attr for side in sides if isinstance(side, ast.Attribute)}
        yield ast.unparse(node), {word for word in words if isinstance(word, str)}, attributes


def name_faults(module, tree):
    names = set(every_name()) - OTHERWISE
    for text, words, attributes in compared(tree):
        if (words & names or (words and attributes & TAGS)) and text not in THEIR_OWN.get(module, ()):
            yield f"{module}: {text}"


def test_no_name_of_an_engine_a_task_or_a_term_is_compared_outside_the_registries():
    """Whoever needs to know asks the class: a new engine, task, kind of networks or of parent is named where
    it is registered alone."""
    trees = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in modules().items()}
    trees |= {
        path.stem: ast.parse(path.read_text(encoding="utf-8"))
        for path in (PACKAGE.parents[1] / "workflow").glob("*.py")
    }
    assert [fault for module, tree in trees.items() for fault in name_faults(module, tree)] == []
    written = {module: {text for text, *_ in compared(trees[module])} for module in THEIR_OWN}
    assert all(texts <= written[module] for module, texts in THEIR_OWN.items()), (
        "an exemption that nothing needs any more"
    )


def test_the_rules_of_the_workflow_name_none_either():
    words = "|".join(re.escape(name) for name in sorted(set(every_name()) - OTHERWISE))
    for path in (PACKAGE.parents[1] / "workflow" / "rules").glob("*.smk"):
        found = re.findall(
            rf"""(?:==|!=|\bin)\s*\(?["'](?:{words})["']|["'](?:{words})["']\s*(?:==|!=|\bin\b)""",
            path.read_text("utf-8"),
        )
        assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize(
    "line",
    [
        *(
            'recipe.engine == "matching"',
            'recipe.requires != "clip"',
            'networks.kind in ("queue", "trained")',
            'name not in {"dm", "dc"}',
        ),
        *(
            '"random" == request.method',
            'spec.draw == "accuracy_by_step"',
            'cell.task.folder == "condense"',
            'recipe.engine == "my_new_engine"',
        ),
        *(
            'spec.draw.startswith("embedding_map")',
            'parent.file == "bank"',
            'spec.source.kind == "sklearn_digits"',
        ),
    ],
)
def test_a_comparison_on_a_name_is_seen(line):
    assert list(name_faults("somewhere", ast.parse(line))) == [f"somewhere: {ast.unparse(ast.parse(line))}"]


def test_no_class_of_an_engine_a_task_or_of_networks_is_asked_for_outside_its_own_module():
    """`isinstance` of such a class is a comparison on its name. A function of an engine may say so of the
    recipes that it is given."""
    kinds = [
        *get_args(specs.AnyRecipe),
        *get_args(specs.AnyTask),
        *get_args(specs.AnyNetworks),
        *get_args(specs.AnyTerm),
        *PARENTS.values(),
    ]
    names = {kind.__name__: kind.__module__.removeprefix("condense.") for kind in kinds}
    own = {
        specs.ENGINES[name].__name__: function.__module__.removeprefix("condense.")
        for name, function in ENGINES.items()
    }
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("isinstance", "issubclass")
            ):
                asked = {
                    entry.attr if isinstance(entry, ast.Attribute) else getattr(entry, "id", "")
                    for entry in ast.walk(node.args[1])
                }
                for name in asked & names.keys():
                    assert module in (names[name], own.get(name)), f"{module}: {ast.unparse(node)}"


def test_what_is_named_twice_because_of_the_floors_is_named_alike():
    assert {kind_of(kind) for kind in get_args(specs.AnyNetworks)} == set(SOURCES)
    assert set(get_args(Required)) == set(BROUGHT) == set(CRITICS)
    assert set(get_args(Drawing)) == set(DRAWINGS) == set(DRAW)
    kinds = {"sklearn_digits", "parquet", "image_folder"}
    assert set(OPENERS) == {*TORCHVISION.values(), *ARCHIVES, *kinds}


@dataclass(frozen=True)
class _Nameless:
    """A class of which its author forgot the name."""

    kind: str = "nameless"


@dataclass(frozen=True)
class _Named:
    kind: Literal["named"] = "named"


@dataclass(frozen=True)
class _Likewise:
    kind: Literal["named"] = "named"


def test_a_registry_tells_of_a_class_without_a_name_of_its_own():
    assert by_name((_Named,), "kind") == {"named": _Named}
    with pytest.raises(TypeError, match='_Nameless: has no name .* kind: Literal\\["_nameless"\\]'):
        by_name((_Named, _Nameless), "kind")
    with pytest.raises(TypeError, match="_Likewise: kind 'named': _Named has it already"):
        by_name((_Named, _Likewise), "kind")


def test_an_engine_without_a_number_is_told():
    @dataclass(frozen=True, kw_only=True)
    class Numberless(Recipe):
        engine: Literal["numberless"]

    with pytest.raises(TypeError, match="Numberless: has no number"):
        engines_of((Numberless,))
