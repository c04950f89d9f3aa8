"""What the tests of data sources share."""

import hashlib
import io
import tarfile
import urllib.error
import urllib.request

import numpy as np
from PIL import Image

from condense.config import read
from condense.data import dataset
from condense.data.prepare import prepare
from condense.data.spec import DatasetSpec


def isolated(tmp_path, monkeypatch):
    """The path of a data folder that does not exist yet; the network is cut."""

    def offline(url, timeout=None):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("CONDENSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def describe(source, *, channels=3, size=32, classes=2, train=4, test=2, smallest=1, **more):
    values = dict(
        name="toy", title="Toy", channels=channels, size=size, classes=classes, train=train, test=test
    )
    return read(
        DatasetSpec,
        {**values, "smallest_class": smallest, "source": source, "strategy": "color", **more},
        "toy.yaml",
    )


def loaded(spec, out):
    prepare(spec, out)
    return dataset.load(out / "train.safetensors"), dataset.load(out / "test.safetensors")


def png(pixels, kind="PNG"):
    """uint8 (H, W) or (H, W, 3) as an encoded image."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def random_pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def file(name, data, **checksums):
    """The description of a published file with the bytes `data`."""
    return {
        "name": name,
        "url": f"http://example.org/{name}",
        **(checksums or {"md5": hashlib.md5(data).hexdigest()}),
    }


def put(folder, files):
    """Writes `files`, bytes by name, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def tar(members):
    """The bytes of a tar.gz archive of `members`: bytes, or a type of member and what it links to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(data, tuple):
                (entry.type, entry.linkname), data = data, b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
