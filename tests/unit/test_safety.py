"""Files made to do harm: each gives an error that names it; none runs code, writes beside its place or fills
the memory."""

import ast
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from bad_input_helpers import evaluation, refused
from data_helpers import png, random_pixels
from PIL import Image

from condense.command.exports import export_set
from condense.config import UserError, load_yaml
from condense.data import fetch, formats, parquet, pixels
from condense.data.description import spec_from_images
from condense.data.spec import load_spec
from condense.files import read_set, store
from condense.files.artifacts import SCHEMA, canonical, digest, read_header, read_tensors, write_tensors
from condense.files.dvcfiles import Listed, listing, write_pointer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trap(tmp_path):
    """A path, and a pickle that makes a file there when it is loaded."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    yield tmp_path / "sprung", pickle.dumps(Trap())
    assert not (tmp_path / "sprung").exists(), "code from a file was run"


def test_the_trap_springs_where_something_unpickles(trap):
    pickle.loads(trap[1])
    trap[0].rmdir()


# Code


CALLS = {"eval", "exec", "compile", "__import__", "load_module", "literal_eval"}
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
QUALIFIED = {
    *(
        "torch.jit.load",
        "np.fromfile",
        "numpy.load",
        "os.system",
        "os.popen",
        "pd.read_pickle",
        "pandas.read_pickle",
    ),
    *(
        "yaml.unsafe_load",
        "yaml.full_load",
        "yaml.load_all",
        "tarfile.TarFile.extractall",
        "shutil.unpack_archive",
        "torch.hub.load",
    ),
}
SOURCES = sorted(path for folder in ("src", "workflow/scripts") for path in (ROOT / folder).rglob("*.py"))


def faults(path):
    """What in a source file could run or unpack what it reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    safe = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "yaml.SafeLoader" in map(ast.unparse, node.bases)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        named, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        if named in CALLS | QUALIFIED or named.endswith((".extractall", ".extract")):
            yield f"calls {named}"
        if (
            named in ("yaml.load", "np.load")
            and given.get("Loader") not in safe
            and given.get("allow_pickle") != "False"
        ):
            yield f"calls {named} without a safe way"
        if named == "torch.load" and given.get("weights_only") != "True":
            yield "calls torch.load without weights_only=True"
        if (
            given.get("allow_pickle") == "True"
            or given.get("shell") == "True"
            or given.get("trust_remote_code") == "True"
        ):
            yield f"calls {named} with {given}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_file_can_run_or_unpack_what_it_reads(path):
    assert list(faults(path)) == []


def test_the_search_finds_what_it_looks_for(tmp_path):
    lines = [
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
    ]
    lines += [
        "yaml.load(f, Loader=yaml.Loader)",
        "eval(text)",
        "archive.extractall(p)",
        "subprocess.run(c, shell=True)",
    ]
    for line in lines:
        (tmp_path / "a.py").write_text(line)
        assert list(faults(tmp_path / "a.py")), line
    (tmp_path / "a.py").write_text(
        "class L(yaml.SafeLoader): ...\nyaml.load(f, Loader=L), np.load(f, allow_pickle=False), model.eval()"
    )
    assert list(faults(tmp_path / "a.py")) == []


def test_the_golden_values_hold_no_pickles():
    for path in sorted((ROOT / "tests/golden/fixtures").glob("*.npz")):
        with np.load(path, allow_pickle=False) as found:
            assert all(found[name].dtype != object for name in found.files)


# Settings


TAGS = [
    "!!python/object/apply:os.mkdir ['{}']",
    "!!python/object/new:os.mkdir ['{}']",
    "!!python/name:os.mkdir",
    "!!python/module:os",
]
TAGS += ["!!python/object/apply:subprocess.check_output [[mkdir, '{}']]", "!!python/tuple [1]"]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_with_python_tags(tag, trap, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(f"name: {tag.format(trap[0])}\n")
    for reader in (load_yaml, load_spec):
        with pytest.raises(UserError, match="toy.yaml: not valid YAML: could not determine a constructor"):
            reader(path)
    if "apply" in tag:  # it would have worked
        yaml.unsafe_load(path.read_text())
        trap[0].rmdir()


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a b; touch evil", "$(touch evil)", "a/b", ".hidden"]
)
def test_names_that_become_paths_and_words_of_commands(name, tmp_path):
    values = load_yaml(ROOT / "params/datasets/digits.yaml")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(values | {"name": name}))
    with pytest.raises(UserError, match="toy.yaml"):
        load_spec(tmp_path / "toy.yaml")


