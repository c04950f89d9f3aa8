"""Encoded images of every mode: transparency is laid on a ground, depth is never cut, damage is named."""

import io
import struct
import zlib

import numpy as np
import pytest
from data_helpers import describe, isolated, loaded, png, random_pixels
from PIL import Image, features

from condense.config import UserError
from condense.data.description import spec_from_images
from condense.data.pixels import decode, header

STROKES = np.zeros((4, 4, 4), np.uint8)  # black, on transparency
STROKES[1, :, 3] = 255
SHOWN = np.where(STROKES[..., 3] > 0, 0, 255)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(rows, depth, colour, transparent=None):
    """A PNG of 4 x 4 pixels from its bytes: Pillow does not write all depths and transparent colours."""
    head = struct.pack(">IIBBBBB", 4, 4, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head)] + ([chunk(b"tRNS", transparent)] if transparent else [])
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def grey(data, **options):
    return decode(data, "here", channels=1, size=4, resize=False, **options)[0]


RGBA = Image.fromarray(STROKES)
FORMS = {
    "RGBA": lambda: encoded(RGBA, "PNG"),
    "LA": lambda: encoded(RGBA.convert("LA"), "PNG"),
    "palette": lambda: encoded(RGBA.quantize(4), "PNG"),
    "PA": lambda: encoded(RGBA.convert("PA"), "TIFF"),
    "GIF": lambda: encoded(RGBA, "GIF"),
    "WebP": lambda: encoded(RGBA, "WEBP", lossless=True),
    "TIFF": lambda: encoded(RGBA, "TIFF"),
    "TGA": lambda: encoded(RGBA, "TGA"),
    "JPEG 2000": lambda: encoded(RGBA, "JPEG2000"),
    "1 bit": lambda: raw_png([b"\xf0", b"\x00", b"\xf0", b"\xf0"], 1, 0, b"\0\1"),
    "2 bits": lambda: raw_png([b"\xaa", b"\x00", b"\xaa", b"\xaa"], 2, 0, b"\0\2"),
    "4 bits": lambda: raw_png([b"\x55\x55", b"\0\0", b"\x55\x55", b"\x55\x55"], 4, 0, b"\0\5"),
    "8 bits": lambda: raw_png([bytes([9] * 4), bytes(4), bytes([9] * 4), bytes([9] * 4)], 8, 0, b"\0\x09"),
    "RGB": lambda: raw_png([b"\1\2\3" * 4, bytes(12), b"\1\2\3" * 4, b"\1\2\3" * 4], 8, 2, b"\0\1\0\2\0\3"),
}


@pytest.mark.parametrize("form", FORMS)
def test_black_strokes_on_transparency_are_seen_on_white(form):
    data = FORMS[form]()
    assert header(data, "here").transparent
    np.testing.assert_array_equal(grey(data), SHOWN)
    np.testing.assert_array_equal(
        decode(data, "here", channels=3, size=4, resize=False), np.stack([SHOWN] * 3)
    )
    assert not grey(data, ground="black").any()
    np.testing.assert_array_equal(grey(data, ground="#808080"), np.where(SHOWN, 128, 0))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_laid_on_the_ground_and_a_damaged_one_is_named():
    np.testing.assert_array_equal(grey(encoded(RGBA, "AVIF", quality=100)), SHOWN)
    whole = encoded(Image.fromarray(random_pixels(32, 32, 3)), "AVIF")
    causes = set()
    for data in [
        whole[:-9],
        *(whole[:start] + bytes(20) + whole[start + 20 :] for start in range(0, 400, 5)),
    ]:
        try:
            decode(data, "here", channels=3, size=32, resize=False)
        except UserError as error:
            assert str(error).startswith("here: cannot be read as an image")
            causes.add(type(error.__context__))
    assert RuntimeError in causes and SyntaxError in causes


def test_what_is_opaque_stays_as_it_is():
    pixels = np.dstack([random_pixels(4, 4, 3), np.full((4, 4), 255, np.uint8)])
    for kind in ("PNG", "TIFF", "TGA"):
        found = decode(encoded(Image.fromarray(pixels), kind), "here", channels=3, size=4, resize=False)
        np.testing.assert_array_equal(found.transpose(1, 2, 0), pixels[..., :3])
    unused = bytearray(encoded(Image.fromarray(pixels * np.uint8([1, 1, 1, 0])), "TGA"))
    unused[17] &= 0xF0  # it says that its fourth channel means nothing
    np.testing.assert_array_equal(
        decode(bytes(unused), "here", channels=3, size=4, resize=False).transpose(1, 2, 0), pixels[..., :3]
    )


DEEP = np.full((4, 4, 3), 700, np.uint16)


