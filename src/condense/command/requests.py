"""What `condense run` is asked for, and the cells that it takes: checked before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from condense.config import UserError, merged
from condense.data.spec import DatasetSpec
from condense.files.artifacts import digest
from condense.plan import DataCell, Maker, MetricsCell, ParentCell, SyntheticCell, data_cell
from condense.plan.parent import with_their_own
from condense.specs import DEFAULT_PROTOCOL, Protocol, Scale, catalogue
from condense.specs.common import convnet_depth

# What `--minutes` chooses, and what it is chosen for: kept with the results, and taken from there again
CHOSEN = ("minutes", "steps", "epochs", "pretrain_networks", "pretrain_epochs")


@dataclass(frozen=True)
class Request:
    """What the user asks for: the options of `condense run`."""

    images: Path
    out: Path
    method: str = catalogue.DEFAULT_METHOD
    named: bool = True  # the user chose the method; else another may take its place
    ipc: int = 10
    scale: str = "laptop"
    arch: str | None = None
    steps: int | None = None
    epochs: int | None = None
    # of what is trained beforehand: the networks of a bank, and the epochs of each and of a critic
    pretrain_networks: int | None = None
    pretrain_epochs: int | None = None
    minutes: float | None = None  # into which steps, networks and epochs are to fit
    resize: int | None = None
    test: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    ground: str | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    mlflow: str | None = None  # the store that is told of it


@dataclass(frozen=True)
class Work:
    """The cells of a request: its own set and the random one it is compared with, and the evaluations."""

    data: DataCell
    sets: tuple[SyntheticCell, ...]
    metrics: tuple[MetricsCell, ...]

    @property
    def parents(self) -> list[ParentCell]:
        """What is to be made before the sets, each once, and before what is made from it."""
        return with_their_own(cell for synthetic in self.sets for cell in synthetic.parents.values())

    def folder_of(self, parent: ParentCell) -> str:
        """The folder that `parent` lies in: called after it, with its key where another parent is called
        alike."""
        alike = [cell for cell in self.parents if cell.nickname == parent.nickname]
        return parent.nickname if len(alike) == 1 else f"{parent.nickname}-{parent.key}"

    @property
    def key(self) -> str:
        return digest([cell.key for cell in self.metrics or self.sets])


def suited(request: Request, spec: DatasetSpec) -> Request:
    """`request`, with the method that the recipe names in its own place where the images do not suit it and
    the user named none."""
    recipe = catalogue.recipe(request.method)
    if request.named or not recipe.otherwise or recipe.suits(request.ipc, spec.smallest_class, spec.size):
        return request
    return replace(request, method=recipe.otherwise)


def suiting_convnet(size: int) -> str:
    """The name of the ConvNet of the literature for square images of `size` pixels."""
    depth = convnet_depth(size)
    return "convnet" if depth == 3 else f"convnetd{depth}"


def plan_request(request: Request, data: DataCell | None = None) -> Work:
    """The cells of a request, for `data` if its images have been looked at. Raises UserError for images,
    methods, architectures and numbers that do not fit together."""
    check_numbers(request)
    data, maker = data or data_of(request), Maker(catalogue.scale(request.scale))
    sets = [asked_set(request, data)]
    arch = request.arch or suiting_convnet(data.spec.size)
    sets.append(maker.synthetic(data, catalogue.BASELINE, arch, request.ipc, request.seed))
    sets = list({cell.key: cell for cell in sets}.values())  # one where the baseline itself is asked for
    metrics = [maker.metrics(cell, arch, DEFAULT_PROTOCOL) for cell in sets]
    needed = [name for cell in metrics for name in cell.parents]
    if needed:
        raise UserError(
            f"--scale {request.scale}: judges by '{DEFAULT_PROTOCOL}' with '{needed[0]}', which a run does "
            "not make; choose a scale whose protocol takes the labels of the set"
        )
    if request.epochs:
        metrics = [
            replace(cell, protocol=replace(cell.protocol, epochs=request.epochs, least_updates=0))
            for cell in metrics
        ]
    return Work(data, tuple(sets), tuple(metrics))


def plan_handed(request: Request, spec: DatasetSpec, settings: Mapping[str, Any]) -> Work:
    """The cells of a request for a set of images that are handed over, which nobody judges; `settings` are
    laid over the recipe's. Raises UserError as `plan_request` does."""
    check_numbers(request)
    cell = asked_set(request, DataCell(spec), settings)
    return Work(cell.data, (cell,), ())


