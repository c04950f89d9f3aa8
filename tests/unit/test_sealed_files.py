"""Files that were changed and sealed anew: their checksums are right, so what they hold has to fit what they
say."""

import random
import shutil

import numpy as np
import pytest
from bad_input_helpers import evaluation, refused, run, synthesis

from condense.files.artifacts import read_tensors, write_tensors

JUNK = [None, -1, 0, 10**6, 0.5, float(10**30), "x", "../x", [], {}, [1], ["a"], {"a": 1}, True]


def sealed(original, path, tensors=None, **header):
    """The file `original` with some tensors and entries of its header changed; an entry that is None is left
    out."""
    arrays, note = read_tensors(original)
    note = {name: value for name, value in (note | header).items() if value is not None}
    for name, change in (tensors or {}).items():
        arrays[name] = change(arrays[name].copy())
    write_tensors(path, arrays, note)


def with_nan(values):
    values.reshape(-1)[3] = np.nan
    return values


def zeroed(values):
    values.reshape(-1)[:100] = 0
    return values


def verbs_for(kind, path, made, folder):
    train = ("--data", made.digits / "train.safetensors")
    verbs = [("inspect", path), ("inspect", "--digest", path)]
    if kind == "synthetic":
        verbs += [
            evaluation(path, made.digits, folder / "metrics.json"),
            ("export", path, "--to", "npz", "--out", folder / "set.npz"),
        ]
    if kind == "shard":
        verbs.append(("gather", "--shards", path, *train, "--out", folder / "out" / "set.safetensors"))
    return verbs


@pytest.mark.parametrize(
    ("kind", "tensors", "header"),
    [
        ("synthetic", {"images": with_nan}, {}),
        ("synthetic", {"labels": lambda labels: labels + 5}, {}),
        ("synthetic", {}, {"decode": {"factor": "2"}}),
        ("synthetic", {}, {"std": [0.0]}),
        ("synthetic", {}, {"classes": [0, 99]}),
        ("synthetic", {}, {"steps": -1}),
        ("shard", {"images": with_nan}, {}),
        ("shard", {"images": lambda images: images[:-1]}, {}),
        ("shard", {"labels": lambda labels: labels[::-1]}, {}),
        ("shard", {}, {"ipc": 3}),
        ("shard", {}, {"history": None}),
        ("shard", {}, {"classes": None}),
        ("shard", {}, {"snapshot_steps": [1]}),
        ("dataset", {"labels": lambda labels: labels[::-1]}, {}),
        ("dataset", {"images": lambda images: images[:, :, 1:]}, {}),
        ("dataset", {}, {"counts": [1, 2]}),
        ("dataset", {}, {"mean": None}),
        ("teacher", {"network.classifier.weight": with_nan}, {}),
        ("teacher", {"network.classifier.weight": zeroed}, {}),
        ("teacher", {"forgetting_events": lambda events: events - 9}, {}),
        ("teacher", {}, {"shape": {"channels": 1}}),
    ],
)
def test_what_does_not_fit_is_named_by_every_verb_that_reads_it(kind, tensors, header, made, tmp_path):
    path = tmp_path / "file.safetensors"
    shutil.copy(made.shard.with_name("shard.run.json"), tmp_path / "file.run.json")
    sealed(getattr(made, kind), path, tensors, **header)
    for argv in verbs_for(kind, path, made, tmp_path):
        assert str(path) in refused(*argv), argv
    assert {entry.name for entry in tmp_path.iterdir()} <= {path.name, "file.run.json", "out"}


@pytest.mark.parametrize(
    "header",
    [{"arch": "nothing"}, {"shape": {"channels": 3, "size": 8, "classes": 10}}, {"options": {"width": 5}}],
)
def test_a_teacher_whose_weights_are_of_another_network(header, made, tmp_path):
    import torch

    from condense.config import UserError
    from condense.data.dataset import load
    from condense.networks.pretrain import load_teacher

    path = tmp_path / "file.safetensors"
    sealed(made.teacher, path, **header)
    with pytest.raises(UserError, match="file.safetensors"):
        load_teacher(path, load(made.dataset), torch.device("cpu"))


def test_any_entry_of_a_header_changed_to_anything(made, tmp_path):
    """The command says what is wrong with the file, or does its work; it never breaks."""
    draw, path, refusals = random.Random(11), tmp_path / "file.safetensors", 0
    shutil.copy(made.shard.with_name("shard.run.json"), tmp_path / "file.run.json")
    for _ in range(100):
        kind = draw.choice(["shard", "shard", "synthetic", "dataset", "teacher"])
        _, note = read_tensors(getattr(made, kind))
        name = draw.choice(sorted(note.keys() - {"kind", "schema", "content_sha256", "header_sha256"}))
        sealed(getattr(made, kind), path, **{name: draw.choice(JUNK)})
        argv = draw.choice([verb for verb in verbs_for(kind, path, made, tmp_path) if verb[0] != "evaluate"])
        status, told = run(*argv)
        assert "Traceback" not in told
        if status:
            assert str(path) in refused(*argv), (kind, name)
            refusals += 1
        (tmp_path / "set.npz").unlink(missing_ok=True)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert refusals > 30


def test_data_that_was_changed_is_refused_by_what_trains_on_it(made, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(made.digits, folder)
    sealed(made.dataset, folder / "train.safetensors", {"labels": lambda labels: labels[::-1]})
    assert str(folder / "train.safetensors") in refused(*synthesis(folder, tmp_path / "shard.safetensors"))
