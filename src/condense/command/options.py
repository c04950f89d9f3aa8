"""Options that several verbs of the `condense` command take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from condense.config import unknown

MAX_MB = 20000  # of the bank of a queue, where nobody says otherwise
STORE = "default: $MLFLOW_TRACKING_URI, or sqlite:///mlflow.db"
Verbs = Mapping[str, Callable[[argparse.Namespace], int | None]]


class Parser(argparse.ArgumentParser):
    """A parser that answers an option it does not have, with the verb's name and the nearest option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As that of any parser, but ends the program at an option that is not known: before what is missing
        is told, which may only be misspelt."""
        options = [option for action in self._actions for option in action.option_strings]
        words: Iterable[str] = sys.argv[1:] if args is None else args
        if self._subparsers is not None:  # what follows a verb is looked at by the verb's own parser
            words = takewhile(lambda word: word.startswith("--"), words)
        wrong = [
            word
            for word in words
            if word.startswith("--")
            and not any(option.startswith(word.partition("=")[0]) for option in options)
        ]
        self._refuse(wrong, options)
        parsed, left = super().parse_known_args(args, namespace)
        self._refuse([word for word in left if word.startswith("-")], options)
        return parsed, left

    def _refuse(self, wrong: Sequence[str], options: Sequence[str]) -> None:
        if wrong:
            # Compared without the dashes, which any two options have in common
            name, *known = (word.partition("=")[0].lstrip("-") for word in (wrong[0], *options))
            self.error(str(unknown("option", name, known)))


def machine_options(verb: argparse.ArgumentParser) -> None:
    """Where and on how many threads a verb works."""
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    threads = (
        "CPU threads (default: OMP_NUM_THREADS, else all cores that this process may use; never more than "
        "these)"
    )
    verb.add_argument("--threads", type=int, help=threads)


def cell_options(verb: argparse.ArgumentParser, out: str, nargs: str | None = None) -> None:
    """What belongs to a cell; `out` says what its file is, `nargs` how many cells there may be."""
    verb.add_argument("--arch", required=True, help="architecture; see `condense list architectures`")
    verb.add_argument("--options", default="{}", help="the architecture's options, as JSON")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument(
        "--key", default="by-hand", nargs=nargs, help="what the checkpoint and the artifact are bound to"
    )
    verb.add_argument("--out", type=Path, required=True, nargs=nargs, help=out)
    machine_options(verb)


def keep_option(verb: argparse.ArgumentParser, key: bool = False) -> None:
    """`key`: the verb does not know by other options which key its output has."""
    verb.add_argument(
        "--keep",
        action="store_true",
        help="leave an output that is there and whole as it is (the workflow's rules do)",
    )
    if key:
        verb.add_argument("--key", default="by-hand", help="what an output that is to be kept is bound to")


def add_verb(verbs: Any, functions: Verbs, name: str) -> argparse.ArgumentParser:
    """Adds a verb that calls its one of `functions`, whose first sentence of documentation is its help."""
    function = functions[name]
    first = " ".join((function.__doc__ or "").split("\n\n")[0].split())  # `python -OO` leaves it away
    text = first.partition(". ")[0].removesuffix(".") + "." * bool(first)
    verb = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(function=function)
    return verb
