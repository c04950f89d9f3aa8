"""Classes are matched by name: labels of every type, columns, shards, folders for training and testing,
litter beside images."""

import base64
import datetime
import decimal
import json
import os
import shutil
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_input_helpers import refused
from data_helpers import describe, isolated, loaded, png, random_pixels

from condense.config import UserError
from condense.data.description import spec_from_images
from condense.data.prepare import prepare

PIXELS = random_pixels(12, 6, 6)
IMAGES = [png(pixels) for pixels in PIXELS]
NAMES = ["cat", "dog"] * 6


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    return isolated(tmp_path, monkeypatch)


def table(path, names=None, types=None, **columns):
    """A parquet file with these columns; `names` are those of the classes of a column, as `datasets` writes
    them."""
    types = types or {}
    made = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
    if names:
        features = {name: {"names": entries, "_type": "ClassLabel"} for name, entries in names.items()}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, row_group_size=5)
    return path


def folders(root, *classes, images=3):
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(images):
            (root / name / f"{number}.png").write_bytes(IMAGES[number])
    return root


@pytest.mark.parametrize(
    "labels, names, parts",
    [
        (NAMES, ["cat", "dog"], []),
        (pa.array(NAMES).dictionary_encode(), ["cat", "dog"], []),
        ([True, False] * 6, ["False", "True"], []),
        ([1, 2, 3] * 4, ["1", "2", "3"], ["The labels are 1, 2, 3, not 0, 1, ..."]),
        (pa.array(np.array([0, 1] * 6, np.float16)), ["0", "1"], []),
        ([0, 10**15] * 6, ["0", "1000000000000000"], ["The labels are 0, 1000000000000000"]),
        (pa.array([2**64 - 1, 7] * 6, pa.uint64()), ["7", "18446744073709551615"], []),
        (pa.array([decimal.Decimal(1), decimal.Decimal(0)] * 6, pa.decimal128(38, 0)), ["0", "1"], []),
    ],
    ids=["text", "categories", "bool", "from 1", "floating", "giant", "uint64", "decimal"],
)
def test_labels_of_every_kind_are_those_of_the_named_column(tmp_path, labels, names, parts):
    columns = {
        "image": IMAGES,
        "label": labels,
        "fold": [0, 1, 2, 3] * 3,
        "__index_level_0__": list(range(12)),
    }
    spec = spec_from_images(table(tmp_path / "x.parquet", **columns))
    assert (spec.class_names, spec.source.label) == (names, "label") and all(
        part in spec.note for part in parts
    )
    train, test = loaded(spec, tmp_path / "out")
    values = [
        str(value) if isinstance(value, str | bool) else str(int(value))
        for value in pa.array(labels).to_pylist()
    ]
    for split in (train, test):
        for image, label in zip(split.images[:, 0].numpy(), split.labels.tolist(), strict=True):
            (row,) = np.flatnonzero((image == PIXELS).all((1, 2)))
            assert values[row] == names[label]


@pytest.mark.parametrize(
    "labels, message",
    [
        ([[1, 3]] * 12, r"holds list<element: int64>, such as \[1, 3\]"),
        ([datetime.datetime(2020, 1, 2)] * 12, "holds timestamp.*such as 2020-01-02"),
        ([datetime.date(2020, 1, 2)] * 12, "holds date32.*2020-01-02"),
        ([0.5, 2.0] * 6, "holds 0.5, 2.0: labels are names or whole numbers"),
        ([-3, -1] * 6, "its labels are -3, -1"),
        (["cat", " "] * 6, "row 1 has no label.*6"),
        (["cat", None] * 6, "row 1 has no label"),
        ([1.0, float("nan")] * 6, "row 1 has no label: remove the rows without one .6."),
        (["caf\u00e9", "cafe\u0301"] * 6, "look alike"),
        (["cat", "cat "] * 6, "two classes look alike, 'cat' and 'cat '"),
        (
            [decimal.Decimal("0.5"), decimal.Decimal("2")] * 6,
            "holds 0.5, 2.0: labels are names or whole numbers",
        ),
        (list(range(10**15, 10**15 + 12)), "'1000000000000000' has 1 image .and 11 more"),
        ([3] * 12, "holds one class only .3, column 'label'"),
    ],
    ids=[
        "list",
        "timestamp",
        "date",
        "fraction",
        "negative",
        "blank",
        "missing",
        "nan",
        "alike",
        "blanks",
        "decimal",
        "ids",
        "one",
    ],
)
def test_a_label_column_that_cannot_be_used_is_refused_and_no_other_takes_its_place(
    tmp_path, labels, message
):
    with pytest.raises(UserError, match=message):
        spec_from_images(table(tmp_path / "x.parquet", image=IMAGES, label=labels, fold=[0, 1] * 6))


