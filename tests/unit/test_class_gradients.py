"""Gradients of class losses: against one plain gradient a class, and what they owe whatever the network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condense import kernels, models
from condense.discrepancy.gradients import DISTANCES, gradient_distance
from condense.training import class_gradients as ours

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES, REAL, SYNTHETIC = 3, 7, 2
NETWORKS = {
    "convnet": {"depth": 2, "width": 16},
    "convnet_ln": {"depth": 2, "width": 8},
    "convnet_bn": {"depth": 2, "width": 8},
    "mlp": {},
    "resnet18_ap": {"width": 8},
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def network_of(name, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = models.build(
            name,
            channels=3,
            size=8,
            classes=4,
            **({"enlarge": 32} if "resnet" in name else {}),
            **NETWORKS[name],
        )
    network.to(dtype).train()
    ours.freeze_statistics(network, images(5, seed=3, dtype=dtype).flatten(0, 1))
    return network


def images(count, seed=0, dtype=torch.float64):
    return torch.randn(
        CLASSES, count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def labels(count):
    return torch.tensor([2, 0, 3])[:, None].expand(-1, count)


def plain_gradients(network, batch, label, parameters, **more):
    loss = F.cross_entropy(network(batch), torch.full((len(batch),), label))
    return torch.autograd.grad(loss, parameters, **more)


@every_network
def test_gradients_of_a_class_are_those_of_its_mean_loss(name):
    network, real = network_of(name), images(REAL)
    parameters = list(network.parameters())
    found = ours.class_gradients(network, real, labels(REAL), parameters)
    for place, label in enumerate((2, 0, 3)):
        for ours_, plain in zip(found, plain_gradients(network, real[place], label, parameters), strict=True):
            torch.testing.assert_close(ours_[place], plain, rtol=1e-9, atol=1e-12)
    assert not any(gradient.requires_grad for gradient in found)


def test_chunks_masks_and_generators_change_nothing(monkeypatch):
    network, real = network_of("convnet"), images(REAL)
    parameters = list(network.parameters())
    whole = ours.class_gradients(network, real, labels(REAL), parameters)
    monkeypatch.setattr(ours, "CHUNK", {"cpu": 3 * 8**2})
    mask = torch.tensor([[True] * 9, [True] * 9, [True] * 7 + [False] * 2])
    padded = torch.cat([real, images(2, seed=5)], 1)
    found = ours.class_gradients(network, (batch for batch in padded), labels(9), parameters, mask)
    some = ours.class_gradients(network, padded, labels(9), parameters)
    for masked, unmasked, wanted in zip(found, some, whole, strict=True):
        torch.testing.assert_close(masked[2], wanted[2], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(masked[:2], unmasked[:2], rtol=1e-9, atol=1e-12)
    assert (some[0][2] - whole[0][2]).abs().max() > 1e-6


def plain_discrepancy(network, real, synthetic, distance):
    parameters = distance.counted(list(network.parameters()))
    values = []
    for place, label in enumerate((2, 0, 3)):
        wanted = plain_gradients(network, real[place], label, parameters)
        made = plain_gradients(network, synthetic[place], label, parameters, create_graph=True)
        values.append(distance(wanted, made))
    return torch.stack(values)


def our_discrepancy(network, real, synthetic, distance):
    parameters = distance.counted(list(network.parameters()))
    wanted = ours.class_gradients(network, real, labels(real.shape[1]), parameters)
    return ours.gradient_discrepancy(
        network, wanted, synthetic, labels(synthetic.shape[1]), parameters, distance
    )


@every_network
@pytest.mark.parametrize(
    "distance",
    sorted(set(DISTANCES) - {"squared_difference_of_convolutions", "absolute_difference_of_convolutions"}),
)
def test_images_move_along_the_gradient_of_the_distance(name, distance):
    network, real, distance = network_of(name), images(REAL), gradient_distance(distance)
    pair = []
    for discrepancy in (our_discrepancy, plain_discrepancy):
        synthetic = images(SYNTHETIC, seed=1).requires_grad_()
        value = discrepancy(network, real, 0.7 * synthetic, distance)
        (value * torch.tensor([1.0, 2.0, 0.5])).sum().backward()
        pair.append((value.detach(), synthetic.grad))
    torch.testing.assert_close(*pair, rtol=1e-7, atol=1e-9)
    assert (pair[0][1].flatten(1).norm(dim=1) > 0).all()


@every_network
def test_a_class_alone_is_the_class_among_others(name):
    network, real, synthetic = network_of(name), images(REAL), images(SYNTHETIC, seed=1)
    distance = gradient_distance("layerwise_cosine")
    parameters = distance.counted(list(network.parameters()))
    together = our_discrepancy(network, real, synthetic, distance)
    wanted = ours.class_gradients(network, real[1:2], labels(REAL)[1:2], parameters)
    alone = ours.gradient_discrepancy(
        network, wanted, synthetic[1:2], labels(SYNTHETIC)[1:2], parameters, distance
    )
    torch.testing.assert_close(alone[0], together[1], rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(kernels.state() != "compiled", reason=f"kernels: {kernels.state()}")
def test_kernels_give_what_torch_gives_in_double_precision():
    real, synthetic = images(40), images(5, seed=1)
    distance = gradient_distance("layerwise_cosine")
    pair = []
    for dtype in (torch.float32, torch.float64):
        values = synthetic.to(dtype).requires_grad_()
        value = our_discrepancy(network_of("convnet", dtype), real.to(dtype), values, distance)
        value.sum().backward()
        pair.append((value.detach().double(), values.grad.double()))
    for found, wanted in zip(*pair, strict=True):
        assert ((found - wanted).norm() / wanted.norm()).item() < 1e-3


def test_the_real_side_can_be_computed_in_less():
    network, real = network_of("convnet", torch.float32), images(40, dtype=torch.float32)
    parameters = gradient_distance("layerwise_cosine").counted(list(network.parameters()))
    whole, less = (
        ours.class_gradients(network, real, labels(40), parameters, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for found, wanted in zip(less, whole, strict=True):
        assert found.dtype == torch.float32
        assert 1e-4 < ((found - wanted).norm() / wanted.norm()).item() < 0.15, (
            "of noise, whose gradients nearly cancel"
        )


def test_copies_of_the_real_images_and_dead_filters_give_finite_gradients():
    network, real = network_of("convnet"), images(SYNTHETIC)
    with torch.no_grad():
        # These channels are 0 for every image, so their filters have no gradient
        network.stages[1].body[1].bias[:4] = -100.0
    synthetic = real.clone().requires_grad_()
    value = our_discrepancy(network, real, synthetic, gradient_distance("layerwise_cosine"))
    value.sum().backward()
    torch.testing.assert_close(
        value.detach(), torch.full((CLASSES,), 4.0, dtype=torch.float64), rtol=1e-3, atol=0
    )
    assert torch.isfinite(synthetic.grad).all()


def test_only_the_value_is_computed_where_images_have_no_gradient():
    network, real, synthetic = network_of("convnet"), images(REAL), images(SYNTHETIC, seed=1)
    distance = gradient_distance("layerwise_cosine")
    with torch.no_grad():
        found = our_discrepancy(network, real, synthetic, distance)
    assert not found.requires_grad
    torch.testing.assert_close(
        found, our_discrepancy(network, real, synthetic.clone().requires_grad_(), distance).detach()
    )


def test_batch_norm_has_to_be_frozen_and_then_keeps_its_statistics():
    network = models.build("convnet_bn", channels=3, size=8, classes=4, depth=2, width=8).double().train()
    real, parameters = images(REAL), list(network.parameters())
    with pytest.raises(ValueError, match="freeze_statistics"):
        ours.class_gradients(network, real, labels(REAL), parameters)
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    ours.freeze_statistics(network, real.flatten(0, 1))
    maps = network.stages[0].body[0](real.flatten(0, 1))
    torch.testing.assert_close(norm.running_mean, 0.1 * maps.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * maps.var((0, 2, 3)))
    before = norm.running_mean.clone()
    ours.class_gradients(network, real, labels(REAL), parameters)
    assert torch.equal(norm.running_mean, before) and not norm.training and network.training
    network.train()
    assert norm.training


def test_what_does_not_fit_is_refused():
    network, real = network_of("convnet"), images(REAL)
    for classes in (real[:2], [], torch.cat([real, real])):
        with pytest.raises(ValueError, match="shorter|longer"):
            ours.class_gradients(network, classes, labels(REAL), list(network.parameters()))
    network.requires_grad_(False)
    with pytest.raises(ValueError, match="gradients"):
        ours.class_gradients(network, real, labels(REAL), list(network.parameters()))
