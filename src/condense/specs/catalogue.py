"""Reading the YAML files under `params/`, and resolving a recipe for one cell.

Floor 0. Later wins: defaults < recipe < its overrides in file order < scale < cell; the overrides of a scale
or cell lie over its other settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from condense.config import UserError, convert, load_yaml, unknown
from condense.machine.checkout import project_file
from condense.machine.runtime import note
from condense.specs import KINDS_OF_TABLES, STAGES, AnyTable, Protocol, Recipe, Scale, engines
from condense.specs.changes import laid_over
from condense.specs.common import condition_holds

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
OWN_PARAMS = "CONDENSE_PARAMS"  # environment variable: a folder of one's own, laid out as `params/`
ANY = "any"  # in overrides: of whatever dataset
BASELINE = "random"  # the method that others are compared with
BASELINES = (BASELINE, "herding")  # that stand beside measured accuracies, under the same judge
DEFAULT_METHOD = "best"  # of whoever names none
WHOLE = "whole"  # the method that stands for the whole training set
_KINDS = ("methods", "datasets", "protocols", "scales", "tables")


def params_folder() -> Path:
    """`params/` of the checkout one works in, else of the one this package runs from, else the copy in the
    installed package."""
    here = Path("params")
    # A folder of that name with some kinds alone is one's own, for CONDENSE_PARAMS to name
    folder = here if all((here / kind).is_dir() for kind in _KINDS) else project_file(here)
    if not (folder / "methods").is_dir():
        raise UserError(
            f"{folder.resolve()}: the folder with the recipes is not there; run the command in a checkout of "
            "the project"
        )
    return folder


def own_params() -> Path | None:
    """The folder that CONDENSE_PARAMS names, whose files come before those of `params/`; None if it is not
    set.

    Raises UserError for a folder that holds none of the kinds.
    """
    text = os.environ.get(OWN_PARAMS)
    if not text:
        return None
    folder = Path(text).expanduser()
    if not any((folder / kind).is_dir() for kind in _KINDS):
        raise UserError(
            f"environment variable {OWN_PARAMS}: '{text}' holds no folder named {', '.join(_KINDS[:-1])} or "
            f"{_KINDS[-1]}"
        )
    return folder


def _folders() -> list[Path]:
    return [folder for folder in (own_params(), params_folder()) if folder]


def names_in(kind: str) -> list[str]:
    """Names of the YAML files of a kind ("methods", "datasets", ...), one's own among them, sorted."""
    # Asked for thousands of times while a scale is planned, which globbing is too slow for
    folders = [folder / kind for folder in _folders() if (folder / kind).is_dir()]
    files = {name for folder in folders for name in os.listdir(folder)}
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def file_of(kind: str, name: str) -> Path:
    """The YAML file `{kind}/{name}.yaml`: one's own, else that of `params/`. Says so where there are both."""
    paths = [folder / kind / f"{name}.yaml" for folder in _folders()]
    there = [path for path in paths if path.is_file()]
    if len(there) > 1:
        note(f"{there[0]} is read in place of {there[1]}, since {OWN_PARAMS} names the folder of the first")
    return there[0] if there else paths[-1]


class ByFolders(Generic[Asked, Found]):
    """A reader that reads a thing once as long as the folders of settings, one's own and `params/`, are the
    same ones."""

    def __init__(self, reader: Callable[Asked, Found]):
        @cache
        def found(place: tuple[str | None, str, bool], *args: Any, **kwargs: Any) -> Found:
            return reader(*args, **kwargs)

        self._found: Callable[..., Found] = found
        self.cache_clear = found.cache_clear
        update_wrapper(self, reader)

    def __call__(self, *args: Asked.args, **kwargs: Asked.kwargs) -> Found:
        # What `_folders` goes by; the folders themselves would take longer than most of what is asked for
        place = (os.environ.get(OWN_PARAMS), os.getcwd(), os.path.isdir("params/methods"))
        return self._found(place, *args, **kwargs)


