"""Encoded images to pixels: decoding, colour, resizing."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import Image, ImageOps

from condense.config import UserError

# What Pillow raises for damaged files of the various formats.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, Image.DecompressionBombError)
MOST_PIXELS = 1 << 26  # of one image: 8192 x 8192. A small file can announce images that no memory holds.
# Not all that Pillow opens: for some formats, such as EPS, it starts other programs.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_GREY = ("1", "L", "LA", "La")


def header(data: bytes, where: str) -> tuple[int, int, int]:
    """Width, height (as stored) and channels (1 grey, 3 colour) of an encoded image, from its header alone.

    Raises UserError naming `where` if it is no image, or one of more than MOST_PIXELS.
    """
    try:
        with _opened(data, where) as image:
            return *image.size, 1 if image.mode in _GREY else 3
    except DECODING_ERRORS as error:
        raise _unreadable(where, error) from None


def decode(data: bytes, where: str, *, channels: int, size: int, resize: bool) -> np.ndarray:
    """An encoded image as uint8 (channels, size, size).

    Raises UserError naming `where` if it cannot be decoded, has more than 8 bits a channel, or has another size and `resize` is off.
    """
    try:
        with _opened(data, where) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{where}: has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits")
            image = ImageOps.exif_transpose(image)
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("RGB" if channels == 3 else "L")
    except DECODING_ERRORS as error:
        raise _unreadable(where, error) from None
    return fitted(image, where, size, resize)


def _opened(data: bytes, where: str) -> Image.Image:
    Image.init()  # else the formats that are not known yet are no keys
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            image = None
    if image is None or image.width * image.height > MOST_PIXELS:
        raise UserError(f"{where}: announces more than {MOST_PIXELS:,} pixels: scale it down, or remove it if it is not yours")
    return image


def _unreadable(where: str, error: Exception) -> UserError:
    return UserError(f"{where}: cannot be read as an image ({str(error)[:200]}): replace or remove it")


def fitted(image: Image.Image, where: str, size: int, resize: bool) -> np.ndarray:
    """`image` as uint8 (channels, size, size); with `resize` its shorter side is scaled (bilinear, antialiased) and the centre cut out."""
    width, height = image.size
    if (width, height) != (size, size):
        if not resize:
            raise UserError(f"{where}: has {width}x{height} pixels instead of {size}x{size}: 'resize: {size}' would scale and crop them")
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # One step instead of scaling the whole and cutting: the same filter, without rounding the longer side to whole pixels.
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
