"""Soft labels and further tensors of sets, from the shard to the training: written, joined, read, shown,
exported, learned from."""

import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from condense import jobs, load_synthetic, specs
from condense.augment.cutmix import Mixture
from condense.command import exports, show
from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.engines.orders import Outcome
from condense.evaluate.synthetic import training_set
from condense.files import carrying, read_set, read_shard
from condense.files.artifacts import read_json, read_tensors, write_json, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.jobs.condensing import _write_shard, run_facts_path
from condense.machine import runtime
from condense.specs import catalogue
from condense.training.loop import train
from condense.training.losses import loss_of
from condense.training.sets import Targets, tensor_set

HERE, NOWHERE = jobs.Machine("cpu", 1), Checkpoint(None, "")
IPC = 2
pytestmark = pytest.mark.usefixtures("one_thread")


def protocol(**changes):
    base = {
        "epochs": 3,
        "batch": 64,
        "precision": "fp32",
        "augment": "none",
        "schedule": {"kind": "constant"},
    }
    base |= {"optimizer": {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}}
    return read(specs.Protocol, merged(asdict(catalogue.protocol("dc")), base | changes), "test")


SOFT, DISTILLATION = {"name": "soft"}, {"name": "distillation", "temperature": 4.0}


def soft_labels(labels, kind):
    logits = torch.randn(
        len(labels), 10, generator=torch.Generator().manual_seed(1)
    ) + 3 * nn.functional.one_hot(labels, 10)
    return logits if kind == "logits" else torch.softmax(logits, 1)


def shards(folder, digits, kind="probabilities", decode=None, rates=(0.02, 0.02)):
    """Two shards as an engine's outcomes are written: real images, soft labels, a number an image, and a rate
    of the whole set."""
    data, paths = load(digits / "train.safetensors"), []
    for place, (classes, rate) in enumerate(zip(((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)), rates, strict=True)):
        images = torch.stack([data.of_class(label)[:IPC] for label in classes])
        soft = soft_labels(torch.tensor(classes).repeat_interleave(IPC), kind).unflatten(
            0, (len(classes), IPC)
        )
        further = {"soft_labels": soft, "age": torch.arange(5 * IPC).view(5, IPC) + 100 * place}
        outcome = Outcome(
            images, tensors=further, of_set={"rate": torch.tensor(rate)}, label_kind=kind, decode=decode
        )
        job = jobs.ShardJob(
            catalogue.recipe("random"), digits / "train.safetensors", "none", {}, IPC, 0, "by-hand", classes
        )
        path = folder / f"classes{classes[0]}-{classes[-1]}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_shard(path, job, data, classes, outcome, {})
        write_json(run_facts_path(path), {"seconds": 1.0, "peak_memory_bytes": 1})
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("soft") / "synthetic.safetensors"
    jobs.gather(out, shards(out.parent / "shards", digits)[::-1], digits / "train.safetensors")
    return out


def test_shards_are_joined_with_all_that_they_carry(made):
    tensors, header = read_set(made)
    wanted = [
        soft_labels(torch.tensor(classes).repeat_interleave(IPC), "probabilities")
        for classes in (range(5), range(5, 10))
    ]
    np.testing.assert_array_equal(tensors["soft_labels"], torch.cat(wanted).numpy())
    assert tensors["soft_labels"].dtype == np.float32 and tensors["rate"].tolist() == [np.float32(0.02)]
    assert tensors["age"].tolist() == [*range(10), *range(100, 110)]
    assert (
        header["carries"] == {"soft_labels": "image", "age": "image", "rate": "set"}
        and header["soft_labels"] == "probabilities"
    )
    told = show.describe(made)
    assert (
        "float32 20 x 10" in told
        and "age image, rate set, soft_labels image" in told
        and "probabilities" in told
    )


def test_a_loaded_set_has_its_soft_labels_beside_image_and_label(made):
    data = load_synthetic(made)
    assert data.soft_labels.shape == (20, 10) and data.further["rate"].tolist() == [pytest.approx(0.02)]
    image, label = data[3]
    assert torch.equal(image, data.images[3]) and label == 1
    again = load_synthetic(made)
    assert (
        data == again
        and data != replace(again, soft_labels=None)
        and data != replace(again, soft_labels=again.soft_labels.flip(0))
    )


def test_stored_in_half_precision_they_are_read_as_they_were_rounded(made, digits, tmp_path):
    jobs.gather(
        tmp_path / "half.safetensors",
        shards(tmp_path / "shards", digits),
        digits / "train.safetensors",
        "float16",
    )
    whole, half = read_set(made)[0], read_set(tmp_path / "half.safetensors")[0]
    held = read_tensors(tmp_path / "half.safetensors")[0]
    assert held["soft_labels"].dtype == np.float16 and half["soft_labels"].dtype == np.float32
    np.testing.assert_array_equal(
        half["soft_labels"], whole["soft_labels"].astype(np.float16).astype(np.float32)
    )
    assert (
        held["rate"].dtype == np.float32 and half["rate"] == whole["rate"] and held["age"].dtype == np.int64
    )


