"""What the headers of all images of a user say: sizes, channels, transparency, and the side that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from condense.config import UserError
from condense.data import pixels
from condense.data.classes import Labels
from condense.data.fetch import progress
from condense.data.origin import WHITE

SIDES = (32, 64, 96, 128, 224)  # what mixed images are scaled to
_FEW = 3  # images of other sizes, which are named
LARGEST_SIDE = 512  # up to here images of one square size keep it unasked


@dataclass
class Headers:
    """What the headers of images say: sizes (width, height), the most channels, how many have transparency,
    and what is left out.

    `bytes_of` are hashes of the files of each split, by which test images are found that are training images,
    too.
    """

    sizes: Counter[tuple[int, int]]
    first_of: dict[tuple[int, int], str] = field(default_factory=dict)  # by size, where the first of it lies
    channels: int = 1
    transparent: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    bytes_of: list[Counter[int]] = field(default_factory=list)

    @property
    def shared(self) -> int:
        """How many test images are training images, byte for byte."""
        if len(self.bytes_of) < 2:
            return 0
        train, test = self.bytes_of
        return sum(times for content, times in test.items() if content in train)


def look_at(headers: Headers, encoded: Iterable[tuple[str, bytes]], total: int, root: Path) -> None:
    """Adds to `headers` those of a split, whose `total` encoded images come with their places in `root`."""
    contents: Counter[int] = Counter()
    headers.bytes_of.append(contents)
    for where, data in progress(f"looking at {root}", total, "img", encoded):
        contents[hash(data)] += 1
        header = pixels.header(data, where)
        headers.sizes[header.width, header.height] += 1
        headers.first_of.setdefault((header.width, header.height), where)
        headers.channels = max(headers.channels, header.channels)
        headers.transparent += header.transparent
        headers.left_out.update([header.left_out] if header.left_out else [])


def notes_on(headers: Headers, sets: list[Labels], ground: str | None) -> list[str]:
    """What the headers of the images tell that a user should know of."""
    notes = []
    if headers.shared:
        notes.append(
            f"{headers.shared} of the {len(sets[1].places)} test images are training images, too: accuracies "
            "will be too high."
        )
    notes += _transparency(headers, ground)
    return notes + [
        f"{count} of the images have {content}, which are not read."
        for content, count in sorted(headers.left_out.items())
    ]


def _transparency(headers: Headers, ground: str | None) -> list[str]:
    if headers.transparent:
        how = "--ground takes another colour" if ground is None else "as --ground says"
        return [
            f"{headers.transparent} of the images can be transparent: what is so shows {ground or WHITE} "
            f"({how})."
        ]
    return ["No image is transparent: --ground changes nothing."] if ground else []


def side_of(headers: Headers, resize: int | None, path: Path) -> tuple[int, list[str]]:
    """The side of the square images, and notes on what is done to the images for it."""
    sizes = headers.sizes
    if resize is not None and resize < 1:
        raise UserError(f"resize: a positive number of pixels is needed, found {resize}")
    if len(sizes) == 1:
        ((width, height),) = sizes
        if width == height == (resize or width):
            _require_bearable(width, resize, path)
            return width, []
    side = resize or min(SIDES, key=lambda known: abs(known - median(min(pair) for pair in sizes.elements())))
    (width, height), most = sizes.most_common(1)[0]
    others = [f"{headers.first_of[size]} ({size[0]}x{size[1]})" for size in sizes if size != (width, height)]
    odd = f"; others: {', '.join(others)}" if 0 < len(others) == sizes.total() - most <= _FEW else ""
    note = (
        f"Scaled to {side}x{side} from {len(sizes)} size(s), mostly {width}x{height} ({most} of "
        f"{sizes.total()}){odd}."
    )
    return side, [note] + (["The centre square is kept."] if any(w != h for w, h in sizes) else [])


def _require_bearable(side: int, resize: int | None, path: Path) -> None:
    """Raises UserError for images so large that nobody condenses them unasked: memory and time grow with the
    square of the side."""
    if resize is None and side > LARGEST_SIDE:
        times = round((side / SIDES[-1]) ** 2)
        raise UserError(
            f"{path}: its images have {side} x {side} pixels, which take {times} times the memory and time "
            f"of {SIDES[-1]} x {SIDES[-1]}: give --resize {SIDES[-1]} (or another side; --resize {side} "
            "keeps them as they are)"
        )
