"""How the numbers of images stand for pixels: found from their range, mean and spread, or asked for.

Programs save bytes, pixels in [0, 1], pixels in [-1, 1], or pixels normalised by the mean and the spread of
their data set. Taken wrongly, networks train on images of another contrast, and the accuracy is lower
without an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from condense.config import UserError, unknown
from condense.data.coding import evident_coding, span

_CLEAR = 0.6  # how far mean and spread may be from those of the data, see `_distance`
_APART = 0.4  # by how much more the second reading has to be away
_OVER = 0.02  # part of its range by which a value in [-1, 1] may miss it, as rounding leaves it

Constants = Sequence[float]


@dataclass(frozen=True)
class Coding:
    """A reading: what it is called in messages, and pixels in units of [0, 1] from numbers (N, C, H, W) and
    the data set's mean and spread, (C, 1, 1) each."""

    title: str
    pixels: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


CODINGS = {
    "bytes": Coding("0..255", lambda values, mean, std: values / 255),
    "unit": Coding("pixels 0..1", lambda values, mean, std: values),
    "symmetric": Coding("pixels -1..1", lambda values, mean, std: (values + 1) / 2),
    "normalised": Coding(
        "(pixel - mean) / std of the data set", lambda values, mean, std: values * std + mean
    ),
}


def decoded(values: np.ndarray, coding: str, mean: Constants, std: Constants) -> np.ndarray:
    """Numbers (N, C, H, W) as pixels float32 in units of [0, 1], not clipped."""
    numbers = values.astype(np.float64)
    return CODINGS[coding].pixels(numbers, _column(mean), _column(std)).astype(np.float32)


def coding_of(
    values: np.ndarray, mean: Constants, std: Constants, given: str | None, where: str
) -> tuple[str, str]:
    """The reading of the numbers (N, C, H, W) of a set for data of this mean and spread, and why.

    `given`: what the user says, which is only checked. Integers are bytes; what lies in [0, 1] are pixels;
    for the rest the reading is taken whose pixels have about the mean and the spread of the data, if no
    other one comes near. Raises UserError where that leaves a choice, and for a reading that the numbers do
    not allow.
    """
    least, most = float(values.min()), float(values.max())
    if given is not None:
        if given not in CODINGS:
            raise unknown("reading", given, CODINGS, "--coding")
        if given == "bytes" and not (least >= 0 and most <= 255):
            raise UserError(f"--coding bytes: {where} has values from {least:g} to {most:g}, outside 0..255")
        return given, "as --coding says"
    seen = span(values)
    evident = evident_coding(values, where, _asking())
    return (evident, seen) if evident else _by_moments(values, mean, std, seen, where)


def _by_moments(
    values: np.ndarray, mean: Constants, std: Constants, seen: str, where: str
) -> tuple[str, str]:
    """The reading whose pixels have the mean and the spread of the data, if there is one such."""
    readings = ["unit", "normalised"]
    if values.min() >= -1 - _OVER and values.max() <= 1 + _OVER:
        readings.append("symmetric")
    distances = sorted((_distance(values, name, mean, std), name) for name in readings)
    (first, name), (second, _) = distances[0], distances[1]
    if first > _CLEAR or second - first < _APART:
        near = ", ".join(f"{name} {distance:.2f}" for distance, name in distances)
        raise _unclear(
            where, f"{seen}, and mean and spread decide for none (distance from those of the data: {near})"
        )
    return name, f"{seen}; mean and spread are those of the data"


def _distance(values: np.ndarray, coding: str, mean: Constants, std: Constants) -> float:
    """How far the pixels of a reading are from the data in mean, in units of the spread, and in the
    logarithm of the spread; the mean over the channels."""
    pixels = decoded(values, coding, mean, std).astype(np.float64)
    centre, spread = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    wanted, scale = np.asarray(mean), np.asarray(std)
    away = np.abs(centre - wanted) / scale + np.abs(np.log(np.maximum(spread, 1e-12) / scale))
    return float(away.mean())


def _unclear(where: str, why: str) -> UserError:
    return UserError(f"{where}: its images are {why}. {_asking()}")


def _asking() -> str:
    choices = "; ".join(f"{name}: {coding.title}" for name, coding in CODINGS.items())
    return f"Say how they are read with --coding ({choices})"


def constants(text: str, option: str, channels: int, positive: bool = False) -> list[float]:
    """The numbers of '0.49,0.48,0.45', one a channel. Raises UserError for other texts."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != channels or not all(math.isfinite(value) and abs(value) < 1e6 for value in values):
        raise UserError(f"{option}: {channels} number(s) with commas between are needed, found '{text[:80]}'")
    if positive and min(values) <= 0:
        raise UserError(f"{option}: positive numbers are needed, found '{text[:80]}'")
    return values


def _column(constants: Constants) -> np.ndarray:
    return np.asarray(constants, np.float64)[:, None, None]
