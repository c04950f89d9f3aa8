"""Texture by grey-level co-occurrence: how much neighbouring pixels differ, and how unpredictable their pairs
are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
# Rows and columns to the neighbour: 0, 45, 90 and 135 degrees
_DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))


def grey_levels(pixels: np.ndarray) -> np.ndarray:
    """Pixels (n, C, H, W) in [0, 1], of 1 or 3 channels, clipped -> grey levels (n, H, W) of 0..255,
    uint8."""
    clipped = np.clip(np.asarray(pixels, np.float64), 0, 1)
    grey = clipped[:, 0] if clipped.shape[1] == 1 else np.tensordot(_LUMINANCE, clipped, (0, 1))
    return np.round(255 * grey).astype(np.uint8)


def texture(levels: np.ndarray, kernels: Sequence[int] = (3, 5)) -> tuple[np.ndarray, np.ndarray]:
    """Dissimilarity, sum of p |i - j|, and entropy, minus sum of p ln p, of the co-occurrence matrix p:
    (n, H, W) -> (n,) and (n,).

    Around every pixel whose window of k x k lies in the image p is counted in that window, for neighbours at
    distance 1 in each of four directions, both ways; the values are means over directions, windows and the
    kernels k. Units: grey levels, and nats. The paper fixes the sums and the kernels; distance, directions
    and the 256 levels are ours.
    Raises ValueError if an image is smaller than a kernel, or a kernel smaller than 2. Written for many small
    windows at once: scikit-image, which a test compares it with, makes a matrix of 256 x 256 for each.
    Source: ddm, eq. (15) and (16), Figure 5d; Haralick et al. 1973.
    """
    if min(kernels) < 2 or max(kernels) > min(levels.shape[1:]):
        raise ValueError(
            f"kernels of 2 to {min(levels.shape[1:])} pixels fit images of {levels.shape[1:]}, found "
            f"{list(kernels)}"
        )
    values = np.array([[_of_image(image, kernel) for kernel in kernels] for image in levels.astype(np.int64)])
    return values[..., 0].mean(1), values[..., 1].mean(1)


def _of_image(image: np.ndarray, kernel: int) -> tuple[float, float]:
    windows = np.lib.stride_tricks.sliding_window_view(image, (kernel, kernel)).reshape(-1, kernel, kernel)
    values = [_of_direction(windows, *direction) for direction in _DIRECTIONS]
    return tuple(np.mean(values, 0))


def _of_direction(windows: np.ndarray, down: int, right: int) -> tuple[float, float]:
    """Means over `windows` (w, k, k) of both values, for one direction."""
    rows, columns = windows.shape[1] - down, windows.shape[2] - abs(right)
    start = max(0, -right)
    here = windows[:, :rows, start : start + columns].reshape(len(windows), -1)
    there = windows[:, down:, start + right : start + right + columns].reshape(len(windows), -1)
    pairs = np.minimum(here, there) << 8 | np.maximum(here, there)
    # A pair that stands m times among P has probability m / P, halved between (i, j) and (j, i) where these
    # differ.
    count = (pairs[:, :, None] == pairs[:, None]).sum(2)
    entropy = -np.log(count / pairs.shape[1]).mean() + np.log(2) * (here != there).mean()
    return np.abs(here - there).mean(), entropy
