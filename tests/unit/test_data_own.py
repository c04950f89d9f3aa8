"""Parquet files, folders of class folders, and the description of a user's own images."""

import io
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_helpers import describe, isolated, loaded, png, random_pixels
from PIL import Image

from condense.config import UserError
from condense.data.description import spec_from_images
from condense.data.pixels import decode
from condense.data.prepare import prepare, statistics
from condense.data.spec import load_spec

PARAMS = Path(__file__).parents[2] / "params" / "datasets"


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    return isolated(tmp_path, monkeypatch)


# Parquet


def write_parquet(path, images, labels, *, names=None, plain=False, columns=("image", "label")):
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = (
        images if plain else [None if image is None else {"bytes": image, "path": None} for image in images]
    )
    table = pa.table({columns[0]: pa.array(values, kind), columns[1]: pa.array(labels, pa.int64())})
    if names:
        info = {"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)


PARQUET = {"kind": "parquet", "train": "toy/train.parquet", "test": "toy/test.parquet"}


@pytest.mark.parametrize("plain", [False, True])
def test_parquet_images_are_decoded_in_colour_and_sorted_by_class(data, tmp_path, plain):
    pixels = random_pixels(6, 5, 5, 3)
    write_parquet(
        data / "toy/train.parquet",
        [png(image) for image in pixels[:4]],
        [1, 0, 1, 0],
        names=["ant", "bee"],
        plain=plain,
    )
    write_parquet(data / "toy/test.parquet", [png(image) for image in pixels[4:]], [0, 1], plain=plain)
    train, test = loaded(describe(PARQUET, size=5, smallest=2), tmp_path)
    assert train.class_names == ("ant", "bee")
    np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1), pixels[[1, 3, 0, 2]])
    np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1), pixels[4:])
    # Without names in file or description the classes are their numbers, and grey is asked of colour.
    write_parquet(data / "toy/train.parquet", [png(image) for image in pixels[:4]], [1, 0, 1, 0], plain=plain)
    grey, _ = loaded(describe(PARQUET, channels=1, size=5, smallest=2), tmp_path)
    assert grey.class_names == ("0", "1")
    weighted = pixels[[1, 3, 0, 2]] @ [0.299, 0.587, 0.114]  # ITU-R 601 luma
    assert np.abs(grey.images[:, 0].numpy() - weighted).max() <= 1


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (
            [png(np.zeros((5, 5, 3))), b"no image", *[png(np.zeros((5, 5, 3)))] * 2],
            [0, 1, 0, 1],
            "train.parquet: row 1: cannot be read as",
        ),
        (
            [png(np.zeros((5, 5, 3)))] * 3 + [png(np.zeros((7, 6, 3)))],
            [0, 1, 0, 1],
            "row 3: has 6x7 pixels instead of 5x5.*'resize: 5'",
        ),
        ([png(np.zeros((5, 5, 3)))] * 3 + [None], [0, 1, 0, 1], "row 3 has no image bytes"),
        ([png(np.zeros((5, 5, 3)))] * 4, [0, 1, None, 1], "row 2 has no label"),
        ([png(np.zeros((5, 5, 3)))] * 4, [0, 1, -1, 1], "the label -1, outside 0..1"),
        ([png(np.zeros((5, 5, 3)))] * 4, [0, 0, 0, 0], "0 images in the smallest training class"),
        ([png(np.zeros((5, 5, 3)))] * 3, [0, 1, 0], "3 train images found, but its description says 4"),
    ],
)
def test_a_faulty_row_is_named(data, tmp_path, images, labels, message):
    write_parquet(data / "toy/train.parquet", images, labels)
    write_parquet(data / "toy/test.parquet", [png(np.zeros((5, 5, 3)))] * 2, [0, 1])
    with pytest.raises(UserError, match=message):
        prepare(describe(PARQUET, size=5, smallest=2), tmp_path)


