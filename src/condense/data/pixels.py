"""Encoded images to pixels: decoding, transparency, colour, resizing."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from condense.config import UserError
from condense.data import foreign
from condense.data.origin import WHITE, ground_levels

# What Pillow raises for damaged files of the various formats.
DECODING_ERRORS = (
    *(
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
    ),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
MOST_PIXELS = 1 << 26  # of one image: 8192 x 8192. A small file can announce images that no memory holds.
# Not all that Pillow opens: for some formats, such as EPS, it starts other programs.
_FORMATS = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "MPO",
    "PCX",
    "PNG",
    "PPM",
    "TGA",
    "TIFF",
    "WEBP",
)
_GREY = ("1", "L", "LA", "La")
# Whose writers leave the fourth byte zero, so that viewers then take no notice of it
_ALPHA_OFTEN_UNUSED = ("BMP", "DIB", "TGA")
_TIFF_BITS, _TIFF_SAMPLES = 258, 277  # the tags BitsPerSample and SamplesPerPixel


class Header(NamedTuple):
    """What an encoded image says of itself: its size as stored, channels (1 grey, 3 colour), and whether it
    has transparency.

    `left_out` names what the file holds beside that and is not read, if anything: further frames, or channels
    that are no colours.
    """

    width: int
    height: int
    channels: int
    transparent: bool
    left_out: str


def header(data: bytes, where: str) -> Header:
    """The header of an encoded image.

    Raises UserError naming `where` if it is no image, has more than 8 bits a channel or more than
    MOST_PIXELS.
    """
    try:
        with _opened(data, where) as image:
            return Header(
                *image.size, 1 if image.mode in _GREY else 3, _has_alpha(image, data), _left_out(image)
            )
    except DECODING_ERRORS as error:
        raise _unreadable(data, where, error) from None


def decode(
    data: bytes, where: str, *, channels: int, size: int, resize: bool, ground: str = WHITE
) -> np.ndarray:
    """An encoded image as uint8 (channels, size, size); what is transparent shows the colour `ground`.

    Raises UserError naming `where` if it cannot be decoded, has more than 8 bits a channel, or has another
    size and `resize` is off.
    """
    return fitted(shown(data, where, channels, ground).image, where, size, resize)


class Shown(NamedTuple):
    """An image in mode L or RGB, whether any of it is transparent and so shows the ground, and what is left
    out, as `Header` has it."""

    image: Image.Image
    transparent: bool
    left_out: str


def shown(data: bytes, where: str, channels: int, ground: str = WHITE) -> Shown:
    """An encoded image as a viewer shows it."""
    try:
        with _opened(data, where) as opened:
            left_out = _left_out(opened)
            transparent = _has_alpha(opened, data)
            grey_transparency = _grey_transparency(opened, data)
            image = ImageOps.exif_transpose(opened)
            if grey_transparency is not None:
                image.info["transparency"] = grey_transparency
            if transparent:
                image, transparent = _laid_on(image, ground, opened.format)
            return Shown(image.convert("RGB" if channels == 3 else "L"), transparent, left_out)
    except DECODING_ERRORS as error:
        raise _unreadable(data, where, error) from None


def _opened(data: bytes, where: str) -> ImageFile.ImageFile:
    Image.init()  # else the formats that are not known yet are no keys
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            image = None
    if image is None or image.width * image.height > MOST_PIXELS:
        raise UserError(
            f"{where}: announces more than {MOST_PIXELS:,} pixels: scale it down, or remove it if it is not "
            "yours"
        )
    bits = _bits(image, data)
    if bits > 8:
        raise UserError(
            f"{where}: has more than 8 bits a channel ({bits}): convert it to 8 bits, scaled by the range "
            "that its values use"
        )
    return image


def _bits(image: ImageFile.ImageFile, data: bytes) -> int:
    """Bits a channel as the file has them: Pillow cuts some deep images to their high bytes without a
    word."""
    if image.format == "PNG":
        return data[24]
    if image.format == "ICO":  # it may hold PNGs
        return max(
            (data[start + 24] for start in _all_starts(data, b"\x89PNG\r\n\x1a\n") if len(data) > start + 24),
            default=8,
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(_TIFF_BITS, (1,)))
    if image.format == "PPM" and image.mode == "RGB" and isinstance(image.tile[0].args, tuple):
        return 16 if image.tile[0].args[-1] > 255 else 8
    if image.format == "JPEG2000":
        # The codestream begins; the depth of its first component follows 38 bytes on
        start = data.find(b"\xff\x4f\xff\x51")
        return (data[start + 42] & 0x7F) + 1 if 0 <= start < len(data) - 42 else 8
    return 16 if image.mode.startswith(("I", "F")) else 8


def _all_starts(data: bytes, wanted: bytes) -> list[int]:
    starts, start = [], data.find(wanted)
    while start >= 0:
        starts.append(start)
        start = data.find(wanted, start + 1)
    return starts


def _has_alpha(image: Image.Image, data: bytes) -> bool:
    if image.format == "TGA" and not data[17] & 0x0F:
        return False  # it has a fourth channel and says that it means nothing
    return image.has_transparency_data


def _left_out(image: ImageFile.ImageFile) -> str:
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_TIFF_SAMPLES, 1) > len(
        image.getbands()
    ):
        return "channels beside those of colour"
    # The further pictures of a MPO are those that cameras add for themselves, such as previews.
    return (
        "frames or pages after the first"
        if getattr(image, "is_animated", False) and image.format != "MPO"
        else ""
    )


def _grey_transparency(image: Image.Image, data: bytes) -> int | None:
    """The transparent grey of a PNG with 2 or 4 bits as it is after decoding, which spreads such greys over
    0..255 but leaves this one."""
    transparent = image.info.get("transparency")
    if image.format != "PNG" or image.mode != "L" or data[24] >= 8 or not isinstance(transparent, int):
        return None
    largest = (1 << data[24]) - 1
    return (transparent & largest) * (255 // largest)


def _laid_on(image: Image.Image, ground: str, format: str | None) -> tuple[Image.Image, bool]:
    """`image` laid on the colour `ground`, mode RGB, and whether any of that shows."""
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    least, most = alpha.getextrema()
    if least == 255 or (most == 0 and format in _ALPHA_OFTEN_UNUSED):
        return image.convert("RGB"), False
    page = Image.new("RGB", image.size, ground_levels(ground))
    page.paste(image, mask=alpha)
    return page, True


def _unreadable(data: bytes, where: str, error: Exception) -> UserError:
    known = foreign.kind_of(data)
    if known:
        return UserError(f"{where}: cannot be read as an image: it {known}")
    reason = str(error)[:200]
    if isinstance(error, UnidentifiedImageError):  # whose text is the address of a buffer
        damaged = foreign.begins_as_image(data)
        reason = (
            "it is damaged or cut short" if damaged else "its format is not one of " + ", ".join(_FORMATS)
        )
        if data.startswith((b"II*\0", b"MM\0*")):
            return UserError(
                f"{where}: this TIFF cannot be read: it is damaged, or its channels or numbers are of no "
                "usual kind: convert it to grey or RGB with 8 bits a channel"
            )
    return UserError(f"{where}: cannot be read as an image ({reason}): replace or remove it")


def fitted(image: Image.Image, where: str, size: int, resize: bool) -> np.ndarray:
    """`image` as uint8 (channels, size, size); with `resize` its shorter side is scaled
    (bilinear, antialiased) and the centre cut out."""
    width, height = image.size
    if (width, height) != (size, size):
        if not resize:
            raise UserError(
                f"{where}: has {width}x{height} pixels instead of {size}x{size}: 'resize: {size}' would "
                "scale and crop them"
            )
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # One step instead of scaling the whole and cutting: the same filter, without rounding the longer side
        # to whole pixels.
        image = image.resize(
            (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
