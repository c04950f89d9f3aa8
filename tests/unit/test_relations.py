"""The terms of A.2 of `discrepancy`, the Hausdorff distance and the barycentre: closed forms, plain loops and
identities."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, directed_hausdorff

from condense.discrepancy import contrast, similarity, style
from condense.discrepancy.barycentre import distance_to_atoms, wasserstein_barycentre
from condense.discrepancy.hausdorff import hausdorff_distance


def sample(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MASK = torch.tensor([[True] * 6, [True] * 3 + [False] * 3, [True] * 5 + [False]])
# Every term as a function of a synthetic sample (3, 4, 5), with what else it needs.
OF_SYNTHETIC = {
    "representative": lambda x: similarity.representative(sample(3, 6, 5, seed=1), x, MASK),
    "representative, farthest": lambda x: similarity.representative(
        sample(3, 6, 5, seed=1), x, MASK, "farthest"
    ),
    "cosine_diversity": similarity.cosine_diversity,
    "intra_class_contrast": lambda x: contrast.intra_class_contrast(x, sample(3, 5, seed=2), 0.7),
    "inter_class_margin": lambda x: contrast.inter_class_margin(x.mean(1), 3.0),
    "network_contrast": lambda x: contrast.network_contrast(torch.stack([x, x.tanh()], 1), 0.7),
    "network_cosine": lambda x: contrast.network_cosine(torch.stack([x, x.tanh()], 1)),
    "discrimination": lambda x: contrast.discrimination(sample(3, 6, 5, seed=1), x, MASK),
    "hausdorff": lambda x: hausdorff_distance(sample(3, 6, 5, seed=1), x, MASK),
    "atoms": lambda x: distance_to_atoms(x, sample(3, 4, 5, seed=3)),
    "class statistics": lambda x: style.distance_of_statistics(
        sample(3, 10, seed=3).abs(), torch.cat([x.mean(1), x.square().mean(1)], 1)
    ),
}
every_term = pytest.mark.parametrize("term", OF_SYNTHETIC.values(), ids=OF_SYNTHETIC)


@every_term
def test_gradients_are_those_of_finite_differences(term):
    assert torch.autograd.gradcheck(lambda x: term(x).sum(), (sample(3, 4, 5).requires_grad_(True),))


# Each sample has an atom of its own
@pytest.mark.parametrize("name", sorted(OF_SYNTHETIC.keys() - {"atoms"}))
def test_the_order_of_synthetic_samples_does_not_matter(name):
    x = sample(3, 4, 5)
    torch.testing.assert_close(
        OF_SYNTHETIC[name](x[:, [2, 0, 3, 1]]), OF_SYNTHETIC[name](x), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(
    "function",
    [similarity.representative, hausdorff_distance, contrast.discrimination],
    ids=lambda f: f.__name__,
)
def test_a_mask_makes_the_batch_shorter_and_the_order_of_real_samples_does_not_matter(function):
    real, synthetic, order = sample(3, 6, 5, seed=1), sample(3, 4, 5), [4, 2, 0, 5, 3, 1]
    together = function(real, synthetic, MASK)
    torch.testing.assert_close(
        function(real[:, order], synthetic, MASK[:, order]), together, rtol=1e-12, atol=1e-14
    )
    spoilt = torch.where(MASK.unsqueeze(-1), real, 1e3)
    torch.testing.assert_close(function(spoilt, synthetic, MASK), together, rtol=1e-12, atol=1e-14)
    assert function(real.float(), synthetic.float()).dtype == torch.float32
    with pytest.raises(ValueError, match="need"):
        function(real, synthetic[..., :4])


def cosine(a, b):
    return F.cosine_similarity(a, b, dim=0)


def test_the_representative_term_asks_the_nearest_real_sample_or_the_farthest():
    # angles of 0 and 90 degrees against 60: the cosines are 1/2 and sqrt(3)/2; lengths do not matter
    real, synthetic = torch.tensor([[2.0, 0.0], [0.0, 9.0]]), torch.tensor([[0.5, math.sqrt(0.75)]]) * 3
    assert similarity.representative(real, synthetic).item() == pytest.approx(-math.sqrt(0.75))
    assert similarity.representative(real, synthetic, reading="farthest").item() == pytest.approx(-0.5)
    real, synthetic = sample(6, 5, seed=1), sample(4, 5)
    for reading, pick in (("nearest", max), ("farthest", min)):
        by_hand = -sum(pick(cosine(s, r).item() for r in real) for s in synthetic) / 4
        assert similarity.representative(real, synthetic, reading=reading).item() == pytest.approx(
            by_hand, rel=1e-12
        )


def test_cosine_diversity_looks_at_the_most_similar_other_sample():
    x = sample(4, 5)
    by_hand = sum(max(cosine(x[i], x[j]).item() for j in range(4) if j != i) for i in range(4)) / 4
    assert similarity.cosine_diversity(x).item() == pytest.approx(by_hand, rel=1e-12)
    assert similarity.cosine_diversity(torch.eye(3)).item() == 0  # at right angles
    assert similarity.cosine_diversity(torch.cat([x, 2 * x])).item() == pytest.approx(1)
    assert similarity.cosine_diversity(x[:1]).item() == 0


def test_intra_class_contrast_is_its_formula():
    x, c, t = sample(4, 5), sample(5, seed=2), 0.7
    total = 0.0
    for i in range(4):
        own = math.exp(x[i] @ c / t)
        total -= math.log(own / (own + sum(math.exp(x[i] @ x[j] / t) for j in range(4) if j != i))) / 4
    assert contrast.intra_class_contrast(x, c, t).item() == pytest.approx(total, rel=1e-12)
    assert contrast.intra_class_contrast(x[:1], c).item() == 0
    # k samples at right angles to each other and to the class embedding: all inner products are 0
    assert contrast.intra_class_contrast(torch.eye(4)[:3], torch.eye(4)[3]).item() == pytest.approx(
        math.log(3)
    )


def test_the_margin_counts_every_pair_from_both_sides():
    means = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])  # 5, 1 and sqrt(18) apart
    lacks = {(0, 1): 0, (0, 2): 3.5, (1, 2): 4.5 - math.sqrt(18)}
    expected = [lacks[0, 1] + lacks[0, 2], lacks[0, 1] + lacks[1, 2], lacks[0, 2] + lacks[1, 2]]
    torch.testing.assert_close(contrast.inter_class_margin(means, 4.5), torch.tensor(expected))
    assert contrast.inter_class_margin(means, 0.5).tolist() == [0, 0, 0]
    twice = torch.zeros(2, 3, requires_grad=True)
    contrast.inter_class_margin(twice, 1.0).sum().backward()
    assert twice.grad.tolist() == [[0, 0, 0]] * 2  # two means in one place have no direction


def test_the_terms_of_several_networks_are_their_formulas():
    h, t = sample(3, 4, 5), 0.7
    con = cos = 0.0
    for j in range(3):
        for k in range(3):
            for i in range(4 if j != k else 0):
                scores = [math.exp(h[j, i] @ h[k, s] / t) for s in range(4)]
                con -= math.log(scores[i] / sum(scores)) / 9 / 4
                cos += cosine(h[j, i], h[k, i]).item() / 9 / 4
    assert contrast.network_contrast(h, t).item() == pytest.approx(con, rel=1e-12)
    assert contrast.network_cosine(h).item() == pytest.approx(cos, rel=1e-12)
    same = torch.stack([h[0], 2 * h[0]])
    assert contrast.network_cosine(same).item() == pytest.approx(1 / 2)  # both orders of one pair, over 2^2
    assert contrast.network_contrast(torch.zeros(2, 4, 5)).item() == pytest.approx(math.log(4) / 2)
    with pytest.raises(ValueError, match="pairs"):
        contrast.network_cosine(h[:1])


def test_discrimination_is_cross_entropy_with_class_means_as_the_classifier():
    real, synthetic = sample(3, 6, 5, seed=1), sample(3, 4, 5)
    expected = F.cross_entropy(real.flatten(0, 1) @ synthetic.mean(1).T, torch.arange(3).repeat_interleave(6))
    torch.testing.assert_close(contrast.discrimination(real, synthetic).sum(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        contrast.discrimination(real, 0 * synthetic), torch.full((3,), math.log(3) / 3).double()
    )


@pytest.mark.parametrize("n, m", [(1, 1), (9, 4), (4, 9)])
def test_hausdorff_distance_agrees_with_scipy(n, m):
    a, b = sample(n, 3), 1 + sample(m, 3, seed=1)
    expected = max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
    assert (
        hausdorff_distance(a, b).item()
        == hausdorff_distance(b, a).item()
        == pytest.approx(expected, rel=1e-12)
    )
    assert hausdorff_distance(a, a.flip(0)).item() == 0
    assert hausdorff_distance(3 * a, 3 * b).item() == pytest.approx(3 * expected, rel=1e-12)


def test_class_statistics_are_those_of_all_places_of_all_images():
    maps = [sample(7, 2, 4, 4), 1 + sample(7, 3, 2, 2, seed=1)]
    others = [2 * one + 1 for one in maps]

    def of_class(layers):
        pixels = [one.movedim(1, 0).flatten(1) for one in layers]
        return torch.cat([one.mean(1) for one in pixels]), torch.cat(
            [one.var(1, correction=0) for one in pixels]
        )

    (mean, variance), (other_mean, other_variance) = of_class(maps), of_class(others)
    expected = torch.linalg.vector_norm(mean - other_mean) + torch.linalg.vector_norm(
        variance - other_variance
    )
    found = style.distance_of_statistics(style.raw_moments(maps).mean(0), style.raw_moments(others).mean(0))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)


def test_one_atom_is_the_mean_and_as_many_as_samples_are_the_samples():
    x = sample(12, 3)
    (atom,), cost = wasserstein_barycentre(x, sample(1, 3, seed=1))
    torch.testing.assert_close(atom, x.mean(0))
    assert cost == pytest.approx(x.var(0, correction=0).sum().item())
    atoms, cost = wasserstein_barycentre(x, sample(12, 3, seed=1))
    torch.testing.assert_close(atoms.sort(0).values, x.sort(0).values)
    assert cost == pytest.approx(0, abs=1e-12)


def test_the_cost_is_that_of_the_best_assignment_and_atoms_are_means_of_what_they_take():
    x, k = sample(12, 3), 4
    atoms, cost = wasserstein_barycentre(x, sample(k, 3, seed=1))
    costs = cdist(atoms.repeat_interleave(3, 0), x, "sqeuclidean")  # three samples an atom
    rows, columns = linear_sum_assignment(costs)
    assert cost == pytest.approx(costs[rows, columns].mean(), rel=1e-9)
    torch.testing.assert_close(atoms, x[columns].unflatten(0, (k, 3)).mean(1), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(atoms.mean(0), x.mean(0))
    moved, other = wasserstein_barycentre(2 * x + 5, 2 * sample(k, 3, seed=1) + 5)
    torch.testing.assert_close(moved, 2 * atoms + 5)
    assert other == pytest.approx(4 * cost)


def test_the_distance_to_atoms_is_by_pairs():
    atoms = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert distance_to_atoms(atoms + torch.tensor([3.0, 0.0]), atoms).item() == pytest.approx(math.sqrt(18))
    assert distance_to_atoms(atoms.flip(0), atoms).item() == 2
    with pytest.raises(ValueError, match="atom"):
        distance_to_atoms(atoms[:1], atoms)
