"""`condense.condense`: a set of images that a Python program holds, without files of its own."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from condense import jobs, models
from condense.command.minutes import fitted
from condense.command.outcome import in_minutes
from condense.command.pipeline import bind, make_sets
from condense.command.prune import sweep
from condense.command.requests import Request, Work, plan_handed, suited
from condense.config import UserError
from condense.data.classes import brief
from condense.data.dataset import load
from condense.data.handed import Handed
from condense.data.spec import OWN_STRATEGY
from condense.estimate import estimate_cells
from condense.evaluate.synthetic import SyntheticSet, load_synthetic
from condense.machine import runtime
from condense.machine.surroundings import as_in_own_process
from condense.machine.terminal import tell
from condense.models.own import Factory, Own, own_network
from condense.plan import DataCell
from condense.specs import catalogue

_MAY_BE_NONE = ("method", "steps", "minutes", "threads")
_HERE = Path("images handed over")  # where a request names a file or a folder


def condense(
    images: Any,
    labels: Any = None,
    *,
    method: str | None = None,
    ipc: int = 10,
    network: str | Factory | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    settings: Mapping[str, Any] = {},  # noqa: B006
    class_names: Sequence[str] | None = None,
    strategy: str = OWN_STRATEGY,
    scale: str = "laptop",
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    out: str | Path | None = None,
) -> SyntheticSet:
    """`ipc` synthetic images a class that train networks almost as well as `images` do.

    `images`: (N, C, H, W), (N, H, W, C) or (N, H, W), of bytes or of numbers in [0, 1], with `labels` (N,),
    whole numbers or texts; or a torch data set of pairs (image, label). All are used for training: nothing
    is held out, and nothing is judged. `class_names`: what the labels 0, 1, ... stand for. `strategy`: the
    siamese augmentations under which images keep their label, joined by '_' (digits are not to be
    flipped), or 'none'.

    `method`: one of `condense list methods`, with the settings of `scale`, over which `settings` are laid as
    a recipe's YAML writes them, and `steps`; without one "best", or "best_plain" where classes or images are
    too small for it. `minutes`: in place of `steps`, as many of them as fit, and as many networks and epochs
    of what the method trains beforehand; 10 for methods that say so, as "best" does.
    `network`: an architecture by name, or a function that makes a `torch.nn.Module` for logits (n, classes),
    whose last layer is linear; without it the ConvNet that suits the size.

    The set is also written to the folder `out`, where the same call goes on after an interruption; without
    one nothing is kept. What it is about to do, its cost and its progress go to the standard error.
    Raises UserError for whatever does not fit together, before any work.
    """
    counts = {"ipc": ipc, "steps": steps, "minutes": minutes, "seed": seed, "threads": threads}
    texts = {"method": method, "scale": scale, "device": device, "strategy": strategy}
    numbers = _checked_types(texts, counts, settings, out)
    if steps is not None and "steps" in settings:
        raise UserError("steps: given twice, by itself and in `settings`; leave one of them out")
    handed = Handed(images, labels, class_names, strategy=strategy)
    with (
        as_in_own_process(),
        _named_as_arguments(),
        _by_name(network, handed) as arch,
        _folder(out) as folder,
    ):
        request = suited(
            Request(
                images=_HERE,
                out=folder,
                method=method or catalogue.DEFAULT_METHOD,
                named=method is not None,
                arch=arch,
                scale=scale,
                device=device,
                **numbers,
            ),
            handed.spec,
        )
        planned = partial(plan_handed, spec=handed.spec, settings=settings)
        request = fitted(request, DataCell(handed.spec), planned, steps_given="steps" in settings)
        return _made(folder, planned(request), request, handed)


def _made(folder: Path, work: Work, request: Request, handed: Handed) -> SyntheticSet:
    """The set of `work` as it lies in `folder`, made where it is not there yet."""
    path = folder / "synthetic.safetensors"
    _say_cost(work, request)
    bind(folder, work, request)
    if jobs.is_whole(path, "synthetic", work.sets[0].key):
        tell(f"{path}: the same call made it before; it is taken from there, and nothing is made anew")
    images = folder / "data" / "train.safetensors"
    if images.exists():
        load(images)
    else:
        handed.prepare(images)
    make_sets(folder, work, jobs.Machine(request.device, request.threads))
    sweep(folder)
    return load_synthetic(path)


def _checked_types(
    names: Mapping[str, Any], numbers: Mapping[str, Any], settings: Any, out: Any
) -> dict[str, Any]:
    """`numbers` as Python's own. Raises UserError, by the name of the argument, for what is of another type;
    what a number or a name may be is looked at where it is used."""
    for name, value in names.items():
        if not isinstance(value, str) and not (value is None and name in _MAY_BE_NONE):
            raise UserError(f"{name}: a text is needed, found {value!r}")
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise UserError(f"settings: names and values as in a recipe's YAML are needed, found {settings!r}")
    if out is not None and not isinstance(out, str | os.PathLike):
        raise UserError(f"out: the path of a folder is needed, found {out!r}")
    return {name: _number(value, name) for name, value in numbers.items()}


def _number(value: Any, name: str) -> int | float | None:
    if value is None and name in _MAY_BE_NONE:
        return None
    taken: Any = value.item() if isinstance(value, np.generic) else value
    kinds, needed = ((int, float), "number") if name == "minutes" else ((int,), "whole number")
    if isinstance(taken, bool) or not isinstance(taken, kinds):
        raise UserError(f"{name}: a {needed} is needed, found {value!r}")
    return taken


@contextmanager
def _named_as_arguments() -> Iterator[None]:
    """Errors speak of options of the command line; here these are arguments."""
    try:
        yield
    except UserError as error:
        # Images that are handed over have the size that they have
        told = str(error).replace(" (--resize)", "")
        raise UserError(re.sub(r"--(\w+)", r"\1", told)) from None


def _say_cost(work: Work, request: Request) -> None:
    spec = work.data.spec
    tell(
        f"{work.sets[0].recipe.title}: {request.ipc} images a class of {spec.train:,} in {spec.classes} "
        f"classes, {spec.channels} x {spec.size} x {spec.size}"
    )
    on_gpu = runtime.gpu_usable(request.device)
    tell(estimate_cells(work.parents, work.sets, (), threads=request.threads, gpu=on_gpu).text())
    if request.minutes is not None:
        counts = {
            "steps": request.steps,
            "networks": request.pretrain_networks,
            "epochs of what is trained beforehand": request.pretrain_epochs,
        }
        chosen = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        tell(f"chosen for {in_minutes(request.minutes)}: {chosen}")


@contextmanager
def _by_name(network: str | Factory | None, handed: Handed) -> Iterator[str | None]:
    """The name of the architecture; of one's own, `models.build` knows it inside."""
    if network is None or isinstance(network, str):
        yield network
        return
    if isinstance(network, nn.Module) or not callable(network):
        raise UserError(
            "network: the name of an architecture or a function that makes a network is needed (a class of "
            "networks without arguments is one), since methods draw many of them; found "
            f"{type(network).__name__}"
        )
    spec = handed.spec
    own = own_network(network, channels=spec.channels, size=spec.size, classes=spec.classes)
    _say_of(own)
    models.ARCHITECTURES[own.name] = own.builder
    try:
        yield own.name
    finally:
        del models.ARCHITECTURES[own.name]


def _say_of(own: Own) -> None:
    tell(f"{own.name}: its embedding is {own.embedding}")
    if own.open:
        tell(
            f"{own.name}: another network would have this name, too, if it differed in {brief(own.open)} "
            "alone, which cannot be read; name a new folder with `out` after changing that"
        )


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="condense-") as folder:
        yield Path(folder)
