"""The verbs that show, track and keep results."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from condense.config import UserError
from condense.machine.terminal import tell
from condense.specs import catalogue


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
    from condense.files.artifacts import write_json
    from condense.plan.manifests import page_manifest
    from condense.plan.tables import Plan
    from condense.report.html import make_report
    from condense.report.unfinished import make_unfinished

    if args.so_far:
        make_unfinished(Plan(args.scale), args.out or Path("results/so-far/report.html"))
    else:
        scale, out = Plan(args.scale), args.out or Path("results/report.html")
        make_report(scale, out)
        write_json(out.with_suffix(".json"), page_manifest(scale, "report"))


def leaderboard(args: argparse.Namespace) -> None:
    """Shows every method by every judge of a scale, or writes that as parquet and as a page (rule
    `leaderboard`)."""
    from condense.files.artifacts import write_json
    from condense.plan.manifests import page_manifest
    from condense.plan.tables import Plan
    from condense.report import leaderboard as board
    from condense.report.board_page import make_page

    if args.page is not None and args.write is None:
        raise UserError("--page: is made from the file of --write; give both")
    whole = Plan(args.scale)
    scale = board.made(whole)
    missing = len(whole.metrics) - len(scale.metrics)
    if missing:
        tell(f"{missing} of {len(whole.metrics)} evaluations of the scale are not made yet and left out")
    rows = board.rows(scale)
    if args.write is None:
        print(board.text(rows))
        return
    board.write(rows, args.write)
    if args.page is not None:
        make_page(scale, args.write, args.page, missing)
        write_json(args.page.with_suffix(".json"), page_manifest(whole, "leaderboard"))


def track(args: argparse.Namespace) -> None:
    """Brings MLflow up to date with the results (rule `track`)."""
    from condense.files.artifacts import write_json
    from condense.machine.drafts import require_place
    from condense.tracking.follower import follow
    from condense.tracking.ingestion import Ingestion
    from condense.tracking.sources import is_run_folder
    from condense.tracking.stores import named_store

    store = named_store(args.store)
    if store is None:
        raise UserError(f"--store {args.store}: names no store; give sqlite:///mlflow.db or http://HOST:PORT")
    if not args.results.is_dir():
        raise UserError(
            f"--results {args.results}: no such folder; name the results of a workflow, or the folder that "
            "was --out of a run"
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
        plan = Plan(args.scale)
        print(f"{len(store.restore_all(plan.keepable()))} results taken from kept/")
        begun = store.restore_unfinished(cell.path for cell in plan.synthetic.values())
        if begun:
            print(f"{len(begun)} unfinished sets taken from kept/, with which the workflow goes on")


def _sets(paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are synthetic sets."""
    from condense.files.kept import unit_of

    return [path for path in paths if unit_of(path).kind == "synthetic"]


def keep(args: argparse.Namespace) -> None:
    """Copies finished results into kept/, which git and DVC track, and removes from there what no scale asks
    for."""
    from condense.files import store
    from condense.files.kept import unit_of
    from condense.machine.drafts import whole
    from condense.plan.tables import Plan
    from condense.report.summary import keep_summary

    scales = {name: Plan(name) for name in catalogue.names_in("scales")}
    # Before anything is copied: a scale that cannot be planned ends this
    wanted = [path for name, scale in scales.items() for path in scale.keepable(few=name != "quick")]
    chosen = scales[args.scale]
    datasets = sorted({cell.name for cell in chosen.data.values()})
    unknown = sorted(set(args.bytes) - set(datasets))
    if unknown:
        raise UserError(
            f"--bytes {unknown[0]}: scale '{args.scale}' has no such dataset; it has {', '.join(datasets)}"
        )
    worth = chosen.keepable(few=args.scale != "quick")
    begun = {path: store.shard_files(path) for path in _sets(worth)} if args.unfinished else {}
    done = store.keep([*worth, *chain(*begun.values())], with_bytes=args.bytes)
    removed = store.drop_others([*wanted, *store.unfinished(_sets(wanted))])
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
    if args.unfinished:
        left = [path for path, files in begun.items() if set(files) & set(done.large)]
        whole_ones = sum(map(bool, begun.values())) - len(left)
        print(f"{whole_ones} unfinished sets kept as far as they are")
        for path in left:
            print(f"{path}: unfinished, and not kept whole: a checkpoint or shard of it is too large for git")
    print(f"kept/ holds {done.size / 1e6:.1f} MB")
