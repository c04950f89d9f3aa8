"""What the verbs take that make data, parents, sets and metrics. Parsing only."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from condense.command.options import MAX_MB, Verbs, add_verb, cell_options, keep_option, machine_options
from condense.plan import PARENTS
from condense.specs import DEFAULT_TASK


def _training_images(text: str) -> Path:
    """A prepared training split, or the folder that holds it."""
    path = Path(text)
    return path / "train.safetensors" if path.is_dir() else path


def _prepared(text: str) -> Path:
    """The folder of a prepared dataset, or a split in it."""
    path = Path(text)
    return path.parent if path.name in ("train.safetensors", "test.safetensors") else path


def stage_verbs(verbs: Any, functions: Verbs) -> None:
    """Adds to the subparsers `verbs` those that make something, each calling its one of `functions`."""
    for add_verbs in (_data_verb, _classes_verb, _parent_verbs, _set_verbs, _metrics_verbs):
        add_verbs(verbs, functions)


def _data_verb(verbs: Any, functions: Verbs) -> None:
    verb = add_verb(verbs, functions, "data")
    verb.add_argument("--dataset", required=True)
    verb.add_argument(
        "--out", type=Path, required=True, help="folder for train.safetensors and test.safetensors"
    )
    keep_option(verb)


def _classes_verb(verbs: Any, functions: Verbs) -> None:
    verb = add_verb(verbs, functions, "classes")
    verb.add_argument("--data", type=_prepared, required=True, help="folder of the prepared dataset")
    verb.add_argument(
        "--choose", type=int, nargs="+", required=True, metavar="CLASS", help="their numbers, ascending"
    )
    verb.add_argument("--name", required=True, help="what the dataset of these classes is called")
    verb.add_argument(
        "--out", type=Path, required=True, help="folder for train.safetensors and test.safetensors"
    )
    keep_option(verb)


def _kinds_of_parents() -> str:
    """What there is to make, a line each, with its settings and what it is made from."""
    forms = "a protocol is a name, a YAML file or JSON, a strategy an augmentation, such as none"
    told = [f"kinds and their settings ({forms}):"]
    for kind, cell in PARENTS.items():
        given = "".join(f"; --with {name}=FILE" for name in cell.made_from)
        meaning = " ".join((cell.__doc__ or "").split()).partition(". ")[0].removesuffix(".")
        told.append(f"  {kind} ({', '.join(cell.setting_names())}{given}): {meaning}")
    return "\n".join(textwrap.fill(line, 80, subsequent_indent="    ") for line in told)


def _parent_verbs(verbs: Any, functions: Verbs) -> None:
    verb = add_verb(verbs, functions, "parent")
    verb.epilog, verb.formatter_class = _kinds_of_parents(), argparse.RawDescriptionHelpFormatter
    verb.add_argument(
        "kind",
        help="what is made, such as teacher; `condense teach --help` and `condense bank --help` tell of "
        "options instead of JSON",
    )
    verb.add_argument("--data", type=_training_images, required=True, help="prepared training images")
    verb.add_argument("--settings", required=True, help="all settings of the kind (see below), as JSON")
    verb.add_argument(
        "--with",
        dest="given",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="what it is made from beside the images, such as the observer whose statistics are gathered",
    )
    cell_options(verb, "file for what is made")
    keep_option(verb)
    verb = add_verb(verbs, functions, "teach")
    verb.add_argument("--data", type=_training_images, required=True, help="prepared training images")
    verb.add_argument("--protocol", required=True, help="name, YAML file or JSON")
    verb.add_argument("--strategy", help="augmentation of the dataset (default: its own)")
    cell_options(verb, "file for the teacher")
    keep_option(verb)
    verb = add_verb(verbs, functions, "bank")
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
        "of a queue: size of the bank; what does not fit into it is trained again when asked for (default: "
        f"{MAX_MB})"
    )
    verb.add_argument("--max-mb", type=int, help=size)
    cell_options(verb, "file for the bank, beside which a folder with its parts is made")
    keep_option(verb)


def _set_verbs(verbs: Any, functions: Verbs) -> None:
    verb = add_verb(verbs, functions, "synthesize")
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
    cell_options(verb, "file for the shard", nargs="+")
    keep_option(verb)
    verb = add_verb(verbs, functions, "gather")
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
    keep_option(verb, key=True)
    verb = add_verb(verbs, functions, "assemble")
    verb.add_argument(
        "--sets", type=Path, nargs="+", required=True, help="sets of some classes each, as they come"
    )
    verb.add_argument(
        "--of",
        type=_prepared,
        nargs="+",
        required=True,
        help="for each set the folder of the classes that it was made from (`condense classes --help`)",
    )
    verb.add_argument(
        "--data", type=_training_images, required=True, help="prepared training images of all classes"
    )
    verb.add_argument("--out", type=Path, required=True, help="file for the synthetic set")
    keep_option(verb, key=True)


def _relabel_verb(verbs: Any, functions: Verbs) -> None:
    verb = add_verb(verbs, functions, "relabel")
    verb.add_argument("--synthetic", type=Path, required=True, help="the set that is labelled")
    verb.add_argument("--data", type=_prepared, required=True, help="folder of the prepared dataset")
    verb.add_argument("--protocol", required=True, help="one with observers: name, YAML file or JSON")
    verb.add_argument(
        "--with",
        action="append",
        default=[],
        dest="given",
        metavar="NAME=FILE",
        help="an observer of the protocol; may be given several times",
    )
    verb.add_argument("--strategy", help="augmentation of the dataset (default: its own)")
    verb.add_argument("--epochs", type=int, help="how many are labelled (default: those of the protocol)")
    verb.add_argument(
        "--top",
        type=int,
        help="keep the largest logits of an image alone (default: as the protocol, else all)",
    )
    verb.add_argument(
        "--averaged",
        action="store_true",
        help="write the set with one soft label an image, the mean over the epochs",
    )
    verb.add_argument("--seed", type=int, default=0, help="of the batches (default: %(default)s)")
    verb.add_argument("--out", type=Path, required=True, help="file for the labels, or for the set")
    machine_options(verb)


def _metrics_verbs(verbs: Any, functions: Verbs) -> None:
    verb = add_verb(verbs, functions, "evaluate")
    verb.add_argument("--synthetic", type=Path, help="the set to train on (default: the whole training set)")
    verb.add_argument("--recipe", help="of a task that reads a recipe: its name, YAML file or JSON")
    verb.add_argument("--ipc", type=int, help="with --recipe: images a class")
    verb.add_argument(
        "--task",
        default=DEFAULT_TASK.kind,
        help="name, YAML file or JSON; see `condense list tasks` (default: %(default)s)",
    )
    more = (
        "a further set of the task, or what it or the protocol needs beforehand; may be given several times"
    )
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
    cell_options(verb, "file for the metrics, or for the part")
    keep_option(verb)
    _relabel_verb(verbs, functions)
    verb = add_verb(verbs, functions, "together")
    verb.add_argument(
        "--index", type=Path, required=True, help="file for the list of what was made, written last"
    )
    verb.add_argument(
        "commands", nargs="+", metavar="COMMAND", help="one word such as 'evaluate --synthetic FILE ...'"
    )
    verb = add_verb(verbs, functions, "chain")
    verb.add_argument(
        "commands", nargs="+", metavar="COMMAND", help="one word such as 'gather --shards FILE ...'"
    )
    verb = add_verb(verbs, functions, "join")
    verb.add_argument(
        "--parts", type=Path, nargs="+", required=True, help="every network of one evaluation once"
    )
    verb.add_argument("--out", type=Path, required=True, help="file for the metrics")
    keep_option(verb, key=True)
