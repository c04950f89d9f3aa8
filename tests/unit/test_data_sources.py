"""Published files: their formats, checksums, mirrors and the network."""

import gzip
import hashlib
import io
import struct
import urllib.request
import zipfile

import numpy as np
import pytest
from data_helpers import describe, file, isolated, loaded, png, put, random_pixels, tar

from condense.config import UserError
from condense.data.prepare import prepare
from condense.files import artifacts


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    return isolated(tmp_path, monkeypatch)


# CIFAR


def cifar10_members(labels=(1, 0, 1, 0, 0), test_labels=(0, 1)):
    pixels = random_pixels(len(labels) + len(test_labels), 3072)
    records = [
        bytes([label]) + image.tobytes() for label, image in zip((*labels, *test_labels), pixels, strict=True)
    ]
    members = {f"cifar-10-batches-bin/data_batch_{n + 1}.bin": record for n, record in enumerate(records[:5])}
    members["cifar-10-batches-bin/test_batch.bin"] = b"".join(records[5:])
    members["cifar-10-batches-bin/batches.meta.txt"] = b"cat\ndog\n\n"
    return members, pixels.reshape(-1, 3, 32, 32)


def cifar10_spec(archive, **more):
    source = {"kind": "torchvision", "dataset": "CIFAR10", "files": [file("cifar-10-binary.tar.gz", archive)]}
    return describe(source, train=5, smallest=2, **more)


def test_cifar10_records_are_read_exactly(data, tmp_path):
    members, pixels = cifar10_members()
    archive = tar(members)
    put(data / "toy", {"cifar-10-binary.tar.gz": archive})
    train, test = loaded(cifar10_spec(archive), tmp_path)
    assert train.class_names == ("cat", "dog") and train.counts == (3, 2)
    # Class-major, in the order of the files
    np.testing.assert_array_equal(train.images, pixels[[1, 3, 4, 0, 2]])
    np.testing.assert_array_equal(test.images, pixels[5:])
    header = artifacts.read_header(tmp_path / "train.safetensors")
    assert header["source"] == {"cifar-10-binary.tar.gz": "md5:" + hashlib.md5(archive).hexdigest()}


def test_cifar100_has_a_coarse_label_before_the_fine_one(data, tmp_path):
    pixels = random_pixels(6, 3072)
    records = [bytes([9, place % 2]) + image.tobytes() for place, image in enumerate(pixels)]
    root = "cifar-100-binary/"
    archive = tar({root + "train.bin": b"".join(records[:4]), root + "test.bin": b"".join(records[4:]),
                   root + "fine_label_names.txt": b"apple\nbear\n"})  # fmt: skip
    put(data / "toy", {"c.tar.gz": archive})
    spec = describe(
        {"kind": "torchvision", "dataset": "CIFAR100", "files": [file("c.tar.gz", archive)]}, smallest=2
    )
    train, _ = loaded(spec, tmp_path)
    assert train.class_names == ("apple", "bear")
    np.testing.assert_array_equal(train.images, pixels[[0, 2, 1, 3]].reshape(-1, 3, 32, 32))


def test_a_damaged_cifar_archive_is_explained(data, tmp_path):
    members, _ = cifar10_members()
    short = {**members, "cifar-10-batches-bin/test_batch.bin": b"12345"}
    lacking = {name: content for name, content in members.items() if "batch_3" not in name}
    for archive, message in (
        (tar(short), "test_batch.bin has 5 bytes, which is no whole number of records"),
        (tar(lacking), "lacks the files .*data_batch_3.bin"),
        (tar(members)[:2000], "not a whole tar.gz archive"),
        (tar({**members, "../../evil": b"x"}), r"refused, since its member '../../evil' points outside"),
        (tar({**members, "/etc/evil": b"x"}), "points outside"),
    ):
        put(data / "toy", {"cifar-10-binary.tar.gz": archive})
        with pytest.raises(UserError, match=message):
            prepare(cifar10_spec(archive), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_other_class_names_than_described_are_refused(data, tmp_path):
    archive = tar(cifar10_members()[0])
    put(data / "toy", {"cifar-10-binary.tar.gz": archive})
    with pytest.raises(UserError, match="names a class 'dog' where 'doge' is expected"):
        prepare(cifar10_spec(archive, class_names=["cat", "doge"]), tmp_path)


# Checksums, mirrors and the network


def test_offline_the_file_its_address_its_checksum_and_its_folder_are_named(data, tmp_path):
    archive = tar(cifar10_members()[0])
    with pytest.raises(UserError) as caught:
        prepare(cifar10_spec(archive), tmp_path)
    message = str(caught.value)
    assert "cifar-10-binary.tar.gz" in message and "http://example.org/cifar-10-binary.tar.gz" in message
    for words in (hashlib.md5(archive).hexdigest(), str(data / "toy"), "no network here", "CONDENSE_DATA"):
        assert words in message
    assert "\n" not in message and not list((data / "toy").iterdir())


def test_a_wrong_checksum_names_both_and_nothing_is_read(data, tmp_path):
    good, bad = tar(cifar10_members()[0]), tar(cifar10_members(labels=(0, 0, 1, 1, 0))[0])
    put(data / "toy", {"cifar-10-binary.tar.gz": bad})
    with pytest.raises(UserError) as caught:
        prepare(cifar10_spec(good), tmp_path)
    for part in (
        hashlib.md5(good).hexdigest(),
        hashlib.md5(bad).hexdigest(),
        str(data / "toy" / "cifar-10-binary.tar.gz"),
    ):
        assert part in str(caught.value)


class Answer(io.BytesIO):
    headers = {}


def test_a_download_is_verified_before_it_gets_its_name(data, tmp_path, monkeypatch):
    archive = tar(cifar10_members()[0])
    asked = []
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda url, timeout: asked.append(url) or Answer(archive[:-1])
    )
    with pytest.raises(UserError, match="wrong checksum: what came has the md5 .* nothing was kept"):
        prepare(cifar10_spec(archive), tmp_path)
    assert not list((data / "toy").iterdir())
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: asked.append(url) or Answer(archive))
    prepare(cifar10_spec(archive), tmp_path)
    assert [path.name for path in (data / "toy").iterdir()] == ["cifar-10-binary.tar.gz"]
    prepare(cifar10_spec(archive), tmp_path)
    assert asked == ["http://example.org/cifar-10-binary.tar.gz"] * 2


