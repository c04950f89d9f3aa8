"""Calibration: cases worked by hand, other roads to the same numbers, and networks side by side as each
alone."""

from functools import partial

import numpy as np
import pytest
import torch
from bad_input_helpers import evaluation, run
from sklearn.metrics import log_loss
from torch import nn

from condense import models
from condense.command.show import describe
from condense.config import UserError
from condense.evaluate.calibration import calibration_error, calibration_sums, measured_calibration
from condense.evaluate.trained import TrainedNetworks, measured_accuracy
from condense.files import metrics_in, read_metrics
from condense.files.artifacts import read_json
from condense.specs.tasks.calibration import Calibration
from condense.training.sets import tensor_set
from condense.training.stacked import Stacked

pytestmark = pytest.mark.usefixtures("one_thread")


class Table(nn.Module):
    """A network that looks its logits up: image i is the number i."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("table", logits)

    def forward(self, images):
        return self.table[images.flatten().long()]


def calibrated(probabilities, labels, bins=15):
    """The metrics of one network that answers image i with these probabilities."""
    logits = torch.as_tensor(np.asarray(probabilities), dtype=torch.float64).log()
    images = tensor_set(torch.arange(len(labels)).view(-1, 1, 1, 1), torch.as_tensor(labels))
    found = measured_calibration(images, bins, TrainedNetworks(Table(logits), torch.float32))
    assert all(len(values) == 1 for values in found.values()) and list(found) == list(Calibration.metrics)
    return {name: values[0] for name, values in found.items()}


def drawn(images=1000, classes=4, seed=0):
    """Probabilities of images and labels that they do not quite fit."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((images, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities, np.array(
        [rng.choice(classes, p=row) for row in 0.7 * probabilities + 0.3 / classes]
    )


def test_a_case_by_hand():
    """Sure by 0.8, 0.8, 0.6 and 0.6; right, wrong, right, right. Bins of a fifth: |1 - 1.6| + |2 - 1.2| over
    4 images is 35 %."""
    rows = [[0.8, 0.2], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]]
    found = calibrated(rows, [0, 0, 0, 0], bins=5)
    assert found["accuracy"] == 75.0 and found["calibration_error"] == pytest.approx(35.0)
    assert found["negative_log_likelihood"] == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.6]).mean())
    assert found["brier_score"] == pytest.approx((0.08 + 1.28 + 0.32 + 0.32) / 4)


@pytest.mark.parametrize("classes", [2, 10])
def test_who_knows_nothing_and_says_so_is_calibrated(classes):
    labels = [label for label in range(classes) for _ in range(3)]
    found = calibrated(np.full((len(labels), classes), 1 / classes), labels)
    assert found["calibration_error"] == pytest.approx(0.0, abs=1e-10)
    assert found["negative_log_likelihood"] == pytest.approx(np.log(classes)) and found[
        "brier_score"
    ] == pytest.approx(1 - 1 / classes)


def test_who_is_sure_and_wrong_has_the_worst_scores_and_who_is_right_the_best():
    rows = np.full((6, 2), [1 - 1e-12, 1e-12])
    right, wrong = calibrated(rows, [0] * 6), calibrated(rows, [1] * 6)
    assert (right["accuracy"], wrong["accuracy"]) == (100.0, 0.0)
    assert (right["calibration_error"], wrong["calibration_error"]) == (
        pytest.approx(0.0, abs=1e-6),
        pytest.approx(100.0),
    )
    assert (right["brier_score"], wrong["brier_score"]) == (pytest.approx(0.0, abs=1e-6), pytest.approx(2.0))
    assert wrong["negative_log_likelihood"] == pytest.approx(12 * np.log(10))


@pytest.mark.parametrize("bins", [1, 15, 40])
def test_other_roads_lead_to_the_same_numbers(bins):
    probabilities, labels = drawn()
    found, each = calibrated(probabilities, labels, bins), np.eye(4)[labels]
    assert found["negative_log_likelihood"] == pytest.approx(log_loss(labels, probabilities))
    assert found["brier_score"] == pytest.approx(((probabilities - each) ** 2).sum(1).mean())
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    error, edges = 0.0, np.linspace(0, 1, bins + 1)
    for low, high in zip(edges[:-1], edges[1:], strict=True):  # eq. (3) as Guo et al. write it
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found["calibration_error"] == pytest.approx(100 * error) and 0 < error < 1
    assert bins > 1 or found["calibration_error"] == pytest.approx(
        100 * abs(right.mean() - confidence.mean())
    )


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    sums = calibration_sums(4, torch.tensor([[[0.5, 0.5]]], dtype=torch.float64).log(), torch.tensor([0]))
    right, confidence = sums[0, 3:].view(2, 4)
    assert right.tolist() == [0, 1, 0, 0] and confidence.tolist() == pytest.approx([0, 0.5, 0, 0])
    assert calibration_error(sums[:, 3:].view(1, 2, 4)).tolist() == pytest.approx([0.5])


def test_batches_add_up_and_networks_side_by_side_are_each_alone():
    built = [models.build("convnet", channels=1, size=8, classes=3, depth=2, width=8) for _ in range(3)]
    for seed, network in enumerate(built):
        models.reinitialise(network, seed)
        # Sure enough for several bins
        [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1].weight.data *= 20
    rng = torch.Generator().manual_seed(1)
    images = tensor_set(torch.randn(200, 1, 8, 8, generator=rng), torch.randint(3, (200,), generator=rng))
    together = measured_calibration(images, 15, TrainedNetworks(Stacked(built), torch.float32))
    alone = [measured_calibration(images, 15, TrainedNetworks(network, torch.float32)) for network in built]
    for name, values in together.items():
        assert values == pytest.approx([found[name][0] for found in alone], rel=1e-3), name
        assert len({round(value, 6) for value in values}) > 1, name
    assert (
        together["accuracy"]
        == measured_accuracy(images, TrainedNetworks(Stacked(built), torch.float32))["accuracy"]
    )
    networks = TrainedNetworks(built[0], torch.float32)
    parts = [networks._sums(images, partial(calibration_sums, 15), batch) for batch in (7, 200)]
    torch.testing.assert_close(*parts, rtol=1e-5, atol=1e-5)


def test_the_command_judges_calibration_beside_the_same_accuracies(made, tmp_path):
    out, plain = tmp_path / "calibration.json", tmp_path / "plain.json"
    assert (
        run(*evaluation(made.synthetic, made.digits, out, "--networks", 2, "--task", "calibration"))[0] == 0
    )
    assert run(*evaluation(made.synthetic, made.digits, plain, "--networks", 2))[0] == 0
    found = metrics_in(read_metrics(out, "calibration"))
    assert found["accuracy"] == metrics_in(read_json(plain))["accuracy"]
    assert {name: about["unit"] for name, about in found.items()} == {
        name: about.unit for name, about in Calibration.metrics.items()
    }
    assert 0 < found["calibration_error"]["mean"] < 100 and 0 < found["brier_score"]["mean"] < 2
    shown = describe(out)
    assert (
        "calibration_error" in shown
        and f"{found['negative_log_likelihood']['mean']:.4g} ±" in shown
        and "nats" in shown
    )


def test_bins_are_a_setting_with_bounds():
    assert Calibration().settings == {} and Calibration(bins=10).settings == {"bins": 10}
    assert Calibration().key_parts({}) != Calibration(bins=10).key_parts({})
    with pytest.raises(UserError, match="bins: must be at least 1"):
        Calibration(bins=0)
