"""The `condense` command: parses, calls a verb, prints. Here are the user's verbs; those of the workflow's
rules stand in `stages` and `reporting`."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

from condense.command import judge, reporting, stages
from condense.command.arguments import parser, with_homes
from condense.config import UserError
from condense.machine.terminal import replace_unprintable, speaking_to


def run(args: argparse.Namespace) -> None:
    """Condenses your own images, end to end."""
    from condense.command.pipeline import run_images
    from condense.command.requests import Request
    from condense.machine import runtime
    from condense.specs import catalogue

    runtime.keep_freed_memory()
    given = {name: getattr(args, name) for name in Request.__dataclass_fields__ if hasattr(args, name)}
    method = args.method or catalogue.DEFAULT_METHOD
    run_images(Request(**given | {"method": method, "named": args.method is not None}))


def inspect(args: argparse.Namespace) -> None:
    """Says what a file is, after checking it."""
    from condense.command.show import describe, digest_of

    print(digest_of(args.file) if args.digest else describe(args.file))


def export(args: argparse.Namespace) -> None:
    """Writes a synthetic set as png, npz or parquet."""
    from condense.command.exports import export_set

    print(export_set(args.file, args.to, args.out, as_stored=args.as_stored))


def nas201(args: argparse.Namespace) -> None:
    """Makes a table of accuracies of the published file of NAS-Bench-201, or of a table of one's own.

    The published file is read without running anything that it names.
    """
    from condense.machine.drafts import require_place
    from condense.outside.benchmarks import import_benchmark, require_table, write_benchmark
    from condense.specs.spaces.nas201 import NAS201

    require_place(args.out)
    require_table(args.out)
    known = import_benchmark(args.file)
    write_benchmark(args.out, known)
    print(f"{args.out}: {known.told()}")
    print(f"to be used by: export {NAS201.variable}={args.out.absolute()}")


def names(args: argparse.Namespace) -> None:
    """Lists methods, terms, datasets, protocols, tasks, tables, architectures or scales."""
    from condense.command.listings import listing

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
    from condense.command.doctor import examine
    from condense.command.findings import PROBLEM

    findings = examine()
    for finding in findings:
        print(finding.line())
    return int(any(finding.mark == PROBLEM for finding in findings))


def together(args: argparse.Namespace) -> int:
    """Trains and tests networks on several sets in one process (rule `evaluate_together`).

    What fails is said and left to the job of that evaluation alone, as is what is there already.
    """
    from condense.files.artifacts import SCHEMA, write_json
    from condense.files.notes import TOGETHER
    from condense.machine.drafts import require_place

    require_place(args.index)
    made = []
    for command in _parsed(args.commands, ("evaluate",), "made together"):
        if command.keep and command.out.exists():  # its own job looks whether it is whole
            continue
        print(f"{command.out}:", file=sys.stderr, flush=True)
        status = _attempt(command)
        if status == INTERRUPTED:
            return status
        if status == 0:
            made.append(str(command.out))
    write_json(args.index, {"schema": SCHEMA, "kind": TOGETHER, "made": made})
    return 0


def chain(args: argparse.Namespace) -> int:
    """Runs commands that make something one after another, in one process, each with what those before it
    made (rule `assemble`).

    The first that fails ends it; with --keep in each, the same chain goes on from there.
    """
    for command in _parsed(args.commands, _IN_CHAINS, "chained"):
        print(f"{command.verb}:", file=sys.stderr, flush=True)
        if status := _answered(command):
            return status
    return 0


def _parsed(texts: Sequence[str], verbs: Sequence[str], done: str) -> list[argparse.Namespace]:
    """Commands, each given as one word. Raises UserError for another verb than those of `verbs`."""
    known = parser(VERBS)
    commands = [with_homes(known.parse_args(shlex.split(text))) for text in texts]
    for command in commands:
        if command.verb not in verbs:
            begin = " or ".join(f"`{verb}`" for verb in verbs)
            raise UserError(f"{command.verb}: only commands that begin with {begin} are {done}")
    return commands


_IN_CHAINS = ("classes", "parent", "synthesize", "gather", "assemble")
INTERRUPTED = 130  # the exit status after Ctrl-C or SIGTERM

VERBS = {
    "run": run,
    "judge": judge.judge,
    "doctor": doctor,
    "inspect": inspect,
    "export": export,
    "list": names,
    "nas201": nas201,
    "estimate": estimate,
    "prune": prune,
    "data": stages.data,
    "classes": stages.classes,
    "parent": stages.parent,
    "teach": stages.teach,
    "bank": stages.bank,
    "synthesize": stages.synthesize,
    "gather": stages.gather,
    "assemble": stages.assemble,
    "evaluate": stages.evaluate,
    "together": together,
    "chain": chain,
    "join": stages.join,
    "relabel": stages.relabel,
    "table": reporting.table,
    "figure": reporting.figure,
    "report": reporting.report,
    "leaderboard": reporting.leaderboard,
    "summary": reporting.summary,
    "take": reporting.take,
    "keep": reporting.keep,
    "track": reporting.track,
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv`; returns the exit status: 0 done, 1 the doctor found a problem, 2 the
    user's fault, 130 interrupted."""
    replace_unprintable()
    if "" in (sys.argv[1:] if argv is None else argv):
        print(
            "condense: an argument is empty, as of a variable of the shell that is not set: give it a value, "
            "or leave its option out",
            file=sys.stderr,
        )
        return 2
    args = with_homes(parser(VERBS).parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # It counts its caches at the end, if it was stopped while it was imported
    logging.getLogger("torch").setLevel(logging.WARNING)
    try:
        with speaking_to(args.log):
            try:
                return _status_of(args)
            except Exception:
                # Python itself tells of it once the log has ended, and so on the terminal alone
                if args.log is not None:
                    traceback.print_exc()
                raise
    except UserError as error:  # of the log itself
        print(f"condense: {error}", file=sys.stderr)
        return 2


def _attempt(command: argparse.Namespace) -> int:
    try:
        return _answered(command)
    except Exception:  # a fault of ours: its own job fails of it too, and shows it
        logging.exception("%s: was left to a job of its own", command.out)
        return 1


def _status_of(args: argparse.Namespace) -> int:
    """Does what `args` say, stopping at a checkpoint if asked to; the exit status."""
    from condense.machine.stopping import graceful_stop

    with graceful_stop():
        return _answered(args)


def _answered(args: argparse.Namespace) -> int:
    """Does what `args` say; the exit status, after a sentence on what went wrong."""
    try:
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
        return INTERRUPTED
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
