"""The options of the `condense` command: which verbs there are and what each of them takes. Parsing only."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from condense.command.values import home
from condense.specs import DEFAULT_TASK

MAX_MB = 20000  # of the bank of a queue, where nobody says otherwise
STORE = "default: $MLFLOW_TRACKING_URI, or sqlite:///mlflow.db"
Verbs = Mapping[str, Callable[[argparse.Namespace], int | None]]


def _training_images(text: str) -> Path:
    """A prepared training split, or the folder that holds it."""
    path = Path(text)
    return path / "train.safetensors" if path.is_dir() else path


def _prepared(text: str) -> Path:
    """The folder of a prepared dataset, or a split in it."""
    path = Path(text)
    return path.parent if path.name in ("train.safetensors", "test.safetensors") else path


def with_homes(args: argparse.Namespace) -> argparse.Namespace:
    """`args` with `~` in paths as a shell has it."""
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, home(value))
        elif isinstance(value, list):
            setattr(args, name, [home(entry) if isinstance(entry, Path) else entry for entry in value])
    return args


def _machine_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    threads = (
        "CPU threads (default: OMP_NUM_THREADS, else all cores that this process may use; never more than "
        "these)"
    )
    verb.add_argument("--threads", type=int, help=threads)


def _cell_options(verb: argparse.ArgumentParser, out: str, nargs: str | None = None) -> None:
    verb.add_argument("--arch", required=True, help="architecture; see `condense list architectures`")
    verb.add_argument("--options", default="{}", help="the architecture's options, as JSON")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument(
        "--key", default="by-hand", nargs=nargs, help="what the checkpoint and the artifact are bound to"
    )
    verb.add_argument("--out", type=Path, required=True, nargs=nargs, help=out)
    _machine_options(verb)


def _keep_option(verb: argparse.ArgumentParser, key: bool = False) -> None:
    """`key`: the verb does not know by other options which key its output has."""
    verb.add_argument(
        "--keep",
        action="store_true",
        help="leave an output that is there and whole as it is (the workflow's rules do)",
    )
    if key:
        verb.add_argument("--key", default="by-hand", help="what an output that is to be kept is bound to")


def parser(functions: Verbs) -> argparse.ArgumentParser:
    """The command line; `functions` holds by name what each verb calls, whose first line of documentation is
    its help."""
    main_parser = argparse.ArgumentParser(
        prog="condense", description="Dataset condensation: reproducible, tracked."
    )
    main_parser.add_argument(
        "--log", type=Path, metavar="FILE", help="write to this file, begun anew, what would be printed"
    )
    verbs = main_parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add_verbs in (_user_verbs, _stage_verbs, _report_verbs):
        add_verbs(verbs, functions)
    return main_parser


def _add(verbs: Any, functions: Verbs, name: str) -> argparse.ArgumentParser:
    function = functions[name]
    text = next(iter((function.__doc__ or "").splitlines()), "")  # `python -OO` leaves documentation away
    verb = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(function=function)
    return verb


def _user_verbs(verbs: Any, functions: Verbs) -> None:
    verb = _add(verbs, functions, "run")
    verb.add_argument(
        "images",
        type=Path,
        help="a folder of class folders, a parquet file with images and labels, or a dataset by its name",
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for the set, its grid and its metrics")
    verb.add_argument("--method", default="cpdm", help="see `condense list methods` (default: cpdm)")
    verb.add_argument("--ipc", type=int, default=10, help="images per class (default: 10)")
    verb.add_argument("--scale", default="laptop", help="whose steps and epochs to use (default: laptop)")
    verb.add_argument("--arch", help="architecture (default: the ConvNet whose depth suits the image size)")
    verb.add_argument("--steps", type=int, help="condensation steps instead of the scale's")
    verb.add_argument(
        "--epochs", type=int, help="epochs of the networks that judge the sets instead of the scale's"
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
    _machine_options(verb)
    _add(verbs, functions, "doctor")
    verb = _add(verbs, functions, "inspect")
    verb.add_argument("file", type=Path)
    verb.add_argument(
        "--digest", action="store_true", help="print only the checksum of what is compared between runs"
    )
    verb = _add(verbs, functions, "export")
    verb.add_argument("file", type=Path, help="a synthetic set")
    verb.add_argument("--to", required=True, choices=("png", "npz", "parquet"))
    verb.add_argument("--out", type=Path, help="file, or folder for png (default: beside the set)")
    verb.add_argument(
        "--as-stored",
        action="store_true",
        help="images as the file has them, where each holds several smaller ones",
    )
    verb = _add(verbs, functions, "list")
    verb.add_argument(
        "what", choices=("methods", "datasets", "protocols", "tasks", "tables", "architectures", "scales")
    )
    verb = _add(verbs, functions, "estimate")
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
    verb = _add(verbs, functions, "prune")
    verb.add_argument("--results", type=Path, default=Path("results"))
    verb.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _stage_verbs(verbs: Any, functions: Verbs) -> None:
    verb = _add(verbs, functions, "data")
    verb.add_argument("--dataset", required=True)
    verb.add_argument(
        "--out", type=Path, required=True, help="folder for train.safetensors and test.safetensors"
    )
    _keep_option(verb)
    verb = _add(verbs, functions, "parent")
    verb.add_argument(
        "kind",
        help="what is made, such as teacher; `condense teach --help` and `condense bank --help` tell of "
        "options instead of JSON",
    )
    verb.add_argument("--data", type=_training_images, required=True, help="prepared training images")
    verb.add_argument("--settings", required=True, help="all settings of the kind, as JSON")
    _cell_options(verb, "file for what is made")
    _keep_option(verb)
    verb = _add(verbs, functions, "teach")
    verb.add_argument("--data", type=_training_images, required=True, help="prepared training images")
    verb.add_argument("--protocol", required=True, help="name, YAML file or JSON")
    verb.add_argument("--strategy", help="augmentation of the dataset (default: its own)")
    _cell_options(verb, "file for the teacher")
    _keep_option(verb)
    verb = _add(verbs, functions, "bank")
    verb.add_argument("--data", type=_training_images, required=True, help="prepared training images")
    verb.add_argument(
        "--networks", default='{"kind": "queue"}', help="the networks of a recipe: YAML file or JSON"
    )
    verb.add_argument(
        "--steps", type=int, help="of a queue: steps of the longest condensation that will use it"
    )
    verb.add_argument(
        "--protocol", help="of finished networks: how they are trained (default: what --networks says)"
    )
    verb.add_argument(
        "--strategy", help="of finished networks: augmentation of the dataset (default: its own)"
    )
    size = (
        f"of a queue: size of the bank; what does not fit into it is trained again when asked for (default: "
        f"{MAX_MB})"
    )
    verb.add_argument("--max-mb", type=int, help=size)
    _cell_options(verb, "file for the bank, beside which a folder with its parts is made")
    _keep_option(verb)
    verb = _add(verbs, functions, "synthesize")
    verb.add_argument("--data", type=_training_images, required=True, help="prepared training images")
    several = (
        "; several, as --ipc, --key and --out, for sets that share the real side, which is then computed once"
    )
    verb.add_argument(
        "--recipe", nargs="+", required=True, help=f"name or YAML file, or a resolved recipe as JSON{several}"
    )
    verb.add_argument("--ipc", type=int, nargs="+", required=True)
    verb.add_argument("--classes", help="a class or a range such as 0-4 (default: all)")
    verb.add_argument(
        "--images",
        help="of each class: a number from 0 on or a range such as 0-4 (default: all), for methods that "
        "split so",
    )
    beforehand = (
        "what a recipe needs beforehand, by the name it gives it, such as teacher or bank; may be given for "
        "several names"
    )
    verb.add_argument(
        "--with", dest="given", action="append", default=[], metavar="NAME=FILE", help=beforehand
    )
    verb.add_argument(
        "--index", type=Path, help="a file that is written last and says that every --out is there"
    )
    verb.add_argument(
        "--whole", type=Path, nargs="+", default=[], help="with --index: for each --out the path of its set"
    )
    _cell_options(verb, "file for the shard", nargs="+")
    _keep_option(verb)
    verb = _add(verbs, functions, "gather")
    verb.add_argument("--shards", type=Path, nargs="+", required=True)
    verb.add_argument(
        "--data",
        type=_training_images,
        required=True,
        help="prepared training images, shown beside the synthetic ones",
    )
    verb.add_argument(
        "--stored", choices=("float32", "float16"), default="float32", help="type of the pixels in the file"
    )
    verb.add_argument(
        "--index",
        type=Path,
        nargs="*",
        default=[],
        help="written by synthesize for its --index; has to name the set",
    )
    verb.add_argument("--out", type=Path, required=True, help="file for the synthetic set")
    _keep_option(verb, key=True)
    verb = _add(verbs, functions, "evaluate")
    verb.add_argument("--synthetic", type=Path, help="the set to train on (default: the whole training set)")
    verb.add_argument(
        "--task",
        default=DEFAULT_TASK.kind,
        help="name, YAML file or JSON; see `condense list tasks` (default: %(default)s)",
    )
    more = "a further set of the task; may be given several times"
    verb.add_argument("--with", action="append", default=[], dest="sets", metavar="NAME=FILE", help=more)
    verb.add_argument("--data", type=_prepared, required=True, help="folder of the prepared dataset")
    verb.add_argument("--method", help="name of what is evaluated (default: the one in the set)")
    verb.add_argument("--protocol", required=True, help="name, YAML file or JSON")
    verb.add_argument("--strategy", help="augmentation of the dataset (default: its own)")
    verb.add_argument("--networks", type=int, required=True)
    verb.add_argument(
        "--part",
        help="only the network of this number, or a range such as 0-4, to be joined later (default: all)",
    )
    verb.add_argument(
        "--whole",
        type=Path,
        help="of a part: its metrics; with --keep, once they are there no part is needed",
    )
    _cell_options(verb, "file for the metrics, or for the part")
    _keep_option(verb)
    verb = _add(verbs, functions, "join")
    verb.add_argument(
        "--parts", type=Path, nargs="+", required=True, help="every network of one evaluation once"
    )
    verb.add_argument("--out", type=Path, required=True, help="file for the metrics")
    _keep_option(verb, key=True)


def _report_verbs(verbs: Any, functions: Verbs) -> None:
    for name in ("table", "figure", "report"):
        verb = _add(verbs, functions, name)
        if name != "report":
            verb.add_argument("--name", required=True, help=f"as cpdm/{name}1")
        verb.add_argument("--scale", default="quick")
        verb.add_argument("--out", type=Path, required=True)
    verb = _add(verbs, functions, "summary")
    verb.add_argument("--tables", type=Path, nargs="+", required=True)
    verb.add_argument("--out", type=Path, required=True)
    verb = _add(verbs, functions, "take")
    verb.add_argument("path", nargs="?", help="one result (default: all that the scale asks for)")
    verb.add_argument("--scale", default="quick")
    verb = _add(verbs, functions, "keep")
    verb.add_argument("--scale", default="quick")
    large = "datasets whose large sets and data are kept too, for a remote; git ignores them (default: none)"
    verb.add_argument("--bytes", nargs="*", default=[], metavar="NAME", help=large)
    verb.add_argument(
        "--list", type=Path, metavar="FILE", help="write the paths that belong into git to this file"
    )
    verb = _add(verbs, functions, "track")
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
