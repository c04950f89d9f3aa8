"""Sets of other programs: every form of file, coding and layout gives the same set of ours, and what is
unclear or wrong is refused with what to do."""

import json
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bad_input_helpers import BRIEF, NET, refused, run
from data_helpers import png
from safetensors.numpy import save_file

from condense import jobs, load_synthetic
from condense.command.show import describe
from condense.config import UserError
from condense.data.dataset import load
from condense.files import read_metrics, read_set
from condense.jobs import Machine, Reading
from condense.outside import coding, numbering
from condense.outside.foreign import Foreign
from condense.outside.torchfile import read_torch
from condense.specs import Decode

HERE = Machine("cpu", 1)
UNCHECKED = Reading(check=False)
IPC = 2


@pytest.fixture(scope="module")
def bytes_of(digits):
    """Two digits a class as bytes (20, 1, 8, 8), not in the order of their classes, and their labels."""
    data = load(digits / "train.safetensors")
    images = torch.cat([data.images[data.class_slice(label)][:IPC] for label in range(10)])
    labels = torch.arange(10).repeat_interleave(IPC)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    return images[order].numpy(), labels[order].numpy()


def sorted_pixels(bytes_of):
    images, labels = bytes_of
    return images[np.argsort(labels, kind="stable")].astype(np.float32) / 255


def normalised(digits, images):
    data = load(digits / "train.safetensors")
    return data.normalise(torch.from_numpy(images)).numpy()


def taken(digits, tmp_path, file, reading=UNCHECKED):
    jobs.take_in(tmp_path / "synthetic.safetensors", file, digits, reading, "none", HERE)
    return read_set(tmp_path / "synthetic.safetensors")