@pytest.mark.parametrize("colour, channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_deep_png_is_refused_rather_than_cut(colour, channels):
    data = raw_png([DEEP[0, :, :1].repeat(channels, 1).astype(">u2").tobytes()] * 4, 16, colour)
    for read in (lambda: header(data, "here"), lambda: grey(data)):
        with pytest.raises(
            UserError, match="here: has more than 8 bits a channel .16.: convert it to 8 bits"
        ):
            read()


def test_deep_ppm_and_tiff_are_refused_and_shallow_ones_scaled():
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP, photometric="rgb")
    for data in (
        buffer.getvalue(),
        b"P6 4 4 65535\n" + DEEP.astype(">u2").tobytes(),
        b"P6 4 4 1023\n" + DEEP.astype(">u2").tobytes(),
    ):
        with pytest.raises(UserError, match="more than 8 bits"):
            grey(data)
    np.testing.assert_array_equal(grey(b"P5 4 4 15\n" + bytes(range(16))), 17 * np.arange(16).reshape(4, 4))


def test_what_a_file_holds_beside_its_first_image_is_said(tmp_path, monkeypatch, caplog):
    data = isolated(tmp_path, monkeypatch)
    frames = [Image.fromarray(pixels) for pixels in random_pixels(2, 4, 4, 3)]
    unread = random_pixels(4, 4, 4)
    tiff = bytearray(encoded(Image.fromarray(unread), "TIFF"))
    place = tiff.find(struct.pack("<HHI", 338, 3, 1))  # ExtraSamples: 2 is transparency, 0 anything
    assert tiff[place + 8] == 2
    tiff[place + 8] = 0
    contents = [
        encoded(frames[0], kind, save_all=True, append_images=frames[1:]) for kind in ("GIF", "PNG", "TIFF")
    ]
    for name in ("cat", "dog"):
        (data / "toy" / name).mkdir(parents=True)
        for number, content in enumerate([*contents, bytes(tiff)]):
            (data / "toy" / name / f"{number}.png").write_bytes(content)
    spec = spec_from_images(data / "toy")
    assert "2 of the images have channels beside those of colour, which are not read." in spec.note
    assert "6 of the images have frames or pages after the first, which are not read." in spec.note
    caplog.set_level("INFO")
    source = {"kind": "image_folder", "train": "toy", "test": "toy"}
    described, _ = loaded(describe(source, size=4, train=8, test=8, smallest=4), tmp_path / "described")
    np.testing.assert_array_equal(described.images[1].permute(1, 2, 0), frames[0])
    np.testing.assert_array_equal(described.images[3].permute(1, 2, 0), unread[..., :3])
    told = [record.message for record in caplog.records if record.message.endswith("are not read")]
    assert len(told) == 2 and "toy: frames or pages after the first, such as" in told[0]


def test_a_tiff_of_another_kind_is_not_called_damaged_alone():
    tiff = bytearray(encoded(Image.fromarray(random_pixels(4, 4, 3)), "TIFF"))
    # PhotometricInterpretation: 2 is RGB, 1 grey, as of channels that are no colours
    place = tiff.find(struct.pack("<HHI", 262, 3, 1))
    tiff[place + 8] = 1
    with pytest.raises(
        UserError, match="here: this TIFF cannot be read: .*convert it to grey or RGB with 8 bits a channel"
    ):
        header(bytes(tiff), "here")


def test_the_ground_is_said_once_and_enters_the_identity(tmp_path, monkeypatch, caplog):
    data = isolated(tmp_path, monkeypatch)
    for name in ("cat", "dog"):
        (data / "toy" / name).mkdir(parents=True)
        for number in range(3):
            (data / "toy" / name / f"{number}.png").write_bytes(encoded(RGBA.convert("LA"), "PNG"))
    (data / "toy" / "cat" / "0.png").write_bytes(png(random_pixels(4, 4)))
    spec = spec_from_images(data / "toy")
    assert (
        "5 of the images can be transparent: what is so shows white (--ground takes another colour)."
        in spec.note
    )
    assert spec.identity() == spec_from_images(data / "toy", ground="#ffffff").identity()
    assert "ground" not in spec.identity()["source"]
    red = spec_from_images(data / "toy", ground="#ff0000")
    assert red.channels == 3 and red.identity() != spec.identity()
    train, _ = loaded(red, tmp_path / "red")
    assert train.images[-1, :, 0, 0].tolist() == [255, 0, 0]
    with pytest.raises(UserError, match="--ground: unknown ground 'wite'; did you mean 'white'"):
        spec_from_images(data / "toy", ground="wite")
    caplog.set_level("INFO")
    source = {"kind": "image_folder", "train": "toy", "test": "toy", "ground": "black"}
    described, _ = loaded(
        describe(source, channels=1, size=4, train=6, test=6, smallest=3), tmp_path / "described"
    )
    assert not described.images[-1].any()
    told = [record.message for record in caplog.records if "transparent images" in record.message]
    assert len(told) == 1 and "are laid on black" in told[0]
    with pytest.raises(UserError, match="no key 'ground'"):
        describe({"kind": "sklearn_digits", "ground": "black"}, holdout=0.2)