def test_columns_are_named_or_found_where_only_one_can_be_meant(tmp_path):
    coarse = table(tmp_path / "x.parquet", img=IMAGES, fine_label=[0, 1, 2] * 4, coarse_label=[0, 1] * 6)
    with pytest.raises(
        UserError,
        match="which column holds the labels. It may be fine_label, coarse_label: name it with "
        "--label-column",
    ):
        spec_from_images(coarse)
    spec = spec_from_images(coarse, label="fine_label")
    assert (spec.source.image, spec.source.label, spec.classes) == ("img", "fine_label", 3)
    assert "'img', labels those of 'fine_label'" in spec.note
    assert spec.identity() != spec_from_images(coarse, label="coarse_label").identity()
    with pytest.raises(UserError, match="unknown label column 'fine'; did you mean 'fine_label'"):
        spec_from_images(coarse, label="fine")
    plural = spec_from_images(table(tmp_path / "y.parquet", image=IMAGES, labels=NAMES, year=[1] * 12))
    assert plural.source.label == "labels"
    with pytest.raises(UserError, match="It may be species, fold"):
        spec_from_images(table(tmp_path / "z.parquet", image=IMAGES, species=NAMES, fold=[0, 1] * 6))
    with pytest.raises(UserError, match="which column holds the labels. It may be fold, findings: name it"):
        spec_from_images(
            table(tmp_path / "u.parquet", image=IMAGES, findings=[["cough"]] * 12, fold=[0, 1] * 6)
        )
    with pytest.raises(UserError, match="which column holds the labels. It may be fold: name it"):
        spec_from_images(table(tmp_path / "t.parquet", image=IMAGES, fold=[0, 1] * 6))
    parted = spec_from_images(
        table(tmp_path / "s.parquet", image=IMAGES, label=NAMES, split=["train", "test"] * 6)
    )
    assert "Not read: the column split." in parted.note
    assert "The class 'nan' may be rows without a label." in (
        spec_from_images(table(tmp_path / "q.parquet", image=IMAGES, label=["cat", "dog", "nan"] * 4)).note
    )
    with pytest.raises(UserError, match="r.parquet: has no rows"):
        spec_from_images(
            table(tmp_path / "r.parquet", image=pa.array([], pa.binary()), label=pa.array([], pa.string()))
        )
    with pytest.raises(
        UserError, match="row 0 has no image bytes, and its path 'x.png' is no file beside the table"
    ):
        spec_from_images(table(tmp_path / "v.parquet", image=["x.png"] * 12, thumb=IMAGES, label=NAMES))
    with pytest.raises(UserError, match="'image' must hold encoded images.*holds int64.*--image-column"):
        spec_from_images(table(tmp_path / "w.parquet", image=list(range(12)), thumb=IMAGES, label=NAMES))
    twice = pa.Table.from_arrays(
        [pa.array(IMAGES), pa.array(NAMES), pa.array(NAMES)], names=["image", "label", "label"]
    )
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="twice.parquet: has 2 columns 'label': rename"):
        spec_from_images(tmp_path / "twice.parquet")


@pytest.mark.parametrize("nested", [False, True])
def test_images_that_are_only_named_lie_beside_the_table_and_count_for_its_identity(tmp_path, nested):
    places = [f"pictures/{number}.png" for number in range(12)]
    values = [{"bytes": None, "path": place} for place in places] if nested else places
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if nested else pa.string()
    path = table(tmp_path / "x.parquet", types={"image": kind}, image=values, label=NAMES)
    (tmp_path / "pictures").mkdir()
    for place, image in zip(places, IMAGES, strict=True):
        (tmp_path / place).write_bytes(image)
    spec = spec_from_images(path)
    prepare(spec, tmp_path / "out")
    if not nested:
        for values in (
            [f"file://{tmp_path / place}" for place in places],
            [place.replace("/", "\\") for place in places],
        ):
            assert (
                spec_from_images(table(tmp_path / "y.parquet", image=values, label=NAMES)).train == spec.train
            )
        for begin in ("", "data:image/png;base64,"):
            # Longer than names of files may be
            text = begin + base64.b64encode(png(random_pixels(40, 40))).decode()
            with pytest.raises(
                UserError, match="row 0 has its image as text .base64: .*decode the column 'image' to bytes"
            ):
                spec_from_images(table(tmp_path / "y.parquet", image=[text] * 12, label=NAMES))
    (tmp_path / places[0]).write_bytes(png(random_pixels(6, 6, seed=99)))
    assert spec_from_images(path).identity() != spec.identity()
    with pytest.raises(UserError, match="have changed since"):
        prepare(spec, tmp_path / "again")


