"""DSDM: its covariance against torch's, and its history of the set by a plain loop."""

from dataclasses import replace

import pytest
import torch
from matching_helpers import engine, recipe

from condense.augment import siamese
from condense.augment.selected import apply_each_class
from condense.config import UserError
from condense.discrepancy.mean import covariance_discrepancy
from condense.machine import seeds
from condense.specs import catalogue

TERM = {"name": "synthetic_history", "momentum": 0.75, "begins": 0.5, "per_feature": True, "weight": 3.0}


def test_the_unbiased_covariance_is_that_of_torch_over_the_number_of_features():
    generator = torch.Generator().manual_seed(0)
    real, synthetic = (torch.randn(count, 4, generator=generator).double() for count in (7, 3))
    wanted = (torch.cov(real.T) - torch.cov(synthetic.T)).square().sum() / 4
    torch.testing.assert_close(
        covariance_discrepancy(real, synthetic, unbiased=True, per_feature=True), wanted
    )
    padded = torch.cat([real, real[:2]])
    mask = torch.arange(9) < 7
    torch.testing.assert_close(covariance_discrepancy(padded, synthetic, mask, True, True), wanted)


def test_an_unbiased_covariance_of_one_image_is_refused():
    value = recipe("dm", terms=[{"name": "covariance", "unbiased": True}])
    with pytest.raises(UserError, match="unbiased needs two images"):
        value.check_ipc(1)
    value.check_ipc(2)


@pytest.mark.usefixtures("one_thread")
def test_a_class_of_one_real_image_is_refused_before_the_first_step(train):
    """Of one image there is no unbiased covariance; with n in place of n - 1 it is 0, and the run is fine."""
    rows = [train.class_slice(label) for label in (3, 5)]
    kept = torch.cat(
        [torch.arange(rows[0].start, rows[0].start + 1), torch.arange(rows[1].start, rows[1].stop)]
    )
    few = replace(
        train,
        images=train.images[kept],
        labels=train.labels[kept],
        classes=(3, 5),
        class_names=("three", "five"),
        counts=(1, len(kept) - 1),
    )
    for unbiased in (True, False):
        terms = [{"name": "covariance", "unbiased": unbiased}]
        value = recipe("dm", terms=terms, init="real", decode={"factor": 2, "order": "rows"})
        if unbiased:
            with pytest.raises(
                UserError, match=r"dm: .*two training images .* class 3 \(three\) of .* has 1: leave"
            ):
                engine(value, few, (3, 5), ipc=1)
        else:
            assert engine(value, few, (3, 5), ipc=1).run().images.isfinite().all()


@pytest.mark.usefixtures("one_thread")
def test_the_set_is_held_to_its_own_means_of_earlier_steps(train):
    """By a plain loop: a step on the means and, from half of the steps on, on the moving average; then the
    average takes in the images as they now are, under the network of the step and another augmentation."""
    rate, steps, classes = 0.5, 6, (1, 4)
    settings = {"optimizer": {"lr": rate, "momentum": 0.0}, "steps": steps}
    value = recipe("dm", terms=[{"name": "mean"}, TERM], couples=["classes"], **settings)
    stream = engine(value, train, classes).stream
    images = engine(value, train, classes).moving.values.detach().clone()
    kept = None
    for step in range(steps):
        side = stream.at(step)
        images.requires_grad_(True)
        seen = apply_each_class(images, side.draws)
        mean = side.network.embed(seen.flatten(0, 1)).unflatten(0, seen.shape[:2]).mean(1)
        loss = (side.embedding.mean(1) - mean).square().sum()
        if step >= steps / 2:
            loss = loss + 3.0 * (kept - mean).square().sum() / mean.shape[-1]
        images = (images - rate * torch.autograd.grad(loss, images)[0]).detach()
        draws = [
            siamese.draw(value.augment.siamese, train.size, seeds.generator(0, "look back", label, step))
            for label in classes
        ]
        seen = apply_each_class(images, draws)
        mean = side.network.embed(seen.flatten(0, 1)).unflatten(0, seen.shape[:2]).mean(1).detach()
        kept = mean if kept is None else 0.75 * kept + 0.25 * mean
    run = engine(value, train, classes)
    torch.testing.assert_close(run.run().images, images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.memory["synthetic_history"]["mean"], kept, rtol=1e-4, atol=1e-5)
    rows = [row["synthetic_history"] for row in run.outcome.history]
    assert rows[:3] == [0, 0, 0] and min(rows[3:]) > 0


def test_the_recipe_is_that_of_its_authors():
    base = catalogue.recipe("dsdm")
    rates = {ipc: catalogue.resolve(base, "cifar10", "flip", ipc, []).optimizer.lr for ipc in (1, 10, 50)}
    assert rates == {1: 0.01, 10: 0.1, 50: 0.5} and base.steps == 10000
    history = next(term for term in base.terms if term.name == "synthetic_history")
    assert history.begins * base.steps == 2000
    protocol = catalogue.protocol(base.networks.protocol)
    assert (base.networks.count, base.networks.mixed, protocol.epochs, protocol.batch) == (10, False, 20, 256)
