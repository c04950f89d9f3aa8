"""Descriptions of datasets, preparation of the digits, and reading of what was prepared."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from condense import config
from condense.config import UserError
from condense.data import dataset
from condense.data.prepare import prepare, statistics
from condense.data.spec import DatasetSpec, data_folder, held_out_count, held_out_places, load_spec
from condense.files import artifacts

FOLDER = Path(__file__).parents[2] / "params" / "datasets"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    prepare(load_spec("digits", FOLDER), out)
    return out


def changed(**changes):
    return replace(load_spec("digits", FOLDER), **changes)


# Descriptions


@pytest.mark.parametrize("name", NAMES)
def test_every_description_reads_and_its_identity_is_plain_json(name):
    spec = load_spec(name, FOLDER)
    assert spec.train >= spec.classes * spec.smallest_class
    assert artifacts.digest(spec.identity()) == artifacts.digest(
        load_spec(FOLDER / f"{name}.yaml").identity()
    )
    assert spec.mean is None or (min(spec.mean) > 0 and max(spec.mean) < 1)


def test_the_torchvision_checksums_are_those_of_torchvision():
    from torchvision.datasets import MNIST, SVHN, FashionMNIST, Imagenette

    for name, kind in (("mnist", MNIST), ("fashion_mnist", FashionMNIST)):
        assert {file.name: file.md5 for file in load_spec(name, FOLDER).source.files} == dict(kind.resources)
    published = {name: (url, md5) for url, name, md5 in (SVHN.split_list["train"], SVHN.split_list["test"])}
    assert {file.name: (file.url, file.md5) for file in load_spec("svhn", FOLDER).source.files} == published
    imagenette = load_spec("imagenette_fastai", FOLDER)
    assert [(file.url, file.md5) for file in imagenette.source.files] == [Imagenette._ARCHIVES["full"]]
    assert imagenette.class_names == [
        f"{wnid} {names[0]}" for wnid, names in sorted(Imagenette._WNID_TO_CLASS.items())
    ]


def test_reading_descriptions_loads_neither_torch_nor_numpy():
    code = f"""
import sys
from condense.data.spec import load_spec
load_spec('cifar10', {str(FOLDER)!r})
print(sorted({{'torch', 'numpy', 'PIL', 'pyarrow'}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_identity_follows_the_images_and_not_the_place_or_the_words():
    spec = load_spec("fashion_mnist", FOLDER)
    elsewhere = replace(spec, title="T", note="n", source=replace(spec.source, mirror="/elsewhere"))
    assert elsewhere.identity() == spec.identity()
    assert replace(spec, size=14, resize=14).identity() != spec.identity()
    other = replace(spec.source.files[0], contents_sha256="0" * 64)
    assert (
        replace(spec, source=replace(spec.source, files=[other, *spec.source.files[1:]])).identity()
        != spec.identity()
    )


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="unknown dataset 'cifar11'; did you mean 'cifar10'"):
        load_spec("cifar11", FOLDER)


SOME_FILE = {"name": "a", "url": "https://a.org/a", "md5": "0" * 32}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"clases": 10}, "unknown key 'clases'; did you mean 'classes'"),
        ({"train": "1438"}, "train: a number is needed"),
        ({"classes": 1}, "at least 2 are needed"),
        ({"channels": 2}, "1 or 3 are possible"),
        ({"holdout": None}, "no test split: give a fraction"),
        ({"holdout": 1.5}, "between 0 and 1"),
        ({"mean": [0.5]}, "both or neither"),
        ({"mean": [0.5, 0.5], "std": [0.5, 0.5]}, "1 numbers are needed"),
        ({"mean": [0.5], "std": [0.0]}, "std: positive"),
        ({"class_names": ["a", "a"]}, "10 different names"),
        ({"smallest_class": 200}, "between 1 and train / classes"),
        ({"name": "My digits"}, "lower-case"),
        ({"source": {"kind": "sklearn_digits", "train": "x"}}, "has no key 'train'"),
        ({"source": {"kind": "parquet"}}, "needs the key 'train'"),
        ({"source": {"kind": "torchvision", "dataset": "CIFAR11", "files": [SOME_FILE]}}, "mean 'CIFAR10'"),
        (
            {"source": {"kind": "archive", "format": "tiny_imagenet", "files": [{"name": "a", "url": "u"}]}},
            "needs an md5 or a sha256",
        ),
    ],
)
def test_a_faulty_description_is_explained_with_its_file(tmp_path, change, message):
    values = {**config.load_yaml(FOLDER / "digits.yaml"), **change}
    artifacts.write_json(tmp_path / "digits.yaml", values)
    with pytest.raises(UserError, match="digits.yaml.*" + message):
        load_spec("digits", tmp_path)