def test_unused_class_names_fall_away_with_a_word(tmp_path):
    spec = spec_from_images(
        table(tmp_path / "x.parquet", {"label": ["a", "b", "c", "d"]}, image=IMAGES, label=[1, 3] * 6)
    )
    assert (
        spec.class_names == ["b", "d"]
        and "Left out, as they have no images: a, c (2 of 4 named classes)." in spec.note
    )
    assert loaded(spec, tmp_path / "out")[0].counts == (5, 5)
    with pytest.raises(UserError, match="the label 7 is outside 0..1, the numbers of its classes .a, b."):
        spec_from_images(table(tmp_path / "y.parquet", {"label": ["a", "b"]}, image=IMAGES, label=[0, 7] * 6))


TESTS = {
    "other order": ({"names": {"label": ["dog", "cat"]}, "label": [0, 0, 1]}, ["dog", "dog", "cat"]),
    "text": ({"label": ["dog", "cat", "cat"]}, ["dog", "cat", "cat"]),
    "one class": ({"names": {"label": ["dog"]}, "label": [0, 0, 0]}, ["dog"] * 3),
    "numbers": ({"label": [1, 1, 0]}, ["dog", "dog", "cat"]),
}


@pytest.mark.parametrize("kind", TESTS)
@pytest.mark.parametrize("described", [False, True])
def test_test_files_are_matched_by_name(data, tmp_path, kind, described):
    test, expected = TESTS[kind]
    folder = data / "toy"
    table(folder / "train.parquet", {"label": ["cat", "dog"]}, image=IMAGES, label=[0, 1] * 6)
    table(folder / "test.parquet", image=IMAGES[:3], **test)
    if described:
        source = {"kind": "parquet", "train": "toy/train.parquet", "test": "toy/test.parquet"}
        spec = describe(source, channels=1, size=6, train=12, test=3, smallest=6)
    else:
        spec = spec_from_images(folder / "train.parquet", test=folder / "test.parquet")
    _, found = loaded(spec, tmp_path / "out")
    by_image = {
        image.tobytes(): found.class_names[label]
        for image, label in zip(found.images.numpy(), found.labels.tolist(), strict=True)
    }
    assert [by_image[pixels.tobytes()] for pixels in PIXELS[:3]] == expected and found.class_names == (
        "cat",
        "dog",
    )


@pytest.mark.parametrize("text", ["{}", "{:03}", "{}.0"])
@pytest.mark.parametrize("swapped", [False, True])
def test_numbers_as_text_are_these_numbers_and_not_places_in_the_alphabet(tmp_path, text, swapped):
    numbers = list(range(1, 13))
    paths = [
        table(tmp_path / "text.parquet", image=IMAGES, label=[text.format(number) for number in numbers]),
        table(tmp_path / "numbers.parquet", image=IMAGES, label=numbers),
    ]
    train, test = reversed(paths) if swapped else paths
    spec = spec_from_images(train, test=test)
    assert "are the classes that, as text," in spec.note
    for split in loaded(spec, tmp_path / "out"):
        for image, label in zip(split.images[:, 0].numpy(), split.labels.tolist(), strict=True):
            (row,) = np.flatnonzero((image == PIXELS).all((1, 2)))
            assert split.class_names[label] in (str(numbers[row]), text.format(numbers[row]))


def test_numbers_do_not_count_names_that_the_alphabet_has_ordered(tmp_path):
    train = table(tmp_path / "train.parquet", image=IMAGES, label=["shirt", "bag", "boot"] * 4)
    test = table(tmp_path / "test.parquet", image=IMAGES, label=[0, 1, 2] * 4)
    with pytest.raises(
        UserError, match="nothing says which of the classes of .*train.parquet .bag, boot, shirt. they mean"
    ):
        spec_from_images(train, test=test)


