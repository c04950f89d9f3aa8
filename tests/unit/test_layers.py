"""The floors of the house, what the ground floor may load, and lists of names that stand twice because of
it."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import condense
from condense import specs
from condense.augment import siamese
from condense.config import UserError
from condense.engines import terms

PACKAGE = Path(condense.__file__).parent
GROUND = (
    "config files specs plan data.origin data.spec machine machine.checkout machine.drafts "
    "machine.fitting machine.gpus machine.locks machine.progress machine.runtime machine.seeds "
    "machine.slurm machine.terminal"
).split()
# Lower number = lower floor; the longest prefix of a module's name decides. A room may import from itself.
FLOORS = {
    **dict.fromkeys(GROUND, 0.0),
    "kernels": 0.5,
    **dict.fromkeys(["machine.graphs", "machine.transfer", "kernels.precision"], 0.6),
    **dict.fromkeys(["data", "models", "augment", "outside.torchfile"], 1.0),
    **dict.fromkeys(["discrepancy", "training"], 2.0),
    **dict.fromkeys(["networks", "outside", "select"], 2.5),
    "engines": 3.0,
    "evaluate": 4.0,
    **dict.fromkeys("report tracking jobs estimate".split(), 5.0),
    "command": 6.0,
}
# The package hands out its names on demand, from the floors where they live.
# What a network costs is read from a table; one that is not in it is counted, with torch.
LAZY = {
    "__init__": {"command.calling", "config", "evaluate.synthetic"},
    "plan.profiles": {"training.counting"},
}


def modules():
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def prefix(module):
    parts = module.removesuffix(".__init__").split(".")
    return next((name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in FLOORS), None)


def imported(path):
    """Modules of ours that a file imports, wherever in the file the import stands; not those for type
    checkers only."""
    known, found = modules(), set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "condense":
                ends = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
                found.add(
                    next((end for end in ends if end in known or f"{end}.__init__" in known), "__init__")
                )
    return found


def test_every_module_stands_on_a_floor():
    assert {name for name in modules() if prefix(name) is None} == {"__init__"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_from_floors_below(name):
    found = imported(modules()[name]) - LAZY.get(name, set())
    if name == "command.cli":
        return  # the roof imports what each verb needs, when it needs it
    own, floor = prefix(name), FLOORS.get(prefix(name), -1.0)
    if floor == 5.0:
        wrong = {other for other in found if FLOORS.get(prefix(other), 0) > 5.0}
    else:
        wrong = {
            other for other in found if prefix(other) != own and FLOORS.get(prefix(other), 0) >= floor > 0
        }
        wrong |= {other for other in found if floor <= 0 < FLOORS.get(prefix(other), 0)}
    assert not wrong, f"{name} (floor {floor}) imports {sorted(wrong)}"


def test_no_module_imports_itself_through_others_at_import_time():
    """Modules of floor 5 may use each other, but not in a circle."""
    edges = {
        name: {other for other in imported(path) if other in modules() and other != name}
        for name, path in modules().items()
    }
    edges = {name: others - LAZY.get(name, set()) for name, others in edges.items()}
    edges["__init__"] = set()
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a circle: {' -> '.join([*path, name])}"
        if name not in done:
            path.append(name)
            for other in edges.get(name, ()):
                visit(other)
            path.pop()
            done.add(name)

    for name in edges:
        visit(name)


HEAVY = "torch numpy pandas snakemake dvc mlflow sklearn scipy matplotlib torchvision PIL".split()


@pytest.mark.parametrize(
    "name", ["condense", "condense.command.cli", *(f"condense.{module}" for module in GROUND)]
)
def test_the_ground_floor_loads_nothing_heavy(name):
    code = f"import sys, {name}; print(*[heavy for heavy in {HEAVY} if heavy in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_planning_a_whole_scale_loads_nothing_heavy():
    code = (
        "import sys; from condense.plan.tables import Plan; Plan('quick').metrics; print(*[h for h in "
        f"{HEAVY} if h in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parents[1]
    )
    assert done.stdout.split() == []


def test_functions_and_classes_that_others_use_say_what_they_do():
    silent = [
        f"{module}: {node.name}"
        for module, path in modules().items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == [], "without a docstring"


def test_no_function_is_longer_than_a_screen_or_two():
    """Those of the workflow, too; a hundred lines leave room for signatures and docstrings."""
    places = {**modules(), **{path.stem: path for path in (PACKAGE.parents[1] / "workflow").glob("*.py")}}
    long = [
        f"{module}: {node.name}, {node.end_lineno - node.lineno + 1} lines"
        for module, path in places.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= 75
    ]
    assert long == []


def test_lists_of_names_equal_the_registries():
    assert set(specs.TERMS) == set(terms.TERMS)
    assert set(specs.AUGMENTATIONS) == set(siamese.OPERATIONS)


def descendants(kind):
    """The classes derived from `kind`, each once."""
    return list(
        dict.fromkeys(found for child in kind.__subclasses__() for found in [child, *descendants(child)])
    )


def test_a_term_is_one_class_with_one_name():
    kinds = [kind for kind in descendants(specs.Term) if kind.__module__.startswith(specs.terms.__name__)]
    named = {kind: get_args(get_type_hints(kind)["name"]) for kind in kinds if "name" in get_type_hints(kind)}
    assert {kind: (name,) for name, kind in specs.TERMS.items()} == named


def test_only_the_registries_name_terms():
    """Whoever else asks a term what it needs: a list of names elsewhere would have to be kept in step by
    hand."""
    names = {name for name in specs.TERMS if "_" in name}  # 'mean' and the like are names of other things too
    registries = {name for name in modules() if name.startswith("specs.terms.")} | {"engines.terms"}
    for module, path in modules().items():
        constants = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
        }
        assert module in registries or not names & constants, module


def test_a_term_without_a_function_is_told_by_its_name():
    with pytest.raises(UserError, match="unknown term 'gramm'; did you mean 'gram'"):
        terms.objective("gramm")


def test_the_schedules_a_weight_may_name_exist():
    for name in terms.SCHEDULES:
        assert specs.Weight(name).schedule == name
    with pytest.raises(UserError, match="linear_decay"):
        terms.weight_at(specs.Weight("linear_dekay"), 0, 10)
