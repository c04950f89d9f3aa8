"""Describing, digesting, exporting and listing."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from condense import jobs
from condense.command import exports, listings, show
from condense.config import UserError
from condense.data.description import spec_from_images
from condense.data.prepare import prepare
from condense.evaluate.synthetic import load_synthetic
from condense.files.artifacts import file_sha256, read_tensors, write_json, write_tensors
from condense.specs import catalogue

NAMES = ["cat", "dog/wolf", "emu"]


def write_set(path, names=NAMES, channels=3, kind="synthetic"):
    """Three classes with two images each, whose pixels are multiples of 1/255 or outside [0, 1]."""
    levels = np.random.default_rng(0).integers(-20, 276, (6, channels, 4, 4))
    tensors = {"images": (levels / 255).astype(np.float32), "labels": np.repeat(np.arange(3), 2)}
    header = {
        "kind": kind,
        "dataset": "zoo",
        "method": "ed",
        "ipc": 2,
        "arch": "convnet",
        "seed": 3,
        "key": "0123456789ab",
    }
    header |= {"data_sha256": "0" * 64}
    header |= {
        "classes": [0, 1, 2],
        "class_names": names,
        "mean": [0.5] * channels,
        "std": [0.25] * channels,
        "decode": None,
        "steps": 7,
    }
    write_tensors(path, tensors, header)
    return np.clip(levels, 0, 255)


@pytest.fixture
def zoo(tmp_path):
    path = tmp_path / "zoo" / "synthetic.safetensors"
    return path, write_set(path)


def test_description_gives_what_the_header_the_tensors_and_the_run_say(zoo):
    path, _ = zoo
    write_json(
        path.with_name("run.json"),
        {"seconds": 2.5, "device": "abacus", "threads": 1, "peak_memory_bytes": 3_000_000},
    )
    lines = dict(line.split(maxsplit=1) for line in show.describe(path).splitlines())
    images = read_tensors(path)[0]["images"]
    assert (
        lines["kind"] == "synthetic"
        and lines["method"] == "ed"
        and lines["seed"] == "3"
        and lines["steps"] == "7"
    )
    assert lines["images"] == f"float32 6 x 3 x 4 x 4, {images.min():.6g} to {images.max():.6g}"
    assert (
        lines["classes"] == "3: cat, dog/wolf, emu"
        and lines["device"] == "abacus"
        and lines["peak"] == "memory  3 MB"
    )
    assert lines["checksum"].startswith("verified")


def test_prepared_data_and_teachers_are_described(digits, tmp_path):
    text = show.describe(digits / "train.safetensors")
    assert (
        "dataset" in text
        and "1438, 139 to 146 a class" in text
        and "uint8 1438 x 1 x 8 x 8, 0 to 255" in text
    )
    write_tensors(
        tmp_path / "a.resume",
        {"images": np.zeros(3, np.float32)},
        {"kind": "checkpoint", "key": "k", "state": {"done": 40}},
    )
    assert "checkpoint" in show.describe(tmp_path / "a.resume") and "done" in show.describe(
        tmp_path / "a.resume"
    )


@pytest.mark.parametrize("place", [20, -1])
def test_a_changed_byte_is_named(zoo, place):
    path, _ = zoo
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    for function in (show.describe, show.digest_of, lambda path: exports.export_set(path, "npz", None)):
        with pytest.raises(UserError, match="damaged"):
            function(path)
    assert not path.with_name("synthetic.npz").exists()


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"kind": "metrics"}', '{"kind": "metrics", "protocol": 3, "mean": 1, "std": []}'],
)
def test_json_that_is_not_ours_is_refused(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match="metrics.json: damaged"):
        show.describe(tmp_path / "metrics.json")


def metrics(seconds):
    protocol = {"name": "dc", "epochs": 100, "batch": 256}
    about = {
        "schema": 1,
        "kind": "metrics",
        "task": "condense",
        "key": "k",
        "n_networks": 2,
        "protocol": protocol,
    }
    return about | {
        "accuracies": [49.0, 51.0],
        "mean": 50.0,
        "std": 1.0,
        "run": {"seconds": seconds, "device": "abacus"},
    }


def test_a_set_of_another_program_is_not_called_damaged(tmp_path):
    np.savez(tmp_path / "theirs.npz", images=np.zeros((2, 3, 4, 4)), labels=np.arange(2))
    with pytest.raises(UserError, match="only files of ours.*`condense judge --help`"):
        show.describe(tmp_path / "theirs.npz")


def test_the_digest_of_metrics_leaves_out_the_run_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.json"
    digests = []
    for value in (metrics(1.0), metrics(2.0), metrics(1.0) | {"accuracies": [49.5, 51.5], "mean": 50.5}):
        write_json(path, value)
        digests.append(show.digest_of(path))
    assert digests[0] == digests[1] != digests[2] and len(digests[0]) == 64
    assert "50.50 ± 1.00 %" in show.describe(path) and "abacus" in show.describe(path)
    write_json(path, metrics(1.0) | {"accuracies": [49.5], "mean": 49.5, "std": 0.0, "n_networks": 1})
    assert "49.50 %" in show.describe(path) and "±" not in show.describe(path)


def test_the_digest_of_a_set_is_that_of_its_bytes(zoo):
    assert show.digest_of(zoo[0]) == file_sha256(zoo[0])


def test_npz_holds_the_very_pixels_without_pickle(zoo):
    path, _ = zoo
    assert str(path.with_name("synthetic.npz")) in exports.export_set(path, "npz", None)
    tensors, _ = read_tensors(path)
    with np.load(path.with_name("synthetic.npz"), allow_pickle=False) as found:
        np.testing.assert_array_equal(found["images"], tensors["images"])
        np.testing.assert_array_equal(found["labels"], tensors["labels"])
        assert found["class_names"].tolist() == NAMES and found["images"].dtype == np.float32


@pytest.mark.parametrize("channels", [1, 3])
def test_png_images_are_the_clipped_pixels_in_class_folders(tmp_path, channels):
    path = tmp_path / "synthetic.safetensors"
    levels = write_set(path, channels=channels)
    exports.export_set(path, "png", tmp_path / "new" / "pictures")
    files = sorted(str(file.relative_to(tmp_path / "new")) for file in (tmp_path / "new").rglob("*.png"))
    assert files == [
        f"pictures/{name}/0000{place}.png"
        for name in ("0000_cat", "0001_dog_wolf", "0002_emu")
        for place in (0, 1)
    ]
    for file, image in zip(files, levels, strict=True):
        found = np.asarray(Image.open(tmp_path / "new" / file))
        np.testing.assert_array_equal(found, image[0] if channels == 1 else np.moveaxis(image, 0, -1))


@pytest.mark.parametrize("names", [["..", ".", "/"], ["a/b", "a_b", "A_B"]])
def test_class_names_neither_leave_the_folder_nor_meet_in_one(tmp_path, names):
    write_set(tmp_path / "set" / "synthetic.safetensors", names)
    exports.export_set(tmp_path / "set" / "synthetic.safetensors", "png", None)
    assert (
        len(list((tmp_path / "set" / "png").glob("*/*.png"))) == 6 and len(list(tmp_path.rglob("*.png"))) == 6
    )


def test_exported_folders_sort_as_the_labels_and_keep_their_names(tmp_path):
    names = [f"{12 - label}/ 猫{'x' * 200}" for label in range(12)]
    levels = np.random.default_rng(0).integers(0, 256, (24, 3, 4, 4))
    header = {
        "kind": "synthetic",
        "dataset": "zoo",
        "method": "ed",
        "arch": "convnet",
        "data_sha256": "0" * 64,
        "decode": None,
    }
    header |= {"class_names": names, "mean": [0.5] * 3, "std": [0.25] * 3}
    tensors = {"images": (levels / 255).astype(np.float32), "labels": np.repeat(np.arange(12), 2)}
    write_tensors(tmp_path / "synthetic.safetensors", tensors, header)
    exports.export_set(tmp_path / "synthetic.safetensors", "png", tmp_path / "png")
    pytest.importorskip("torchvision")
    from torchvision.datasets import ImageFolder

    assert [label for _, label in ImageFolder(tmp_path / "png").samples] == tensors["labels"].tolist()
    spec = spec_from_images(tmp_path / "png", test=shutil.copytree(tmp_path / "png", tmp_path / "copy"))
    assert spec.class_names == names
    prepare(spec, tmp_path / "data")
    found, _ = read_tensors(tmp_path / "data" / "train.safetensors")
    np.testing.assert_array_equal(found["images"], levels)


def test_sets_of_formations_are_exported_as_they_train_or_as_stored(tmp_path):
    path = tmp_path / "synthetic.safetensors"
    levels = write_set(path)
    tensors, header = read_tensors(path)
    write_tensors(path, tensors, {**header, "decode": {"factor": 2, "order": "columns"}})
    text = exports.export_set(path, "npz", tmp_path / "decoded.npz")
    assert text.startswith("24 images (decoded from 6 stored ones; --as-stored writes those)")
    trained = load_synthetic(path)
    order = np.argsort(trained.labels.numpy(), kind="stable")
    with np.load(tmp_path / "decoded.npz") as found:
        np.testing.assert_allclose(found["images"], trained.pixels.numpy()[order], atol=1e-6)
        assert found["labels"].tolist() == sorted(trained.labels.tolist()) and len(found["labels"]) == 24
    assert "each of which holds 4 smaller ones, of ed" in exports.export_set(
        path, "npz", tmp_path / "stored.npz", as_stored=True
    )
    with np.load(tmp_path / "stored.npz") as found:
        np.testing.assert_array_equal(found["images"], tensors["images"])
    exports.export_set(path, "png", None, as_stored=True)
    image = np.asarray(Image.open(tmp_path / "png" / "0001_dog_wolf" / "00001.png"))
    np.testing.assert_array_equal(image, np.moveaxis(levels[3], 0, -1))
    write_tensors(path, tensors, {**header, "decode": {"factor": 2, "way": 1}})
    with pytest.raises(UserError, match="synthetic.safetensors: .*decode: unknown key 'way'"):
        exports.export_set(path, "npz", tmp_path / "other.npz")


def test_parquet_is_read_back_as_a_dataset_with_the_same_images_and_names(tmp_path):
    path = tmp_path / "synthetic.safetensors"
    levels = write_set(path)
    exports.export_set(path, "parquet", tmp_path / "zoo.parquet")
    spec = spec_from_images(
        tmp_path / "zoo.parquet", test=shutil.copy(tmp_path / "zoo.parquet", tmp_path / "copy.parquet")
    )
    assert (spec.class_names, spec.channels, spec.size, spec.train) == (NAMES, 3, 4, 6)
    prepare(spec, tmp_path / "data")
    tensors, _ = read_tensors(tmp_path / "data" / "train.safetensors")
    np.testing.assert_array_equal(tensors["images"], levels)
    np.testing.assert_array_equal(tensors["labels"], np.repeat(np.arange(3), 2))


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(zoo, digits, tmp_path):
    path, _ = zoo
    with pytest.raises(UserError, match="'dataset', but a file with 'synthetic'"):
        exports.export_set(digits / "train.safetensors", "png", tmp_path / "out")
    with pytest.raises(UserError, match="parquet"):
        exports.export_set(path, "parket", None)
    (tmp_path / "taken").mkdir()
    for to in ("png", "npz"):
        with pytest.raises(UserError, match="taken: exists already"):
            exports.export_set(path, to, tmp_path / "taken")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        exports.export_set(path, "png", tmp_path / "file" / "png")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "taken", "zoo"]


def test_a_shard_made_by_a_job_is_described_with_its_cost(digits, tmp_path):
    recipe = catalogue.recipe("random")
    job = jobs.ShardJob(
        recipe,
        digits / "train.safetensors",
        arch="none",
        options={},
        ipc=2,
        seed=0,
        key="by-hand",
        classes=(1, 2),
    )
    jobs.condense_shard(tmp_path / "classes1-2.safetensors", job, jobs.Machine("cpu", 1))
    text = show.describe(tmp_path / "classes1-2.safetensors")
    assert "shard" in text and "2: 1, 2" in text and "float32 4 x 1 x 8 x 8" in text and "peak memory" in text


@pytest.mark.parametrize(
    "what", ["methods", "terms", "datasets", "protocols", "tables", "scales", "architectures"]
)
def test_lists_name_everything_in_aligned_columns(what):
    lines = listings.listing(what).splitlines()
    names = [line.split()[0] for line in lines[1:]]
    assert lines[0].startswith("name") and len(names) == len(set(names))
    if what in ("methods", "datasets", "protocols", "scales"):
        assert names == catalogue.names_in(what)
    title = lines[0].index(lines[0].split()[1])
    assert all(line[title - 1] == " " != line[title] for line in lines[1:])


def test_what_clip_needs_is_said_only_where_it_is_absent(monkeypatch, tmp_path):
    line = next(line for line in listings.listing("methods").splitlines() if line.startswith("dm_clip"))
    assert "absent" in line
    (tmp_path / "weights").touch()
    monkeypatch.setenv("CONDENSE_CLIP", str(tmp_path / "weights"))
    assert "absent" not in listings.listing("methods") and "digits" in listings.listing("datasets")


def test_an_unknown_list_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="did you mean 'methods'"):
        listings.listing("method")
    assert json.dumps(sorted(listings._LISTINGS)) == json.dumps(
        sorted("methods terms datasets protocols tasks tables architectures scales".split())
    )
