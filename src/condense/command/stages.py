"""The verbs that make data, parents, sets and metrics: one for each rule of the workflow."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condense import specs
from condense.command.options import MAX_MB
from condense.command.values import (
    json_of,
    judge_of_set,
    options_of,
    paths_of,
    range_of,
    recipe_of,
    settings_of,
    strategy_of,
)
from condense.config import UserError, unknown
from condense.files.artifacts import canonical


def _machine(args: argparse.Namespace) -> Any:
    from condense.jobs import Machine
    from condense.machine import runtime

    runtime.keep_freed_memory()
    return Machine(args.device, args.threads)


def data(args: argparse.Namespace) -> None:
    """Fetches and prepares a dataset (rule `data`)."""
    from condense.jobs import keeps_data
    from condense.plan import data_cell

    if args.keep and keeps_data(args.out):
        return
    from condense.data.prepare import prepare

    prepare(data_cell(args.dataset).spec, args.out)


def classes(args: argparse.Namespace) -> None:
    """Picks some classes of a prepared dataset, as a dataset of their own (rule `classes`)."""
    from condense.jobs import keeps_data

    if args.keep and keeps_data(args.out):
        return
    from condense.data.picked import pick_classes

    pick_classes(args.data, args.choose, args.name, args.out)


def parent(args: argparse.Namespace) -> None:
    """Makes what sets need beforehand, of any kind that a recipe asks for (rule `teach`)."""
    from condense.plan import PARENTS

    if args.kind not in PARENTS:
        raise unknown("kind", args.kind, PARENTS)
    settings = json_of(args.settings, "--settings")
    if isinstance(named := settings.get("protocol"), str):
        settings["protocol"] = json.loads(canonical(asdict(settings_of(specs.Protocol, named, "protocol"))))
    values = PARENTS[args.kind].values_from(settings, "--settings")
    _make_parent(
        args, args.kind, lambda: values, _made_from(args.kind, values, paths_of(args.given, "--with"))
    )


def teach(args: argparse.Namespace) -> None:
    """Pretrains a classifier on the whole training set."""

    def settings() -> dict[str, Any]:
        protocol = settings_of(specs.Protocol, args.protocol, "protocol")
        return {"protocol": protocol, "strategy": strategy_of(args.strategy, args.data, protocol)}

    _make_parent(args, "teacher", settings)


def bank(args: argparse.Namespace) -> None:
    """Trains networks on the training set before a condensation: a queue, of which it keeps what its steps
    need, or finished ones."""
    networks = settings_of(specs.AnyNetworks, args.networks, "networks")
    asked = networks.parents().get("bank")
    if asked is None:
        raise UserError(
            f"--networks: {networks.kind} ones are drawn as they are needed; a bank holds a queue or trained "
            "ones"
        )
    _make_parent(args, asked.made_as, lambda: _bank_settings(args, asked))


def _bank_settings(args: argparse.Namespace, networks: Any) -> dict[str, Any]:
    """The settings of a bank from the options that are of its kind. Raises UserError for one that is of
    another kind, or missing."""
    from condense.plan import PARENTS

    values: dict[str, Any] = {"networks": networks}
    takes = PARENTS[networks.made_as].setting_names()
    given = {"protocol": args.protocol, "strategy": args.strategy, "steps": args.steps, "max_mb": args.max_mb}
    for name, value in given.items():
        if value is not None and name not in takes:
            raise UserError(f"--{name.replace('_', '-')}: is not for {networks.what}; leave the option out")
    if "protocol" in takes:
        values["protocol"] = networks.trained_by(
            settings_of(specs.Protocol, args.protocol or networks.protocol, "protocol")
        )
        values["strategy"] = strategy_of(args.strategy, args.data, values["protocol"])
    if "steps" in takes:
        if args.steps is None:
            raise UserError(
                "--steps: is needed for a queue: those of the longest condensation that will use it"
            )
        values |= {"steps": args.steps, "max_mb": MAX_MB if args.max_mb is None else args.max_mb}
        for name, value, least in (("--steps", values["steps"], 1), ("--max-mb", values["max_mb"], 0)):
            if value < least:
                raise UserError(f"{name}: must be at least {least}, found {value}")
    return values


def _make_parent(
    args: argparse.Namespace,
    kind: str,
    settings: Callable[[], dict[str, Any]],
    given: Mapping[str, Path] = {},  # noqa: B006
) -> None:
    """Makes a parent of the options that all kinds share, unless it is there and to be kept; `given` are the
    files of its own parents by their names."""
    from condense.jobs import ParentJob, keeps_file, maker_of
    from condense.plan import PARENTS

    if args.keep and keeps_file(args.out, PARENTS[kind].file, args.key):
        return
    options, machine = options_of(args.options), _machine(args)
    job = ParentJob(args.out, args.data, args.arch, options, args.seed, args.key, machine)
    maker_of(kind)(job, **settings(), **given)


def _made_from(kind: str, values: Mapping[str, Any], given: Mapping[str, Path]) -> Mapping[str, Path]:
    """The files that a parent of these settings is made from. Raises UserError for one that is missing, or
    not asked for."""
    from condense.plan import PARENTS

    asked = PARENTS[kind].names_made_from(values)
    for name in given:
        if name not in asked:
            if not asked:
                raise UserError(f"--with {name}: a '{kind}' is made from the images alone; leave it out")
            raise unknown("name", name, asked, "--with")
    for name in asked:
        if name not in given:
            raise UserError(f"--with: a '{kind}' is made from another file, too: give --with {name}=FILE")
    return given


def synthesize(args: argparse.Namespace) -> None:
    """Condenses some classes of a synthetic set, or of several that share the real side (rule
    `synthesize`)."""
    from condense.jobs import Member, ShardJob, condense_group, condense_shards

    keys = [args.key] * len(args.out) if isinstance(args.key, str) else args.key
    for name, given in {"--recipe": args.recipe, "--ipc": args.ipc, "--key": keys}.items():
        if len(given) != len(args.out):
            raise UserError(
                f"{name}: one for each --out is needed, which are {len(args.out)}; found {len(given)}"
            )
    if len(set(args.out)) < len(args.out):
        raise UserError("--out: every set needs a file of its own")
    shared = {"arch": args.arch, "options": options_of(args.options), "seed": args.seed}
    shared["classes"] = range_of(args.classes, "--classes", "a class")
    shared["images"] = range_of(args.images, "--images", "a number")
    given = paths_of(args.given, "--with")
    shards = {}
    for text, ipc, key, out in zip(args.recipe, args.ipc, keys, args.out, strict=True):
        recipe = recipe_of(text, args.data, ipc)
        parents = {name: path for name, path in given.items() if name in recipe.parents()}
        shards[out] = ShardJob(recipe, args.data, **shared, ipc=ipc, key=key, parents=parents)
    asked = {name for job in shards.values() for name in job.recipe.parents()}
    if not given.keys() <= asked:
        raise unknown("name", min(given.keys() - asked), asked, "--with: what the recipes need beforehand")
    if args.index is None:
        condense_shards(shards, _machine(args))
        return
    if len(args.whole) != len(args.out):
        raise UserError(
            f"--whole: one set for each --out is needed, which are {len(args.out)}; found {len(args.whole)}"
        )
    members = {out: Member(shards[out], whole) for out, whole in zip(args.out, args.whole, strict=True)}
    condense_group(args.index, members, keep=args.keep, machine=_machine(args))


def gather(args: argparse.Namespace) -> None:
    """Joins the classes of a synthetic set (rule `gather`)."""
    from condense import jobs

    if args.keep and jobs.keeps_file(args.out, "synthetic", args.key):
        return
    for index in args.index:
        jobs.check_indexed(index, args.key)
    jobs.gather(args.out, args.shards, args.data, args.stored)


def assemble(args: argparse.Namespace) -> None:
    """Puts sets of some classes each together to one of all classes (rule `assemble`)."""
    from condense import jobs

    if args.keep and jobs.keeps_file(args.out, "synthetic", args.key):
        return
    jobs.assemble(args.out, args.sets, args.of, args.data, args.key)


def evaluate(args: argparse.Namespace) -> None:
    """Trains networks on a set and tests them (rule `evaluate`)."""
    from condense.jobs import EvaluationJob, evaluate_set, keeps_file, leave_out_part

    if args.keep and args.whole and keeps_file(args.whole, "metrics", args.key):
        return leave_out_part(args.out)
    if args.keep and not args.part and keeps_file(args.out, "metrics", args.key):
        return
    protocol = settings_of(specs.Protocol, args.protocol, "protocol")
    protocol = judge_of_set(protocol, args.data, args.arch, args.synthetic, args.ipc)
    settings = {
        "arch": args.arch,
        "options": options_of(args.options),
        "strategy": strategy_of(args.strategy, args.data / "train.safetensors", protocol),
        "seed": args.seed,
        "key": args.key,
    }
    task, given = settings_of(specs.AnyTask, args.task, "task"), paths_of(args.sets, "--with")
    of_recipe = {"--recipe": args.recipe, "--ipc": args.ipc}
    if task.reads == "recipe":
        return _measure(args, task, protocol, settings, given)
    for name, value in of_recipe.items():
        if value is not None:
            raise UserError(f"{name}: the task '{task.kind}' reads a set; leave the option out")
    needed = task.needs(protocol, given)
    for name in given:
        if name not in needed and name not in task.further:
            raise unknown(
                "name", name, [*needed, *task.further], f"--with: task {task.kind} by '{protocol.name}'"
            )
    images = {
        "synthetic": args.synthetic,
        "data": args.data,
        "method": args.method,
        "sets": {name: path for name, path in given.items() if name not in needed},
        "parents": {name: path for name, path in given.items() if name in needed},
    }
    share = range_of(args.part, "--part", "a network")
    job = EvaluationJob(
        task=task, **images, protocol=protocol, n_networks=args.networks, **settings, share=share
    )
    evaluate_set(args.out, job, _machine(args))


def relabel(args: argparse.Namespace) -> None:
    """Labels a set by the observers of a protocol, for every epoch, or once an image."""
    from condense.jobs import RelabelJob
    from condense.jobs import relabel as relabel_set

    protocol = settings_of(specs.Protocol, args.protocol, "protocol")
    for name, least in (("seed", 0), ("epochs", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name}: at least {least} is needed, found {value}")
    if args.averaged and args.top is not None:
        raise UserError("--top: with --averaged each image has one label of all classes; leave it out")
    protocol = judge_of_set(protocol, args.data, "", args.synthetic)
    strategy = strategy_of(args.strategy, args.data / "train.safetensors", protocol)
    given = paths_of(args.given, "--with")
    job = RelabelJob(
        args.synthetic, args.data, protocol, strategy, args.seed, given, top=args.top, epochs=args.epochs
    )
    relabel_set(args.out, job, _machine(args), one_an_image=args.averaged)


def _measure(
    args: argparse.Namespace, task: Any, protocol: Any, settings: dict[str, Any], given: dict[str, Any]
) -> None:
    """Measures a recipe, of which no set has to be there."""
    from condense.jobs import RecipeJob, ShardJob, recipe_measure

    unused = {"--synthetic": args.synthetic, "--part": args.part}
    for name, value in unused.items():
        if value is not None:
            raise UserError(f"{name}: the task '{task.kind}' reads a recipe; leave the option out")
    if args.recipe is None or args.ipc is None:
        raise UserError(f"--task {task.kind}: --recipe and --ipc must say what is run")
    if args.networks != 1:
        raise UserError(f"--networks: the task '{task.kind}' measures a recipe once; give 1")
    train, strategy = args.data / "train.safetensors", settings.pop("strategy")
    recipe = recipe_of(args.recipe, train, args.ipc)
    if args.method not in (None, recipe.name):
        raise UserError(f"--method: the recipe is that of '{recipe.name}'; leave the option out")
    shard = ShardJob(recipe, train, **settings, ipc=args.ipc, parents=given)
    recipe_measure(task.kind)(args.out, RecipeJob(task, shard, protocol, strategy), _machine(args))


def join(args: argparse.Namespace) -> None:
    """Joins the parts of an evaluation (rule `join`)."""
    from condense.jobs import join_parts, keeps_file

    if args.keep and keeps_file(args.out, "metrics", args.key):
        return
    join_parts(args.out, args.parts)
