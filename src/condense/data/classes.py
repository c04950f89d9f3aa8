"""Labels of several files, matched by the names of their classes and never by their places."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from condense.config import UserError

_SHOWN = 8  # names in a message
# A space without width, and the mark that begins files of Windows
_UNSEEN = dict.fromkeys(map(ord, "\u200b\ufeff"))


@dataclass(frozen=True)
class Labels:
    """The labels of a file or a folder: `places` int64 (N,) in `names`, which may hold names without images.

    `numbered`: the names are nothing but the numbers that the labels are. `ordered`: the order of the names
    is that of the source, so that numbers elsewhere may count them, and not the alphabet's. `where` is for
    messages.
    """

    names: list[str]
    places: np.ndarray
    where: str
    numbered: bool = False
    ordered: bool = True

    @property
    def counts(self) -> list[int]:
        """How many images each of `names` has."""
        return np.bincount(self.places, minlength=len(self.names)).tolist()


def brief(names: Sequence[object]) -> str:
    """The first names, as they stand in a message."""
    return ", ".join(str(name)[:40] for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def alike(name: str) -> str:
    """What two names have in common that look alike: accents are written in two ways, and blanks at the ends
    or doubled are not seen."""
    return " ".join(unicodedata.normalize("NFC", name).translate(_UNSEEN).split())


def of_names(
    names: Sequence[str], places: Sequence[int] | np.ndarray, where: str, ordered: bool = True
) -> Labels:
    """Labels whose classes have names. Raises UserError for two names that look alike."""
    seen: dict[str, str] = {}
    for name in names:
        earlier = seen.setdefault(alike(name), name)
        if earlier != name:
            raise UserError(
                f"{where}: two classes look alike, '{earlier}' and '{name}', whose accents or blanks are "
                "written in two ways: join them"
            )
    if len(seen) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise UserError(f"{where}: names the class '{twice}' twice")
    return Labels(list(names), np.asarray(places, dtype=np.int64), where, ordered=ordered)


def of_numbers(values: np.ndarray, where: str) -> Labels:
    """Labels that are whole numbers (N,), each of which is a class, in their order.

    Raises UserError for negative ones, which most often mark images without a label.
    """
    kinds, places = np.unique(values, return_inverse=True)
    if len(kinds) and kinds[0] < 0:
        raise UserError(
            f"{where}: has the label {kinds[0]}, outside 0..{max(int(kinds[-1]), 0)} (its labels are "
            f"{brief(kinds.tolist())}): remove the rows without a label, or write the classes as text"
        )
    return Labels([str(kind) for kind in kinds.tolist()], places.astype(np.int64), where, numbered=True)


def joined(shards: Sequence[Labels]) -> Labels:
    """The labels of the shards of one set, in their order. Raises UserError if some have names and others
    numbers of other classes."""
    first = next((labels for labels in shards if not labels.numbered), shards[0])
    shards = [numbers_named(labels, first) for labels in shards]
    known: dict[str, str] = {}
    for labels in shards:
        for name in labels.names:
            known.setdefault(alike(name), name)
    names, ordered = list(known.values()), first.ordered
    if first.numbered:
        names.sort(key=int)
    elif any(set(labels.names) != set(first.names) for labels in shards):
        names.sort()
        ordered = False
    label_of = {alike(name): label for label, name in enumerate(names)}
    places = [
        np.array([label_of[alike(name)] for name in labels.names], np.int64)[labels.places]
        for labels in shards
    ]
    return Labels(names, np.concatenate(places), shards[0].where, first.numbered, ordered)


def numbers_named(labels: Labels, named: Labels) -> Labels:
    """`labels` with the names of `named` if they are numbers without names and those of `named` are names.

    The numbers count the names, from 0; but where the names are numbers written as text, each number is the
    name that says it.
    Raises UserError for a number that `named` has no name for, and where nothing says how its names are
    numbered.
    """
    if not labels.numbered or named.numbered or not labels.names:
        return labels
    written = _written_numbers(named)
    if written is not None:
        return replace(labels, names=[written.get(int(name), name) for name in labels.names], numbered=False)
    if not named.ordered:
        raise UserError(
            f"{labels.where}: its labels are numbers ({brief(labels.names)}), and nothing says which of the "
            f"classes of {named.where} ({brief(named.names)}) they mean: give both files labels of one kind"
        )
    numbers = [int(name) for name in labels.names]
    if max(numbers) >= len(named.names):
        raise UserError(
            f"{labels.where}: its labels are numbers ({brief(labels.names)}), of which {max(numbers)} is "
            f"none of the {len(named.names)} classes of {named.where} ({brief(named.names)}): give both "
            "files labels of one kind"
        )
    return replace(
        labels, names=named.names, places=np.array(numbers, np.int64)[labels.places], numbered=False
    )


def _written_numbers(labels: Labels) -> dict[int, str] | None:
    """Number -> the name that says it, as '7', '007' or '7.0', if the names are nothing but numbers.

    Raises UserError for two names of one number.
    """
    written: dict[int, str] = {}
    for name in labels.names:
        try:
            number = float(name)
        except ValueError:
            return None
        if not number.is_integer() or abs(number) >= 2**53:
            return None
        if written.setdefault(int(number), name) != name:
            raise UserError(
                f"{labels.where}: two classes are one number, '{written[int(number)]}' and '{name}': join "
                "them, or rename one"
            )
    return written


def pairing(sets: Sequence[Labels]) -> str:
    """A sentence on how a training and a test set are matched if one of them has numbers and the other names;
    empty if not."""
    if len({labels.numbered for labels in sets}) < 2:
        return ""
    numbers, names = sorted(sets, key=lambda labels: not labels.numbered)
    verb = "count the classes that" if _written_numbers(names) is None else "are the classes that, as text,"
    return f"The numbers in {numbers.where} {verb} {names.where} names."


def matched(labels: Labels, to: Labels) -> Labels:
    """`labels` in the numbering of `to`, by name. Raises UserError naming a class with images that `to` does
    not have."""
    label_of = {alike(name): label for label, name in enumerate(to.names)}
    counts = labels.counts
    lone = [
        name
        for name, count in zip(labels.names, counts, strict=True)
        if count and alike(name) not in label_of
    ]
    if lone:
        raise UserError(
            f"{labels.where}: classes are matched by their names, and '{lone[0][:80]}' is none of those of "
            f"{to.where} ({brief(to.names)}): give both the same names, or remove these images"
        )
    places = np.array([label_of.get(alike(name), 0) for name in labels.names], np.int64)
    return replace(labels, names=to.names, places=places[labels.places], numbered=to.numbered)


def without_unused(labels: Labels) -> tuple[Labels, list[str]]:
    """`labels` with the classes alone that have images, numbered anew in their order, and the names that fell
    away."""
    counts = labels.counts
    names = [name for name, count in zip(labels.names, counts, strict=True) if count]
    places = np.cumsum(np.array(counts) > 0) - 1
    unused = [name for name, count in zip(labels.names, counts, strict=True) if not count]
    return (replace(labels, names=names, places=places[labels.places]) if unused else labels), unused


def paired(sets: Sequence[Labels]) -> list[Labels]:
    """Labels of a training set and perhaps a test set; where one has numbers and the other named classes, the
    numbers count its names."""
    if len(sets) < 2:
        return list(sets)
    train, test = sets
    return [numbers_named(train, test), numbers_named(test, train)]


def in_order_of(labels: Labels, names: Sequence[str], where: str) -> Labels:
    """`labels` in the numbering of `names`, by name; a name may be longer than that of the class, as
    'n01440764 tench' of 'n01440764'.

    Numbers that are none of `names` count them from 0. Raises UserError naming a class that is none of
    `names`.
    """
    firsts = [alike(name.split(" ")[0]) for name in names]
    times = Counter(firsts)
    label_of = {first: label for label, first in enumerate(firsts) if times[first] == 1}
    label_of |= {alike(name): label for label, name in enumerate(names)}
    lone = [
        name
        for name, count in zip(labels.names, labels.counts, strict=True)
        if count and alike(name) not in label_of
    ]
    if lone and labels.numbered:
        return in_order_of(
            numbers_named(labels, Labels(list(names), np.array([], np.int64), where)), names, where
        )
    if lone:
        raise UserError(
            f"{labels.where}: names a class '{lone[0]}' that is not among the `class_names` of {where} "
            f"({brief(list(names))})"
        )
    places = np.array([label_of.get(alike(name), 0) for name in labels.names], np.int64)
    return replace(labels, names=list(names), places=places[labels.places], numbered=False)