def _load(kind: str, name: str, shape: Any, noun: str) -> Any:
    known = names_in(kind)
    if name not in known:
        for path in (folder / kind / f"{name}.yml" for folder in _folders()):
            if path.exists():
                raise UserError(f"{path}: settings are read from files called .yaml; rename it")
        raise unknown(noun, name, known)
    path = file_of(kind, name)
    value = convert(shape, load_yaml(path), str(path))
    if getattr(value, "name", name) != name and shape not in KINDS_OF_TABLES.values():
        raise UserError(f"{path}: name: is '{value.name}', but the file is called '{name}'")
    return value


@ByFolders
def recipe(name: str) -> Recipe:
    """The recipe `params/methods/{name}.yaml`. Raises UserError for an unknown name or a fault in the
    file."""
    value = _load("methods", name, engines.AnyRecipe, "method")
    _check_overrides(value, value.overrides, str(file_of("methods", name)))
    if value.otherwise is not None and value.otherwise not in (known := names_in("methods")):
        raise unknown("method", value.otherwise, known, f"{file_of('methods', name)}: otherwise")
    return value


@ByFolders
def protocol(name: str) -> Protocol:
    """The protocol `params/protocols/{name}.yaml`. Raises UserError for an unknown name or a fault in the
    file."""
    value: Protocol = _load("protocols", name, Protocol, "protocol")
    check_protocol(value, str(file_of("protocols", name)))
    return value


def check_protocol(value: Protocol, where: str) -> None:
    """Raises UserError, beginning with `where`, for observers that are trained by no protocol there is, and
    for changes as `check_changes` does."""
    check_changes(value, where)
    for need in value.observers.values():
        if need.protocol not in (known := names_in("protocols")):
            raise unknown("protocol", need.protocol, known, f"{where}: labels: observers")


@ByFolders
def scale(name: str) -> Scale:
    """The scale `params/scales/{name}.yaml`. Raises UserError also for a name in it that nothing has: it
    would change nothing."""
    value = _load("scales", name, Scale, "scale")
    methods = names_in("methods")
    named = {
        "recipes": ("method or engine", value.recipes, [*engines.ENGINES, *methods]),
        "protocols": ("protocol", value.protocols, names_in("protocols")),
        "methods": ("method", value.methods or (), methods),
        "scores": ("protocol", value.scores.protocols, names_in("protocols")),
        "scores: own": ("method", value.scores.own, methods),
        "ipc_of": ("method", value.ipc_of, methods),
        "whole": ("setting", value.whole, [entry.name for entry in fields(Protocol)]),
        "classes_per_job_of": ("method", value.classes_per_job_of, methods),
        "resources": ("stage", value.resources, STAGES),
        "datasets": ("dataset", value.dataset_names, names_in("datasets")),
        "architectures": (
            "dataset",
            [name.partition("/")[2] for name in value.architectures if "/" in name],
            names_in("datasets"),
        ),
    }
    for key, (noun, names, known) in named.items():
        for entry in names:
            if entry not in known:
                raise unknown(noun, entry, known, f"{file_of('scales', name)}: {key}")
    return value


@ByFolders
def table(name: str) -> AnyTable:
    """The spec of a table, figure or table of settings `params/tables/{name}.yaml`."""
    if name not in names_in("tables"):
        raise unknown("table", name, names_in("tables"))
    path = file_of("tables", name)
    kind = load_yaml(path).get("kind")
    if not isinstance(kind, str) or kind not in KINDS_OF_TABLES:
        raise unknown("kind", str(kind), KINDS_OF_TABLES, str(path))
    return _load("tables", name, KINDS_OF_TABLES[kind], "table")


_CHANGES = ("overrides", "of_arch")  # settings that say what others are in which case


def check_changes(value: Protocol, where: str) -> None:
    """Raises UserError, beginning with `where`, for changes of a protocol that could not be laid over it, or
    that would never be."""
    _check_overrides(value, value.overrides, where)
    _check_of_arch(value, value.of_arch, where)


def _check_overrides(base: Recipe | Protocol, overrides: Any, where: str) -> None:
    """Raises UserError for overrides that could not be laid over `base`, or that would never be."""
    laid_over(base, {"overrides": overrides}, where)  # their form
    for dataset, conditions in overrides.items():
        if dataset not in (known := (ANY, *names_in("datasets"))):
            raise unknown("dataset", dataset, known, f"{where}: overrides")
        for condition, change in conditions.items():
            condition_holds(condition, 1, f"{where}: overrides: {dataset}")
            _check_change(base, change, f"{where}: overrides: {dataset}: {condition}")