def test_metadata_order_the_classes_of_text_and_digits_too(tmp_path):
    for values in (["b", "a"] * 6, ["0", "1"] * 6, [False, True] * 6):
        spec = spec_from_images(
            table(tmp_path / "x.parquet", {"label": ["b", "a"]}, image=IMAGES, label=values)
        )
        assert spec.class_names == ["b", "a"]
        assert (loaded(spec, tmp_path / "out")[0].images[0, 0].numpy() == PIXELS[0]).all()
        shutil.rmtree(tmp_path / "out")


def test_test_files_with_other_names_are_refused_by_name(data, tmp_path):
    train = table(data / "toy/train.parquet", {"label": ["cat", "dog"]}, image=IMAGES, label=[0, 1] * 6)
    test = table(data / "toy/test.parquet", {"label": ["cat", "cow"]}, image=IMAGES, label=[0, 1] * 6)
    message = "classes are matched by their names, and 'cow' is none of those of .*train.parquet .cat, dog."
    with pytest.raises(UserError, match=message):
        spec_from_images(train, test=test)
    source = {"kind": "parquet", "train": "toy/train.parquet", "test": "toy/test.parquet"}
    with pytest.raises(UserError, match=message):
        prepare(describe(source, channels=1, size=6, train=12, test=12, smallest=6), tmp_path / "out")
    named = describe(source, channels=1, size=6, train=12, test=12, smallest=6, class_names=["dog", "cat"])
    with pytest.raises(
        UserError, match="names a class 'cow' that is not among the `class_names` of toy .dog, cat."
    ):
        prepare(named, tmp_path / "out")
    table(data / "toy/test.parquet", image=IMAGES, label=NAMES)
    found, _ = loaded(named, tmp_path / "out")
    assert found.class_names == ("dog", "cat") and (found.images[0, 0].numpy() == PIXELS[1]).all()
    table(data / "toy/train.parquet", image=IMAGES, label=[1, 2, 3] * 4)
    with pytest.raises(UserError, match=r"toy: 3 classes found in .*\(1, 2, 3\), but its description says 2"):
        prepare(
            describe(
                {**source, "test": "toy/train.parquet"}, channels=1, size=6, train=12, test=12, smallest=6
            ),
            tmp_path / "no",
        )


def test_a_described_set_may_number_its_labels_otherwise(data, tmp_path, caplog):
    caplog.set_level("INFO")
    source = {"kind": "parquet", "train": "toy/train.parquet", "test": "toy/train.parquet", "label": "breed"}
    table(data / "toy/train.parquet", image=IMAGES, breed=[1, 2, 3] * 4)
    spec = describe(source, channels=1, size=6, classes=3, train=12, test=12, smallest=4)
    train, _ = loaded(spec, tmp_path / "numbers")
    assert train.class_names == ("1", "2", "3") and (train.images[0, 0].numpy() == PIXELS[0]).all()
    assert "toy: the labels 1, 2, 3 are numbered 0..2 in this order" in caplog.text
    table(data / "toy/train.parquet", {"breed": ["a", "b", "c", "d"]}, image=IMAGES, breed=[1, 2, 3] * 4)
    train, test = loaded(spec, tmp_path / "names")
    assert (
        train.class_names == test.class_names == ("b", "c", "d")
        and "toy: classes without images are left out: a" in caplog.text
    )
    table(data / "toy/train.parquet", image=IMAGES, breed=["c", "a", "b"] * 4)
    described = describe(
        source, channels=1, size=6, classes=3, train=12, test=12, smallest=4, class_names=["c", "b", "a"]
    )
    assert (loaded(described, tmp_path / "text")[0].images[0, 0].numpy() == PIXELS[0]).all()
    table(data / "toy/train.parquet", image=IMAGES, breed=["red", "green fox", "red cat"] * 4)
    longer = describe(
        source,
        channels=1,
        size=6,
        classes=3,
        train=12,
        test=12,
        smallest=4,
        class_names=["red cat", "red dog", "green fox"],
    )
    # Which of the two it were nobody knows
    with pytest.raises(UserError, match="names a class 'red' that is not among"):
        loaded(longer, tmp_path / "first words")
    with pytest.raises(
        UserError, match="a source of kind image_folder has no key 'label': it names a column"
    ):
        describe({"kind": "image_folder", "train": "toy", "test": "toy", "label": "breed"})


