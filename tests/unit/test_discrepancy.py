import math

import pytest
import torch
import torch.nn.functional as F

from condense.discrepancy.critic import classifier_critic, prediction_kl
from condense.discrepancy.distances import distances
from condense.discrepancy.energy import diversity, energy_distance
from condense.discrepancy.mean import mean_discrepancy
from condense.discrepancy.schedules import linear_decay

DISCREPANCIES = {
    "mean": mean_discrepancy,
    "energy": energy_distance,
    "energy without its constant": lambda real, synthetic, mask=None: energy_distance(
        real, synthetic, mask, constant=False
    ),
}
every_discrepancy = pytest.mark.parametrize("discrepancy", DISCREPANCIES.values(), ids=DISCREPANCIES)


def sample(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cramer(x, y):
    """In one dimension the energy distance is 2 * integral of (F - G)^2, F and G being the distribution
    functions."""
    grid = torch.cat([x, y]).sort().values
    gap = (x[:, None] <= grid).double().mean(0) - (y[:, None] <= grid).double().mean(0)
    return 2 * (gap[:-1].square() * grid.diff()).sum()


@pytest.mark.parametrize("n, m", [(1, 1), (7, 3), (64, 10)])
def test_energy_distance_in_one_dimension_is_the_cramer_integral(n, m):
    x, y = sample(n), 2 + sample(m, seed=1)
    torch.testing.assert_close(energy_distance(x[:, None], y[:, None]), cramer(x, y), rtol=1e-10, atol=0)


def test_energy_distance_by_hand():
    # distances 0 3 4 / 5: cross 2 * (5 + 4 + 3) / 3, within real 2 * (3 + 5 + 4) / 9, within synthetic 0
    real, synthetic = torch.tensor([[0.0, 3.0], [0.0, 0.0], [4.0, 0.0]]), torch.tensor([[4.0, 3.0]])
    torch.testing.assert_close(energy_distance(real, synthetic), torch.tensor(2 * 12 / 3 - 2 * 12 / 9))
    torch.testing.assert_close(energy_distance(real, synthetic, constant=False), torch.tensor(8.0))


def test_energy_distance_is_zero_for_the_same_sample_and_positive_otherwise():
    real = sample(6, 3)
    assert energy_distance(real, real[torch.tensor([4, 0, 5, 2, 1, 3])]).abs() < 1e-14
    assert energy_distance(real, real.repeat(2, 1)).abs() < 1e-14  # the same distribution, every point twice
    assert energy_distance(real, real.mean(0, keepdim=True)) > 0.1  # equal means do not suffice
    assert mean_discrepancy(real, real.mean(0, keepdim=True)) < 1e-28


def test_energy_distance_scales_with_the_features_and_ignores_shifts_and_rotations():
    real, synthetic = sample(5, 3), sample(4, 3, seed=1)
    rotation = torch.linalg.qr(sample(3, 3, seed=2)).Q
    moved = [3 * (points @ rotation) + 7 for points in (real, synthetic)]
    torch.testing.assert_close(
        energy_distance(*moved), 3 * energy_distance(real, synthetic), rtol=1e-10, atol=0
    )


def test_mean_discrepancy_sums_over_features():
    real = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert mean_discrepancy(real, torch.zeros(4, 3)) == 3 * 2.0**2


def test_diversity_is_minus_the_mean_distance_with_the_diagonal():
    assert diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0]])) == -2 * 5 / 4
    assert diversity(sample(1, 8)) == 0


@every_discrepancy
def test_order_of_samples_is_irrelevant(discrepancy):
    real, synthetic = sample(9, 4), sample(5, 4, seed=1)
    torch.testing.assert_close(
        discrepancy(real.flip(0), synthetic.roll(2, 0)), discrepancy(real, synthetic), rtol=1e-12, atol=0
    )


@every_discrepancy
def test_a_class_alone_is_the_class_in_a_batch(discrepancy):
    real, synthetic = sample(2, 3, 9, 4), sample(2, 3, 5, 4, seed=1)
    together = discrepancy(real, synthetic)
    assert together.shape == (2, 3)
    torch.testing.assert_close(together[1, 2], discrepancy(real[1, 2], synthetic[1, 2]), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        discrepancy(real[0, 0], synthetic),
        discrepancy(real[:1, :1].expand_as(real), synthetic),
        rtol=1e-12,
        atol=0,
    )


@every_discrepancy
def test_a_mask_makes_the_batch_shorter(discrepancy):
    real, synthetic = sample(2, 9, 4), sample(2, 5, 4, seed=1)
    mask = torch.arange(9) < torch.tensor([[9], [6]])
    masked = discrepancy(real, synthetic, mask)
    expected = torch.stack([discrepancy(real[0], synthetic[0]), discrepancy(real[1, :6], synthetic[1])])
    torch.testing.assert_close(masked, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        discrepancy(real * mask.unsqueeze(-1), synthetic, mask), masked, rtol=1e-12, atol=0
    )


