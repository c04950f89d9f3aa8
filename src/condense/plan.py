"""Cells: what can be made, under which key and path, from which parents.

Floor 0. A key is known before any job runs: it hashes everything that decides the bytes of a result (the resolved
recipe, the numbers of the mathematics, the dataset's description, the keys of the parents) and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from condense import recipes
from condense.artifacts import digest
from condense.config import UserError, merged, read, unknown
from condense.data.spec import DatasetSpec, load_spec
from condense.numerics import NUMERICS
from condense.ranges import ranges
from condense.specs import Protocol, Recipe, Scale

RESULTS = PurePosixPath("results")
# Batch statistics tie the classes of a batch together: with these networks a set is condensed in one shard.
BATCH_NORM_ARCHITECTURES = frozenset(
    "convnet_bn alexnet_bn vgg11_bn resnet18_bn resnet18_ap_bn wrn_16_2 wrn_40_2 mobilenet_v2 shufflenet_v2_x0_5 tv_densenet121"
    " tv_efficientnet_b0 tv_mobilenet_v2 tv_resnet18 tv_resnet50 tv_resnet101 tv_shufflenet_v2_x0_5".split()
)


CLIP_WEIGHTS = "CONDENSE_CLIP"  # environment variable: the safetensors file with the weights of the CLIP critic
CLIP_MODEL = "CONDENSE_CLIP_MODEL"  # environment variable: open_clip's name of the model, or a JSON file with its configuration


@cache
def clip_identity() -> str:
    """Which CLIP model is the critic: its name and configuration, and its weights, known by their size and their first MiB."""
    model, weights = os.environ.get(CLIP_MODEL, ""), Path(os.environ.get(CLIP_WEIGHTS, ""))
    configuration = Path(model).read_text(encoding="utf-8") if Path(model).is_file() else model
    if not weights.is_file():
        return digest([configuration, None])
    with open(weights, "rb") as file:
        start = hashlib.sha256(file.read(1 << 20)).hexdigest()
    return digest([configuration, weights.stat().st_size, start])


def has_batch_norm(arch: str, options: str) -> bool:
    """Whether an architecture with these options (JSON) ties the images of a batch together."""
    norm = json.loads(options).get("norm")
    return norm == "batch" if norm else arch in BATCH_NORM_ARCHITECTURES


@dataclass(frozen=True)
class DataCell:
    """A prepared dataset: `{folder}/train.safetensors` and `{folder}/test.safetensors`."""

    spec: DatasetSpec

    @property
    def name(self) -> str:
        return self.spec.name

    @cached_property
    def key(self) -> str:
        return digest([self.spec.identity(), NUMERICS["data"]])

    @property
    def folder(self) -> str:
        return str(RESULTS / "data" / self.name / self.key)

    @property
    def train(self) -> str:
        return f"{self.folder}/train.safetensors"

    @property
    def test(self) -> str:
        return f"{self.folder}/test.safetensors"


@dataclass(frozen=True)
class TeacherCell:
    """A classifier pretrained on the whole training set."""

    data: DataCell
    arch: str
    options: str  # canonical JSON of the architecture's options
    protocol: Protocol
    seed: int = 0

    @cached_property
    def key(self) -> str:
        parts = [self.data.key, self.data.spec.strategy, self.arch, self.options, _computed(self.protocol), self.seed]
        return digest([*parts, NUMERICS["teachers"]])

    @property
    def path(self) -> str:
        folder = RESULTS / "teachers" / self.data.name / self.arch / self.protocol.name
        return str(folder / f"seed{self.seed}-{self.key}" / "teacher.safetensors")


@dataclass(frozen=True)
class SyntheticCell:
    """One synthetic set. `arch` is 'none' for methods without a network, `ipc` 'full' for the whole set."""

    data: DataCell
    recipe: Recipe
    arch: str
    options: str
    ipc: int | str
    seed: int
    teacher: TeacherCell | None = None

    @cached_property
    def key(self) -> str:
        parents = [self.data.key] + ([self.teacher.key] if self.teacher else [])
        parents += [clip_identity()] if self.recipe.requires == "clip" else []
        numerics = NUMERICS["matching" if self.recipe.engine == "matching" else "select"]
        return digest([recipes.computed_part(self.recipe), numerics, self.arch, self.options, self.ipc, self.seed, parents])

    @property
    def place(self) -> str:
        """The part of the paths that shards, sets and metrics of this cell share."""
        return f"{self.data.name}/{self.recipe.name}/{self.arch}/ipc{self.ipc}/seed{self.seed}-{self.key}"

    @property
    def folder(self) -> str:
        return str(RESULTS / "synthetic" / self.place)

    @property
    def path(self) -> str:
        return f"{self.folder}/synthetic.safetensors"

    @property
    def snapshots(self) -> str:
        return f"{self.folder}/snapshots.safetensors"

    def shards(self, classes_per_job: int | None) -> list[str]:
        """Class ranges 'first-last' that are condensed as separate jobs; one for recipes that couple the classes."""
        total = self.data.spec.classes
        coupled = "classes" in self.recipe.couples or has_batch_norm(self.arch, self.options)
        step = total if classes_per_job is None or coupled or self.recipe.engine != "matching" else classes_per_job
        return ranges(total, step)

    def shard_path(self, shard: str) -> str:
        return str(RESULTS / "shards" / self.place / f"classes{shard}.safetensors")


@dataclass(frozen=True)
class MetricsCell:
    """Networks trained on one synthetic set (or on the whole set) and tested. `task` is 'condense' or 'snapshots'."""

    task: str
    synthetic: SyntheticCell
    eval_arch: str
    options: str
    protocol: Protocol
    n_networks: int

    @cached_property
    def key(self) -> str:
        parts = [self.synthetic.key, self.synthetic.data.spec.strategy, self.eval_arch, self.options, _computed(self.protocol)]
        return digest([*parts, self.n_networks, NUMERICS["evaluate"]])

    @property
    def place(self) -> str:
        """The part of the paths that the metrics and their parts share."""
        return f"{self.task}/{self.synthetic.place}/{self.eval_arch}-{self.protocol.name}-{self.key}"

    @property
    def path(self) -> str:
        return f"{RESULTS}/metrics/{self.place}.json"

    def parts(self, networks_per_job: int | None) -> list[str]:
        """Ranges 'first-last' of networks that are trained as separate jobs."""
        return ranges(self.n_networks, networks_per_job or self.n_networks)

    def part_path(self, part: str) -> str:
        return f"{RESULTS}/parts/{self.place}/networks{part}.json"


def _computed(protocol: Protocol) -> dict[str, Any]:
    return {key: value for key, value in asdict(protocol).items() if key not in ("title", "source")}


@cache
def data_cell(dataset: str) -> DataCell:
    """The cell of the dataset `params/datasets/{dataset}.yaml`."""
    if dataset not in recipes.names_in("datasets"):
        raise unknown("dataset", dataset, recipes.names_in("datasets"))
    return DataCell(load_spec(recipes.params_folder() / "datasets" / f"{dataset}.yaml"))


def changed_protocol(name: str, *changes: tuple[str, Mapping[str, Any]]) -> Protocol:
    """The protocol `name` with each of `changes` (where, change) laid over it."""
    value = recipes.protocol(name)
    for where, change in changes:
        if change:
            value = read(Protocol, merged(asdict(value), dict(change)), where)
    return value


class Maker:
    """Builds cells as a scale wants them: its steps, epochs, architecture options and counts."""

    def __init__(self, scale: Scale):
        self.scale = scale
        self._recipes: dict[str, Recipe] = {}

    def options(self, arch: str) -> str:
        from condense.artifacts import canonical

        return canonical(self.scale.architectures.get(arch, {}))

    def protocol(self, name: str, *changes: tuple[str, Mapping[str, Any]]) -> Protocol:
        where = f"scale {self.scale.name}: protocols: {name}"
        return changed_protocol(name, (where, self.scale.protocols.get(name, {})), *changes)

    def recipe(self, method: str, data: DataCell, ipc: int | str, change: Mapping[str, Any]) -> Recipe:
        """The resolved recipe: defaults < recipe < its overrides < scale < cell."""
        marker = digest([method, data.name, ipc, dict(change)], 32)
        if marker not in self._recipes:
            base = recipes.recipe(method)
            names = [base.engine, method]
            layers = [(f"scale {self.scale.name}: recipes: {name}", self.scale.recipes.get(name, {})) for name in names]
            number = data.spec.smallest_class if ipc == "full" else int(ipc)
            layers = [layer for layer in [*layers, (f"cell of {method}", dict(change))] if layer[1]]
            self._recipes[marker] = recipes.resolve(base, data.name, data.spec.strategy, number, layers)
        return self._recipes[marker]

    def teacher(self, data: DataCell, arch: str, protocol: str, seed: int = 0) -> TeacherCell:
        return TeacherCell(data, arch, self.options(arch), self.protocol(protocol), seed)

    def synthetic(self, dataset: str | DataCell, method: str, arch: str, ipc: int | str, seed: int, change: Mapping = {}) -> SyntheticCell:  # noqa: B006
        """The cell of one synthetic set. Raises UserError if ipc exceeds the smallest class."""
        data = dataset if isinstance(dataset, DataCell) else data_cell(dataset)
        recipe = self.recipe(method, data, ipc, change)
        if recipe.engine == "whole":
            return SyntheticCell(data, recipe, "none", "{}", "full", 0)
        if ipc == "full" or not 1 <= int(ipc) <= data.spec.smallest_class:
            raise UserError(f"{method} on {data.name}: ipc {ipc} asked for, but its smallest class has {data.spec.smallest_class} images")
        teacher = None
        if recipe.teacher:
            teacher = self.teacher(data, recipe.teacher.arch or arch, recipe.teacher.protocol)
        if recipe.engine == "select":
            # A selection does not condense with a network: its only one is the teacher's.
            arch = teacher.arch if teacher else "none"
        return SyntheticCell(data, recipe, arch, self.options(arch), int(ipc), seed, teacher)

    def metrics(self, synthetic: SyntheticCell, eval_arch: str, protocol: str, n_networks: int | None = None) -> MetricsCell:
        """The cell of the evaluation of `synthetic` by `eval_arch`."""
        changes = [(f"recipe {synthetic.recipe.name}: evaluation", synthetic.recipe.evaluation)]
        if synthetic.recipe.engine == "whole":
            changes.append((f"scale {self.scale.name}: whole", self.scale.whole))
        chosen = self.protocol(protocol, *changes)
        return MetricsCell("condense", synthetic, eval_arch, self.options(eval_arch), chosen, n_networks or self.scale.n_networks)

    def curve(self, synthetic: SyntheticCell, eval_arch: str, protocol: str, n_networks: int | None = None) -> MetricsCell:
        """The cell of the evaluation of every snapshot of `synthetic`."""
        return replace(self.metrics(synthetic, eval_arch, protocol, n_networks), task="snapshots")
