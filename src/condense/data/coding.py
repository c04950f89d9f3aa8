"""What the numbers of images stand for, where their type and range alone say it."""

from __future__ import annotations

import numpy as np

from condense.config import UserError

_DARK = 8 / 255  # images whose lightest pixel is darker were most likely divided by 255 twice
_LIGHT = 8.0  # what reaches this and nothing below 0 are bytes: no pixel of [0, 1] is moved so far away


def evident_coding(values: np.ndarray, where: str, advice: str) -> str | None:
    """'bytes' (0..255) or 'unit' (pixels in [0, 1]) where numbers (N, C, H, W) can be nothing else; None
    where they may be normalised or scaled.

    Raises UserError, which ends in `advice`, for whole numbers outside 0..255, and for what may be nearly
    black. The values are finite.
    """
    least, most = float(values.min()), float(values.max())
    seen = f"{where}: its images are {span(values)}"
    if values.dtype.kind in "iu":
        if least < 0 or most > 255:
            raise UserError(f"{seen}; whole numbers must be bytes 0..255: give bytes or pixels 0..1")
        if most <= 1:
            raise UserError(
                f"{seen}, which may be bytes that are nearly black, or pixels that are 0 or 1. {advice}"
            )
        return "bytes"
    if least >= 0:
        if most <= _DARK:
            raise UserError(f"{seen}, which is nearly black as pixels 0..1. {advice}")
        if most <= 1:
            return "unit"
        if _LIGHT <= most <= 255:
            return "bytes"
    return None


def span(values: np.ndarray) -> str:
    """'float32 from 0 to 1'."""
    return f"{values.dtype} from {float(values.min()):g} to {float(values.max()):g}"