def test_a_file_under_another_name_is_refused(tmp_path):
    (tmp_path / "numbers.yaml").write_text((FOLDER / "digits.yaml").read_text())
    for named in ("numbers", tmp_path / "numbers.yaml"):
        with pytest.raises(UserError, match="is 'digits', but the file is called 'numbers'"):
            load_spec(named, tmp_path)


def test_the_data_folder_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("CONDENSE_DATA", "/somewhere")
    assert data_folder() == Path("/somewhere")
    monkeypatch.delenv("CONDENSE_DATA")
    assert data_folder() == Path("data")


def test_held_out_images_are_a_fixed_fraction_of_each_class_and_independent_of_other_classes():
    assert [held_out_count(images, 0.2) for images in (2, 3, 10, 1000)] == [1, 1, 2, 200]
    assert held_out_count(4, 0.99) == 3
    places = held_out_places(3, 50, 0.2)
    assert len(set(places)) == 10 and set(places) <= set(range(50))
    assert places == held_out_places(3, 50, 0.2) != held_out_places(4, 50, 0.2)


# Preparation


def test_digits_are_scikit_learns_images_none_lost_and_none_in_both_splits(digits):
    levels, labels = load_digits(return_X_y=True)
    parts = [
        artifacts.read_tensors(digits / f"{split}.safetensors", "dataset")[0] for split in ("train", "test")
    ]
    assert [part["images"].shape for part in parts] == [(1438, 1, 8, 8), (359, 1, 8, 8)]
    prepared = np.concatenate(
        [np.c_[part["labels"], np.rint(part["images"].reshape(-1, 64) / 255 * 16)] for part in parts]
    )
    original = np.c_[labels, levels]
    assert sorted(map(tuple, prepared)) == sorted(map(tuple, original))
    for part in parts:
        assert (np.diff(part["labels"]) >= 0).all()


def test_digits_are_split_by_class_and_keep_the_order_of_the_source(digits):
    levels, labels = load_digits(return_X_y=True)
    members = levels[labels == 7]
    held = set(held_out_places(7, len(members), 0.2))
    kept = members[[place for place in range(len(members)) if place not in held]]
    found = dataset.load(digits / "train.safetensors")
    assert (np.rint(found.images[found.class_slice(7)].numpy().reshape(-1, 64) / 255 * 16) == kept).all()
    test = dataset.load(digits / "test.safetensors")
    for total, here in zip(np.bincount(labels), test.counts, strict=True):
        assert here == round(total / 5)


def test_preparing_twice_gives_the_same_bytes(digits, tmp_path):
    prepare(load_spec("digits", FOLDER), tmp_path)
    for name in ("train.safetensors", "test.safetensors", "dataset.json"):
        assert (tmp_path / name).read_bytes() == (digits / name).read_bytes()


def test_the_summary_tells_what_the_files_hold(digits):
    summary = artifacts.read_json(digits / "dataset.json")
    for split, part in summary["splits"].items():
        tensors, header = artifacts.read_tensors(digits / part["file"], "dataset")
        assert part["images"] == len(tensors["labels"]) == sum(part["counts"])
        assert part["counts"] == np.bincount(tensors["labels"]).tolist() == header["counts"]
        assert part["data_sha256"] == header["data_sha256"] == artifacts.content_sha256(tensors)
        assert (header["split"], header["mean"], header["class_names"]) == (
            split,
            summary["mean"],
            summary["class_names"],
        )
    assert min(summary["splits"]["train"]["counts"]) == load_spec("digits", FOLDER).smallest_class


