"""Loaded synthetic sets as values: equal if they hold the same."""

from dataclasses import replace

import torch

from condense import load_synthetic


def test_sets_are_compared_by_what_they_hold(made):
    first, again = load_synthetic(made.synthetic), load_synthetic(made.synthetic)
    assert (
        (first == again) is True
        and (first != again) is False
        and hash(first) == hash(again)
        and len({first, again}) == 1
    )
    moved = replace(again, images=again.images + 1e-3)
    assert (first == moved) is False and len({first, moved}) == 2
    assert first != replace(again, labels=again.labels.flip(0)) and first != replace(
        again, header=again.header | {"seed": 7}
    )
    assert first != replace(again, images=again.images[:3], labels=again.labels[:3])
    assert (first == "a set") is False and first != None  # noqa: E711
    assert first in [moved, again] and [moved, again].index(first) == 1


def test_labels_have_their_names(made):
    assert load_synthetic(made.synthetic).class_names == list("0123456789")


def test_a_set_still_trains_from_several_processes(made):
    data = load_synthetic(made.synthetic)
    loaded = torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)
    assert torch.equal(torch.cat([images for images, _ in loaded]), data.images)
