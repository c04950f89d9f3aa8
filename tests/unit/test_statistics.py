"""Discrepancies of moments, style, kernels and characteristic functions, reached by another road."""

import math

import pytest
import torch
import torch.nn.functional as F

from condense.config import UserError
from condense.discrepancy import frequencies, style
from condense.discrepancy.characteristic import characteristic_energy, characteristic_function
from condense.discrepancy.diversity import intra_class_diversity
from condense.discrepancy.kernels import GAMMAS, MULTIPLIERS, kernel_mmd
from condense.discrepancy.mean import covariance_discrepancy, variance_discrepancy

KERNELS = ("gaussian", "linear", "polynomial", "laplace")


def sample(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def waves(real, synthetic, mask=None):
    return characteristic_function(real, synthetic, sample(7, real.shape[-1], seed=9), mask)


def waves_apart(real, synthetic, mask=None):
    return characteristic_energy(real, synthetic, sample(7, real.shape[-1], seed=9), mask)


ALL = {
    "variance": variance_discrepancy,
    "covariance": covariance_discrepancy,
    "waves": waves,
    "waves apart": waves_apart,
}
ALL |= {
    kernel: (lambda real, synthetic, mask=None, kernel=kernel: kernel_mmd(real, synthetic, mask, kernel))
    for kernel in KERNELS
}
every = pytest.mark.parametrize("discrepancy", ALL.values(), ids=ALL)


@every
def test_order_does_not_matter_and_classes_are_apart(discrepancy):
    real, synthetic = sample(2, 6, 3), sample(2, 4, 3, seed=1)
    together = discrepancy(real, synthetic)
    assert together.shape == (2,)
    torch.testing.assert_close(
        discrepancy(real.flip(1), synthetic[:, [2, 0, 3, 1]]), together, rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(
        torch.stack([discrepancy(*pair) for pair in zip(real, synthetic, strict=True)]),
        together,
        rtol=1e-9,
        atol=0,
    )


@every
def test_what_a_mask_leaves_out_does_not_count(discrepancy):
    real, synthetic = sample(6, 3), sample(4, 3, seed=1)
    mask = torch.tensor([True, True, False, True, False, True])
    torch.testing.assert_close(
        discrepancy(real, synthetic, mask), discrepancy(real[mask], synthetic), rtol=1e-9, atol=1e-12
    )


@every
def test_gradients_are_those_of_small_changes(discrepancy, monkeypatch):
    # The bandwidth counts as a constant, so it has to be one.
    monkeypatch.setattr(
        "condense.discrepancy.kernels.bandwidth", lambda apart, held: torch.tensor(2.0, dtype=apart.dtype)
    )
    real, synthetic = sample(5, 3), sample(3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: discrepancy(real, given), synthetic)


def test_variances_and_covariances_are_those_of_torch():
    real, synthetic = sample(8, 4), sample(5, 4, seed=1)
    covariances = [torch.cov(points.T, correction=0) for points in (real, synthetic)]
    torch.testing.assert_close(
        covariance_discrepancy(real, synthetic), (covariances[0] - covariances[1]).square().sum()
    )
    variances = [points.var(0, correction=0) for points in (real, synthetic)]
    torch.testing.assert_close(
        variance_discrepancy(real, synthetic), (variances[0] - variances[1]).square().sum()
    )
    assert covariance_discrepancy(real, real + 5.0).abs() < 1e-12, "means do not enter"


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_by_double_loops(kernel):
    real, synthetic = sample(5, 3), sample(4, 3, seed=1)
    both = torch.cat([real, synthetic])
    pairs = [(a - b).square().sum().item() for i, a in enumerate(both) for j, b in enumerate(both) if i != j]
    width = math.fsum(pairs) / len(pairs)

    def value(a, b):
        apart, product = (a - b).square().sum().item(), (a @ b).item()
        return {
            "gaussian": lambda: sum(math.exp(-apart / width / multiple) for multiple in MULTIPLIERS),
            "laplace": lambda: sum(math.exp(-gamma * apart) for gamma in GAMMAS),
            "polynomial": lambda: (product + 1) ** 2,
            "linear": lambda: product,
        }[kernel]()

    def mean(a, b):
        return math.fsum(value(x, y) for x in a for y in b) / len(a) / len(b)

    wanted = mean(real, real) - 2 * mean(real, synthetic) + mean(synthetic, synthetic)
    assert kernel_mmd(real, synthetic, kernel=kernel).item() == pytest.approx(wanted, rel=1e-9)
    assert kernel_mmd(real, real.flip(0), kernel=kernel).abs() < 1e-12


def test_with_equal_weights_the_characteristic_discrepancy_is_the_modulus_of_the_difference():
    real, synthetic, t = sample(6, 3), sample(4, 3, seed=1), sample(11, 3, seed=2)
    functions = [torch.exp(1j * (points @ t.T)).mean(0) for points in (real, synthetic)]
    wanted = ((functions[0] - functions[1]).abs() / math.sqrt(2)).mean()
    torch.testing.assert_close(characteristic_function(real, synthetic, t), wanted, rtol=1e-6, atol=0)


def test_blocks_of_frequencies_give_the_same(monkeypatch):
    real, synthetic, t = sample(6, 3), sample(4, 3, seed=1), sample(11, 3, seed=2)
    whole = [function(real, synthetic, t) for function in (characteristic_function, characteristic_energy)]
    monkeypatch.setattr("condense.discrepancy.characteristic._BLOCK", 12)
    for function, wanted in zip((characteristic_function, characteristic_energy), whole, strict=True):
        torch.testing.assert_close(function(real, synthetic, t), wanted, rtol=1e-12, atol=0)


def test_the_energy_of_characteristics_by_double_loops():
    real, synthetic, t = sample(4, 3), sample(3, 3, seed=1), sample(9, 3, seed=2)

    def apart(a, b):
        return (torch.exp(1j * (t @ a)) - torch.exp(1j * (t @ b))).abs().mean().item()

    attraction = math.fsum(apart(x, s) for x in real for s in synthetic) / 12
    repulsion = math.fsum(apart(a, b) for a in synthetic for b in synthetic) / 9
    assert characteristic_energy(real, synthetic, t).item() == pytest.approx(
        2 * attraction - repulsion, rel=1e-9
    )


def test_moments_are_those_of_torch_and_a_constant_map_has_a_gradient():
    maps = sample(3, 4, 5, 6)
    torch.testing.assert_close(
        style.moments(maps), torch.cat([maps.mean((2, 3)), maps.var((2, 3), correction=0)], 1)
    )
    torch.testing.assert_close(style.moments(maps, "deviation")[:, 4:], maps.std((2, 3), correction=0))
    constant = torch.ones(1, 2, 3, 3, requires_grad=True)
    style.moments(constant, "deviation").sum().backward()
    assert torch.isfinite(constant.grad).all()


def test_gram_matrices_carry_the_factor_of_the_paper():
    a, b = sample(1, 3, 4, 5), sample(1, 3, 4, 5, seed=1)
    raw = [torch.einsum("ahw,bhw->ab", one[0], one[0]) for one in (a, b)]
    wanted = (raw[0] - raw[1]).square().sum() / (4 * (4 * 5) ** 2 * 3**2)
    torch.testing.assert_close(style.squared_distance(style.gram(a), style.gram(b))[0], wanted)
    moved = a[..., torch.randperm(4, generator=torch.Generator().manual_seed(0)), :]
    (
        torch.testing.assert_close(style.gram(moved), style.gram(a)),
        "where something lies does not matter to style",
    )


@pytest.mark.parametrize("power", [1, 2, 4])
def test_attention_has_length_one_and_ignores_the_scale(power):
    maps = sample(3, 4, 2, 5)
    found = style.attention(maps, power)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(style.attention(7 * maps, power), found)
    torch.testing.assert_close(found[0], F.normalize((maps[0].abs() ** power).sum(0).flatten(), dim=0))
    assert style.attention(torch.zeros(1, 2, 2, 2)).abs().max() == 0


def test_layers_are_counted_from_one():
    maps = [sample(1, 2, 2, 2), sample(1, 2, 1, 1)]
    assert style.chosen(maps, [2]) == [maps[1]] and style.chosen(maps, None) == maps
    with pytest.raises(UserError, match="layer 3 is asked for, but the network has 2"):
        style.chosen(maps, [3])


@pytest.mark.parametrize("through", [True, False])
def test_diversity_inside_a_class_by_loops(through):
    points = sample(6, 4).requires_grad_()
    others = points if through else points.detach()
    total = 0.0
    for place in range(6):
        order = (points.detach() - points[place].detach()).norm(dim=1).argsort()
        mean = others[order[1:3]].mean(0)
        own = points[place].log_softmax(0)
        total = total - (own.exp() * (own - mean.log_softmax(0))).sum()
    found = intra_class_diversity(points, 2, through)
    torch.testing.assert_close(found, total)
    gradients = [torch.autograd.grad(value, points)[0] for value in (found, total)]
    torch.testing.assert_close(*gradients)


def test_diversity_without_neighbours_is_nothing():
    single, none = sample(2, 1, 3).requires_grad_(), sample(2, 4, 3)
    assert intra_class_diversity(single, 2).tolist() == [0, 0] and intra_class_diversity(
        none, 0
    ).tolist() == [0, 0]
    intra_class_diversity(single, 2).sum().backward()
    assert single.grad.abs().max() == 0
    assert torch.equal(intra_class_diversity(none, 9), intra_class_diversity(none, 3)), (
        "there are no more than the others"
    )


def test_a_trained_sampler_tells_samples_further_apart():
    """The discrepancy at its frequencies grows along its gradient."""
    real, synthetic, noise = (
        sample(32, 4).float(),
        0.5 * sample(8, 4, seed=1).float(),
        sample(4, 4, seed=2).float(),
    )
    parameters = frequencies.drawn(4, torch.Generator().manual_seed(0))

    def value():
        return characteristic_function(real, synthetic, frequencies.sampled(parameters, noise, 12))

    before = value().item()
    for _ in range(50):
        for parameter in parameters.values():
            parameter.requires_grad_()
        gradients = torch.autograd.grad(value(), list(parameters.values()))
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.detach_().add_(gradient, alpha=0.05)
    assert value().item() > before + 0.02
