"""What the unit tests of several rooms share."""

from types import SimpleNamespace

import pytest
from bad_input_helpers import BRIEF, NET, evaluation, recipe, run

from condense.files.artifacts import read_tensors
from condense.files.checkpoints import Checkpoint


@pytest.fixture(scope="session")
def made(digits, tmp_path_factory):
    """One small artifact of every kind, made once by the command; to be read only."""
    folder = tmp_path_factory.mktemp("made")
    paths = {kind: folder / f"{kind}.safetensors" for kind in ("teacher", "shard", "synthetic", "checkpoint")}
    paths["dataset"] = digits / "train.safetensors"
    train = ("--data", digits / "train.safetensors")
    for argv in (
        ("teach", *train, "--protocol", BRIEF, *NET, "--out", paths["teacher"]),
        ("synthesize", *train, "--recipe", recipe(), "--ipc", 1, *NET, "--out", paths["shard"]),
        ("gather", "--shards", paths["shard"], *train, "--out", paths["synthetic"]),
        evaluation(paths["synthetic"], digits, folder / "metrics.json"),
    ):
        status, told = run(*argv)
        assert status == 0, told
    tensors, header = read_tensors(paths["shard"])
    Checkpoint(paths["checkpoint"], "key").save(tensors, {"done": 3, "history": header["history"]})
    return SimpleNamespace(**paths, metrics=folder / "metrics.json", folder=folder, digits=digits)


@pytest.fixture(scope="module")
def one_thread():
    """One thread for torch, so that sums come in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def double():
    """Networks and images in float64, where the order of a sum does not show."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def train(digits):
    """The training images of the digits."""
    from condense.data.dataset import load

    return load(digits / "train.safetensors")


@pytest.fixture(scope="module")
def teacher(digits, tmp_path_factory, one_thread):
    """A small classifier of the digits, in its file."""
    from matching_helpers import ARCH, HERE, protocol

    from condense import jobs

    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    job = jobs.ParentJob(path, digits / "train.safetensors", **ARCH, seed=0, key="t", machine=HERE)
    jobs.pretrain_teacher(job, protocol=protocol(precision="fp32"), strategy="none")
    return path


@pytest.fixture(scope="module")
def critic(teacher, train):
    """The classifier of `teacher`."""
    import torch

    from condense.networks.pretrain import load_teacher

    return load_teacher(teacher, train, torch.device("cpu"))[0]


@pytest.fixture(scope="module")
def bank_of(digits, tmp_path_factory):
    """The bank that a recipe with these networks (None: it has none) asks for, or None; one of each protocol
    and length."""
    from matching_helpers import ARCH, HERE

    from condense import jobs, plan

    made, folder = {}, tmp_path_factory.mktemp("banks")

    def bank(networks):
        networks = networks.parents().get("bank") if networks else None
        if networks is None or not networks.needed:
            return None
        asked = f"{networks.protocol}-{networks.made_as}-{networks.count}"
        if asked not in made:
            made[asked] = folder / f"{asked}.safetensors"
            protocol = plan.changed_protocol(networks.protocol, ("test", {"epochs": 1, "precision": "fp32"}))
            settings = {**ARCH, "seed": 0, "key": "b", "machine": HERE}
            job = jobs.ParentJob(made[asked], digits / "train.safetensors", **settings)
            jobs.make_trained_bank(job, networks=networks, protocol=protocol, strategy="none")
        return made[asked]

    return bank


@pytest.fixture(scope="module")
def dense(train, tmp_path_factory, one_thread):
    """The bank of a small queue, in its file; to be read only."""
    from queue_helpers import make

    return make(tmp_path_factory.mktemp("dense") / "bank.safetensors", train)


@pytest.fixture
def here(results, monkeypatch):
    """The working directory is the module's folder of made-up results."""
    monkeypatch.chdir(results)
    return results