def test_formations_repeat_soft_labels_as_they_repeat_labels(digits, tmp_path):
    out = tmp_path / "synthetic.safetensors"
    jobs.gather(
        out, shards(tmp_path / "shards", digits, decode=specs.Decode(2)), digits / "train.safetensors"
    )
    data, stored = load_synthetic(out), read_set(out)[0]
    assert len(data) == len(data.soft_labels) == 80
    for place, label in enumerate(data.labels.tolist()):
        twin = place % 20
        assert (
            label == stored["labels"][twin]
            and data.soft_labels[place].tolist() == stored["soft_labels"][twin].tolist()
        )
    exports.export_set(out, "npz", tmp_path / "decoded.npz")
    with np.load(tmp_path / "decoded.npz") as found:
        order = np.argsort(data.labels.numpy(), kind="stable")
        np.testing.assert_array_equal(found["soft_labels"], data.soft_labels.numpy()[order])
        assert found["labels"].tolist() == sorted(data.labels.tolist()) and len(found["age"]) == 20


def test_exports_hold_them_or_say_that_they_do_not(made, tmp_path):
    tensors, _ = read_set(made)
    assert "does not hold" not in exports.export_set(made, "npz", tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as found:
        assert all((found[name] == values).all() for name, values in tensors.items())
    said = exports.export_set(made, "parquet", tmp_path / "set.parquet")
    assert said.endswith("; parquet does not hold its age, rate, npz does")
    table = pq.read_table(tmp_path / "set.parquet")
    np.testing.assert_array_equal(
        np.array(table["soft_labels"].to_pylist(), np.float32), tensors["soft_labels"]
    )
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["soft_labels"] == {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    assert exports.export_set(made, "png", tmp_path / "png").endswith(
        "; png does not hold its age, rate, soft_labels, npz does"
    )


def changed(made, path, header=(), **tensors):
    held, about = read_tensors(made)
    held = {
        name: tensors.get(name, values) for name, values in held.items() if tensors.get(name, 0) is not None
    }
    write_tensors(
        path,
        held | {name: values for name, values in tensors.items() if values is not None},
        about | dict(header),
    )
    return path


def test_what_does_not_fit_its_header_is_refused(made, tmp_path):
    soft, path = read_set(made)[0]["soft_labels"], tmp_path / "x.safetensors"
    cases = {
        "to be probabilities, but some are negative or do not sum to 1": {"soft_labels": soft * 1.01},
        "are said to be probabilities": {
            "soft_labels": soft - np.eye(10, dtype=np.float32)[0] + np.eye(10, dtype=np.float32)[1]
        },
        "some values of its 'soft_labels' are no numbers": {"soft_labels": soft * np.float32(np.nan)},
        "its soft labels are float32 20 x 9": {"soft_labels": soft[:, :9]},
        "its soft labels are float64": {"soft_labels": soft.astype(np.float64)},
        "its 'age' are 19, and not one for each of its 20 images": {"age": np.arange(19)},
        "it lacks 'age', which its header lists": {"age": None},
        "its header does not say what 'more' is": {"more": np.arange(20)},
        "'soft_labels' and 'carries' do not both say": {"header": {"soft_labels": None}},
        "unknown value 'photo'": {
            "header": {"carries": {"soft_labels": "image", "age": "photo", "rate": "set"}}
        },
    }
    for said, change in cases.items():
        with pytest.raises(UserError, match=f"x.safetensors: damaged .*{said}"):
            read_set(changed(made, path, **change))
    with pytest.raises(ValueError, match="cannot be called labels"):
        carrying({}, {}, {"labels": soft}, {})


def test_shards_that_differ_in_what_the_whole_set_has_one_of_are_refused(digits, tmp_path):
    paths = shards(tmp_path / "shards", digits, rates=(0.02, 0.03))
    assert read_shard(paths[1])[0]["rate"].tolist() == [np.float32(0.03)]
    with pytest.raises(
        UserError, match="differ in 'rate', of which the whole set has one: condense all classes in one shard"
    ):
        jobs.gather(tmp_path / "set.safetensors", paths, digits / "train.safetensors")


def test_a_set_without_them_is_written_and_read_as_before(digits, tmp_path):
    job = jobs.ShardJob(
        catalogue.recipe("random"), digits / "train.safetensors", "none", {}, IPC, 0, "by-hand"
    )
    jobs.condense_shard(tmp_path / "all.safetensors", job, HERE)
    jobs.gather(
        tmp_path / "synthetic.safetensors", [tmp_path / "all.safetensors"], digits / "train.safetensors"
    )
    _, header = read_set(tmp_path / "synthetic.safetensors")
    assert (
        not {"carries", "soft_labels"} & header.keys()
        and load_synthetic(tmp_path / "synthetic.safetensors").soft_labels is None
    )
    with pytest.raises(
        UserError, match="protocol 'dc': its loss 'soft' .*and .*synthetic.safetensors has none"
    ):
        judge(tmp_path / "synthetic.safetensors", digits, protocol(loss=SOFT), tmp_path / "m.json")
    assert "labels" not in judge(tmp_path / "synthetic.safetensors", digits, protocol(), tmp_path / "m.json")


def judge(path, digits, rules, out):
    settings = {
        "arch": "convnet",
        "options": {"depth": 1, "width": 4},
        "strategy": "none",
        "n_networks": 2,
        "seed": 0,
        "key": "k",
    }
    jobs.evaluate_set(
        out, jobs.EvaluationJob(specs.DEFAULT_TASK, path, digits, "random", protocol=rules, **settings), HERE
    )
    return read_json(out)


def test_metrics_say_which_labels_were_learned_from(made, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "_notes", [])
    found = {
        name: judge(made, digits, protocol(loss=loss), tmp_path / f"{name}.json")
        for name, loss in (("s", SOFT), ("d", DISTILLATION))
    }
    assert [metrics["labels"] for metrics in found.values()] == ["soft", "soft"] and not runtime._notes
    hard = judge(made, digits, protocol(), tmp_path / "h.json")
    assert (
        hard["labels"] == "hard"
        and len({str(metrics["accuracies"]) for metrics in (*found.values(), hard)}) == 3
    )
    (said,) = hard["run"]["notes"]
    assert said.endswith(
        "has soft labels, of which the protocol 'dc' makes no use: its loss 'hard' compares with the classes "
        "alone"
    )


LOGITS = {"name": "mse"}
CASES = {
    "soft, of probabilities": ("probabilities", SOFT),
    "soft, of logits": ("logits", SOFT),
    "distillation, of probabilities": ("probabilities", DISTILLATION),
    "distillation, scaled": ("logits", DISTILLATION | {"scaled": True}),
    "distillation, with classes": ("logits", DISTILLATION | {"hard_weight": 0.3}),
    "logits": ("logits", LOGITS),
    "logits, with classes": ("logits", LOGITS | {"hard_weight": 0.025}),
}


@pytest.mark.parametrize("case", CASES)
def test_one_step_of_a_linear_model_is_that_of_the_closed_form(case, digits, tmp_path):
    """The gradient of logits z against soft labels p: softmax(z) - p; at T (softmax(z / T) - softmax(t / T))
    / T; 2 (z - t) / k."""
    kind, loss = CASES[case]
    jobs.gather(
        tmp_path / "set.safetensors", shards(tmp_path / "shards", digits, kind), digits / "train.safetensors"
    )
    images = training_set(*read_set(tmp_path / "set.safetensors"), torch.device("cpu"), "the set")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    start = model[1].weight.detach().clone().double()
    rules = protocol(epochs=1, loss=loss)
    train(model, images, rules, strategy="none", seed=0, name=("x",), checkpoint=NOWHERE)

    x, held, temperature = (
        images.fetch(torch.arange(20)).flatten(1).double(),
        images.targets.values.double(),
        loss.get("temperature", 1.0),
    )
    z, logits = x @ start.T, held.log() if kind == "probabilities" else held
    if loss["name"] == "mse":
        gradient = 2 * (z - held) / 10
    else:
        gradient = (torch.softmax(z / temperature, 1) - torch.softmax(logits / temperature, 1)) / temperature
    gradient = gradient * (temperature**2 if loss.get("scaled") else 1)
    gradient += loss.get("hard_weight", 0.0) * (
        torch.softmax(z, 1) - nn.functional.one_hot(images.labels, 10)
    )
    wanted = start - 0.5 * gradient.T @ x / 20
    torch.testing.assert_close(model[1].weight.detach().double(), wanted, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(wanted, start, atol=1e-3)


def test_labels_are_mixed_as_vectors_and_classes_in_their_shares():
    labels, logits = torch.tensor([0, 1, 2]), torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    soft = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    mixture = Mixture(torch.tensor([1, 2, 0]), 0.25)
    mixed = 0.25 * soft + 0.75 * soft[[1, 2, 0]]
    images = tensor_set(torch.zeros(3, 1, 4, 4), labels, Targets(soft, "probabilities"))
    for hard_labels in ("mixed", "own"):
        asked = {"name": "distillation", "temperature": 1.0, "hard_weight": 0.5, "hard_labels": hard_labels}
        rules = protocol(loss=asked, mixing={"name": "cutmix"})
        loss, targets = loss_of(rules, images)
        found = loss.of_batch(logits, labels, mixture.vectors(targets), mixture)
        divergence = (mixed * (mixed.log() - logits.log_softmax(1))).sum(1).mean()
        classes = (
            mixture.loss(logits, labels)
            if hard_labels == "mixed"
            else nn.functional.cross_entropy(logits, labels)
        )
        torch.testing.assert_close(found, divergence + 0.5 * classes)
    certain = Targets(torch.eye(3), "probabilities").probabilities(4.0)
    assert torch.equal(certain, torch.eye(3)), "what is certain stays so at any temperature"