def test_a_connection_that_breaks_leaves_nothing_behind(data, tmp_path, monkeypatch):
    class Broken(Answer):
        def read(self, size):
            raise TimeoutError("timed out")

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(UserError, match="cannot be downloaded .timed out."):
        prepare(cifar10_spec(tar(cifar10_members()[0])), tmp_path)
    assert not list((data / "toy").iterdir())


@pytest.mark.parametrize("as_file", [False, True])
def test_a_mirror_is_tried_first(tmp_path, as_file):
    archive = tar(cifar10_members()[0])
    put(tmp_path / "mirror", {"cifar-10-binary.tar.gz": archive})
    mirror = tmp_path / "mirror" / ("cifar-10-binary.tar.gz" if as_file else "")
    spec = cifar10_spec(archive)
    values = {"kind": "torchvision", "dataset": "CIFAR10", "files": spec.source.files, "mirror": str(mirror)}
    train, _ = loaded(describe(values, train=5, smallest=2), tmp_path / "out")
    assert len(train) == 5 and not (tmp_path / "data").exists()


# The MNIST family, SVHN, Tiny-ImageNet


def idx_file(array, level=9):
    header = struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), level, mtime=0)


def idx_source(arrays, keep=("md5", "contents_sha256")):
    entries = []
    for name, array in arrays.items():
        content = idx_file(array)
        sums = {
            "md5": hashlib.md5(content).hexdigest(),
            "contents_sha256": hashlib.sha256(gzip.decompress(content)).hexdigest(),
        }
        entries.append(file(name, content, **{key: sums[key] for key in keep}))
    return {"kind": "torchvision", "dataset": "MNIST", "files": entries}


@pytest.fixture
def idx_arrays():
    labels = np.array([1, 0, 0, 1, 0], np.uint8)
    return {
        "train-images-idx3-ubyte.gz": random_pixels(5, 6, 6),
        "train-labels-idx1-ubyte.gz": labels,
        "t10k-images-idx3-ubyte.gz": random_pixels(2, 6, 6, seed=1),
        "t10k-labels-idx1-ubyte.gz": np.array([1, 0], np.uint8),
    }