def test_shards_are_one_set_and_their_names_tell_training_from_testing(data, tmp_path):
    for number, labels in enumerate((["b", "a"] * 6, ["c", "b"] * 6)):
        table(tmp_path / f"set/data/train-{number:05}-of-00002.parquet", image=IMAGES, label=labels)
    table(tmp_path / "set/data/test-00000-of-00001.parquet", image=IMAGES, label=["c", "a"] * 6)
    (tmp_path / "set" / "README.md").write_text("a set")
    spec = spec_from_images(tmp_path / "set")
    assert (spec.class_names, spec.train, spec.test, spec.holdout, spec.name) == (
        ["a", "b", "c"],
        24,
        12,
        None,
        "set",
    )
    assert "test images: " in spec.note and "No test images of: b." in spec.note
    train, test = loaded(spec, tmp_path / "out")
    assert train.counts == (6, 12, 6) and test.counts == (6, 0, 6)
    data.mkdir()
    os.replace(tmp_path / "set" / "data", data / "toy")
    source = {"kind": "parquet", "train": "toy/train-*.parquet", "test": "toy/test-00000-of-00001.parquet"}
    again, _ = loaded(
        describe(source, channels=1, size=6, classes=3, train=24, test=12, smallest=6), tmp_path / "again"
    )
    np.testing.assert_array_equal(again.images, train.images)
    for name in ("part-a", "part-b"):
        table(tmp_path / "plain" / f"{name}.parquet", image=IMAGES, label=NAMES)
    plain = spec_from_images(tmp_path / "plain")
    assert (
        plain.train + plain.test == 24
        and "All 2 files are one set: part-a.parquet, part-b.parquet." in plain.note
    )
    for name in ("pets_train_0", "pets_train_1", "pets_test"):
        table(tmp_path / "within" / f"{name}.parquet", image=IMAGES, label=NAMES)
    within = spec_from_images(tmp_path / "within")
    assert (within.train, within.test) == (24, 12) and within.source.train.endswith("/*train*.parquet")
    table(tmp_path / "doubtful" / "part.parquet", image=IMAGES, label=NAMES)
    table(tmp_path / "doubtful" / "test.parquet", image=IMAGES, label=NAMES)
    with pytest.raises(UserError, match="beside test.parquet for training .part.parquet"):
        spec_from_images(tmp_path / "doubtful")
    with pytest.raises(UserError, match="toy/dev-.*not found"):
        prepare(
            describe(
                {**source, "train": "toy/dev-*.parquet"}, channels=1, size=6, classes=3, train=24, test=12
            ),
            tmp_path / "no",
        )


def test_folders_for_training_and_testing_are_understood(tmp_path):
    folders(tmp_path / "a" / "Train", "cat", "dog")
    folders(tmp_path / "a" / "TEST", "cat", "dog", images=1)
    folders(tmp_path / "a" / "val", "cat", "dog")
    spec = spec_from_images(tmp_path / "a")
    assert (spec.class_names, spec.train, spec.test, spec.holdout) == (["cat", "dog"], 6, 2, None)
    assert f"Training images: {tmp_path}/a/Train; test images: {tmp_path}/a/TEST. Not used: val." in spec.note
    folders(tmp_path / "b" / "train", "cat", "dog")
    assert spec_from_images(tmp_path / "b").holdout == 0.2
    assert spec_from_images(tmp_path / "b", test=tmp_path / "a").test == 2
    classes = folders(tmp_path / "c", "bus", "car", "train")  # a train is a vehicle, too
    spec = spec_from_images(classes)
    assert (
        spec.class_names == ["bus", "car", "train"]
        and "Taken for classes like the others: train." in spec.note
    )
    with pytest.raises(UserError, match="--test .*c: names the training images"):
        spec_from_images(classes, test=classes)


@pytest.mark.parametrize(
    "train, test",
    [
        ("train_set", "Test Set"),
        ("trainset", "testset"),
        ("train2017", "val2017"),
        ("seg_train", "seg_test"),
        ("train-images ", "test"),
    ],
)
def test_folders_for_training_and_testing_may_be_called_more(tmp_path, train, test):
    folders(tmp_path / "a" / train, "cat", "dog")
    folders(tmp_path / "a" / test, "cat", "dog", images=1)
    spec = spec_from_images(tmp_path / "a")
    assert (spec.class_names, spec.train, spec.test) == (["cat", "dog"], 6, 2)


