"""The distance of hyperbolic centroids against the formula written out, and the recipes that stand on it and
on mirror images."""

import pytest
import torch
from matching_helpers import ARCH, CPU, NOWHERE, engine, recipe, tiny

from condense.config import UserError
from condense.discrepancy.hyperbolic import hyperbolic_centroids
from condense.engines import gradient
from condense.engines.moving import MovingImages
from condense.engines.orders import Order, Site
from condense.specs import catalogue


def on_hyperboloid(features):
    length = features.norm(dim=-1, keepdim=True)
    return torch.cat([length.cosh(), length.sinh() * features / length], -1)


def lorentz(first, second):
    return (first[..., 1:] * second[..., 1:]).sum(-1) - first[..., 0] * second[..., 0]


def written_out(real, synthetic):
    ends = []
    for features in (real, synthetic):
        mean = on_hyperboloid(features).mean(-2)
        ends.append(mean / lorentz(mean, mean).abs().sqrt().unsqueeze(-1))
    return (-lorentz(*ends)).arccosh()


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    real, synthetic = (torch.randn(3, count, 5, generator=generator).double() for count in (6, 2))
    return real, synthetic.requires_grad_()


def test_value_and_gradient_are_those_of_the_formula(samples):
    real, synthetic = samples
    values = hyperbolic_centroids(real, synthetic), written_out(real, synthetic)
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(value.sum(), synthetic)[0] for value in values]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_masked_images_do_not_count(samples):
    real, synthetic = samples
    mask = torch.arange(6).expand(3, 6) < 4
    torch.testing.assert_close(
        hyperbolic_centroids(real, synthetic, mask), hyperbolic_centroids(real[:, :4], synthetic)
    )


def test_long_features_neither_overflow_nor_cancel():
    """Two points on one ray, at 400 and 100 from the origin, are 300 apart; cosh of either is beyond single
    precision, and their products beyond double."""
    ray = torch.eye(5)[:1].unsqueeze(0)
    far = (100 * ray).requires_grad_()
    value = hyperbolic_centroids(400 * ray, far)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(300, rel=1e-6)
    (gradient,) = torch.autograd.grad(value.sum(), far)
    torch.testing.assert_close(gradient, -ray, rtol=1e-4, atol=1e-5)


def test_equal_samples_and_zeros_have_finite_gradients(samples):
    real, _ = samples
    for start in (real, torch.zeros_like(real)):
        same = start.clone().requires_grad_()
        value = hyperbolic_centroids(start, same)
        assert value.abs().max() < 1e-5
        assert torch.autograd.grad(value.sum(), same)[0].isfinite().all()


@pytest.mark.parametrize("method", ["hdd_dm", "hdd_idm"])
def test_the_centroid_stands_in_place_of_the_mean(method):
    ours, base = catalogue.recipe(method), catalogue.recipe(method.removeprefix("hdd_"))
    left, right = ours.computed_part(), base.computed_part()
    terms = left.pop("terms"), right.pop("terms")
    assert [term["name"] for term in terms[1]][0] == "mean" and terms[0][1:] == terms[1][1:]
    assert (terms[0][0]["name"], terms[0][0]["weight"]) == ("hyperbolic_centroid", 20.0)
    for part in (left, right):
        part.pop("name")
    assert left == right


def test_dance_moves_at_a_rate_of_a_hundredth_an_image():
    base = catalogue.recipe("dance")
    rates = {ipc: catalogue.resolve(base, "cifar10", "flip", ipc, []).optimizer.lr for ipc in (1, 10, 20, 50)}
    assert rates == {1: 0.01, 10: 0.1, 20: 0.2, 50: 0.5}
    trained = catalogue.protocol(base.networks.protocol).epochs
    assert (base.networks.count, base.networks.epochs, base.networks.mixed) == (20, None, True)
    assert trained == 60, "the protocol's own, so that a scale may cut them"


def moving(train, **changes):
    return MovingImages(recipe("dm", **changes), train, train.classes, ipc=2, seed=0, device=CPU)


def test_mirror_images_are_matched_and_not_kept(train):
    plain, mirrored = moving(train), moving(train, mirrored=True)
    images, labels = mirrored.matched()
    assert images.shape[1] == labels.shape[1] == 4 and mirrored.kept.shape == plain.kept.shape
    torch.testing.assert_close(images[:, :2], plain.matched()[0])
    torch.testing.assert_close(images[:, 2:], plain.matched()[0].flip(-1))
    assert (labels == labels[:, :1]).all()
    assert mirrored.shown().shape[1] == 2, "what a network is trained on between two steps"


def test_a_mirrored_step_follows_the_mean_of_both_halves(train):
    changes = {"mirrored": True, "steps": 1, "augment": {"siamese": "none"}}
    value = recipe("dm", optimizer={"lr": 1.0, "momentum": 0.0}, **changes)
    side, start = engine(value, train).stream.at(0), engine(value, train).moving.values.detach().clone()
    images = start.clone().requires_grad_()
    both = torch.cat([images, images.flip(-1)], 1)
    means = side.network.embed(both.flatten(0, 1)).unflatten(0, both.shape[:2]).mean(1)
    loss = (side.embedding.mean(1) - means).square().sum()
    wanted = start - torch.autograd.grad(loss, images)[0]
    torch.testing.assert_close(engine(value, train).run().images, wanted, rtol=1e-4, atol=1e-5)


def test_gradient_matching_takes_mirror_images_and_trains_its_network_without(train, monkeypatch):
    seen = []
    monkeypatch.setattr(gradient, "train", lambda network, images, *rest, **more: seen.append(len(images)))
    ends = []
    for mirrored in (False, True):
        value = tiny("dsa", steps=1, mirrored=mirrored)
        site = Site(train, train.classes, ARCH["arch"], ARCH["options"], 0, CPU)
        (outcome,) = gradient.match_gradients(site, [Order(value, 2, {}, NOWHERE)])
        ends.append(outcome.images)
    assert seen == [20, 20] and not torch.allclose(*ends)


def test_mirror_images_have_no_partners():
    with pytest.raises(UserError, match="mirror images have none"):
        recipe("dm_kl", mirrored=True)
