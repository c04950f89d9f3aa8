"""Image grids: for every class some real images, a gap, and the synthetic ones. Needs numpy and PIL only."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from condense.config import UserError
from condense.files import artifacts
from condense.report.lettering import titled

TILE = 32  # the least a displayed image measures, in pixels
_MARGIN, _SPACE, _GAP, _FONT = 10, 2, 18, 15
_PAPER, _INK, _FAINT = (255, 255, 255), (32, 36, 44), (110, 118, 130)
MOST_IMAGES = 10  # of each kind and class
MOST_CLASSES = 20


def draw_grid(
    path: Path,
    synthetic: np.ndarray,
    labels: np.ndarray,
    real: np.ndarray,
    real_labels: np.ndarray,
    class_names: list[str],
    *,
    most: int = MOST_IMAGES,
) -> None:
    """Writes a PNG with one row for each class (the first 20 at most): real images on the left, synthetic
    ones on the right.

    synthetic (N, C, H, W) and real (K, C, H, W) in pixels of [0, 1], clipped for display only; labels (N,)
    and (K,) index `class_names`. At most `most` images of each kind and class are shown; a last line says so
    where that is not all.
    Raises UserError for shapes that do not belong together.
    """
    _check(synthetic, labels, "synthetic")
    _check(real, real_labels, "real")
    present = sorted(set(np.unique(labels).tolist()))
    classes = present[:MOST_CLASSES]
    rows = [(real[real_labels == label][:most], synthetic[labels == label][:most]) for label in classes]
    wide = [max((len(row[side]) for row in rows), default=0) for side in (0, 1)]
    tile = _tile(synthetic.shape[-1])
    font = ImageFont.load_default(_FONT)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UserError(
            "grid: this Pillow is built without FreeType, which draws the names of classes; install one with "
            "it"
        )
    titles = [titled(class_names[label], label, font) for label in classes]
    text = int(max((written.getlength(title) for title, written in titles), default=0)) + _MARGIN
    left = [_MARGIN + text]
    left.append(left[0] + wide[0] * (tile + _SPACE) + (_GAP if wide[0] else 0))
    top = _MARGIN + _FONT + 8
    # The heading 'synthetic' may be wider than a single small image.
    width = max(left[1] + wide[1] * (tile + _SPACE), left[1] + int(font.getlength("synthetic"))) + _MARGIN
    bottom = top + len(classes) * (tile + _SPACE)
    cut = _cut(len(classes), len(present), wide[1], int(np.bincount(labels).max(initial=0)))
    page = Image.new(
        "RGB",
        (max(width, int(font.getlength(cut)) + 2 * _MARGIN), bottom + _MARGIN + (_FONT + 8 if cut else 0)),
        _PAPER,
    )
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, bottom + _MARGIN // 2), cut, _FAINT, font)
    for side, heading in enumerate(("real", "synthetic")):
        if wide[side]:
            pen.text((left[side], _MARGIN - 2), heading, _FAINT, font)
    for number, ((title, written), row) in enumerate(zip(titles, rows, strict=True)):
        y = top + number * (tile + _SPACE)
        pen.text((_MARGIN, y + tile // 2), title, _INK, written, anchor="lm")
        for side, images in enumerate(row):
            for column, image in enumerate(images):
                page.paste(_picture(image, tile), (left[side] + column * (tile + _SPACE), y))
    with artifacts.whole(path) as draft:
        buffer = BytesIO()
        page.save(buffer, "PNG", optimize=True)
        draft.write_bytes(buffer.getvalue())


def _cut(classes: int, all_classes: int, images: int, all_images: int) -> str:
    """What of a set is shown, if it is not all of it."""
    shown = [f"{classes} of {all_classes} classes"] if classes < all_classes else []
    shown += [f"{images} of {all_images} synthetic images a class"] if images < all_images else []
    return f"shown: {', '.join(shown)}" if shown else ""


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """(..., C, H, W) pixels of [0, 1] -> (..., H, W, 3) uint8, clipped; one channel becomes grey."""
    pixels = np.moveaxis(np.clip(np.nan_to_num(pixels), 0, 1), -3, -1)
    pixels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
    return np.round(pixels * 255).astype(np.uint8)


def _check(images: np.ndarray, labels: np.ndarray, kind: str) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or labels.shape != images.shape[:1]:
        shapes = f"images {tuple(images.shape)}, labels {tuple(labels.shape)}"
        raise UserError(
            f"grid: {kind}: images (N, C, H, W) of 1 or 3 channels and labels (N,) are needed, found {shapes}"
        )


def _tile(size: int) -> int:
    """The size enlarged by a whole number so that it measures at least `TILE` pixels."""
    return size * max(1, -(-TILE // size))


def _picture(image: np.ndarray, tile: int) -> Image.Image:
    return Image.fromarray(to_bytes(image)).resize((tile, tile), Image.Resampling.NEAREST)
