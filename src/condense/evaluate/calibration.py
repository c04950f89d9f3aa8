"""Whether networks are as sure of their answers as they are right.

Sources: expected calibration error with bins of equal width, Guo et al. 2017 (On Calibration of Modern Neural
Networks), eq. (3), with the 15 bins of its experiments; negative log-likelihood, eq. (6) there, here as the
mean over the images; Brier 1950 in its form for several classes, the sum over the classes of squared
differences, from 0 to 2. No temperature is fitted: that would take images apart.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.evaluate.trained import TrainedNetworks, percentages
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.specs.tasks.calibration import Calibration
from condense.training.sets import TrainingSet

_SINGLE = 3  # sums that are no bins': images classified rightly, log-likelihoods, Brier scores


def calibration(task: Calibration, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """Networks are trained on the set as for its accuracy, and all metrics computed in one pass over
    `tested`."""
    return trainer.measured(sets.judged.by_step, partial(measured_calibration, tested, task.bins))


def measured_calibration(tested: TrainingSet, bins: int, networks: TrainedNetworks) -> dict[str, list[float]]:
    """Accuracy and calibration error in percent, mean negative log-likelihood in nats, and mean Brier score
    of each network."""
    sums, images = networks.sums(tested, partial(calibration_sums, bins)), len(tested)
    right, log_likelihood, brier = sums[:, :_SINGLE].unbind(1)
    return {
        "accuracy": percentages(right, images),
        "calibration_error": percentages(
            calibration_error(sums[:, _SINGLE:].unflatten(1, (2, bins))), images
        ),
        "negative_log_likelihood": (-log_likelihood / images).tolist(),
        "brier_score": (brier / images).tolist(),
    }


def calibration_sums(bins: int, logits: Tensor, labels: Tensor) -> Tensor:
    """Sums (K, 3 + 2 * bins) in float64 over a batch, of logits (K, b, classes) and labels (b,): see
    `_SINGLE`; then, by bin, of how many are right and of the confidences.

    A confidence is the largest probability; bin m of M holds those in ((m - 1) / M, m / M].
    """
    logs = F.log_softmax(logits.double(), 2)
    probabilities, truth = logs.exp(), F.one_hot(labels, logits.shape[2]).expand_as(logs)
    confidence, answer = probabilities.max(2)
    right = (answer == labels).double()
    single = [right, (logs * truth).sum(2), (probabilities - truth).square().sum(2)]
    bin_index = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    # And sums over it, since adding to places in turn has no fixed order on a GPU
    inside = F.one_hot(bin_index, bins)
    by_bin = [(inside * values.unsqueeze(2)).sum(1) for values in (right, confidence)]
    return torch.cat([torch.stack([values.sum(1) for values in single], 1), *by_bin], 1)


def calibration_error(by_bin: Tensor) -> Tensor:
    """Of sums (K, 2, bins), by bin how many are right and the confidences, the sum over the bins of the gap
    between both: (K,).

    Divided by the number of images this is eq. (3): each bin's gap of means, weighed by its share of the
    images.
    """
    right, confidence = by_bin.unbind(1)
    return (right - confidence).abs().sum(1)