# Sets


def crafted(path, layout, data=b"\0" * 64, length=None):
    """A safetensors file with this header, and our own entry in it with a right seal."""
    note = {"kind": "synthetic", "schema": SCHEMA, "content_sha256": "0"}
    note["header_sha256"] = digest(note, 64)
    text = (
        json.dumps({"__metadata__": {"condense": canonical(note)}, **layout}).encode()
        if isinstance(layout, dict)
        else layout
    )
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(dtype="F32", shape=(16,), start=0, end=64):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


HEADERS = {
    "negative start": {"images": entry(start=-64, end=0), "x": entry()},
    "overlapping": {"a": entry(), "b": entry()},
    "a gap": {"a": entry(shape=(8,), start=0, end=32), "b": entry(shape=(4,), start=48)},
    "huge shape": {"images": entry(shape=(2**62, 2**62))},
    "shape beyond the data": {"images": entry(shape=(2**40,))},
    "negative shape": {"images": entry(shape=(-1, -16))},
    "objects": {"images": entry(dtype="O")},
    "an 8-bit float": {"images": entry(dtype="F8_E4M3", shape=(64,))},
    "texts for numbers": {"images": {"dtype": "F32", "shape": "16", "data_offsets": ["0", "64"]}},
    "no offsets": {"images": {"dtype": "F32", "shape": [16]}},
    "offsets beyond 64 bits": {"images": entry(end=2**70)},
    "not JSON": b"\x80\x04\x95 a pickle",
    "deep": b"[" * 100_000,
    "nothing": {},
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_sets_with_tricks(kind, tmp_path):
    path = tmp_path / "set.safetensors"
    crafted(path, HEADERS[kind])
    with pytest.raises(UserError, match="set.safetensors: damaged"):
        read_tensors(path, "synthetic")


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 0, 7])
def test_a_header_with_a_wrong_length(length, tmp_path):
    path = tmp_path / "set.safetensors"
    crafted(path, {"images": entry()}, length=length)
    with pytest.raises(UserError, match="set.safetensors: damaged"):
        read_header(path)


def test_a_torch_file_in_the_place_of_a_set(trap, tmp_path):
    import torch

    path = tmp_path / "synthetic.safetensors"
    torch.save({"images": torch.zeros(1)}, path)
    for data in (path.read_bytes(), trap[1]):
        path.write_bytes(data)
        with pytest.raises(UserError, match="synthetic.safetensors: damaged"):
            read_tensors(path)


GOOD = {"images": np.zeros((2, 1, 8, 8), np.float32), "labels": np.arange(2)}
HEADER = {
    "kind": "synthetic",
    "dataset": "digits",
    "method": "dm",
    "arch": "convnet",
    "data_sha256": "0" * 64,
}
HEADER |= {"class_names": list("ab"), "mean": [0.5], "std": [0.5]}


@pytest.mark.parametrize(
    ("tensors", "header", "told"),
    [
        ({"images": np.zeros((2, 64), np.float32)}, {}, "no images"),
        ({"images": np.zeros((2, 1, 8, 8), np.int64)}, {}, "no images"),
        ({"labels": np.arange(3)}, {}, "one label an image"),
        ({"labels": np.zeros(2, np.float32)}, {}, "one label an image"),
        ({"labels": np.array([0, 7])}, {}, "not all among its 2 classes"),
        ({"labels": np.array([-1, 0])}, {}, "not all among its 2 classes"),
        ({}, {"class_names": "ab"}, "name its classes"),
        ({}, {"class_names": [{"a": 1}, "b"]}, "name its classes"),
        ({}, {"mean": "__import__('os')"}, "'mean' is no list of a number a channel"),
        ({}, {"std": [None]}, "'std' is no list of a number a channel"),
        ({}, {"std": [0.5, 0.5]}, "'std' is no list of a number a channel"),
        ({}, {"dataset": {"a": 1}}, "'dataset' is no text"),
        ({}, {"data_sha256": None}, "'data_sha256' is no text"),
    ],
)
def test_sets_with_right_checksums_whose_parts_do_not_fit(tensors, header, told, digits, tmp_path):
    path = tmp_path / "synthetic.safetensors"
    write_tensors(path, GOOD | tensors, HEADER | header)
    for argv in (evaluation(path, digits, tmp_path / "m.json"), ("export", path, "--to", "png")):
        message = refused(*argv)
        assert str(path) in message and told in message
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_class_names_that_point_elsewhere_stay_in_the_folder(tmp_path):
    path = tmp_path / "set" / "synthetic.safetensors"
    write_tensors(path, GOOD, HEADER | {"class_names": ["../../evil", "/etc/evil"]})
    assert len(read_set(path)[0]["labels"]) == 2
    export_set(path, "png", None)
    files = {file for file in tmp_path.rglob("*") if file.is_file()} - {path}
    # The images and the names of their classes
    assert sorted(file.suffix for file in files) == [".json", ".png", ".png"]
    assert all(file.resolve().is_relative_to(tmp_path / "set" / "png") for file in files)


