"""The verdict on the order of classes, of what a network sees in images whose truth is known."""

import numpy as np
import pytest
import torch

from condense.data.dataset import load
from condense.outside import order
from condense.outside.order import DOUBTFUL, RIGHT, WRONG, judged


def seen(truth, classes, right, seed=0):
    """Probabilities (N, classes) of a network that sees the class `truth` (N,) in the share `right` of
    images, and any class in the others."""
    rng = np.random.default_rng(seed)
    guesses = np.where(rng.random(len(truth)) < right, truth, rng.integers(0, classes, len(truth)))
    rows = np.full((len(truth), classes), 0.2 / classes)
    rows[np.arange(len(truth)), guesses] += 0.8
    return rows


def turned(classes, some=None):
    """A class for every label, none of the first `some` its own."""
    other = np.arange(classes)
    some = classes if some is None else some
    other[:some] = np.roll(other[:some], 1)
    return other


@pytest.mark.parametrize("classes, ipc, right", [(10, 10, 0.9), (10, 10, 0.5), (100, 10, 0.4), (2, 50, 0.8)])
def test_a_right_order_is_right(classes, ipc, right):
    labels = np.arange(classes).repeat(ipc)
    found = judged(seen(labels, classes, right), labels, 100 * right)
    assert found.verdict == RIGHT and found.agreement <= found.best_agreement


@pytest.mark.parametrize(
    "classes, ipc, right, some",
    [(10, 10, 0.9, None), (10, 1, 1.0, None), (10, 10, 0.6, None), (100, 10, 0.6, None), (10, 10, 0.95, 2)],
)
def test_another_order_is_found_with_its_assignment(classes, ipc, right, some):
    labels, other = np.arange(classes).repeat(ipc), turned(classes, some)
    found = judged(seen(other[labels], classes, right), labels, 100 * right)
    assert found.verdict == WRONG and found.assignment == other.tolist()
    names = [f"c{label}" for label in range(classes)]
    assert f"c0 is c{other[0]}, c1 is c{other[1]}" in found.sentence(names)


def test_what_cannot_be_told_is_doubtful():
    labels = np.arange(10)
    swapped = judged(
        seen(turned(10, 2)[labels], 10, 1.0), labels, 100
    )  # one image a class, two of them crossed
    assert swapped.verdict == DOUBTFUL and swapped.assignment == turned(10, 2).tolist()
    for classes, ipc in ((10, 10), (100, 1), (100, 10)):
        labels = np.arange(classes).repeat(ipc)
        assert (
            judged(seen(labels, classes, 0.0), labels, 90).verdict == DOUBTFUL
        )  # like nothing that it knows


def test_the_chance_is_that_of_coins():
    assert order._by_chance(0, 5) == 1
    assert order._by_chance(3, 4) == 5 / 16
    assert order._by_chance(7, 7) == 1 / 128


def test_images_are_trained_on_or_held_out_of_every_class(digits, monkeypatch):
    monkeypatch.setattr(order, "IMAGES", 300)
    data = load(digits / "train.safetensors")
    chosen, held = order._rows(data)
    assert len(chosen) == 240 and len(held) == 60 and not set(chosen.tolist()) & set(held.tolist())
    assert torch.bincount(data.labels[chosen]).tolist() == [24] * 10
    assert torch.bincount(data.labels[held]).tolist() == [6] * 10
