"""Building cells as a scale wants them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from condense.config import UserError, naming, unknown
from condense.data.spec import load_spec
from condense.files.artifacts import canonical, digest
from condense.plan.cells import MetricsCell, SyntheticCell
from condense.plan.datasets import DataCell, classes_of
from condense.plan.labels import LabelsCell
from condense.plan.parents import PARENTS, ParentCell
from condense.plan.profiles import require_architecture
from condense.specs import DEFAULT_TASK, Protocol, Recipe, Scale, Task, catalogue
from condense.specs.changes import laid_over
from condense.specs.common import Ipc
from condense.specs.labels import STORED
from condense.specs.tasks.base import ClassSteps


@catalogue.ByFolders
def data_cell(dataset: str) -> DataCell:
    """The cell of the dataset `params/datasets/{dataset}.yaml`."""
    if dataset not in catalogue.names_in("datasets"):
        raise unknown("dataset", dataset, catalogue.names_in("datasets"))
    return DataCell(load_spec(catalogue.file_of("datasets", dataset)))


def _require_images(recipe: Recipe, data: DataCell, ipc: Ipc) -> None:
    """Raises UserError for more images a class than the smallest class allows, and for cells of a formation
    in which nothing would be left."""
    where, spec = f"{recipe.name} on {data.name}", data.spec
    if ipc == "full" or not 1 <= recipe.images_needed(ipc) <= spec.smallest_class:
        smaller = range(ipc - 1, 0, -1) if ipc != "full" else ()
        most = next((n for n in smaller if recipe.images_needed(n) <= spec.smallest_class), 0)
        raise UserError(
            f"{where}: {recipe.asked(ipc)}, but its smallest class has {spec.smallest_class} images; "
            + (f"ask for at most {most}" if most else "choose another method")
        )
    decode = getattr(recipe, "decode", None)
    if decode and spec.size < 2 * decode.factor:
        raise UserError(
            f"{where}: decode: factor {decode.factor}: of {spec.size} pixels less than two would be left to "
            "a cell"
        )


def changed_protocol(name: str, *changes: tuple[str, Mapping[str, Any]]) -> Protocol:
    """The protocol `name` with each of `changes` (where, change) laid over it; what depends on a set that is
    judged is left as it is."""
    value = catalogue.protocol(name)
    for where, change in changes:
        if change:
            value = laid_over(value, change, where)
    return value


def require_architectures(of_arch: Iterable[str], where: str) -> None:
    """Raises UserError, beginning with `where`, for a name in `of_arch` that no architecture has."""
    for name in of_arch:
        require_architecture(name, f"{where}: of_arch")


def judge_of(
    protocol: Protocol,
    dataset: str,
    ipc: int,
    arch: str,
    changes: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> Protocol:
    """`catalogue.resolve_protocol`, which no architecture that there is not slips past."""
    require_architectures(protocol.of_arch, f"protocol {protocol.name}")
    for where, change in changes:
        require_architectures(change.get("of_arch", {}), where)
    return catalogue.resolve_protocol(protocol, dataset, ipc, arch, changes)


def _require_labels(judge: Protocol, changes: Mapping[str, Any], where: str) -> None:
    """Raises UserError for changes that say whose labels `judge` takes where it compares with classes."""
    changed = "loss" in changes or judge.loss.labels != "hard"
    if changes.get("labels") is None or changed:
        return
    serve = [name for name in catalogue.names_in("protocols") if catalogue.protocol(name).labels]
    raise UserError(
        f"{where}: labels: are for judges that learn from soft labels, and '{judge.name}' compares with "
        f"classes alone: condense the set by itself (`condense synthesize --help`), and judge it by one of "
        f"{', '.join(serve)} (`condense judge --help`)"
    )


class Maker:
    """Builds cells as a scale wants them: its steps, epochs, architecture options and counts."""

    def __init__(self, scale: Scale):
        self.scale = scale
        self.where = catalogue.file_of("scales", scale.name)
        self._recipes: dict[str, Recipe] = {}

    def options(self, arch: str, dataset: str) -> str:
        """The options of an architecture for images of `dataset`, as JSON."""
        given = self.scale.architectures
        chosen = dict(given.get(arch, {}))
        for name in catalogue.lineage(dataset):
            chosen |= given.get(f"{arch}/{name}", {})
        return canonical(chosen)

    def protocol(self, name: str, *changes: tuple[str, Mapping[str, Any]]) -> Protocol:
        """The protocol with the changes of the scale and `changes` (where, change) laid over it; what depends
        on a set that is judged is left as it is."""
        return changed_protocol(name, *self._changes(name, changes))

    def judge_of(
        self, name: str, data: DataCell, ipc: Ipc, arch: str, *changes: tuple[str, Mapping[str, Any]]
    ) -> Protocol:
        """The same as it judges sets of `data` with `ipc` images a class by networks of `arch`."""
        number = data.spec.smallest_class if ipc == "full" else ipc
        laid = self._changes(name, changes)
        return judge_of(catalogue.protocol(name), data.settings_of, number, arch, laid)

    def _changes(
        self, name: str, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> list[tuple[str, Mapping[str, Any]]]:
        own = (f"{self.where}: protocols: {name}", self.scale.protocols.get(name, {}))
        return [entry for entry in (own, *changes) if entry[1]]

    def recipe(self, method: str, data: DataCell, ipc: Ipc, change: Mapping[str, Any]) -> Recipe:
        """The resolved recipe: defaults < recipe < its overrides < scale < cell."""
        marker = digest([method, data.settings_of, ipc, dict(change)], 32)
        if marker not in self._recipes:
            base = catalogue.recipe(method)
            # Of changes for all recipes of an engine it is said which of them they do not fit
            names = {base.engine: f"{base.engine}, of {method}", method: method}
            layers = [
                (f"{self.where}: recipes: {told}", self.scale.recipes.get(name, {}))
                for name, told in names.items()
            ]
            number = data.spec.smallest_class if ipc == "full" else ipc
            layers = [
                layer for layer in [*layers, (f"settings laid over {method}", dict(change))] if layer[1]
            ]
            self._recipes[marker] = catalogue.resolve(
                base, data.settings_of, data.spec.strategy, number, layers
            )
        return self._recipes[marker]

    def parent(self, kind: str, data: DataCell, arch: str, seed: int = 0, **settings: Any) -> ParentCell:
        """The cell of what sets of `data` need beforehand, of a kind of `PARENTS`, with that kind's own
        settings."""
        if kind not in PARENTS:
            raise unknown("parent", kind, PARENTS)
        if "protocol" in settings:
            settings["protocol"].require_resolved()
        return PARENTS[kind](data, arch, self.options(arch, data.settings_of), seed, **settings)

    def teacher(self, data: DataCell, arch: str, protocol: str) -> ParentCell:
        """The classifier pretrained by `protocol`; one serves the sets of all seeds."""
        return self.parent(
            "teacher", data, arch, protocol=self.protocol(protocol), strategy=data.spec.strategy
        )

    def synthetic(
        self,
        dataset: str | DataCell,
        method: str,
        arch: str,
        ipc: Ipc,
        seed: int,
        change: Mapping[str, Any] = {},  # noqa: B006
        steps: ClassSteps | None = None,
    ) -> SyntheticCell:
        """The cell of one synthetic set. Raises UserError if the smallest class has too few images for ipc.

        Where its classes come in `steps`, and what is made of a class depends on others, it is put together
        of a set for each step, made from the classes of that step alone.
        """
        data = dataset if isinstance(dataset, DataCell) else data_cell(dataset)
        recipe = self.recipe(method, data, ipc, change)
        if not recipe.makes_set:
            return SyntheticCell(data, recipe, "none", "{}", "full", 0)
        _require_images(recipe, data, ipc)
        if ipc != "full":
            recipe.check_ipc(ipc)
        with naming(method):
            asked = {
                name: parent.cell(self, data, arch, seed, recipe.number_of_steps)
                for name, parent in recipe.parents().items()
            }
        parents = {name: cell for name, cell in asked.items() if cell}
        asked_arch, arch = arch, recipe.arch_with(arch, parents)
        options = self.options(arch, data.settings_of)
        cell = SyntheticCell(data, recipe, arch, options, ipc, seed, parents, self.scale.stored)
        if steps is None or cell.class_by_class:
            return cell
        of = [classes_of(data, tuple(sorted(step))) for step in steps]
        joins = tuple(self.synthetic(part, method, asked_arch, ipc, seed, change) for part in of)
        return replace(cell, parents={}, joins=joins)

    def metrics(
        self,
        synthetic: SyntheticCell,
        eval_arch: str,
        protocol: str,
        n_networks: int | None = None,
        task: Task = DEFAULT_TASK,
        sets: Mapping[str, SyntheticCell] = {},  # noqa: B006
    ) -> MetricsCell:
        """The cell of what `task` gives of `synthetic`, and of its further `sets` by name, by networks of
        `eval_arch`."""
        if task.reads == "recipe":
            return self._of_recipe(synthetic, protocol, task)
        changes = []
        if given := synthetic.recipe.evaluation:
            where = f"{catalogue.file_of('methods', synthetic.recipe.name)}: evaluation"
            _require_labels(self.protocol(protocol), given, where)
            changes.append((where, given))
        if eval_arch in self.scale.epochs_of:
            changes.append((f"{self.where}: epochs_of", {"epochs": self.scale.epochs_of[eval_arch]}))
        if not synthetic.recipe.makes_set:
            changes.append((f"{self.where}: whole", self.scale.whole))
        data = synthetic.data
        chosen = self.judge_of(protocol, data, synthetic.ipc, eval_arch, *changes)
        options = json.loads(self.options(eval_arch, data.settings_of)) | task.network_options
        asked = {name: need.cell(self, data, eval_arch, 0, 0) for name, need in task.needs(chosen).items()}
        if STORED in asked:
            asked[STORED] = self._stored_labels(synthetic, chosen, eval_arch, task)
        # There cannot be more passes than epochs
        tests = min(self.scale.follow, chosen.epochs)
        return MetricsCell(
            task.followed(tests) if tests else task,
            synthetic,
            eval_arch,
            canonical(options),
            chosen,
            n_networks or self.scale.networks_at(synthetic.ipc),
            dict(sets),
            {name: cell for name, cell in asked.items() if cell},
        )

    def _stored_labels(
        self, synthetic: SyntheticCell, protocol: Protocol, eval_arch: str, task: Task
    ) -> ParentCell:
        """The cell of the labels that the observers of a protocol give a set beforehand. Raises UserError
        where networks are trained on something else than the finished set."""
        data = synthetic.data
        if not synthetic.recipe.makes_set or task.reads != "synthetic" or task.trained_on != "set":
            on = (task.of_a_set if task.reads != "synthetic" else "") or "the whole training set"
            raise UserError(
                f"protocol {protocol.name}: stores the labels of finished sets, and the task '{task.kind}' "
                f"of '{synthetic.recipe.name}' trains networks on {on}; choose a protocol without `stored: "
                "true` for it, or leave it out"
            )
        needs = protocol.observers.items()
        asked = {name: need.cell(self, data, eval_arch, 0, 0) for name, need in needs}
        observers = {name: cell for name, cell in asked.items() if cell}
        settings = {"protocol": protocol, "strategy": data.spec.strategy, "synthetic": synthetic.path}
        of_set = {"set_key": synthetic.key, "images": synthetic.images_trained, "observers": observers}
        arch = next(iter(observers.values())).arch
        return self.parent(LabelsCell.kind, data, arch, synthetic.seed, **settings, **of_set)

    def _of_recipe(self, synthetic: SyntheticCell, protocol: str, task: Task) -> MetricsCell:
        """The cell of what `task` gives of the recipe of a set, run with the network and with what is made
        before the set."""
        made_with = dict(synthetic.parents)
        chosen = self.judge_of(protocol, synthetic.data, synthetic.ipc, synthetic.arch)
        return MetricsCell(task, synthetic, synthetic.arch, synthetic.options, chosen, 1, parents=made_with)
