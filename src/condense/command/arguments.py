"""The options of the `condense` command: which verbs there are and what each of them takes. Parsing only."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from condense.command.judge import judge_verb
from condense.command.options import STORE, Parser, Verbs, add_verb, machine_options
from condense.command.stage_arguments import stage_verbs
from condense.command.values import home, place


def with_homes(args: argparse.Namespace) -> argparse.Namespace:
    """`args` with `~` in paths as a shell has it."""
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, home(value))
        elif isinstance(value, list):
            setattr(args, name, [home(entry) if isinstance(entry, Path) else entry for entry in value])
    return args


def parser(functions: Verbs) -> argparse.ArgumentParser:
    """The command line; `functions` holds by name what each verb calls, whose first sentence of documentation
    is its help."""
    main_parser = Parser(prog="condense", description="Dataset condensation: reproducible, tracked.")
    main_parser.add_argument(
        "--log", type=Path, metavar="FILE", help="write to this file, begun anew, what would be printed"
    )
    verbs = main_parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add_verbs in (_run_verb, judge_verb, _user_verbs, stage_verbs, _report_verbs):
        add_verbs(verbs, functions)
    return main_parser


def _run_verb(verbs: Any, functions: Verbs) -> None:
    verb = add_verb(verbs, functions, "run")
    verb.add_argument(
        "images",
        type=place,
        help="a folder of class folders, a parquet file with images and labels, or a dataset by its name",
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for the set, its grid and its metrics")
    verb.add_argument(
        "--method",
        help="see `condense list methods` (default: best, or where classes or images are too small for "
        "mosaics, best_plain)",
    )
    verb.add_argument("--ipc", type=int, default=10, help="images per class (default: 10)")
    verb.add_argument("--scale", default="laptop", help="whose steps and epochs to use (default: laptop)")
    verb.add_argument("--arch", help="architecture (default: the ConvNet whose depth suits the image size)")
    verb.add_argument("--steps", type=int, help="condensation steps instead of the scale's")
    verb.add_argument(
        "--epochs", type=int, help="epochs of the networks that judge the sets instead of the scale's"
    )
    verb.add_argument(
        "--pretrain-networks",
        type=int,
        metavar="N",
        help="networks that are trained beforehand instead of the scale's, for methods with a bank of them",
    )
    verb.add_argument(
        "--pretrain-epochs",
        type=int,
        metavar="N",
        help="epochs of what is trained beforehand, networks of a bank or a critic, instead of the scale's",
    )
    verb.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="choose the steps, and the networks and epochs of what is trained beforehand, that fit into so "
        "many minutes, and epochs for judging in as many more (default: 10 for methods that say so, as best "
        "does, unless --steps is given)",
    )
    verb.add_argument("--resize", type=int, help="bring all images to this many pixels a side")
    verb.add_argument(
        "--test",
        type=Path,
        help="test images of the same form (default: those of a known dataset, of a folder test, or 20 %% "
        "held out)",
    )
    verb.add_argument(
        "--image-column",
        metavar="NAME",
        help="of parquet files (default: image, or the only one with images)",
    )
    verb.add_argument(
        "--label-column",
        metavar="NAME",
        help="of parquet files (default: label, or the only one that can be meant)",
    )
    verb.add_argument(
        "--ground",
        metavar="COLOUR",
        help="under transparent images: white, grey, black, #rrggbb (default: white)",
    )
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument(
        "--mlflow",
        nargs="?",
        const="on",
        metavar="STORE",
        help=f"log to MLflow as well: a database or a server ({STORE})",
    )
    machine_options(verb)


def _user_verbs(verbs: Any, functions: Verbs) -> None:
    add_verb(verbs, functions, "doctor")
    verb = add_verb(verbs, functions, "inspect")
    verb.add_argument("file", type=Path)
    verb.add_argument(
        "--digest", action="store_true", help="print only the checksum of what is compared between runs"
    )
    verb = add_verb(verbs, functions, "export")
    verb.add_argument("file", type=Path, help="a synthetic set")
    verb.add_argument("--to", required=True, choices=("png", "npz", "parquet"))
    verb.add_argument("--out", type=Path, help="file, or folder for png (default: beside the set)")
    verb.add_argument(
        "--as-stored",
        action="store_true",
        help="images as the file has them, where each holds several smaller ones",
    )
    verb = add_verb(verbs, functions, "nas201")
    verb.add_argument("what", choices=("import",))
    verb.add_argument(
        "file", type=Path, help="NAS-Bench-201-*.pth, or a CSV or parquet file of architecture and accuracies"
    )
    verb.add_argument(
        "--out",
        type=Path,
        default=Path("nas201.parquet"),
        help="a .parquet or .csv file (default: %(default)s)",
    )
    verb = add_verb(verbs, functions, "list")
    verb.add_argument(
        "what",
        choices=("methods", "terms", "datasets", "protocols", "tasks", "tables", "architectures", "scales"),
    )
    verb = add_verb(verbs, functions, "estimate")
    verb.add_argument(
        "target", nargs="?", help="a table or figure, as cpdm/table1 or as its file (default: everything)"
    )
    verb.add_argument("--scale", default="quick")
    verb.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="write a page on the cost of the whole scale instead (docs/scale.md)",
    )
    verb = add_verb(verbs, functions, "prune")
    verb.add_argument("--results", type=Path, default=Path("results"))
    verb.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _report_verbs(verbs: Any, functions: Verbs) -> None:
    for name in ("table", "figure"):
        verb = add_verb(verbs, functions, name)
        verb.add_argument("--name", required=True, help=f"as cpdm/{name}1")
        verb.add_argument("--scale", default="quick")
        verb.add_argument("--out", type=Path, required=True)
    verb = add_verb(verbs, functions, "report")
    verb.add_argument("--scale", default="quick")
    so_far = "of what is made of a scale that is not finished, with its tables and figures beside the page"
    verb.add_argument("--so-far", action="store_true", help=so_far)
    out = "default: results/report.html, or results/so-far/report.html with --so-far"
    verb.add_argument("--out", type=Path, help=out)
    verb = add_verb(verbs, functions, "leaderboard")
    verb.add_argument("--scale", default="quick")
    verb.add_argument("--write", type=Path, metavar="FILE", help="write the rows as parquet instead")
    verb.add_argument("--page", type=Path, metavar="FILE", help="with --write: make the page of them, too")
    verb = add_verb(verbs, functions, "summary")
    verb.add_argument("--tables", type=Path, nargs="+", required=True)
    verb.add_argument("--out", type=Path, required=True)
    verb = add_verb(verbs, functions, "take")
    verb.add_argument("path", nargs="?", help="one result (default: all that the scale asks for)")
    verb.add_argument("--scale", default="quick")
    verb = add_verb(verbs, functions, "keep")
    verb.add_argument("--scale", default="quick")
    large = "datasets whose large sets and data are kept too, for a remote; git ignores them (default: none)"
    verb.add_argument("--bytes", nargs="*", default=[], metavar="NAME", help=large)
    verb.add_argument(
        "--unfinished",
        action="store_true",
        help="keep shards and checkpoints of unfinished sets too, so that another machine goes on with them",
    )
    verb.add_argument(
        "--list", type=Path, metavar="FILE", help="write the paths that belong into git to this file"
    )
    verb = add_verb(verbs, functions, "track")
    verb.add_argument("--results", type=Path, default=Path("results"))
    verb.add_argument("--store", default="on", help=f"a database or a server ({STORE})")
    verb.add_argument(
        "--artifacts", type=Path, help="folder for artifacts (default: mlartifacts beside the database)"
    )
    verb.add_argument(
        "--scale", help="only what this scale asks for, with the tables that it is for (default: everything)"
    )
    verb.add_argument("--follow", type=int, metavar="PID", help="go on until this process ends")
    verb.add_argument("--out", type=Path, help="stamp: what has been ingested")