def test_idx_files_compressed_anew_are_accepted_for_their_contents(data, tmp_path, idx_arrays):
    put(data / "toy", {name: idx_file(array, level=1) for name, array in idx_arrays.items()})
    options = dict(channels=1, size=6, train=5, smallest=2)
    train, test = loaded(describe(idx_source(idx_arrays), **options), tmp_path)
    np.testing.assert_array_equal(
        train.images[:, 0], idx_arrays["train-images-idx3-ubyte.gz"][[1, 2, 4, 0, 3]]
    )
    np.testing.assert_array_equal(test.images[:, 0], idx_arrays["t10k-images-idx3-ubyte.gz"][::-1])
    first = (tmp_path / "train.safetensors").read_bytes()
    put(data / "toy", {name: idx_file(array) for name, array in idx_arrays.items()})
    prepare(describe(idx_source(idx_arrays), **options), tmp_path)
    assert (tmp_path / "train.safetensors").read_bytes() == first  # whichever copy was read
    put(data / "toy", {name: idx_file(array, level=1) for name, array in idx_arrays.items()})
    with pytest.raises(UserError, match="wrong checksum"):
        prepare(describe(idx_source(idx_arrays, keep=("md5",)), **options), tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        (
            gzip.compress(b"\0\0\x08\x03" + struct.pack(">3i", 5, 6, 6) + b"1234"),
            "holds 4 bytes of data, but announces 5 x 6 x 6",
        ),
        (gzip.compress(b"\0\0\x0d\x03" + bytes(12)), "not an IDX file of unsigned bytes with 3 axes"),
        (b"\x1f\x8b no gzip", "not a whole gzip file"),
        (gzip.compress(bytes(1000))[:-9], "not a whole gzip file"),
    ],
    ids=["short", "other axes", "no gzip", "cut"],
)
def test_a_damaged_idx_file_is_named(data, tmp_path, idx_arrays, content, message):
    name = "train-images-idx3-ubyte.gz"
    put(data / "toy", {**{other: idx_file(array) for other, array in idx_arrays.items()}, name: content})
    source = idx_source(idx_arrays)
    source["files"][0] = file(name, content)
    with pytest.raises(UserError, match=f"{name}: {message}"):
        prepare(describe(source, channels=1, size=6, train=5, smallest=2), tmp_path)


def test_svhn_counts_its_label_ten_as_zero(data, tmp_path):
    from scipy.io import savemat

    contents = {}
    pixels = {"train": random_pixels(32, 32, 3, 4), "test": random_pixels(32, 32, 3, 2, seed=1)}
    for part, labels in (("train", [1, 10, 10, 1]), ("test", [10, 1])):
        buffer = io.BytesIO()
        savemat(buffer, {"X": pixels[part], "y": np.array(labels, np.uint8)[:, None]})
        contents[f"{part}_32x32.mat"] = buffer.getvalue()
    put(data / "toy", contents)
    source = {"kind": "torchvision", "dataset": "SVHN", "files": [file(*item) for item in contents.items()]}
    train, test = loaded(describe(source, smallest=2), tmp_path)
    np.testing.assert_array_equal(train.images, pixels["train"].transpose(3, 2, 0, 1)[[1, 2, 0, 3]])
    np.testing.assert_array_equal(test.images[0].permute(1, 2, 0), pixels["test"][..., 0])
    broken = contents["train_32x32.mat"][:500]
    put(data / "toy", {"train_32x32.mat": broken})
    source["files"][0] = file("train_32x32.mat", broken)
    with pytest.raises(UserError, match="train_32x32.mat: not a MATLAB file"):
        prepare(describe(source, smallest=2), tmp_path)


def tiny_imagenet(**extra):
    root = "tiny-imagenet-200/"
    colours = {
        "train/n02/images/n02_0.JPEG": 200,
        "train/n01/images/n01_0.JPEG": 10,
        "train/n01/images/n01_1.JPEG": 20,
        "train/n02/images/n02_1.JPEG": 210,
        "val/images/val_0.JPEG": 230,
        "val/images/val_1.JPEG": 30,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, level in colours.items():
            # A few of the real ones are grey, too
            archive.writestr(root + name, png(np.full((8, 8), level), "JPEG"))
        archive.writestr(root + "wnids.txt", "n02\nn01\n")
        archive.writestr(root + "words.txt", "n01\tfox\nn02\thare, lepus\nn03\twolf\n")
        archive.writestr(
            root + "val/val_annotations.txt", "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n"
        )
        archive.writestr(root + "test/images/test_0.JPEG", b"")
        for name, content in extra.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_tiny_imagenet_tests_on_its_validation_split(data, tmp_path):
    archive = tiny_imagenet()
    put(data / "toy", {"tiny.zip": archive})
    source = {"kind": "archive", "format": "tiny_imagenet", "files": [file("tiny.zip", archive)]}
    train, test = loaded(describe(source, size=8, smallest=2), tmp_path)
    assert train.class_names == ("n01 fox", "n02 hare, lepus")
    assert train.images.float().mean((1, 2, 3)).round().tolist() == [10, 20, 200, 210]
    assert test.images.float().mean((1, 2, 3)).round().tolist() == [30, 230] and test.labels.tolist() == [
        0,
        1,
    ]


def test_a_zip_member_that_leaves_its_folder_is_refused(data, tmp_path):
    archive = tiny_imagenet(**{"../evil": b"x"})
    put(data / "toy", {"tiny.zip": archive})
    source = {"kind": "archive", "format": "tiny_imagenet", "files": [file("tiny.zip", archive)]}
    with pytest.raises(UserError, match="'../evil' points outside"):
        prepare(describe(source, size=8, smallest=2), tmp_path)