def check_numbers(request: Request) -> None:
    """Raises UserError for a method that makes no set, or whose engine has no function, and for numbers that
    make no sense."""
    from condense import engines

    recipe = catalogue.recipe(request.method)
    if not recipe.makes_set:
        raise UserError(
            f"--method {recipe.name}: it keeps every image, so nothing is condensed; choose another of "
            "`condense list methods`"
        )
    engines.engine(recipe.engine)
    if request.steps and not recipe.number_of_steps:
        raise UserError(f"--steps: '{recipe.name}' takes no steps; leave the option out")
    at_least_one = ("ipc", "steps", "epochs", "pretrain_networks", "pretrain_epochs", "threads")
    for name, least in {**dict.fromkeys(at_least_one, 1), "resize": 4, "seed": 0}.items():
        value = getattr(request, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}: at least {least} is needed, found {value}")


class _Pretraining(Maker):
    """Builds sets as a scale wants them, but for the epochs of what is trained beforehand."""

    def __init__(self, scale: Scale, epochs: int):
        super().__init__(scale)
        self.epochs = epochs

    def protocol(self, name: str, *changes: tuple[str, Mapping[str, Any]]) -> Protocol:
        # So many, also of few images, for which a scale may ask for updates
        change = {"epochs": self.epochs, "least_updates": 0}
        return super().protocol(name, *changes, ("--pretrain-epochs", change))


def asked_set(
    request: Request,
    data: DataCell,
    settings: Mapping[str, Any] = {},  # noqa: B006
) -> SyntheticCell:
    """The set that is asked for. Raises UserError for an ipc above what the smallest class has, and for a
    network that the images do not fit."""
    spec = data.spec
    if request.ipc > spec.smallest_class:
        raise UserError(
            f"--ipc {request.ipc}: the smallest class has {spec.smallest_class} training images; choose an "
            "ipc up to that"
        )
    arch = request.arch or suiting_convnet(spec.size)
    scale = catalogue.scale(request.scale)
    maker = _Pretraining(scale, request.pretrain_epochs) if request.pretrain_epochs else Maker(scale)
    _check_architecture(arch, data, json.loads(maker.options(arch, data.name)))
    recipe = maker.recipe(request.method, data, request.ipc, settings)
    if request.pretrain_networks and not recipe.networks_before:
        raise UserError(f"--pretrain-networks: '{recipe.name}' has no bank of networks; leave the option out")
    change = merged(dict(settings), recipe.trained_for(request.pretrain_networks, request.pretrain_epochs))
    change |= {"steps": request.steps} if request.steps else {}
    cell = maker.synthetic(data, request.method, arch, request.ipc, request.seed, change)
    if request.pretrain_epochs and not any(parent.epochs for parent in cell.parents.values()):
        raise UserError(f"--pretrain-epochs: '{recipe.name}' trains nothing beforehand; leave the option out")
    return cell


def data_of(request: Request) -> DataCell:
    """The user's own images; or a dataset of `params/datasets` by its name. Raises UserError for a name that
    may mean either."""
    from condense.data.description import require_outside, spec_from_images

    if not is_dataset(request.images):
        require_outside(request.out, request.images, "IMAGES")
        if request.test is not None:
            require_outside(request.out, request.test, "--test")
        columns = {"image": request.image_column, "label": request.label_column}
        spec = spec_from_images(
            request.images, test=request.test, resize=request.resize, **columns, ground=request.ground
        )
        return DataCell(spec)
    for option in ("test", "resize", "image-column", "label-column", "ground"):
        if getattr(request, option.replace("-", "_")) is not None:
            raise UserError(
                f"--{option}: is for images of your own; the dataset '{request.images}' says this itself"
            )
    return data_cell(str(request.images))


def is_dataset(named: Path) -> bool:
    """Whether a dataset of `params/datasets` is named, and no file or folder. Raises UserError for a name
    that may mean either."""
    if str(named) not in catalogue.names_in("datasets"):
        return False
    if named.exists():
        raise UserError(
            f"{named}: is a dataset of `condense list datasets`, and {named.resolve()} lies here too: "
            f"write ./{named} for that, or go to another folder for the dataset"
        )
    return True


def _check_architecture(arch: str, data: DataCell, options: dict) -> None:
    """Raises UserError before any work if the network does not fit the images."""
    import torch

    from condense import models

    with torch.device("meta"):  # large images would make some networks larger than the memory
        models.build(
            arch, channels=data.spec.channels, size=data.spec.size, classes=data.spec.classes, **options
        )
