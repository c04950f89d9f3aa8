"""Class names in pictures: in a font that has their letters if this machine has one, else in plain letters,
and never too long."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

from PIL import ImageFont

WIDEST = 240  # pixels of a class name
# For private use: no font draws it, so it shows what a font draws for letters that it lacks
_NO_LETTER = "\U0010fffd"
# Families with many letters, by parts of their file names; others are tried after them.
_LIKELY: tuple[str, ...] = (
    "notosanscjk",
    "sourcehansans",
    "wqy",
    "droidsansfallback",
    "pingfang",
    "msyh",
    "simhei",
    "yugoth",
    "arialuni",
    "unifont",
)
_LIKELY += ("notosans", "notoemoji", "symbola", "dejavusans", "freesans", "liberationsans", "arial")
_ASIDE = ("mono", "bold", "italic", "oblique", "condensed", "serif", "light", "thin", "black")  # tried last


def titled(name: str, label: int, font: ImageFont.FreeTypeFont) -> tuple[str, ImageFont.FreeTypeFont]:
    """What to write for the class `name`, number `label`, and the font for it: `font`, or another of its size
    if `font` lacks letters.

    Where no font has them all the number goes first, accents fall away, and other letters are written as
    their names or numbers. Names wider than WIDEST are cut.
    """
    text = "".join(letter if letter.isprintable() else " " for letter in name).strip() or str(label)
    chosen = font if _covers(font, text) else _font_for("".join(sorted(set(text))), font.size)
    if chosen is None:
        chosen, text = font, f"{label}: " + "".join(_plain(letter, font) for letter in text)
    return _cut(text, chosen), chosen


def for_figures(name: str, label: int) -> str:
    """The class `name`, number `label`, as text that matplotlib draws in its own font as it stands."""
    font = _own_font_of_matplotlib()
    text = "".join(letter if letter.isprintable() else " " for letter in name).strip() or str(label)
    if not _covers(font, text):
        text = f"{label}: " + "".join(_plain(letter, font) for letter in text)
    return _cut(text, font).replace("$", r"\$")


@cache
def _own_font_of_matplotlib() -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 15)


def _covers(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether the font has all letters of `text`: what it lacks it draws as it draws a letter that no font
    has."""
    absent = _drawn(font, _NO_LETTER)
    return all(letter.isspace() or _drawn(font, letter) != absent for letter in set(text))


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[object, bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@cache
def _font_for(letters: str, size: float) -> ImageFont.FreeTypeFont | None:
    """A font of this machine that has all `letters`, None if none has."""
    for path in _fonts():
        try:
            font = ImageFont.truetype(path, size)
            if _covers(font, letters):
                return font
        # Fonts of bitmaps have no other sizes; some files are damaged
        except (OSError, ValueError, UnicodeError):
            continue
    return None


@cache
def _fonts() -> tuple[str, ...]:
    """The fonts of this machine, the likeliest first, in an order that does not depend on that of the
    folders."""
    from matplotlib.font_manager import findSystemFonts

    def preference(path: str) -> tuple[bool, int, str]:
        name = Path(path).stem.lower().replace("-", "").replace("_", "")
        likely = next((rank for rank, word in enumerate(_LIKELY) if word in name), len(_LIKELY))
        return any(word in name for word in _ASIDE), likely, path

    return tuple(sorted(findSystemFonts(), key=preference))


def _plain(letter: str, font: ImageFont.FreeTypeFont) -> str:
    if letter.isspace() or _covers(font, letter):
        return letter
    bare = "".join(sign for sign in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(sign))
    if bare and bare != letter and _covers(font, bare):
        return bare
    name = unicodedata.name(letter, "").lower()
    return f"({name})" if name and unicodedata.category(letter) == "So" else f"U+{ord(letter):04X} "


def _cut(text: str, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= WIDEST:
        return text
    text = text[:WIDEST]  # no letter is narrower than a pixel
    while text and font.getlength(text + "...") > WIDEST:
        text = text[:-1]
    return text.rstrip() + "..."
