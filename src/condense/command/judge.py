"""`condense judge`: the set of another program, judged by a protocol of ours. Its options, and what it
does."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from condense.command.options import Verbs, add_verb, machine_options
from condense.command.values import place
from condense.config import UserError, unknown
from condense.machine.terminal import deviating, several
from condense.specs import DEFAULT_PROTOCOL, DEFAULT_TASK, Decode, Protocol
from condense.specs.catalogue import names_in
from condense.specs.labels import STORED

NETWORKS = 5  # as most of the field reports
_READINGS = ("bytes", "unit", "symmetric", "normalised")


def judge_verb(verbs: Any, functions: Verbs) -> None:
    """Adds the verb to the subparsers `verbs`."""
    verb = add_verb(verbs, functions, "judge")
    verb.add_argument(
        "file",
        type=Path,
        help="the set: .pt, .npz, .npy, .safetensors, .parquet, or a folder of class folders",
    )
    verb.add_argument(
        "--data",
        type=place,
        required=True,
        help="what it condenses: a dataset by its name, prepared images, or a folder of images",
    )
    verb.add_argument(
        "--out", type=Path, required=True, help="folder for the set in our form and its metrics"
    )
    _judging_options(verb)
    _reading_options(verb)
    machine_options(verb)


def _judging_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--protocol", default=DEFAULT_PROTOCOL, help="name, YAML file or JSON (default: %(default)s)"
    )
    verb.add_argument(
        "--with",
        action="append",
        default=[],
        dest="given",
        metavar="NAME=FILE",
        help="what the protocol needs beforehand, such as an observer; may be given several times",
    )
    verb.add_argument("--networks", type=int, default=NETWORKS, help="how many (default: %(default)s)")
    verb.add_argument("--arch", help="architecture (default: the ConvNet whose depth suits the image size)")
    verb.add_argument("--options", default="{}", help="the architecture's options, as JSON")
    verb.add_argument("--epochs", type=int, help="instead of the protocol's")
    verb.add_argument("--strategy", help="augmentation of the dataset (default: its own)")
    verb.add_argument("--seed", type=int, default=0)


def _reading_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--method", metavar="NAME", help="what the set is called in its metrics (default: outside)"
    )
    verb.add_argument(
        "--classes-as",
        metavar="NAMES",
        help="'dataset' if its numbers count the classes as the dataset does, or their names with commas "
        "between, or a file of them, one a line",
    )
    verb.add_argument(
        "--coding",
        choices=_READINGS,
        help="how its numbers stand for pixels: 0..255, 0..1, -1..1, (pixel - mean) / std (default: found)",
    )
    verb.add_argument(
        "--mean", metavar="NUMBERS", help="of normalised images, with commas (default: the dataset's)"
    )
    verb.add_argument(
        "--std", metavar="NUMBERS", help="of normalised images, with commas (default: the dataset's)"
    )
    verb.add_argument(
        "--tensors", metavar="IMAGES,LABELS", help="their names in the file (default: the usual ones)"
    )
    verb.add_argument("--number", type=int, help="which set, from 0 on, of a file with several")
    verb.add_argument(
        "--labels",
        metavar="FILE",
        help="labels in a file of their own, or 'class-major' for as many of each class",
    )
    verb.add_argument(
        "--formation",
        metavar="N",
        help="each image holds N x N smaller ones, by rows, or by columns as in 2:columns (default: none)",
    )
    verb.add_argument(
        "--no-check",
        action="store_true",
        help="leave out the check whether its classes lie in the right order",
    )


def judge(args: argparse.Namespace) -> None:
    """Judges the synthetic set of another program by a protocol."""
    from condense import jobs
    from condense.command.values import judge_of_set, options_of, paths_of, settings_of, strategy_of
    from condense.data.description import require_outside
    from condense.files import OtherKey, read_metrics
    from condense.files.artifacts import digest, read_header
    from condense.machine import runtime

    runtime.keep_freed_memory()
    for name, least in (("networks", 1), ("epochs", 1), ("seed", 0), ("threads", 1), ("number", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name}: at least {least} is needed, found {value}")
    reading = _reading(args)
    if not args.file.exists():
        raise UserError(f"{args.file}: no such file or folder; name the set that is judged")
    require_outside(args.out, args.file, "FILE")
    protocol: Protocol = settings_of(Protocol, args.protocol, "protocol")
    options, parents = options_of(args.options), paths_of(args.given, "--with")
    # With the observers at hand, the labels that the protocol stores are made here
    labelled = protocol.stores_labels and STORED not in parents
    DEFAULT_TASK.check_parents(
        list(parents), protocol.labelled_anew() if labelled else protocol, "--with NAME=FILE"
    )
    data = _prepared(args, reading)
    arch = args.arch or _suiting(data)
    _check_architecture(arch, data, options)
    strategy = strategy_of(args.strategy, data / "train.safetensors", protocol)
    machine = jobs.Machine(args.device, args.threads)
    path = args.out / "synthetic.safetensors"
    try:
        key = jobs.take_in(path, args.file, data, reading, strategy, machine)
    except OtherKey:
        raise UserError(f"--out {args.out}: holds another set than {args.file}; name a new folder") from None
    protocol = judge_of_set(protocol, data, arch, path)
    if args.epochs:
        protocol = replace(protocol, epochs=args.epochs, least_updates=0)
    settings = [key, arch, options, protocol.computed_part(), strategy, args.networks, args.seed]
    settings += [{name: read_header(path)["content_sha256"]} for name, path in parents.items()]
    job = jobs.EvaluationJob(
        task=DEFAULT_TASK,
        synthetic=path,
        data=data,
        method=None,
        arch=arch,
        options=options,
        protocol=protocol,
        strategy=strategy,
        n_networks=args.networks,
        seed=args.seed,
        key=digest(settings),
        parents=parents,
    )
    metrics = args.out / "metrics.json"
    try:
        if not jobs.is_whole(metrics, "metrics", job.key):
            if labelled:
                file = args.out / "stored_labels.safetensors"
                asked = jobs.RelabelJob(path, data, protocol, strategy, args.seed, parents, key=job.key)
                job = replace(job, parents={STORED: jobs.labels_of(file, asked, machine)})
            jobs.evaluate_set(metrics, job, machine)
    except OtherKey:
        raise UserError(
            f"--out {args.out}: holds this set judged otherwise, by another protocol, network or number of "
            "them; name a new folder"
        ) from None
    print(_told(args, path, metrics, read_metrics(metrics, job.task.folder, job.key)))


def _reading(args: argparse.Namespace) -> Any:
    from condense.jobs import Reading
    from condense.specs.common import check_name

    tensors = None
    if args.tensors is not None:
        names = [name.strip() for name in args.tensors.split(",")]
        if not 1 <= len(names) <= 2 or not all(names):
            raise UserError(f"--tensors: IMAGES,LABELS is needed, found '{args.tensors[:80]}'")
        tensors = (names[0], names[-1] if len(names) > 1 else "")
    if args.method is not None:
        check_name("--method", args.method)
    return Reading(
        method=args.method,
        tensors=tensors,
        number=args.number,
        labels=args.labels,
        coding=args.coding,
        mean=args.mean,
        std=args.std,
        classes_as=args.classes_as,
        decode=_decode(args.formation),
        check=not args.no_check,
    )


def _decode(text: str | None) -> Decode | None:
    """The cells of '2' or '2:columns'; None if the option was not given."""
    if text is None:
        return None
    match = re.fullmatch(r"([2-9])(?::(rows|columns))?", text)
    if match is None:
        raise UserError(
            f"--formation: a number from 2 to 9, or one as in 2:columns, is needed, found '{text[:80]}'"
        )
    return Decode(int(match[1]), "columns" if match[2] == "columns" else "rows")


def _prepared(args: argparse.Namespace, reading: Any) -> Path:
    """The folder of the prepared images that `--data` names; made in `--out` where there is none, once the
    set has been seen to be one."""
    from condense import jobs
    from condense.command.requests import is_dataset
    from condense.data.description import spec_from_images
    from condense.data.prepare import prepare
    from condense.files import check_prepared
    from condense.outside.forms import Asked, read_foreign
    from condense.plan import data_cell

    given: Path = args.data
    if given.name in ("train.safetensors", "test.safetensors"):
        given = given.parent
    if jobs.is_prepared(given):
        check_prepared(given)
        return given
    own: Path = args.out / "data"
    if is_dataset(given):
        cell = data_cell(str(given))
        if jobs.is_prepared(Path(cell.folder)):
            return Path(cell.folder)
        spec = cell.spec
    elif given.exists():
        spec = spec_from_images(given)
    else:
        known = names_in("datasets")
        raise UserError(f"--data: no such file or folder, and {unknown('dataset', str(given), known)}")
    if jobs.is_prepared(own):
        if check_prepared(own).dataset != spec.name:
            raise UserError(f"--out {args.out}: holds the images of another data set; name a new folder")
    else:
        read_foreign(args.file, Asked(spec.channels, spec.size, reading.tensors, reading.number))
        prepare(spec, own)
    return own


def _suiting(data: Path) -> str:
    from condense.command.requests import suiting_convnet
    from condense.files import read_dataset_header

    return suiting_convnet(read_dataset_header(data / "train.safetensors").size)


def _check_architecture(arch: str, data: Path, options: dict[str, Any]) -> None:
    """Raises UserError before any work if the network does not fit the images."""
    import torch

    from condense import models
    from condense.files import read_dataset_header

    header = read_dataset_header(data / "train.safetensors")
    with torch.device("meta"):
        models.build(arch, channels=header.channels, size=header.size, classes=len(header.counts), **options)


def _told(args: argparse.Namespace, path: Path, metrics: Path, result: dict[str, Any]) -> str:
    number = deviating(f"{result['mean']:.2f}", f"{result['std']:.2f}", result["n_networks"])
    return (
        f"{result['method']}, {several(result['ipc'], 'image')} a class of {result['dataset']}, "
        f"{result['eval_arch']} by '{result['protocol']['name']}': "
        f"{number} % ({several(result['n_networks'], 'network')})\n"
        f"  {path}  the set\n  {metrics}  every accuracy"
    )