def test_test_images_that_are_training_images_are_counted(tmp_path):
    folders(tmp_path / "train", "cat", "dog", images=2)  # those of both classes are the same
    test = folders(tmp_path / "test", "cat", "dog", images=4)
    assert "4 of the 8 test images are training images, too" in spec_from_images(tmp_path).note
    for name in ("cat", "dog"):
        for number in (0, 1):
            (test / name / f"{number}.png").unlink()
    assert "too high" not in spec_from_images(tmp_path).note


def test_a_word_in_a_name_makes_no_folder_for_testing(tmp_path):
    spec = spec_from_images(folders(tmp_path, "bullet train", "test tube", "trainer"))
    assert spec.class_names == ["bullet train", "test tube", "trainer"] and "Taken for" not in spec.note


def test_folders_that_do_not_say_what_the_images_show_are_refused_with_what_to_give(tmp_path):
    folders(tmp_path / "flat", "train", "test")
    with pytest.raises(UserError, match="test and train are no classes.*sort them into .*flat/train/CLASS/"):
        spec_from_images(tmp_path / "flat")
    folders(tmp_path / "half" / "train", "cat", "dog")
    folders(tmp_path / "half", "test")
    advice = f"half/test: .*`condense run {tmp_path}/half/train --out condensed`$"
    with pytest.raises(UserError, match=advice):
        spec_from_images(tmp_path / "half")
    os.rename(tmp_path / "half" / "test", tmp_path / "unknown")
    (tmp_path / "half" / "test").mkdir()
    os.rename(tmp_path / "unknown", tmp_path / "half" / "test" / "unknown")  # one folder for all of them
    with pytest.raises(UserError, match=advice):
        spec_from_images(tmp_path / "half")
    folders(tmp_path / "named", "train_images", "test_images")
    with pytest.raises(UserError, match="test_images and train_images are no classes"):
        spec_from_images(tmp_path / "named")
    folders(tmp_path / "lone" / "test", "cat", "dog")
    with pytest.raises(
        UserError, match="has no folder for training beside test; to use one of them, give .*lone/test"
    ):
        spec_from_images(tmp_path / "lone")


def test_test_folders_are_matched_by_names_however_their_accents_are_written(tmp_path):
    train = folders(tmp_path / "train", "cafe\u0301", "bar", "caf")
    test = folders(tmp_path / "test", "caf\u00e9", "bar", "caf", images=1)
    (test / "bar" / "0.png").write_bytes(IMAGES[7])
    spec = spec_from_images(train, test=test)
    _, found = loaded(spec, tmp_path / "out")
    assert found.counts == (1, 1, 1) and (found.images[0, 0].numpy() == PIXELS[7]).all()
    with pytest.raises(UserError, match="look alike"):
        spec_from_images(folders(tmp_path / "both", "caf\u00e9", "cafe\u0301"))


def test_a_list_of_classes_beside_the_folders_gives_names_and_order(tmp_path):
    root = folders(tmp_path / "set", "0000_zebra", "0001_ant")
    listed = [{"folder": "0000_zebra", "name": "zebra"}, {"folder": "0001_ant", "name": "ant"}]
    (root / "classes.json").write_text(json.dumps({"kind": "classes", "classes": listed}))
    other = folders(tmp_path / "other", "ant", "zebra", images=1)
    (other / "ant" / "0.png").write_bytes(IMAGES[7])
    spec = spec_from_images(root, test=other)
    assert spec.class_names == ["zebra", "ant"]
    assert (loaded(spec, tmp_path / "out")[1].images[1, 0].numpy() == PIXELS[7]).all()
    folders(root, "0002_bee")
    with pytest.raises(UserError, match="has a folder '0002_bee' that .*classes.json lacks"):
        spec_from_images(root)
    (root / "classes.json").write_text(json.dumps({"kind": "classes", "classes": [{"folder": 3}]}))
    with pytest.raises(UserError, match="classes.json: damaged"):
        spec_from_images(root)
    (root / "classes.json").write_text('["person", "car"]')  # of another program
    assert spec_from_images(root).class_names == ["0000_zebra", "0001_ant", "0002_bee"]


