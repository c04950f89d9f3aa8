"""Large data sets: archives and folders of class folders, some of the classes, and files written piece by
piece."""

import csv
import subprocess
import sys
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from data_helpers import describe, file, isolated, loaded, png, put, random_pixels, tar
from PIL import Image

from condense import models, plan
from condense.config import UserError
from condense.data import dataset, filling
from condense.data.prepare import prepare, statistics
from condense.data.spec import load_spec
from condense.files import artifacts

PARAMS = Path(__file__).parents[2] / "params"
FOLDER = {"kind": "image_folder", "train": "toy/train", "test": "toy/val"}


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    return isolated(tmp_path, monkeypatch)


# Files written piece by piece


def fill(path, tensors, header, known, order=None):
    """`tensors` written row by row in a random order, with the header `known` at first and `header` in the
    end."""
    shapes = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    with filling.filling(path, shapes, known) as file:
        for name, tensor in tensors.items():
            for row in np.random.default_rng(0).permutation(len(tensor)):
                file.put(name, row, tensor[row : row + 1])
        assert (np.concatenate(list(file.pieces("images"))) == tensors["images"]).all()
        file.seal(header, file.content_sha256("sum"))


@pytest.mark.parametrize(
    "known", [{"mean": [0.25]}, {"mean": [filling.UNKNOWN_NUMBER]}, {"mean": [0.25], "more": "x" * 4000}]
)
@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
def test_a_file_filled_row_by_row_is_the_one_written_at_once(tmp_path, monkeypatch, known, piece):
    monkeypatch.setattr(filling, "_PIECE", piece)
    tensors = {"images": random_pixels(7, 3, 5, 5), "labels": np.arange(7)}
    header = {"kind": "dataset", "mean": [0.25], "class_names": ['a "b" \\', "é"]}
    fill(tmp_path / "filled", tensors, header, {**header, **known})
    artifacts.write_tensors(tmp_path / "whole", tensors, header)  # by the safetensors library
    assert (tmp_path / "filled").read_bytes() == (tmp_path / "whole").read_bytes()
    found = safetensors.numpy.load_file(tmp_path / "filled")
    assert all((found[name] == tensor).all() for name, tensor in tensors.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filled", "whole"]


def test_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path):
    tensors = {"images": random_pixels(2, 1, 2, 2), "labels": np.arange(2)}
    with pytest.raises(ValueError, match="header has .* bytes, but there is room for"):
        fill(tmp_path / "a", tensors, {"text": "x" * 100}, {})
    for values, row in (
        (tensors["images"], 1),
        (tensors["images"].astype(float), 0),
        (tensors["images"][:, :, :1], 0),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            with filling.filling(tmp_path / "a", {"images": ("uint8", (2, 1, 2, 2))}, {}) as file:
                file.put("images", row, values)
    assert not list(tmp_path.iterdir())


def test_rows_that_were_never_put_are_zero(tmp_path):
    with filling.filling(tmp_path / "a", {"images": ("uint8", (3, 1, 1, 2))}, {"kind": "dataset"}) as file:
        file.put("images", 1, np.array([5, 6], np.uint8).reshape(1, 1, 1, 2))
        assert np.concatenate(list(file.pieces("images"))).reshape(-1).tolist() == [0, 0, 5, 6, 0, 0]
        file.seal({"kind": "dataset"}, file.content_sha256("sum"))
    assert artifacts.read_tensors(tmp_path / "a", "dataset")[0]["images"].reshape(-1).tolist() == [
        0,
        0,
        5,
        6,
        0,
        0,
    ]


def test_statistics_do_not_depend_on_the_pieces():
    pixels = random_pixels(50, 3, 4, 4)
    assert statistics(pixels) == statistics([pixels]) == statistics([pixels[:7], pixels[7:]])


def write_folder(root, counts, side=8, seed=0):
    """PNG files of one colour each, `counts` images by class, and those colours by class."""
    colours = {}
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        colours[name] = np.random.default_rng(len(colours) + seed).integers(0, 256, (count, 3))
        for place, colour in enumerate(colours[name]):
            Image.new("RGB", (side, side), tuple(colour.tolist())).save(root / name / f"{place:03}.png")
    return colours


@pytest.mark.parametrize("known", [True, False])
def test_the_memory_of_preparation_does_not_grow_with_the_images(data, tmp_path, known):
    def peak(count):
        root = data / "toy" / str(count)
        write_folder(root / "train", {"a": count, "b": count}, side=300)
        write_folder(root / "val", {"a": 1, "b": 1}, side=300)
        source = {**FOLDER, "train": f"toy/{count}/train", "test": f"toy/{count}/val"}
        more = {"mean": [0.5] * 3, "std": [0.5] * 3} if known else {}
        spec = describe(source, size=300, train=2 * count, smallest=count, **more)
        tracemalloc.start()
        try:
            prepare(spec, tmp_path / f"out{count}")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # what is imported on the way
    few, many = peak(20), peak(80)
    assert (tmp_path / "out80" / "train.safetensors").stat().st_size > 160 * 3 * 300 * 300
    assert many - few < 2e6 < 120 * 3 * 300 * 300  # bytes


# Some classes of a folder


CHOOSE = """
import sys
from pathlib import Path
import torch
from condense.data.dataset import load
from condense.engines.selection import choose
from condense.specs import catalogue
data, cpu = load(sys.argv[1]), torch.device("cpu")
choose(catalogue.recipe("random"), data, data.classes, ipc=1, seed=0, teacher=None, device=cpu)
status = Path("/proc/self/status").read_text().split()
print(1024 * int(status[status.index("VmHWM:") + 1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell the peak")
def test_neither_the_check_of_a_file_nor_a_selection_brings_all_of_it_into_memory(data, tmp_path):
    def peak(count):
        root = data / "toy" / str(count)
        write_folder(root / "train", {"a": count, "b": count}, side=300)
        write_folder(root / "val", {"a": 1, "b": 1}, side=300)
        source = {**FOLDER, "train": f"toy/{count}/train", "test": f"toy/{count}/val"}
        known = {"mean": [0.5] * 3, "std": [0.5] * 3}
        prepare(
            describe(source, size=300, train=2 * count, smallest=count, **known), tmp_path / f"out{count}"
        )
        command = [sys.executable, "-c", CHOOSE, str(tmp_path / f"out{count}" / "train.safetensors")]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    few, many = peak(2), peak(300)
    assert many - few < 40e6 < 600 * 3 * 300 * 300 / 4  # bytes


def test_some_classes_of_a_folder_are_numbered_by_name(data, tmp_path):
    colours = write_folder(data / "toy/train", {"ant": 2, "bee": 3, "cat": 2})
    write_folder(data / "toy/val", {"ant": 1, "bee": 1, "cat": 1, "dog": 1}, seed=9)
    train, test = loaded(describe({**FOLDER, "classes": ["cat", "ant"]}, size=8, smallest=2), tmp_path)
    assert train.class_names == ("ant", "cat") and test.counts == (1, 1)
    np.testing.assert_array_equal(train.images[:, :, 0, 0], np.concatenate([colours["ant"], colours["cat"]]))
    with pytest.raises(
        UserError, match="toy/train: has no folder for the class 'dog', which the description asks for"
    ):
        prepare(describe({**FOLDER, "classes": ["ant", "dog"]}, size=8), tmp_path)


def test_a_name_may_follow_that_of_the_folder(data, tmp_path):
    write_folder(data / "toy/train", {"n01": 2, "n02": 2})
    write_folder(data / "toy/val", {"n01": 1, "n02": 1})
    spec = describe(FOLDER, size=8, smallest=2, class_names=["n01 green mamba", "n02"])
    assert loaded(spec, tmp_path)[0].class_names == ("n01 green mamba", "n02")
    for names, message in (
        (["n0 1", "n02"], "'n01' where 'n0 1' is expected"),
        (["n02 a", "n01 b"], "'n01' where 'n02 a'"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(replace(spec, class_names=names), tmp_path)


def test_the_classes_are_part_of_the_identity_and_their_order_is_not():
    whole = describe(FOLDER)
    some, turned = (describe({**FOLDER, "classes": names}) for names in (["a", "b"], ["b", "a"]))
    assert (
        some.identity()
        == turned.identity()
        != whole.identity()
        != describe({**FOLDER, "classes": ["a", "c"]}).identity()
    )
    # Keys from before these words
    assert "classes" not in whole.identity()["source"] and "counts" not in whole.identity()


@pytest.mark.parametrize(
    "source, message",
    [
        ({**FOLDER, "classes": ["a", "b", "a"]}, "'a' is given twice"),
        ({**FOLDER, "classes": ["a", "b", "c"]}, "the source names 3, but 2 are expected"),
        ({**FOLDER, "clases": ["a", "b"]}, "did you mean 'classes'"),
        (
            {"kind": "parquet", "train": "a", "test": "b", "classes": ["a", "b"]},
            "kind parquet has no key 'classes'",
        ),
    ],
)
def test_classes_that_make_no_sense_are_explained(source, message):
    with pytest.raises(UserError, match=message):
        describe(source)


def test_counts_may_be_bounds_from_below(data, tmp_path):
    write_folder(data / "toy/train", {"ant": 3, "bee": 2})
    write_folder(data / "toy/val", {"ant": 1, "bee": 1})
    spec = describe(FOLDER, size=8, train=4, smallest=1, counts="at_least")
    assert loaded(spec, tmp_path)[0].counts == (3, 2) and spec.identity()["counts"] == "at_least"
    for change, message in (
        ({"train": 6}, "5 train images found, but its description says at least 6"),
        ({"smallest_class": 3, "train": 6}, "at least 6"),
        ({"test": 1}, "2 test images found, but its description says 1"),
        ({"counts": "exact"}, "5 train images found, but its description says 4"),
        (
            {"counts": "exact", "train": 5},
            "2 images in the smallest training class found, but its description says 1",
        ),
    ):
        with pytest.raises(UserError, match=message):
            prepare(replace(spec, **change), tmp_path)


def test_a_folder_that_is_absent_is_described(data, tmp_path):
    spec = load_spec("imagenet_subset100", PARAMS / "datasets")
    with pytest.raises(
        UserError,
        match="imagenet/train not found: put the folder of 100 class folders of images there.*image-net.org",
    ):
        prepare(spec, tmp_path)
    (data / "imagenet/train").mkdir(parents=True)
    (data / "imagenet/val").mkdir()
    with pytest.raises(UserError, match="imagenet/train: has no folder for the class 'n01518878'"):
        prepare(spec, tmp_path)


# Archives of class folders


def members(root="toy2/", **more):
    """The members of an archive whose images have one grey level each, and the levels in the order that is
    expected."""
    levels = {
        "val/bee/7.png": 70,
        "train/bee/9.png": 20,
        "train/ant/5.png": 10,
        "train/bee/1.png": 30,
        "train/ant/2.png": 40,
        "val/ant/3.png": 60,
    }
    images = {root + name: png(np.full((6, 6), level)) for name, level in levels.items()}
    return {root + "noise.csv": b"a,b", **images, **more}


def archive_spec(content, **more):
    return describe(
        {"kind": "archive", "format": "class_folders", "files": [file("toy2.tgz", content)]},
        size=6,
        smallest=2,
        **more,
    )


@pytest.mark.parametrize("root", ["toy2/", "./toy2/"])
def test_an_archive_of_class_folders_is_read_without_unpacking_it(data, tmp_path, root):
    content = tar(
        members(
            root,
            **{
                root + "train/ant/._2.png": b"x",
                root + ".DS_Store": b"x",
                "toy2/train/ant": (tarfile.DIRTYPE, ""),
            },
        )
    )
    put(data / "toy", {"toy2.tgz": content})
    train, test = loaded(archive_spec(content), tmp_path / "out")
    assert train.class_names == ("ant", "bee") and train.labels.tolist() == [0, 0, 1, 1]
    assert train.images[:, 0, 0, 0].tolist() == [10, 40, 20, 30] and test.images[:, 0, 0, 0].tolist() == [
        60,
        70,
    ]
    assert [path.name for path in (data / "toy").iterdir()] == ["toy2.tgz"]
    header = artifacts.read_header(tmp_path / "out" / "train.safetensors")
    assert (
        list(header["source"]) == ["toy2.tgz"]
        and len(dataset.load(tmp_path / "out" / "test.safetensors")) == 2
    )


def test_images_of_an_archive_are_scaled_and_cropped(data, tmp_path):
    content = tar({**members(), "toy2/train/ant/5.png": png(np.full((12, 30), 10))})
    put(data / "toy", {"toy2.tgz": content})
    train, _ = loaded(archive_spec(content, resize=6), tmp_path)
    assert train.images.shape == (4, 3, 6, 6) and (train.images[0] == 10).all()
    with pytest.raises(UserError, match="toy2/train/ant/5.png: has 30x12 pixels instead of 6x6"):
        prepare(archive_spec(content), tmp_path)


@pytest.mark.parametrize(
    "more, message",
    [
        (
            {"toy2/train/ant/9.png": (tarfile.SYMTYPE, "/etc/passwd")},
            "refused, since its member 'toy2/train/ant/9.png' is no plain file",
        ),
        ({"toy2/train/ant/9.png": (tarfile.LNKTYPE, "toy2/train/ant/2.png")}, "is no plain file"),
        ({"/toy2/train/ant/9.png": b"x"}, "points outside the archive"),
        ({"toy2/train/../../9.png": b"x"}, "points outside the archive"),
        ({"toy2/train/ant/more/9.png": b"x"}, "does not lie in FOLDER/train/CLASS or FOLDER/val/CLASS"),
        ({"toy2/test/ant/9.png": b"x"}, "does not lie in"),
        ({"toy2/train/9.png": b"x"}, "does not lie in"),
        ({"toy2/val/cat/9.png": b"x"}, "train: has no folder for the class 'cat' of .*val"),
        ({"toy2/val/ant/9.png": b"x"}, "3 test images found, but its description says 2"),
        ({"toy2/val/ant/3.png": b"no image"}, "toy2.tgz: toy2/val/ant/3.png: cannot be read as an image"),
    ],
)
def test_a_faulty_archive_is_explained_and_nothing_is_left(data, tmp_path, more, message):
    content = tar(members(**more))
    put(data / "toy", {"toy2.tgz": content})
    with pytest.raises(UserError, match=message):
        prepare(archive_spec(content), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_cut_or_lacks_a_split_is_explained(data, tmp_path):
    whole = members()
    for content, message in (
        (tar(whole)[:-30], "not a whole tar.gz archive"),
        (
            tar({name: image for name, image in whole.items() if "val" not in name}),
            "has no images in FOLDER/val/CLASS",
        ),
    ):
        put(data / "toy", {"toy2.tgz": content})
        with pytest.raises(UserError, match=message):
            prepare(archive_spec(content), tmp_path / "out")


# The descriptions


@pytest.mark.parametrize(
    "name, paper, table, arch, features",
    [
        ("imagenette", "ddm", "3", "convnetd5", 128 * 4 * 4),
        ("imagewoof", "ddm", "3", "convnetd5", 128 * 4 * 4),
        ("imagenet1k", "ddm", "1", "convnetd4", 128 * 4 * 4),
        ("imagenet_subset100", "idm", "1", "convnetd6", 128 * 3 * 3),
    ],
)
def test_the_networks_of_the_tables_suit_the_size(name, paper, table, arch, features):
    with open(PARAMS / "published" / "results.csv", encoding="utf-8", newline="") as opened:
        rows = [
            row
            for row in csv.DictReader(opened)
            if (row["paper"], row["table"], row["dataset"]) == (paper, table, name)
        ]
    assert (
        rows
        and {row["eval_arch"] for row in rows} <= {arch, "resnet18"}
        and {row["train_arch"] for row in rows} <= {arch, "", "resnet18"}
    )
    spec = plan.data_cell(name).spec
    network = models.build(arch, channels=spec.channels, size=spec.size, classes=spec.classes)
    assert network.classifier.in_features == features


def test_the_subsets_are_parts_of_the_same_folders():
    whole, *parts = (
        load_spec(name, PARAMS / "datasets") for name in ("imagenet1k", "imagenet_subset100", "imagenet10")
    )
    for part in parts:
        assert (part.source.train, part.source.test) == (whole.source.train, whole.source.test)
        assert part.test == 50 * part.classes and part.smallest_class == whole.smallest_class
    assert whole.test == 50 * whole.classes
    assert [name.split()[0] for name in parts[1].class_names] == sorted(parts[1].source.classes)