def write(path, form, images, labels):
    """One set in a form that some program writes."""
    if form == "dict":
        torch.save({"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}, path)
    elif form == "syn":
        torch.save({"image_syn": torch.from_numpy(images), "label_syn": torch.from_numpy(labels)}, path)
    elif form == "pair":
        torch.save([torch.from_numpy(images), torch.from_numpy(labels)], path)
    elif form == "dc":
        accuracies = {"ConvNet": [np.float64(51.5)]}  # as its code keeps them
        torch.save(
            {
                "data": [[torch.from_numpy(images).requires_grad_(), torch.from_numpy(labels)]],
                "accs_all_exps": accuracies,
            },
            path,
        )
    elif form == "arrays":
        torch.save({"images": images, "labels": labels}, path)
    elif form == "legacy":
        tensors = (torch.from_numpy(images), torch.from_numpy(labels))
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    elif form == "npz":
        np.savez(path, images=images, labels=labels)
    elif form == "xy":
        np.savez(path, x=images, y=labels.astype(np.float64))
    elif form == "safetensors":
        save_file({"images": np.ascontiguousarray(images), "labels": labels}, path)


TORCH, ARRAYS = ("dict", "syn", "pair", "dc", "arrays", "legacy"), ("npz", "xy", "safetensors")


@pytest.mark.parametrize("form", [*TORCH, *ARRAYS])
def test_every_form_gives_the_same_set(form, digits, bytes_of, tmp_path):
    images, labels = bytes_of
    path = tmp_path / {"npz": "a.npz", "xy": "a.npz", "safetensors": "a.safetensors"}.get(form, "a.pt")
    write(path, form, normalised(digits, images), labels)
    tensors, header = taken(digits, tmp_path, path)
    np.testing.assert_allclose(tensors["images"], sorted_pixels(bytes_of), atol=1e-6)
    assert tensors["labels"].tolist() == np.repeat(range(10), IPC).tolist()
    assert (header["ipc"], header["method"], header["dataset"]) == (IPC, "outside", "digits")
    origin = header["origin"]
    assert (origin["file"], origin["coding"]) == (path.name, "normalised") and len(origin["sha256"]) == 64


@pytest.mark.parametrize(
    "name, change",
    [
        ("bytes", lambda images: images),
        ("bytes", lambda images: images.astype(np.float32)),
        ("bytes", lambda images: images.astype(np.int64)),
        ("unit", lambda images: images.astype(np.float64) / 255),
        ("unit", lambda images: (images / 255).astype(np.float16)),
        ("symmetric", lambda images: (images / 127.5 - 1).astype(np.float32)),
        ("unit", lambda images: (images / 255 + np.where(images == 0, -0.05, 0)).astype(np.float32)),
    ],
)
def test_a_coding_is_found(name, change, digits, bytes_of, tmp_path):
    images, labels = bytes_of
    write(tmp_path / "a.npz", "npz", change(images), labels)
    tensors, header = taken(digits, tmp_path, tmp_path / "a.npz")
    assert header["origin"]["coding"] == name
    tolerance = 0.051 if change(images).min() == np.float32(-0.05) else 1e-3
    np.testing.assert_allclose(tensors["images"], sorted_pixels(bytes_of), atol=tolerance)


def test_other_constants_of_a_normalisation(digits, bytes_of, tmp_path):
    images, labels = bytes_of
    write(tmp_path / "a.npz", "npz", ((images / 255 - 0.25) / 0.5).astype(np.float32), labels)
    reading = Reading(check=False, coding="normalised", mean="0.25", std="0.5")
    tensors, header = taken(digits, tmp_path, tmp_path / "a.npz", reading)
    np.testing.assert_allclose(tensors["images"], sorted_pixels(bytes_of), atol=1e-6)
    assert (header["origin"]["mean"], header["origin"]["std"]) == ([0.25], [0.5])


@pytest.mark.parametrize(
    "images, told",
    [
        (np.full((20, 1, 8, 8), 0.01), "nearly black"),
        (np.tile([0, 1], 640).reshape(20, 1, 8, 8), "may be bytes that are nearly black, or pixels"),
        (np.linspace(-0.5, 5, 1280).reshape(20, 1, 8, 8), "mean and spread decide for none"),
        (np.linspace(-9, 300, 1280).reshape(20, 1, 8, 8), "mean and spread decide for none"),
    ],
)
def test_an_unclear_coding_is_asked_for(images, told, digits, tmp_path):
    np.savez(tmp_path / "a.npz", images=images, labels=np.repeat(range(10), IPC))
    with pytest.raises(UserError, match=told) as error:
        taken(digits, tmp_path, tmp_path / "a.npz")
    assert "--coding (bytes: 0..255" in str(error.value)


def test_codings_are_inverse_to_what_programs_do():
    rng = np.random.default_rng(0)
    pixels = rng.random((2, 3, 4, 4), np.float32)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    column = [np.asarray(values)[:, None, None] for values in (mean, std)]
    stored = {"bytes": pixels * 255, "unit": pixels, "symmetric": 2 * pixels - 1}
    stored["normalised"] = (pixels - column[0]) / column[1]
    assert stored.keys() == coding.CODINGS.keys()
    for name, values in stored.items():
        np.testing.assert_allclose(coding.decoded(values, name, mean, std), pixels, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.transpose(0, 2, 3, 1),
        lambda images: images[:, 0],
        lambda images: images.reshape(20, -1),
    ],
)
def test_layouts(change, digits, bytes_of, tmp_path):
    images, labels = bytes_of
    write(tmp_path / "a.npz", "npz", change(images), labels)
    tensors, _ = taken(digits, tmp_path, tmp_path / "a.npz")
    np.testing.assert_allclose(tensors["images"], sorted_pixels(bytes_of), atol=1e-6)


def test_an_axis_of_classes_needs_no_labels(digits, bytes_of, tmp_path):
    wanted = sorted_pixels(bytes_of)
    torch.save(torch.from_numpy(wanted).view(10, IPC, 1, 8, 8), tmp_path / "a.pt")
    tensors, _ = taken(digits, tmp_path, tmp_path / "a.pt")
    np.testing.assert_allclose(tensors["images"], wanted)


def test_labels_of_their_own(digits, bytes_of, tmp_path):
    images, labels = bytes_of
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(UserError, match="no labels; give them with --labels FILE"):
        taken(digits, tmp_path, tmp_path / "a.npy")
    with pytest.raises(UserError, match="no such file; name one, or write class-major"):
        taken(digits, tmp_path, tmp_path / "a.npy", Reading(labels="nowhere.pt"))
    torch.save(torch.from_numpy(labels), tmp_path / "labels.pt")
    reading = Reading(check=False, labels=str(tmp_path / "labels.pt"))
    tensors, _ = taken(digits, tmp_path, tmp_path / "a.npy", reading)
    np.testing.assert_allclose(tensors["images"], sorted_pixels(bytes_of), atol=1e-6)


def test_class_major_labels(digits, bytes_of, tmp_path):
    np.save(tmp_path / "a.npy", sorted_pixels(bytes_of))
    tensors, _ = taken(digits, tmp_path, tmp_path / "a.npy", Reading(check=False, labels="class-major"))
    assert tensors["labels"].tolist() == np.repeat(range(10), IPC).tolist()


@pytest.mark.parametrize("kind", ["one-hot", "probabilities", "logits"])
def test_soft_labels(kind, digits, bytes_of, tmp_path):
    images, labels = bytes_of
    rows = np.eye(10, dtype=np.float32)[labels]
    rows = {"one-hot": rows, "probabilities": 0.9 * rows + 0.01, "logits": 5 * rows - 1}[kind]
    write(tmp_path / "a.npz", "npz", images, rows)
    turned = ",".join("1234567890")
    tensors, header = taken(digits, tmp_path, tmp_path / "a.npz", Reading(check=False, classes_as=turned))
    np.testing.assert_allclose(
        tensors["images"],
        np.roll(sorted_pixels(bytes_of).reshape(10, IPC, 1, 8, 8), 1, 0).reshape(20, 1, 8, 8),
        atol=1e-6,
    )
    if kind == "one-hot":
        assert "soft_labels" not in header and "soft_labels" not in tensors
    else:
        assert header["soft_labels"] == kind
        assert (tensors["soft_labels"].argmax(1) == tensors["labels"]).all()


def test_a_folder_and_a_parquet_file(digits, bytes_of, tmp_path):
    images, labels = bytes_of
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        (tmp_path / f"set/{label}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"set/{label}/{index:03}.png").write_bytes(png(image[0]))
    table = pa.table({"image": [png(image[0]) for image in images], "label": labels})
    pq.write_table(table, tmp_path / "set.parquet")
    for name in ("set", "set.parquet"):
        tensors, header = taken(digits, tmp_path / f"out-{name}", tmp_path / name)
        np.testing.assert_allclose(tensors["images"], sorted_pixels(bytes_of), atol=1e-6)
        assert header["origin"]["coding"] == "bytes"


def test_a_set_of_ours(made, digits, tmp_path):
    tensors, header = taken(digits, tmp_path, made.synthetic)
    ours, about = read_set(made.synthetic)
    np.testing.assert_array_equal(tensors["images"], ours["images"])
    assert (header["method"], header["ipc"]) == (about["method"], about["ipc"])


def test_formations_are_cut(digits, bytes_of, tmp_path):
    images, labels = bytes_of
    write(tmp_path / "a.npz", "npz", images, labels)
    taken(digits, tmp_path, tmp_path / "a.npz", Reading(check=False, decode=Decode(2)))
    assert len(load_synthetic(tmp_path / "synthetic.safetensors")) == 4 * len(labels)


def test_a_results_file_of_several_runs_asks_which(digits, bytes_of, tmp_path):
    images, labels = (torch.from_numpy(values) for values in bytes_of)
    torch.save({"data": [[images, labels], [255 - images, labels]]}, tmp_path / "res.pt")
    with pytest.raises(UserError, match="holds 2 sets.*--number 0 to 1"):
        taken(digits, tmp_path, tmp_path / "res.pt")
    with pytest.raises(UserError, match="--number 2: .* holds 2 set"):
        taken(digits, tmp_path, tmp_path / "res.pt", Reading(number=2))
    tensors, _ = taken(digits, tmp_path, tmp_path / "res.pt", Reading(check=False, number=1))
    np.testing.assert_allclose(tensors["images"], 1 - sorted_pixels(bytes_of), atol=1e-6)


def test_tensors_by_other_names(digits, bytes_of, tmp_path):
    images, labels = bytes_of
    np.savez(tmp_path / "a.npz", pics=images, kinds=labels, lr=np.float32(1))
    with pytest.raises(UserError, match=r"'pics' \(uint8 20 x 1 x 8 x 8\).*--tensors IMAGES,LABELS"):
        taken(digits, tmp_path, tmp_path / "a.npz")
    with pytest.raises(UserError, match="has no 'pix'"):
        taken(digits, tmp_path, tmp_path / "a.npz", Reading(tensors=("pix", "kinds")))
    taken(digits, tmp_path, tmp_path / "a.npz", Reading(check=False, tensors=("pics", "kinds")))


# Code


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_torch_file_is_refused_by_name(legacy, digits, tmp_path):
    images = {"images": torch.zeros(20, 1, 8, 8), "trap": Trap(tmp_path / "sprung")}
    torch.save(images, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"names '(posix|os)\.mkdir', which is code.*torch.save\(\{'images'"):
        taken(digits, tmp_path, tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_whole_modules_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"names 'torch.nn.modules.linear.Linear'"):
        read_torch(tmp_path / "a.pt")


def test_objects_in_an_array_are_refused(digits, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="holds Python objects, which are code and are not run"):
        taken(digits, tmp_path, tmp_path / "a.npz")


def test_objects_in_an_array_of_a_torch_file_are_no_arrays(tmp_path):
    torch.save(
        {"a": np.array([1.5, 2], dtype=">f4"), "b": np.asfortranarray(np.eye(3, 2))}, tmp_path / "a.pt"
    )
    held = read_torch(tmp_path / "a.pt")
    assert held["a"].tolist() == [1.5, 2] and held["b"].tolist() == np.eye(3, 2).tolist()
    torch.save({"a": np.array([None, "text"], dtype=object)}, tmp_path / "b.pt")
    assert read_torch(tmp_path / "b.pt") == {"a": None}


@pytest.mark.parametrize("name", ["a.pt", "a.npz", "a.npy", "a.safetensors", "a.parquet"])
@pytest.mark.parametrize("content", [b"", b"no such form", b"PK\x03\x04 cut short"])
def test_damaged_files_are_told(name, content, digits, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: "):
        taken(digits, tmp_path, tmp_path / name)


def test_a_form_that_is_not_read(digits, tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(UserError, match=r"'.pkl' is none of .npy, .npz.*save the set in one of these"):
        taken(digits, tmp_path, tmp_path / "a.pkl")


# What does not fit


@pytest.mark.parametrize(
    "change, told",
    [
        ({"images": np.zeros((20, 1, 9, 9))}, r"\(N, 1, 8, 8\) or \(N, 8, 8, 1\)"),
        ({"images": np.zeros((20, 3, 8, 8))}, r"\(N, 1, 8, 8\)"),
        ({"images": np.full((20, 1, 8, 8), np.nan)}, r"image 0 has values that are no numbers"),
        ({"images": np.zeros((20, 1, 8, 8), complex)}, "complex128, not numbers"),
        ({"labels": np.arange(20)}, r"labels go from 0 to 19, outside 0..9"),
        ({"labels": np.arange(20) - 1}, r"labels go from -1 to 18"),
        ({"labels": np.arange(19)}, r"has 20 images, but its labels are int64 19"),
        ({"labels": np.arange(20) / 2}, "not whole"),
        ({"labels": np.full(20, np.nan)}, "no class numbers"),
        ({"labels": np.zeros((20, 7))}, r"float64 20 x 7, but the data set has 10 classes"),
        ({"labels": np.zeros(20, int)}, r"has 0 images of '1' and 20 of '0'.*keep some of every class"),
        (
            {"labels": np.repeat(np.arange(10), [3, 1, *[2] * 8])},
            r"has 1 images of '1' and 3 of '0'.*keep 1 of each and save it anew",
        ),
    ],
)
def test_what_does_not_fit_is_told(change, told, digits, bytes_of, tmp_path):
    np.savez(tmp_path / "a.npz", **({"images": bytes_of[0], "labels": bytes_of[1]} | change))
    with pytest.raises(UserError, match=told):
        taken(digits, tmp_path, tmp_path / "a.npz")
    assert not (tmp_path / "synthetic.safetensors").exists()


@pytest.mark.parametrize(
    "reading, told",
    [
        (Reading(classes_as="0,1,2"), "--classes-as: 3 name"),
        (Reading(classes_as="0,1,2,3,4,5,6,7,8,ten"), "names a class 'ten'"),
        (Reading(classes_as="0,1,2,3,4,5,6,7,8,8"), "names the class '8' twice"),
        (Reading(coding="normalised", mean="1,2"), r"--mean: 1 number\(s\)"),
        (Reading(coding="normalised", std="0"), "--std: positive"),
        (Reading(mean="0.5"), "--mean: is for normalised images, and these are read as 'bytes'"),
        (Reading(labels="class-major", tensors=("labels", "")), r"its images 'labels' are int64 20"),
    ],
)
def test_readings_that_do_not_fit(reading, told, digits, bytes_of, tmp_path):
    write(tmp_path / "a.npz", "npz", *bytes_of)
    with pytest.raises(UserError, match=told):
        taken(digits, tmp_path, tmp_path / "a.npz", reading)


def test_bytes_must_be_bytes(digits, bytes_of, tmp_path):
    write(tmp_path / "a.npz", "npz", normalised(digits, bytes_of[0]), bytes_of[1])
    with pytest.raises(UserError, match=r"--coding bytes: .* outside 0..255"):
        taken(digits, tmp_path, tmp_path / "a.npz", Reading(coding="bytes"))


# Which class is which

ANIMALS = ["cat", "dog", "red fox"]


def of_animals(names, classes_as=None, known=ANIMALS):
    foreign = Foreign(np.zeros((3, 1, 8, 8)), None, "npz", names=names)
    return numbering.class_order(foreign, np.arange(3), known, classes_as, "a.npz")[0].tolist()


def test_numbers_of_named_classes_have_to_be_said(tmp_path):
    for names in (None, ["0", "1", "2"]):
        with pytest.raises(
            UserError, match="nothing says which is which; give --classes-as dataset.*cat, dog"
        ):
            of_animals(names)
        assert of_animals(names, "dataset") == [0, 1, 2]
        assert of_animals(names, "red fox,cat,dog") == [2, 0, 1]
    (tmp_path / "names.txt").write_text("dog\nred fox\n\ncat\n")
    assert of_animals(None, str(tmp_path / "names.txt")) == [1, 2, 0]


def test_names_are_compared():
    assert of_animals(["dog", "cat", "red fox"]) == [1, 0, 2]
    assert of_animals(["n01", "n03", "n02"], known=["n01 cat", "n02 dog", "n03 fox"]) == [0, 2, 1]
    with pytest.raises(UserError, match="'bird'.*--classes-as names the classes of the file in their order"):
        of_animals(["bird", "cat", "dog"])
    with pytest.raises(UserError, match="a.npz has 2 classes .*the data set 3; give their names"):
        numbering.class_order(
            Foreign(np.zeros(3), None, "npz", names=["b", "c"]), np.zeros(3, int), ANIMALS, "dataset", "a.npz"
        )


# The command


def test_the_command_judges_a_file(digits, bytes_of, tmp_path):
    """Set and metrics are read by all that reads ours, and a second call only tells them."""
    images, labels = bytes_of
    write(tmp_path / "res.pt", "dc", normalised(digits, images), labels)
    call = ("judge", tmp_path / "res.pt", "--data", digits, "--out", tmp_path / "out", *NET, "--networks", 2)
    call += ("--protocol", BRIEF, "--method", "theirs")
    status, told = run(*call)
    assert status == 0 and "read as (pixel - mean) / std" in told and "class order: a network" in told, told
    metrics = read_metrics(tmp_path / "out/metrics.json", "condense")
    assert (metrics["method"], metrics["ipc"], metrics["n_networks"]) == ("theirs", IPC, 2)
    data = load_synthetic(tmp_path / "out/synthetic.safetensors")
    check = data.header["origin"]["class_order"]["check"]
    assert check["verdict"] == "right" and check["accuracy"] > 90 and check["agreement"] > 80
    assert metrics["synthetic_sha256"] == data.header["content_sha256"]
    told = describe(tmp_path / "out/synthetic.safetensors")
    assert re.search(r"origin: file +res.pt\n", told) and re.search(r"origin: coding +normalised\n", told)
    before = (tmp_path / "out/metrics.json").stat().st_mtime_ns
    assert run(*call)[0] == 0 and (tmp_path / "out/metrics.json").stat().st_mtime_ns == before
    for more in (("inspect",), ("export", "--to", "npz")):
        assert run(more[0], tmp_path / "out/synthetic.safetensors", *more[1:])[0] == 0
    message = refused(*call[:-2], "--method", "others")
    assert "holds another set than" in message and "name a new folder" in message


def test_a_permuted_order_is_found_out(digits, tmp_path):
    data = load(digits / "train.safetensors")
    images = torch.cat([data.images[data.class_slice(label)][:3] for label in range(10)])
    turned = torch.tensor([3, 0, 1, 2, 5, 6, 7, 8, 9, 4])[torch.arange(10).repeat_interleave(3)]
    torch.save({"images": images, "labels": turned}, tmp_path / "a.pt")
    call = ("judge", tmp_path / "a.pt", "--data", digits, "--out", tmp_path / "out", *NET, "--networks", 1)
    call += ("--protocol", BRIEF)
    message = refused(*call)
    # As it is copied from the message: nothing clings to it
    assert "lie in another order" in message and "--classes-as 1,2,3,0,9,4,5,6,7,8 " in message
    assert not (tmp_path / "out/synthetic.safetensors").exists()
    status, told = run(*call, "--classes-as", "1,2,3,0,9,4,5,6,7,8")
    assert status == 0, told
    held, _ = read_set(tmp_path / "out/synthetic.safetensors")
    np.testing.assert_allclose(held["images"], images.numpy() / 255, atol=1e-6)
    assert run(*call[:4], "--out", tmp_path / "as-it-is", *call[6:], "--no-check")[0] == 0


def test_options_that_are_wrong(digits, bytes_of, tmp_path):
    write(tmp_path / "a.npz", "npz", *bytes_of)
    call = ("judge", tmp_path / "a.npz", "--data", digits, "--out", tmp_path / "out")
    for more, told in {
        ("--networks", 0): "--networks: at least 1",
        ("--formation", "x"): "--formation: a number from 2 to 9",
        ("--tensors", "a,b,c"): "--tensors: IMAGES,LABELS is needed",
        ("--arch", "convnett"): "unknown architecture 'convnett'",
        ("--coding", "byte"): "invalid choice: 'byte'",
    }.items():
        assert told in refused(*call, *more)
    assert "no such file" in refused("judge", tmp_path / "b.npz", *call[2:])
    nowhere = refused(*call[:2], "--data", tmp_path / "nowhere", *call[4:])
    assert "no such file or folder, and unknown dataset" in nowhere
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_data_by_its_name(bytes_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.npz", "npz", *bytes_of)
    call = ("judge", "a.npz", "--data", "digits", "--out", "out", *NET, "--networks", 1, "--no-check")
    status, told = run(*call, "--protocol", BRIEF)
    assert status == 0, told
    assert json.loads((tmp_path / "out/data/dataset.json").read_text())["dataset"] == "digits"
