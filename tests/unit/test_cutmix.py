"""CutMix: what is exchanged, in which share, and that the loss says so."""

import pytest
import torch
import torch.nn.functional as F

from condense.augment import cutmix


def test_a_box_holds_the_share_it_says():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    for seed in range(20):
        mixture = cutmix.draw(1.0, 4, 8, torch.Generator().manual_seed(seed))
        mixed = mixture.images(images)
        for place, image in enumerate(mixed):
            own = (image == place).float().mean().item()
            other = mixture.other[place].item()
            assert own == pytest.approx(1.0 if other == place else mixture.share)
            assert set(image.unique().tolist()) <= {float(place), float(other)}


def test_the_loss_is_that_of_both_labels_in_their_shares():
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    mixture = cutmix.Mixture(torch.tensor([1, 2, 3, 0]), 0.25)
    soft = 0.25 * F.one_hot(labels, 3) + 0.75 * F.one_hot(labels[mixture.other], 3)
    torch.testing.assert_close(mixture.loss(logits, labels), F.cross_entropy(logits, soft.float()))


def test_it_happens_as_often_as_asked_and_else_changes_nothing():
    generator, images = torch.Generator().manual_seed(0), torch.randn(4, 1, 8, 8)
    drawn = [cutmix.draw(0.3, 4, 8, generator) for _ in range(2000)]
    assert sum(one.other is not None for one in drawn) / 2000 == pytest.approx(0.3, abs=0.04)
    unmixed = next(one for one in drawn if one.other is None)
    assert unmixed.images(images) is images
    state = generator.get_state()
    assert cutmix.draw(0.0, 4, 8, generator).other is None and torch.equal(state, generator.get_state()), (
        "off, it draws nothing"
    )