@every_discrepancy
def test_gradient_is_that_of_finite_differences(discrepancy):
    real, synthetic = sample(2, 6, 3), sample(2, 4, 3, seed=1)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    inputs = (real.requires_grad_(), synthetic.requires_grad_())
    assert torch.autograd.gradcheck(lambda real, synthetic: discrepancy(real, synthetic, mask), inputs)


@every_discrepancy
def test_dtype_is_kept_and_samples_are_checked(discrepancy):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert discrepancy(sample(4, 3).to(dtype), sample(2, 3).to(dtype)).dtype == dtype
    for real, synthetic in (((4, 3), (2, 5)), ((0, 3), (2, 3)), ((4, 3), (0, 3))):
        with pytest.raises(ValueError, match="need"):
            discrepancy(torch.zeros(real), torch.zeros(synthetic))
    with pytest.raises(ValueError, match="mask"):
        discrepancy(sample(4, 3), sample(2, 3), torch.ones(3, dtype=torch.bool))


@every_discrepancy
def test_half_precision_real_features_meet_single_precision_synthetic_ones(discrepancy):
    real, synthetic = sample(4, 3).bfloat16(), sample(2, 3).float()
    assert torch.equal(discrepancy(real, synthetic), discrepancy(real.float(), synthetic))


def test_distances_agree_with_differences_also_where_leading_axes_broadcast():
    a, b = sample(2, 1, 5, 3).requires_grad_(), sample(4, 6, 3, seed=1).requires_grad_()
    cotangent = sample(2, 4, 5, 6, seed=2)
    by_differences = torch.linalg.vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), dim=-1)
    torch.testing.assert_close(distances(a, b), by_differences)
    ours, theirs = (
        torch.autograd.grad(value, (a, b), cotangent) for value in (distances(a, b), by_differences)
    )
    torch.testing.assert_close(ours, theirs)


def test_coincident_points_have_gradient_zero():
    real = sample(5, 3)
    synthetic = real[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy_distance(real, synthetic), synthetic)
    away = 2 * (real[:1] - real[1:]) / torch.linalg.vector_norm(real[:1] - real[1:], dim=-1, keepdim=True) / 5
    torch.testing.assert_close(gradient[0], away.sum(0))
    equal = torch.ones(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(energy_distance(equal.detach(), equal), equal)
    assert torch.equal(gradient, torch.zeros(4, 3))


@pytest.mark.parametrize("gap", [1e-6, 1e-3])
def test_single_precision_is_exact_next_to_zero_distance(gap):
    real = sample(8, 2048, dtype=torch.float32) + 3
    synthetic = (real[:4] + gap * sample(4, 2048, seed=1, dtype=torch.float32)).requires_grad_()
    exact = torch.linalg.vector_norm(real.double()[:, None] - synthetic.detach().double(), dim=-1)
    torch.testing.assert_close(distances(real, synthetic).double(), exact, rtol=1e-5, atol=0)
    # each pair of neighbours pulls with a unit vector, however near they are
    (gradient,) = torch.autograd.grad(distances(real[:4], synthetic).diagonal().sum(), synthetic)
    torch.testing.assert_close(torch.linalg.vector_norm(gradient, dim=-1), torch.ones(4), rtol=1e-4, atol=0)


def test_critic_is_cross_entropy():
    logits, labels = sample(3, 7, 10), torch.randint(10, (3, 7), generator=torch.Generator().manual_seed(1))
    expected = torch.stack([F.cross_entropy(*each) for each in zip(logits, labels, strict=True)])
    torch.testing.assert_close(classifier_critic(logits, labels), expected)


def test_prediction_kl_by_hand_and_against_torch():
    certain, even = torch.tensor([[0.75, 0.25]]).log(), torch.zeros(1, 2)
    torch.testing.assert_close(
        prediction_kl(certain, even), torch.tensor(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    )
    real, synthetic = sample(2, 5, 4), sample(2, 5, 4, seed=1)
    pairs = zip(real, synthetic, strict=True)
    expected = [
        F.kl_div(b.log_softmax(-1), a.log_softmax(-1), reduction="batchmean", log_target=True)
        for a, b in pairs
    ]
    torch.testing.assert_close(prediction_kl(real, synthetic), torch.stack(expected))
    assert prediction_kl(real, real + 5).abs().max() < 1e-15  # logits are free up to a constant
    with pytest.raises(ValueError, match="cut"):
        prediction_kl(real, synthetic[:, :3])


def test_linear_decay_falls_from_one_and_would_reach_zero_after_the_last_step():
    assert [linear_decay(step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]