def _check_of_arch(base: Recipe | Protocol, changes: Any, where: str) -> None:
    """The same of changes by architecture."""
    if not changes:
        return
    laid_over(base, {"of_arch": changes}, where)  # their form
    for arch, change in changes.items():
        _check_change(base, change, f"{where}: of_arch: {arch}")


def _check_change(base: Recipe | Protocol, change: Any, where: str) -> None:
    for name in _CHANGES:
        if name in change:
            raise UserError(f"{where}: cannot have {name} itself")
    laid_over(base, change, where)


def _conditional(
    overrides: Any, names: Sequence[str], ipc: int, where: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """What of `overrides` holds for one of `names` at `ipc`, as (where, change) in their order."""
    layers = []
    for name in names:
        for condition, change in overrides.get(name, {}).items():
            if condition_holds(condition, ipc, f"{where}: overrides: {name}"):
                layers.append((f"{where}: overrides: {name}: {condition}", change))
    return layers


@ByFolders
def lineage(dataset: str) -> tuple[str, ...]:
    """The datasets whose settings hold for `dataset`, each laid over those before it: what its YAML says that
    it is `like`, and itself. Raises UserError for one that is not there, or that leads back."""
    names = [dataset]
    while names[0] in names_in("datasets"):
        path = file_of("datasets", names[0])
        like = load_yaml(path).get("like")
        if like is None:
            break
        if like not in names_in("datasets"):
            raise unknown("dataset", str(like), names_in("datasets"), f"{path}: like")
        if like in names:
            raise UserError(f"{path}: like: '{like}' leads back to itself; name the original alone")
        names.insert(0, like)
    return tuple(names)


def resolve(
    base: Recipe, dataset: str, strategy: str, ipc: int, changes: list[tuple[str, dict[str, Any]]]
) -> Recipe:
    """`base` with its overrides for any dataset, then for those whose settings hold for `dataset`
    (`lineage`), at `ipc`, then each of `changes` (where, change), in order; a change may have overrides as
    well, which are laid over it.

    `strategy` names the augmentations that keep the labels of `dataset`; the recipe's own are cut to them.
    Raises UserError, beginning with where it stands, for a change that does not fit.
    """
    path = str(file_of("methods", base.name))
    value = _laid(base, dataset, ipc, "", changes, path)
    return laid_over(value, value.within(strategy), path)


def resolve_protocol(
    base: Protocol,
    dataset: str,
    ipc: int,
    arch: str,
    changes: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> Protocol:
    """`base` as it judges sets of `dataset` with `ipc` images a class by networks of `arch` ('': of any),
    with each of `changes` laid over it as over recipes (`resolve`), and over its overrides what `of_arch`
    says. Raises UserError, beginning with where it stands, for a change that does not fit."""
    value = _laid(base, dataset, ipc, arch, changes, f"protocol {base.name}")
    return replace(value, overrides={}, of_arch={})


def _laid(base: Any, dataset: str, ipc: int, arch: str, changes: Any, where: str) -> Any:
    """`base` with what holds of its own changes laid over it, and then each of `changes`, with what holds of
    theirs."""
    names = (ANY, *lineage(dataset))

    def conditional(said: Mapping[str, Any], where: str) -> list[tuple[str, Mapping[str, Any]]]:
        of_arch = said.get("of_arch", {}).get(arch)
        layers = _conditional(said.get("overrides", {}), names, ipc, where)
        return layers if of_arch is None else [*layers, (f"{where}: of_arch: {arch}", of_arch)]

    layers = conditional({name: getattr(base, name, {}) for name in _CHANGES}, where)
    for place, change in changes:
        _check_overrides(base, change.get("overrides", {}), place)
        _check_of_arch(base, change.get("of_arch", {}), place)
        layers.append((place, {key: value for key, value in change.items() if key not in _CHANGES}))
        layers += conditional(change, place)
    value = base
    for place, layer in layers:
        value = laid_over(value, layer, place)
    return value