def test_a_faulty_parquet_file_is_named(data, tmp_path):
    images = [png(random_pixels(5, 5, 3))] * 4
    write_parquet(data / "toy/train.parquet", images, [0, 1, 0, 1])
    spec = describe(PARQUET, size=5, smallest=2)
    with pytest.raises(
        UserError, match="test.parquet not found: put the parquet there, or set CONDENSE_DATA"
    ):
        prepare(spec, tmp_path)
    write_parquet(data / "toy/test.parquet", images[:2], [0, 1])
    whole = (data / "toy/train.parquet").read_bytes()
    (data / "toy/train.parquet").write_bytes(whole[:-100])
    with pytest.raises(UserError, match="train.parquet: cannot be read as parquet, or is cut short"):
        prepare(spec, tmp_path)
    write_parquet(data / "toy/train.parquet", images, [0, 1, 0, 1], columns=("picture", "label"))
    with pytest.raises(UserError, match="train.parquet: unknown image column 'image'.*picture"):
        prepare(spec, tmp_path)
    swapped = describe({**PARQUET, "image": "label", "label": "picture"}, size=5, smallest=2)
    with pytest.raises(UserError, match="the column 'label' must hold encoded images"):
        prepare(swapped, tmp_path)


# Pixels


def test_a_channel_without_contrast_is_named_with_the_remedy():
    green = np.zeros((2, 3, 4, 4), np.uint8)  # as of a microscope
    green[:, 1] = random_pixels(2, 4, 4)
    with pytest.raises(
        UserError, match="channel 0 of the training images are equal: .*convert the images to grey"
    ):
        statistics([green])
    with pytest.raises(UserError, match="give images that differ"):
        statistics([green[:, :1]])


def test_resizing_is_torchs_of_the_shorter_side_and_then_the_centre():
    pixels = random_pixels(20, 32, 3)
    found = decode(png(pixels), "here", channels=3, size=10, resize=True)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(whole, size=(10, 16), mode="bilinear", antialias=True)[
        0, :, :, 3:13
    ]
    assert np.abs(found - expected.numpy()).max() <= 1


def test_transparent_palettes_and_rotated_photographs_are_read_as_shown():
    palette = Image.fromarray(random_pixels(4, 4, 3)).quantize(8)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=bytes([0] * 4 + [255] * 4))
    shown = np.where(np.asarray(palette)[..., None] < 4, 255, np.asarray(palette.convert("RGB")))
    assert (np.asarray(palette) < 4).any() and (np.asarray(palette) >= 4).any()
    np.testing.assert_array_equal(
        decode(buffer.getvalue(), "here", channels=3, size=4, resize=False).transpose(1, 2, 0), shown
    )
    pixels = random_pixels(3, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    shown = decode(buffer.getvalue(), "here", channels=3, size=3, resize=False)
    np.testing.assert_array_equal(shown.transpose(1, 2, 0), np.rot90(pixels, -1))


def test_deep_images_are_refused_rather_than_cut_to_eight_bits():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(buffer, "PNG")
    with pytest.raises(UserError, match="here: has more than 8 bits"):
        decode(buffer.getvalue(), "here", channels=1, size=4, resize=False)


# Folders and a user's own images


def make_folder(root, classes, side=(6, 6), grey=False, seed=0):
    """`classes` name -> number of images, PNG of `side` (width, height); returns the pixels by class."""
    made = {}
    for place, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        shape = (side[1], side[0]) if grey else (side[1], side[0], 3)
        made[name] = [random_pixels(*shape, seed=100 * seed + 10 * place + number) for number in range(count)]
        for number, pixels in enumerate(made[name]):
            (root / name / f"{number}.png").write_bytes(png(pixels))
    return made


def test_a_folder_with_a_test_folder_is_read_exactly(tmp_path):
    made = make_folder(tmp_path / "train", {"zebra": 2, "Ant": 3})
    make_folder(tmp_path / "test", {"zebra": 1, "Ant": 1}, seed=1)
    for litter in (".DS_Store", "Ant/.hidden", "Ant/Thumbs.db", "readme.txt"):
        (tmp_path / "train" / litter).write_bytes(b"")
    spec = spec_from_images(tmp_path / "train", test=tmp_path / "test", name="animals")
    assert (spec.name, spec.channels, spec.size, spec.resize, spec.holdout, spec.note) == (
        "animals",
        3,
        6,
        None,
        None,
        "",
    )
    assert (spec.classes, spec.train, spec.test, spec.smallest_class, spec.class_names) == (
        2,
        5,
        2,
        2,
        ["Ant", "zebra"],
    )
    train, test = loaded(spec, tmp_path / "out")
    np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1), np.stack(made["Ant"] + made["zebra"]))
    assert test.counts == (1, 1)