def test_statistics_are_numpys():
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 3, 4, 4), dtype=np.uint8)
    mean, std = statistics(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 2, 3)), rtol=1e-12)


def test_statistics_of_a_hand_worked_case():
    pixels = np.array([0, 0, 255, 255], dtype=np.uint8).reshape(2, 1, 1, 2)
    assert statistics(pixels) == ([0.5], [0.5])
    with pytest.raises(UserError, match="channel 0 .* are equal"):
        statistics(np.full((2, 1, 2, 2), 7, np.uint8))


SOME_FILE = {"name": "a", "url": "https://a.org/a", "md5": "0" * 32}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train": 1437}, r"1,438 train images found, but its description says 1,437"),
        ({"test": 360}, r"359 test images found"),
        ({"smallest_class": 138}, "139 images in the smallest training class found"),
        ({"classes": 9, "class_names": None}, "label 9, outside 0..8"),
        ({"size": 9}, "image 0: has 8x8 pixels instead of 9x9"),
        ({"channels": 3}, "1 channels instead of 3"),
    ],
)
def test_a_number_that_differs_from_the_description_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=f"digits.*{message}"):
        prepare(changed(**change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_resized_digits_are_torchs_bilinear_enlargement(tmp_path, digits):
    prepare(changed(size=16, resize=16), tmp_path)
    large, small = (dataset.load(folder / "train.safetensors") for folder in (tmp_path, digits))
    expected = torch.nn.functional.interpolate(small.images.float(), size=16, mode="bilinear", antialias=True)
    assert (large.labels == small.labels).all()
    assert (large.images.float() - expected).abs().max() <= 1


# Reading


def test_a_class_is_a_contiguous_slice_and_its_images_come_normalised(digits):
    images = dataset.load(digits / "train.safetensors")
    levels, labels = load_digits(return_X_y=True)
    assert len(images) == 1438 and images.classes == tuple(range(10)) and images.class_names[3] == "3"
    for label in range(10):
        assert (images.labels[images.class_slice(label)] == label).all()
    some = images.of_class(4, [0, 5])
    raw = images.images[images.class_slice(4)][[0, 5]].numpy() / 255
    assert some.dtype == torch.float32 and some.shape == (2, 1, 8, 8)
    np.testing.assert_allclose(some.numpy(), (raw - images.mean[0]) / images.std[0], rtol=1e-5, atol=1e-6)
    everything = torch.cat([images.of_class(label) for label in range(10)]).double()
    torch.testing.assert_close(everything.mean(), torch.tensor(0.0).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(everything.std(correction=0), torch.tensor(1.0).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("classes", [range(2, 5), [2, 3, 4], [7, 2], [9]])
def test_some_classes_are_the_same_images_under_the_same_numbers(digits, classes):
    whole, part = (
        dataset.load(digits / "train.safetensors"),
        dataset.load(digits / "train.safetensors", classes),
    )
    assert part.classes == tuple(classes) and len(part) == sum(part.counts)
    for label in classes:
        assert torch.equal(part.of_class(label), whole.of_class(label))
        assert (part.labels[part.class_slice(label)] == label).all()
    assert part.data_sha256 == whole.data_sha256
    with pytest.raises(UserError, match="class 0 is not among the classes loaded"):
        part.class_slice(0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory map")
def test_the_tensors_are_mapped_not_copied(digits):
    images = dataset.load(digits / "train.safetensors", range(3, 5))
    rows = [
        row
        for row in Path("/proc/self/maps").read_text().splitlines()
        if str(digits / "train.safetensors") in row
    ]
    spans = [tuple(int(end, 16) for end in row.split()[0].split("-")) for row in rows]
    assert any(low <= images.images.data_ptr() < high for low, high in spans)


@pytest.mark.parametrize(
    "classes, message", [([10], "class 10 does not exist"), ([1, 1], "each once"), ([], "must be given")]
)
def test_classes_that_cannot_be_had_are_refused(digits, classes, message):
    with pytest.raises(UserError, match=message):
        dataset.load(digits / "train.safetensors", classes)


def test_a_changed_byte_and_a_cut_file_are_found(digits, tmp_path):
    data = bytearray((digits / "train.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed").write_bytes(data)
    (tmp_path / "cut").write_bytes(data[:-1])
    with pytest.raises(UserError, match="changed: damaged .*checksum differs"):
        dataset.load(tmp_path / "changed")
    assert len(dataset.load(tmp_path / "changed", verify=False)) == 1438
    with pytest.raises(UserError, match="cut: damaged"):
        dataset.load(tmp_path / "cut", verify=False)


def test_a_dataset_of_one_class_is_refused(tmp_path):
    tensors = {"images": np.zeros((2, 1, 2, 2), np.uint8), "labels": np.zeros(2, np.int64)}
    header = {
        "kind": "dataset",
        "dataset": "one",
        "title": "One",
        "class_names": ["a"],
        "channels": 1,
        "size": 2,
        "mean": [0.5],
    }
    header |= {
        "std": [0.2],
        "source": {},
        "counts": [2],
        "data_sha256": artifacts.content_sha256(tensors),
        "split": "train",
    }
    artifacts.write_tensors(tmp_path / "one", tensors, header)
    with pytest.raises(UserError, match="has 1 class; at least 2 are needed"):
        dataset.load(tmp_path / "one")


def test_normalise_and_denormalise_are_inverses_and_treat_each_channel():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    values = dataset.normalise(pixels, (0.0, 0.1, 0.5), (1.0, 0.5, 0.25))
    torch.testing.assert_close(values.flatten(), torch.tensor([0.0, 0.2, 2.0]))
    back = dataset.denormalise(values, (0.0, 0.1, 0.5), (1.0, 0.5, 0.25))
    torch.testing.assert_close(back.flatten(), torch.tensor([0.0, 0.2, 1.0]))
    stacked = torch.rand(4, 2, 3, 5, 5, dtype=torch.float64)
    result = dataset.denormalise(
        dataset.normalise(stacked, (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)), (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)
    )
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, stacked)


def test_a_description_is_its_own_type():
    with pytest.raises(UserError, match="where: expected a mapping"):
        config.read(DatasetSpec, [], "where")


# ImageNet's numbers of the classes (MTT: utils.py, Config), in the order of their WordNet ids
MTT = {
    "imagenette": [0, 217, 482, 491, 497, 566, 569, 571, 574, 701],
    "imagewoof": [155, 159, 162, 167, 182, 193, 207, 229, 258, 273],
}


@pytest.mark.parametrize("name, fewest", [("imagenette", "n03000684"), ("imagewoof", "n02089973")])
def test_imagenette_and_imagewoof_are_split_as_by_mtt_and_as_by_fastai(name, fewest):
    """MTT takes ImageNet's training and validation images of the ten classes; fast.ai's second edition has
    the same images, divided anew into 70 and 30 %."""
    spec, other = load_spec(name, FOLDER), load_spec(f"{name}_fastai", FOLDER)
    ids = [title.split()[0] for title in spec.class_names]
    assert ids == spec.source.classes == sorted(ids) and spec.class_names == other.class_names
    assert fewest in ids and len(MTT[name]) == len(ids)
    # Nine classes of 1,300 training images, and 50 test images of each
    assert spec.counts == "exact" and spec.train == 9 * 1300 + spec.smallest_class and spec.test == 10 * 50
    assert spec.train + spec.test == other.train + other.test
    assert (spec.source.kind, other.source.kind) == ("image_folder", "archive")
    assert spec.size == spec.resize == other.resize == 128