def test_litter_is_passed_over_notes_are_named_and_what_is_no_file_is_refused(tmp_path):
    root = folders(
        tmp_path / "set", "cat", "dog", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"
    )
    folders(root / "cat", "@eaDir")
    for name in ("cat/Thumbs.db", "cat/._0.png", "dog/desktop.ini", "labels.csv", "LICENSE"):
        (root / name).write_bytes(b"")
    assert spec_from_images(root).note.startswith("A stratified")
    beside = ["README", "COPYING", "0.png:Zone.Identifier", "IMG_1.xmp", "IMG_1.AAE"]
    for name in beside:
        (root / "dog" / name).write_bytes(b"no image")
    assert (
        "Passed over: 5 file(s) that are no images of a class "
        f"({', '.join(f'dog/{name}' for name in sorted(beside))})" in (spec_from_images(root).note)
    )
    for name in beside:
        (root / "dog" / name).unlink()
    (root / "cat" / "notes.txt").write_text("taken on Monday")
    (root / "stray.png").write_bytes(IMAGES[0])
    spec = spec_from_images(root)
    assert spec.class_names == ["cat", "dog"] and spec.train + spec.test == 6
    assert "Passed over: 2 file(s) that are no images of a class (stray.png, cat/notes.txt)." in spec.note
    os.mkfifo(root / "cat" / "pipe")
    with pytest.raises(UserError, match="cat/pipe: neither a file nor a folder"):
        spec_from_images(root)
    os.replace(root / "cat" / "pipe", tmp_path / "pipe")
    for link in ("cow", "cat/9.png"):
        (root / link).symlink_to(tmp_path / "nowhere")
        with pytest.raises(UserError, match=f"{link}: a link to .*nowhere, which is not there"):
            spec_from_images(root)
        (root / link).unlink()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"PK\x03\x04...", "zip archive: unpack it"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC image"),
        (b"<!DOCTYPE html><html>", "web page"),
        (bytes(500), "zero bytes only"),
        (
            pa.ipc.new_stream(stream := pa.BufferOutputStream(), pa.schema([("a", pa.int8())])).close()
            or stream.getvalue(),
            "Arrow file",
        ),
        (struct.pack("<Q", 8) + b"{}      ", "safetensors file: `condense export FILE"),
        (IMAGES[0][:30], "damaged or cut short"),
    ],
    ids=["empty", "pointer", "zip", "heic", "page", "zeros", "arrow", "safetensors", "cut"],
)
def test_what_is_no_image_is_named_with_the_remedy(tmp_path, content, message):
    root = folders(tmp_path / "set", "cat", "dog")
    (root / "cat" / "1.png").write_bytes(content)
    with pytest.raises(UserError, match=f"cat/1.png: cannot be read as an image.*{message}") as caught:
        spec_from_images(root)
    assert "BytesIO" not in str(caught.value)
    if message != "damaged or cut short":
        (tmp_path / "x.parquet").write_bytes(content)
        with pytest.raises(UserError, match=f"x.parquet: cannot be read as parquet.*{message}"):
            spec_from_images(tmp_path / "x.parquet")


def test_nothing_is_written_among_the_images(tmp_path, monkeypatch):
    root = folders(tmp_path / "set", "cat", "dog")
    monkeypatch.chdir(root)
    for argv in (
        ("run", ".", "--out", "out"),
        ("run", root, "--out", root),
        ("run", root, "--out", root / "cat" / "deep" / "out"),
    ):
        assert "lies inside the images" in refused(*argv)
    apart = folders(tmp_path / "train", "cat", "dog")
    assert "--test names" in refused("run", apart, "--test", ".", "--out", "out")
    assert sorted(entry.name for entry in root.iterdir()) == ["cat", "dog"]


def test_a_home_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(folders(tmp_path / "home", "cat", "dog"))
    assert f"{tmp_path}/home/sets" in refused("run", "~/home", "--out", "~/home/sets")
    assert not (tmp_path / "home" / "~").exists()


@pytest.mark.parametrize("side, fine", [(512, True), (513, False), (1024, False)])
def test_images_of_one_large_size_are_not_condensed_unasked(tmp_path, side, fine):
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "set" / name / f"{number}.jpg").write_bytes(png(np.zeros((side, side)), "JPEG"))
    if fine:
        assert spec_from_images(tmp_path / "set").size == side
    else:
        with pytest.raises(
            UserError, match=f"have {side} x {side} pixels.*give --resize 224 .*--resize {side} keeps them"
        ):
            spec_from_images(tmp_path / "set")
        assert spec_from_images(tmp_path / "set", resize=side).size == side
    assert spec_from_images(tmp_path / "set", resize=64).size == 64