def test_a_folder_without_a_test_folder_holds_out_a_fifth_of_each_class(tmp_path):
    made = make_folder(tmp_path / "My Letters", {"a": 10, "b": 5}, grey=True)
    spec = spec_from_images(tmp_path / "My Letters")
    assert (spec.name, spec.title, spec.channels, spec.holdout) == ("my_letters", "My Letters", 1, 0.2)
    assert (spec.train, spec.test, spec.smallest_class) == (12, 3, 4)
    train, test = loaded(spec, tmp_path / "out")
    assert train.counts == (8, 4) and test.counts == (2, 1)
    both = [image.tobytes() for part in (train, test) for image in part.images.numpy()]
    assert Counter(both) == Counter(image.tobytes() for name in made for image in made[name])


@pytest.mark.parametrize(
    "sides, resize, size, note",
    [
        ([(40, 40)], None, 40, "^A stratified 20%"),
        ([(40, 40)], 20, 20, "Scaled to 20x20 from 1 size.s., mostly 40x40 .4 of 4."),
        ([(48, 70)], None, 32, "Scaled to 32x32.*centre square"),  # 48 is as near to 32 as to 64
        ([(60, 70), (200, 300)], None, 128, "from 2 size"),  # shorter sides 60, 60, 200, 200: median 130
        ([(1, 9), (9, 1)], None, 32, "from 2 size"),
    ],
)
def test_mixed_and_oblong_images_get_a_square_side(tmp_path, sides, resize, size, note):
    for place, side in enumerate(sides):
        make_folder(
            tmp_path / f"{place}",
            {"a": 2 if len(sides) == 1 else 1, "b": 2 if len(sides) == 1 else 1},
            side,
            seed=place,
        )
    root = tmp_path / "0"
    for other in range(1, len(sides)):
        for name in ("a", "b"):
            os.replace(tmp_path / f"{other}" / name / "0.png", root / name / "other.png")
    spec = spec_from_images(root, resize=resize)
    assert (spec.size, spec.resize) == (size, None if [(size, size)] == sides else size)
    assert re.search(note, spec.note)
    train, _ = loaded(spec, tmp_path / "out")
    assert train.images.shape[1:] == (3, size, size)


def test_a_folder_that_cannot_be_used_is_explained(tmp_path):
    root = tmp_path / "images"
    with pytest.raises(UserError, match="images: no such file or folder"):
        spec_from_images(root)
    root.mkdir()
    with pytest.raises(UserError, match="images: holds no class folders;"):
        spec_from_images(root)
    (root / "images.arrow").touch()
    with pytest.raises(UserError, match="images: holds no class folders, but 1 file.s. .images.arrow"):
        spec_from_images(root)
    make_folder(root, {"cat": 2})
    with pytest.raises(UserError, match="holds one class only .cat.; at least 2"):
        spec_from_images(root)
    (root / "dog").mkdir()
    with pytest.raises(UserError, match="dog: the class 'dog' has no images"):
        spec_from_images(root)
    (root / "dog" / "0.png").write_bytes(png(np.zeros((6, 6, 3))))
    with pytest.raises(UserError, match="the class 'dog' has 1 image: at least 2"):
        spec_from_images(root)
    (root / "dog" / "note.png").write_text("woof")
    with pytest.raises(
        UserError, match="dog/note.png: cannot be read as an image .its format is not one of AVIF, "
    ):
        spec_from_images(root)
    (root / "dog" / "note.png").unlink()
    with pytest.raises(UserError, match="images/cat: a folder inside a class folder; .*/images"):
        spec_from_images(tmp_path)
    make_folder(tmp_path / "test", {"cat": 1, "cow": 1})
    with pytest.raises(UserError, match="images: has no folder for the class 'cow'"):
        spec_from_images(root, test=tmp_path / "test")


