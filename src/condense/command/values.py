"""Values that the command line takes as text: JSON, recipes and protocols, ranges."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from condense.config import UserError, convert, load_yaml
from condense.data.spec import OWN_STRATEGY
from condense.files import read_dataset_header, read_set
from condense.files.artifacts import canonical, read_header
from condense.machine.terminal import tell
from condense.plan import data_cell, judge_of, require_architectures
from condense.specs import Protocol, Recipe, catalogue
from condense.specs.engines import AnyRecipe
from condense.specs.scale import FROM_DATA


def json_of(text: str, option: str) -> dict[str, Any]:
    """The object that `text` is as JSON. Raises UserError, beginning with `option`, for what is none."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
        canonical(value)  # raises for NaN and infinity, which Python reads but JSON does not know
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option}: '{text[:80]}' is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{option}: '{text[:80]}': a JSON object is needed")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key '{next(name for name in names if names.count(name) > 1)}' stands in it twice"
        )
    return value


def options_of(text: str) -> dict[str, Any]:
    """The options of an architecture; the shape of the images and the number of classes come from the
    data."""
    options = convert(dict[str, Any], json_of(text, "--options"), "--options")
    for name in FROM_DATA:
        if name in options:
            raise UserError(
                f"--options: '{name}' is no option of an architecture: it follows from the data and --arch"
            )
    return options


def settings_of(kind: Any, text: str, setting: str) -> Any:
    """Settings given as JSON or as a YAML file; a recipe, a protocol, or a task that needs no further
    settings also by name."""
    if text.lstrip().startswith("{"):
        value = convert(kind, json_of(text, f"--{setting}"), f"--{setting}")
        if isinstance(value, Protocol):
            catalogue.check_changes(value, f"--{setting}")
            require_architectures(value.of_arch, f"--{setting}")
        return value
    if text.endswith((".yaml", ".yml")):
        value = convert(kind, load_yaml(Path(text)), text)
        if isinstance(value, Protocol):
            catalogue.check_protocol(value, text)
            require_architectures(value.of_arch, text)
        return _not_another(value, setting, text)
    named: dict[str, Callable[[str], Any]] = {
        "recipe": catalogue.recipe,
        "protocol": catalogue.protocol,
        "task": lambda name: convert(kind, name, "--task"),
    }
    if setting not in named:
        raise UserError(f"--{setting}: JSON or a YAML file is needed, found '{text[:80]}'")
    return named[setting](text)


def _not_another(value: Any, setting: str, path: str) -> Any:
    """`value`. Raises UserError if it calls itself after a recipe or protocol of the project that it is not:
    results would say that they were that one's."""
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "recipe": ("methods", catalogue.recipe),
        "protocol": ("protocols", catalogue.protocol),
    }
    if setting in readers and value.name in catalogue.names_in(readers[setting][0]):
        known = readers[setting][1](value.name)
        if known.computed_part() != value.computed_part():
            raise UserError(
                f"{path}: name: '{value.name}' is a {setting} of the project with other settings; give this "
                "one a name of its own"
            )
    return value


def judge_of_set(
    protocol: Protocol, data: Path, arch: str, synthetic: Path | None, ipc: int | None = None
) -> Protocol:
    """`protocol` as it judges the set in the file `synthetic`, or `ipc` images a class, or (None, None) the
    whole training set of the folder `data`, by networks of `arch`."""
    if not (protocol.overrides or protocol.of_arch):
        return protocol
    train = read_dataset_header(data / "train.safetensors")
    if synthetic is not None:
        said = read_header(synthetic, "synthetic")
        ipc = said.get("ipc") or len(read_set(synthetic)[0]["labels"]) // len(train.class_names)
    return judge_of(protocol, train.dataset, ipc or min(train.counts), arch)


def recipe_of(text: str, data: Path, ipc: int) -> Recipe:
    """The recipe of `--recipe`: resolved settings as JSON, or a name or YAML file, which is then resolved
    for `ipc` of the prepared images `data`."""
    recipe: Recipe = settings_of(AnyRecipe, text, "recipe")
    if text.lstrip().startswith("{"):
        return recipe
    dataset = read_dataset_header(data).dataset
    return catalogue.resolve(recipe, dataset, _strategy_of(dataset)[0], ipc, [])


def strategy_of(given: str | None, data: Path, protocol: Protocol) -> str:
    """The augmentation that networks are trained under, where `protocol` has the one of the dataset: the one
    given, or that of the prepared images `data`. Images that no file describes are told of, and a strategy
    that changes nothing under `protocol`."""
    dataset = read_dataset_header(data).dataset
    strategy, known = _strategy_of(dataset)
    if given is not None:
        trained = protocol.operations_of(given)
        if given != strategy and trained == protocol.operations_of(strategy):
            tell(
                f"--strategy {given}: changes nothing; the protocol '{protocol.name}' trains under {trained}"
            )
        return given
    if not known and protocol.augment == "dataset":
        tell(
            f"{dataset}: no file describes it; the networks train under {strategy}; --strategy says otherwise"
        )
    return strategy


def _strategy_of(dataset: str) -> tuple[str, bool]:
    """The augmentation of a dataset, and whether a file describes it; others are taken for own images."""
    if dataset in catalogue.names_in("datasets"):
        return data_cell(dataset).spec.strategy, True
    return OWN_STRATEGY, False


def paths_of(texts: list[str], option: str) -> dict[str, Path]:
    """The files of ['teacher=a.safetensors', ...] by their names. Raises UserError for a text of another form
    and a name given twice."""
    paths: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (equals and path and re.fullmatch(r"[a-z0-9_]{1,80}", name)):
            raise UserError(f"{option}: NAME=FILE is needed, found '{text[:80]}'")
        if name in paths:
            raise UserError(f"{option}: '{name}' is given twice")
        paths[name] = home(Path(path))
    return paths


def place(text: str) -> Path:
    """The path that `text` is; a whole one for './digits' and 'digits/', which name no dataset."""
    path = Path(text)
    return path.absolute() if len(path.parts) == 1 and str(path) != text else path


def home(path: Path) -> Path:
    """`path` with `~` as a shell has it, which leaves it as it is within quotes and behind an equals sign."""
    try:
        return path.expanduser()
    except RuntimeError:  # of a user who is not known here
        return path


def range_of(text: str | None, option: str, needed: str) -> range | None:
    """The numbers of '3' or '0-4'; None for all of them, if the option was not given."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if last < first:
        raise UserError(f"{option}: {needed} or a range such as 0-4 is needed, found '{text[:80]}'")
    return range(first, last + 1)