@pytest.mark.parametrize(
    "name", ["synthetic/convnet/ipc1/seed0-0123456789ab/../../../../../../../evil", "/tmp/evil", "../x"]
)
def test_a_dvc_file_that_points_elsewhere(name, tmp_path):
    wanted = "synthetic/convnet/ipc1/seed0-0123456789ab/synthetic.safetensors"
    files = {wanted: Listed("0" * 32, 1), name: Listed("0" * 32, 1)}
    write_pointer(PurePosixPath("kept/sets/digits/dm"), files, tmp_path)
    with pytest.raises(UserError, match="dm.dvc: damaged .* does not lie in the folder beside it"):
        store.restore(
            "results/synthetic/digits/dm/convnet/ipc1/seed0-0123456789ab/synthetic.safetensors", tmp_path
        )
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("size: 1\n", "size: .inf\n", "does not list the files"),
        ("size: 1\n", "size: -1\n", "-1 bytes"),
        ("- relpath: a\n", "- relpath: c\n", "checksum is not that of the files"),
        ("outs:", "outs2:", "no entry 'outs2'"),
    ],
)
def test_a_dvc_file_whose_list_was_changed(before, after, told, tmp_path):
    group = PurePosixPath("kept/sets/digits/dm")
    write_pointer(group, {"a": Listed("0" * 32, 1), "b": Listed("1" * 32, 1)}, tmp_path)
    path, text = tmp_path / "kept/sets/digits/dm.dvc", (tmp_path / "kept/sets/digits/dm.dvc").read_text()
    assert set(listing(group, tmp_path)) == {"a", "b"} and before in text
    head, _, tail = text.rpartition(before)
    path.write_text(head + after + tail)
    with pytest.raises(UserError, match=f"dm.dvc: damaged .*{told}"):
        listing(group, tmp_path)


# Images