def test_a_cut_image_is_named_when_it_is_decoded(tmp_path):
    make_folder(tmp_path / "images", {"cat": 4, "dog": 4}, side=(30, 30))
    victim = tmp_path / "images" / "dog" / "1.png"
    victim.write_bytes(victim.read_bytes()[:700])
    spec = spec_from_images(tmp_path / "images")
    with pytest.raises(UserError, match="dog/1.png: cannot be read as an image"):
        prepare(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_identity_of_own_images_is_their_bytes_not_their_place(tmp_path):
    make_folder(tmp_path / "a" / "pets", {"cat": 3, "dog": 3})
    make_folder(tmp_path / "b" / "pets", {"cat": 3, "dog": 3})
    here, there = spec_from_images(tmp_path / "a" / "pets"), spec_from_images(tmp_path / "b" / "pets")
    assert here.identity() == there.identity() and here.source.train != there.source.train
    (tmp_path / "b" / "pets" / "dog" / "0.png").write_bytes(png(random_pixels(6, 6, 3, seed=99)))
    assert spec_from_images(tmp_path / "b" / "pets").identity() != here.identity()
    with pytest.raises(UserError, match="have changed since they were looked at"):
        prepare(there, tmp_path / "out")


def test_own_parquet_finds_its_columns_names_and_sizes(tmp_path):
    pixels = random_pixels(10, 6, 6, 3)
    labels = [0, 1] * 5
    write_parquet(
        tmp_path / "p.parquet",
        [png(image) for image in pixels],
        labels,
        names=["ant", "bee"],
        columns=("img", "kind"),
    )
    spec = spec_from_images(tmp_path / "p.parquet")
    assert (spec.source.image, spec.source.label, spec.class_names) == ("img", "kind", ["ant", "bee"])
    assert (spec.name, spec.size, spec.train, spec.test, spec.smallest_class) == ("p", 6, 8, 2, 4)
    train, test = loaded(spec, tmp_path / "out")
    assert train.counts == (4, 4) and test.counts == (1, 1)
    write_parquet(tmp_path / "gap.parquet", [png(image) for image in pixels[:4]], [0, 2, 0, 2])
    gap = spec_from_images(tmp_path / "gap.parquet")
    assert (
        gap.class_names == ["0", "2"]
        and "The labels are 0, 2, not 0, 1, ...: they are numbered anew" in gap.note
    )
    write_parquet(tmp_path / "one.parquet", [png(image) for image in pixels[:4]], [0] * 4)
    with pytest.raises(UserError, match="holds one class only"):
        spec_from_images(tmp_path / "one.parquet")
    with pytest.raises(UserError, match="either two folders or two parquet files"):
        spec_from_images(tmp_path / "p.parquet", test=tmp_path)
    (tmp_path / "text.csv").write_text("a,b")
    with pytest.raises(UserError, match="text.csv: cannot be read as parquet"):
        spec_from_images(tmp_path / "text.csv")


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("CONDENSE_REAL_DATA"), reason="CONDENSE_REAL_DATA is unset")
def test_real_cifar10_as_jpeg_has_the_published_statistics(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_DATA", os.environ["CONDENSE_REAL_DATA"])
    train, test = loaded(load_spec("cifar10_jpeg", PARAMS), tmp_path)
    assert set(train.counts) == {5000} and set(test.counts) == {1000}
    mean, _ = statistics(train.images.numpy())
    np.testing.assert_allclose(mean, train.mean, atol=2e-3)
