"""Networks trained on a set beside those trained on real images: the same training gives no discrepancy,
values are those of a plain computation, and it goes on where it was stopped."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from bad_input_helpers import BRIEF, NET, evaluation, refused, run
from interruption_helpers import Stopping, until_done
from matching_helpers import protocol

from condense import models
from condense.config import UserError
from condense.evaluate.hypotheses import hypotheses
from condense.evaluate.trainer import TaskSet, TaskSets, Trainer
from condense.files import artifacts
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks.finished import write_networks
from condense.networks.origin import origin
from condense.plan.tables import Plan
from condense.specs.tasks import Hypotheses
from condense.training.loop import train as trained_by
from condense.training.sets import tensor_set

CPU = torch.device("cpu")
SMALL = {"depth": 1, "width": 4}
RULES = protocol(epochs=3, precision="fp32")
SEED, BANK_SEED = 5, 7
TASK = Hypotheses(count=2, real=2)
NOWHERE = Checkpoint(None, "")
pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(a_class, seed):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(10).repeat_interleave(a_class)
    return tensor_set(torch.randn(len(labels), 1, 8, 8, generator=rng), labels)


MADE, REAL = drawn(3, 0), drawn(4, 1)


def network_of(number, images=None, place=None):
    """Network `number` of the bank as it was first drawn, or trained on `images` as the task trains the one
    at `place` of the judge (None: the same number)."""
    network = models.build("convnet", channels=1, size=8, classes=10, **SMALL)
    models.reinitialise(network, seeds.stream(BANK_SEED, "trained", number))
    if images is not None:
        name = ("evaluation", number if place is None else place)
        trained_by(network, images, RULES, strategy="none", seed=SEED, name=name, checkpoint=NOWHERE)
    return network.eval()


@pytest.fixture
def bank_from(train, tmp_path):
    def bank(networks, **more):
        made_from = origin(train, "convnet", SMALL, BANK_SEED)
        path = tmp_path / "bank.safetensors"
        write_networks(path, [network.state_dict() for network in networks], made_from, "k", **more)
        return path

    return bank


def measured(train, bank, made=MADE, task=TASK, checkpoint=NOWHERE, networks=(0, 1, 2)):
    test = replace(train, data_sha256="of the test images")
    trainer = Trainer(
        test, RULES, "convnet", SMALL, "none", networks, SEED, Hypotheses.metrics, CPU, checkpoint=checkpoint
    )
    judged = TaskSet(None, {"data_sha256": train.data_sha256}, {0: lambda: made})
    sets = TaskSets(judged, real=lambda: REAL, parents={"bank": bank})
    return {name: by_step[0] for name, by_step in hypotheses(task, sets, None, trainer).items()}


def test_networks_of_the_same_training_have_none(train, bank_from):
    found = measured(train, bank_from([network_of(number, MADE) for number in (0, 1)]))
    # The third begins as the first, and is trained on batches of its own
    assert all(values[:2] == [0.0, 0.0] and values[2] > 0 for values in found.values())


def test_they_are_those_of_a_plain_computation(train, bank_from):
    """The third network is paired with the first of two of the bank."""
    ends = [network_of(number, REAL) for number in (0, 1)]
    found = measured(train, bank_from(ends))
    chosen = []
    for label in range(10):
        order = torch.randperm(4, generator=seeds.generator(SEED, "hypotheses", label))[:2]
        chosen += [4 * label + place for place in order.tolist()]
    places = torch.tensor(chosen)
    images, labels = REAL.fetch(places), REAL.labels[places]
    for network, number in enumerate((0, 1, 0)):
        made, end, first = network_of(number, MADE, network), ends[number], network_of(number)
        with torch.no_grad():
            logits = [one(images) for one in (made, end)]
            losses = [F.cross_entropy(values, labels).item() for values in logits]
            apart = (logits[0].softmax(1) - logits[1].softmax(1)).square().sum(1).mean().sqrt().item()
            ways = [
                sum((one - other).square().sum() for one, other in zip(p, end.parameters(), strict=True))
                for p in (list(made.parameters()), list(first.parameters()))
            ]
        wanted = {
            "generalisation": abs(losses[0] - losses[1]),
            "value": apart,
            "parameter": (ways[0] / ways[1]).sqrt().item(),
        }
        for name, value in wanted.items():
            assert value > 1e-3 and found[name][network] == pytest.approx(value, rel=1e-4), name


def test_an_interrupted_measurement_goes_on(train, bank_from, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    bank = bank_from([network_of(number, REAL) for number in (0, 1)])
    checkpoint = Stopping(tmp_path / "x.resume", "k")
    _, found = until_done(lambda: measured(train, bank, checkpoint=checkpoint))
    assert found == measured(train, bank)


def test_other_banks_are_refused(train, bank_from):
    with pytest.raises(UserError, match="has 1 networks, but 2 are asked for: make the bank anew"):
        measured(train, bank_from([network_of(0)]))
    with pytest.raises(UserError, match="has the networks of 2 epochs of each training, but the last ones"):
        measured(train, bank_from([network_of(0)] * 4, epochs=2))
    bank = bank_from([network_of(0)] * 2)
    with pytest.raises(UserError, match="was made with data_sha256"):
        measured(replace(train, data_sha256="of others"), bank)


def test_the_accuracies_of_its_figure_are_those_of_other_figures():
    """However few networks the figure takes for its own task."""
    plan = Plan("quick")
    cells = plan.metrics_of("ours/figure3")
    counts = {cell.task.kind: cell.n_networks for cell in cells}
    assert counts == {"accuracy": plan.scale.n_networks, "hypotheses": 1}
    others = {cell.path for name in plan.targets if name != "ours/figure3" for cell in plan.metrics_of(name)}
    assert {cell.path for cell in cells if cell.task.comparable} <= others


def test_the_command_measures_a_set(made, digits, tmp_path, caplog):
    task = '{"kind": "hypotheses", "trained_by": "brief", "count": 1, "real": 5}'
    networks = '{"kind": "trained", "protocol": "brief", "count": 1, "mixed": false}'
    bank, out = tmp_path / "bank.safetensors", tmp_path / "a.json"
    command = evaluation(made.synthetic, digits, out, "--task", task)
    assert "needs 'bank', trained networks; `condense bank --help` says how" in refused(*command)
    training = ("--networks", networks, "--protocol", BRIEF, "--out", bank)
    status, told = run("bank", "--data", digits / "train.safetensors", *NET, *training)
    assert status == 0, told
    status, told = run(*command, "--with", f"bank={bank}", "--networks", 2)
    assert status == 0, told
    found = artifacts.read_json(out)
    other = BRIEF.replace('"brief"', '"other"')
    networks = ("--networks", networks.replace("brief", "other"), "--protocol", other)
    assert run("bank", "--data", digits / "train.safetensors", *NET, *networks, "--out", bank)[0] == 0
    status, told = run(*command, "--with", f"bank={bank}")
    assert status == 0 and "by the protocol 'other', where the task names 'brief'" in caplog.text
    first, second = found["hypotheses"], artifacts.read_json(out)["hypotheses"]
    assert first["trained_by"] == "brief" and first["bank"]["sha256"] != second["bank"]["sha256"]
    assert all(len(values["values"]) == 2 for values in found["metrics"].values())