def bomb(width, height):
    """A PNG of a hundred bytes that announces so many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8193, 9500, 20_000, 2**31 - 1])
@pytest.mark.filterwarnings("error")
def test_images_of_more_pixels_than_any_memory_holds(side, tmp_path):
    for read in (
        lambda: pixels.header(bomb(side, side), "a.png"),
        lambda: pixels.decode(bomb(side, side), "a.png", **FIT),
    ):
        with pytest.raises(UserError, match="a.png: announces more than 67,108,864 pixels"):
            read()
    folder = tmp_path / "images"
    for name in "ab":
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(png(random_pixels(8, 8)))
    (folder / "a" / "1.png").write_bytes(bomb(side, side))
    assert "1.png: announces more than" in refused("run", folder, "--out", tmp_path / "out", "--ipc", 1)


FIT = {"channels": 3, "size": 8, "resize": True}


def test_images_for_which_pillow_would_start_another_program():
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(evil) run\n%%EOF\n"
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "EPS"
    for read in (lambda: pixels.header(data, "a.png"), lambda: pixels.decode(data, "a.png", **FIT)):
        with pytest.raises(UserError, match="a.png: cannot be read as an image"):
            read()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_the_usual_kinds_of_images_are_read(kind):
    assert pixels.decode(png(random_pixels(8, 8, 3), kind), "a", **FIT).shape == (3, 8, 8)


# Parquet


def write_parquet(path, column, metadata=None):
    image = pa.field("image", column.type, metadata=metadata)
    table = pa.Table.from_arrays(
        [column, pa.array([0, 1])], schema=pa.schema([image, pa.field("label", pa.int64())])
    )
    pq.write_table(table, path)


def test_parquet_with_pickles_in_the_place_of_images(trap, tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, pa.array([trap[1], trap[1]], pa.binary()))
    with pytest.raises(UserError, match="a.parquet: row 0: cannot be read as an image"):
        spec_from_images(path)


def test_parquet_with_a_pickled_type(trap, tmp_path):
    """Old versions of Arrow unpickled the type of a column that calls itself a Python extension."""
    path = tmp_path / "a.parquet"
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": trap[1]}
    write_parquet(path, pa.array([png(random_pixels(8, 8))] * 2, pa.binary()), metadata)
    try:
        rows = list(parquet.Table(path).encoded())
    except UserError as error:
        assert "a.parquet" in str(error)
    else:
        assert rows[0][1] == png(random_pixels(8, 8))


def test_parquet_with_an_image_that_fills_the_memory(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, pa.array([png(random_pixels(8, 8)), bomb(20_000, 20_000)], pa.binary()))
    with pytest.raises(UserError, match="a.parquet: row 1: announces more than"):
        spec_from_images(path)


@pytest.mark.parametrize(
    "column", [pa.array(["a", "b"]), pa.array([[1], [2]]), pa.array([{"x": 1}, {"x": 2}])], ids=str
)
def test_parquet_with_other_things_in_the_place_of_images(column, tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, column)
    with pytest.raises(UserError, match="a.parquet"):
        spec_from_images(path)


# Archives


def tar_of(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, more in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, more if isinstance(more, str) else ""
            data = more if isinstance(more, bytes) else b""
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


SPECIAL = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
]


@pytest.mark.parametrize(
    "kind", SPECIAL, ids=["symlink", "hard link", "character device", "block device", "pipe", "folder"]
)
def test_a_member_that_is_no_plain_file(kind, tmp_path):
    path = tar_of(tmp_path / "a.tar.gz", ("data.bin", kind, "/etc/passwd"))
    with pytest.raises(UserError, match="a.tar.gz: lacks the files data.bin"):
        fetch.tar_members(path, ["data.bin"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_file_below_a_link_of_the_archive_is_not_written_through_it(tmp_path):
    path = tar_of(
        tmp_path / "a.tar.gz", ("out", tarfile.SYMTYPE, str(tmp_path)), ("out/evil", tarfile.REGTYPE, b"x")
    )
    assert fetch.tar_members(path, ["out/evil"]) == {"out/evil": b"x"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


OUTSIDE = ["../evil", "/etc/evil", "a/../../evil", "..", "a\\..\\..\\evil", "//evil"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_members_that_point_outside(name, tmp_path):
    path = tar_of(tmp_path / "a.tar.gz", ("data.bin", tarfile.REGTYPE, b"x"), (name, tarfile.REGTYPE, b"x"))
    with pytest.raises(UserError, match="points outside the archive"):
        fetch.tar_members(path, ["data.bin"])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UserError, match="points outside the archive"):
        fetch.Zip(tmp_path / "a.zip")


def test_archives_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_LARGEST", 1000)
    tar_of(tmp_path / "a.tar.gz", ("data.bin", tarfile.REGTYPE, b"\0" * 1001))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"\0" * 1001))
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.bin", b"\0" * 1001)
    for read in (
        lambda: fetch.tar_members(tmp_path / "a.tar.gz", ["data.bin"]),
        lambda: fetch.gunzipped(tmp_path / "b.gz"),
        lambda: fetch.Zip(tmp_path / "c.zip").read("data.bin"),
    ):
        with pytest.raises(UserError, match="refused, since its member .* more than 1,000 bytes"):
            read()


def test_a_zip_that_lies_about_a_size(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.bin", b"\0" * 10_000)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 10_000), struct.pack("<I", 10)))
    with pytest.raises(UserError, match="data.bin is damaged"):
        fetch.Zip(path).read("data.bin")


def test_a_matlab_file_with_objects(tmp_path):
    from scipy.io import savemat

    cells = np.empty((2, 2, 3, 2), dtype=object)
    cells[:] = "x"
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": cells, "y": np.ones((2, 1))})
    with pytest.raises(UserError, match=r"train_32x32.mat: not a MATLAB file .*object"):
        formats.svhn({f"{part}_32x32.mat": tmp_path / f"{part}_32x32.mat" for part in ("train", "test")})
