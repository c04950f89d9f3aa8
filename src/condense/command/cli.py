"""The `condense` command: one verb for each rule of the workflow, and the user's verbs. Parses, calls,
prints."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from condense import specs
from condense.command.arguments import MAX_MB, parser, with_homes
from condense.command.values import (
    json_of,
    options_of,
    paths_of,
    range_of,
    recipe_of,
    settings_of,
    strategy_of,
)
from condense.config import UserError, unknown
from condense.machine.terminal import replace_unprintable, speaking_to
from condense.specs import catalogue


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


def parent(args: argparse.Namespace) -> None:
    """Makes what sets need beforehand, of any kind that a recipe asks for (rule `teach`)."""
    from condense.plan import PARENTS

    if args.kind not in PARENTS:
        raise unknown("kind", args.kind, PARENTS)
    _make_parent(
        args,
        args.kind,
        lambda: PARENTS[args.kind].values_from(json_of(args.settings, "--settings"), "--settings"),
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
            f"ones"
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


def _make_parent(args: argparse.Namespace, kind: str, settings: Callable[[], dict[str, Any]]) -> None:
    """Makes a parent at the options that all kinds have, unless it is there and to be kept."""
    from condense.jobs import keeps_file, maker_of
    from condense.plan import PARENTS

    if args.keep and keeps_file(args.out, PARENTS[kind].file, args.key):
        return
    shared = {"arch": args.arch, "options": options_of(args.options), "seed": args.seed, "key": args.key}
    maker_of(kind)(args.out, args.data, **settings(), **shared, machine=_machine(args))


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


def evaluate(args: argparse.Namespace) -> None:
    """Trains networks on a set and tests them (rule `evaluate`)."""
    from condense.jobs import EvaluationJob, evaluate_set, keeps_file, leave_out_part

    if args.keep and args.whole and keeps_file(args.whole, "metrics", args.key):
        return leave_out_part(args.out)
    if args.keep and not args.part and keeps_file(args.out, "metrics", args.key):
        return
    protocol = settings_of(specs.Protocol, args.protocol, "protocol")
    settings = {
        "arch": args.arch,
        "options": options_of(args.options),
        "strategy": strategy_of(args.strategy, args.data / "train.safetensors", protocol),
        "seed": args.seed,
        "key": args.key,
    }
    task = settings_of(specs.AnyTask, args.task, "task")
    images = {
        "synthetic": args.synthetic,
        "data": args.data,
        "method": args.method,
        "sets": paths_of(args.sets, "--with"),
    }
    share = range_of(args.part, "--part", "a network")
    job = EvaluationJob(
        task=task, **images, protocol=protocol, n_networks=args.networks, **settings, share=share
    )
    evaluate_set(args.out, job, _machine(args))


def join(args: argparse.Namespace) -> None:
    """Joins the parts of an evaluation (rule `join`)."""
    from condense.jobs import join_parts, keeps_file

    if args.keep and keeps_file(args.out, "metrics", args.key):
        return
    join_parts(args.out, args.parts)


def table(args: argparse.Namespace) -> None:
    """Makes a table of a paper from metrics (rule `table`)."""
    from condense.plan.tables import Plan
    from condense.report.tables import make_table

    make_table(Plan(args.scale), args.name, args.out)


def figure(args: argparse.Namespace) -> None:
    """Makes a figure of a paper (rule `figure`)."""
    from condense.plan.tables import Plan
    from condense.report.figures import make_figure

    make_figure(Plan(args.scale), args.name, args.out)


def report(args: argparse.Namespace) -> None:
    """Makes the page with all tables and figures (rule `report`)."""
    from condense.plan.tables import Plan
    from condense.report.html import make_report

    make_report(Plan(args.scale), args.out)


def track(args: argparse.Namespace) -> None:
    """Brings MLflow up to date with the results (rule `track`)."""
    from condense.files.artifacts import write_json
    from condense.machine.drafts import require_place
    from condense.tracking.follower import follow
    from condense.tracking.ingestion import Ingestion
    from condense.tracking.records import is_run_folder
    from condense.tracking.stores import named_store

    store = named_store(args.store)
    if store is None:
        raise UserError(f"--store {args.store}: names no store; give sqlite:///mlflow.db or http://HOST:PORT")
    if not args.results.is_dir():
        raise UserError(
            f"--results {args.results}: no such folder; name the results of a workflow, or the folder that "
            f"was --out of a run"
        )
    if args.out:
        require_place(args.out)
    ingestion = Ingestion(args.results, store, args.artifacts, args.scale)
    if args.follow is None:
        summary = ingestion.bring()
        print(f"experiment {ingestion.experiment}: {ingestion.page}")
        print(summary.text())
    else:
        summary = follow(ingestion, args.follow, sampled=is_run_folder(args.results))
    if args.out:
        write_json(args.out, sorted(summary.digests))


def summary(args: argparse.Namespace) -> None:
    """Sums up the measured accuracies for DVC (rule `summary`)."""
    from condense.report.summary import make_summary

    make_summary(args.tables, args.out)


def take(args: argparse.Namespace) -> None:
    """Takes results from kept/ (see `dvc pull`) that a scale asks for, or one of them."""
    from condense.files import store
    from condense.plan.tables import Plan

    if args.path:
        store.restore(args.path)
    else:
        print(f"{len(store.restore_all(Plan(args.scale).keepable()))} results taken from kept/")


def keep(args: argparse.Namespace) -> None:
    """Copies finished results into kept/, which git and DVC track, and removes from there what no scale asks
    for."""
    from condense.files import store
    from condense.files.kept import unit_of
    from condense.machine.drafts import whole
    from condense.plan.tables import Plan
    from condense.report.summary import keep_summary

    scales = {name: Plan(name) for name in catalogue.names_in("scales")}
    chosen = scales[args.scale]
    datasets = sorted({cell.name for cell in chosen.data.values()})
    unknown = sorted(set(args.bytes) - set(datasets))
    if unknown:
        raise UserError(
            f"--bytes {unknown[0]}: scale '{args.scale}' has no such dataset; it has {', '.join(datasets)}"
        )
    done = store.keep(chosen.keepable(few=args.scale != "quick"), with_bytes=args.bytes)
    removed = store.drop_others(
        [path for name, scale in scales.items() for path in scale.keepable(few=name != "quick")]
    )
    summaries = keep_summary()
    if args.list:
        with whole(args.list) as draft:
            draft.write_text(
                "".join(f"{path}\n" for path in [*store.tracked(), *map(str, summaries)]), encoding="utf-8"
            )
    print(
        f"{len(done.added)} added, {len(done.unchanged)} kept already, {len(done.absent)} not finished, "
        f"{len(removed)} files removed"
    )
    for name, number in Counter(unit_of(path).dataset for path in done.large).items():
        print(
            f"{name}: {number} too large for git left out (of data, source and checksums are kept); --bytes "
            f"{name} is for a remote"
        )
    print(f"kept/ holds {done.size / 1e6:.1f} MB")


def run(args: argparse.Namespace) -> None:
    """Condenses your own images, end to end."""
    from condense.command.pipeline import Request, run_images
    from condense.machine import runtime

    runtime.keep_freed_memory()
    run_images(Request(**{name: getattr(args, name) for name in Request.__dataclass_fields__}))


def inspect(args: argparse.Namespace) -> None:
    """Says what a file is, after checking it."""
    from condense.command.show import describe, digest_of

    print(digest_of(args.file) if args.digest else describe(args.file))


def export(args: argparse.Namespace) -> None:
    """Writes a synthetic set as png, npz or parquet."""
    from condense.command.exports import export_set

    print(export_set(args.file, args.to, args.out, as_stored=args.as_stored))


def names(args: argparse.Namespace) -> None:
    """Lists methods, datasets, protocols, tasks, tables, architectures or scales."""
    from condense.command.show import listing

    print(listing(args.what))


def estimate(args: argparse.Namespace) -> None:
    """Says what a scale or a target costs, before anything starts."""
    from condense.estimate import estimate_text
    from condense.estimate.page import scale_page
    from condense.machine import runtime
    from condense.machine.drafts import require_place, whole

    runtime.keep_freed_memory()
    if args.write is None:
        print(estimate_text(args.target, args.scale))
        return
    if args.target is not None:
        raise UserError(f"--write: the page is about the whole scale; leave out '{args.target}'")
    require_place(args.write)
    with whole(args.write) as draft:
        draft.write_text(scale_page(args.scale), encoding="utf-8")


def prune(args: argparse.Namespace) -> None:
    """Removes files under keys that no scale asks for any more."""
    from condense.command.prune import prune_results

    print(prune_results(args.results, dry=args.dry_run))


def doctor(args: argparse.Namespace) -> int:
    """Says what is here and what is amiss, with what to do; ends with status 1 if anything is a problem."""
    from condense.command.doctor import PROBLEM, examine

    findings = examine()
    for finding in findings:
        print(finding.line())
    return int(any(finding.mark == PROBLEM for finding in findings))


VERBS = {
    "run": run,
    "doctor": doctor,
    "inspect": inspect,
    "export": export,
    "list": names,
    "estimate": estimate,
    "prune": prune,
    "data": data,
    "parent": parent,
    "teach": teach,
    "bank": bank,
    "synthesize": synthesize,
    "gather": gather,
    "evaluate": evaluate,
    "join": join,
    "table": table,
    "figure": figure,
    "report": report,
    "summary": summary,
    "take": take,
    "keep": keep,
    "track": track,
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv`; returns the exit status: 0 done, 1 the doctor found a problem, 2 the
    user's fault, 130 interrupted."""
    replace_unprintable()
    args = with_homes(parser(VERBS).parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # It counts its caches at the end, if it was stopped while it was imported
    logging.getLogger("torch").setLevel(logging.WARNING)
    try:
        with speaking_to(args.log):
            return _status_of(args)
    except UserError as error:  # of the log itself
        print(f"condense: {error}", file=sys.stderr)
        return 2


def _status_of(args: argparse.Namespace) -> int:
    """Does what `args` say; the exit status, after a sentence on what went wrong."""
    from condense.files.checkpoints import graceful_stop

    try:
        with graceful_stop():
            return args.function(args) or 0
    except UserError as error:
        print(f"condense: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Else Python complains once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(
            "condense: interrupted; run the same command again to go on from the last checkpoint",
            file=sys.stderr,
        )
        return 130
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(
                "condense: the disk is full; nothing was damaged: free some space and run the same command "
                "again",
                file=sys.stderr,
            )
        elif error.filename is not None:
            print(f"condense: {error.filename}: {error.strerror}", file=sys.stderr)
        else:
            raise
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        print(
            "condense: out of memory: choose a smaller network, fewer classes a job (--classes) or a smaller "
            "ipc",
            file=sys.stderr,
        )
        return 2


def _out_of_memory(error: Exception) -> bool:
    # By name and by words: torch must not be imported for verbs that do without, and on the CPU it raises no
    # type of its own.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(
        words in str(error)
        for words in ("can't allocate memory", "not enough memory", "Storage size calculation")
    )


if __name__ == "__main__":
    sys.exit(main())
