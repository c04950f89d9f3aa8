from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances

from condense.config import UserError
from condense.discrepancy.hausdorff import hausdorff_distance
from condense.select import clustering, coreset, covering
from condense.specs import Covering, catalogue


def points(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def herding_by_definition(features, k):
    """The unused sample nearest to (i + 1) * mean - sum of those taken, sample by sample."""
    taken = []
    for step in range(k):
        target = (step + 1) * features.mean(0) - sum(
            (features[i] for i in taken), np.zeros(features.shape[1])
        )
        taken.append(
            min(
                (i for i in range(len(features)) if i not in taken),
                key=lambda i: np.linalg.norm(features[i] - target),
            )
        )
    return taken


@pytest.mark.parametrize("n, d, k", [(1, 3, 1), (20, 2, 20), (60, 16, 9)])
def test_herding_is_its_definition(n, d, k):
    features = points(n, d) + 100
    assert coreset.herding(features, k).tolist() == herding_by_definition(features, k)


def test_herding_by_hand():
    # mean 2: first the 2; then nearest to 2 * 2 - 2 = 2: the 1; then nearest to 6 - 3 = 3: the 3
    assert coreset.herding(np.array([[0.0], [1.0], [3.0], [2.0], [4.0]]), 3).tolist() == [3, 1, 2]


def test_herding_keeps_the_mean_better_than_chance():
    features = points(500, 8)
    errors = [
        np.linalg.norm(features[coreset.herding(features, k)].mean(0) - features.mean(0)) for k in (5, 50)
    ]
    chance = np.linalg.norm(features[:50].mean(0) - features.mean(0))
    assert errors[1] < errors[0] / 3 and errors[1] < chance / 5


def test_k_center_by_hand():
    features = np.array([[0.0], [1.0], [5.0], [9.0], [10.0]])
    order = coreset.k_center(features, 4, first=1)
    assert order.tolist() == [1, 4, 2, 0]  # 10 is 9 away; then 5 is 4 away; then 0 and 9 are both 1 away
    assert coreset.k_center_radius(features, order).tolist() == [9, 4, 1, 1]


def test_k_center_always_adds_the_farthest_sample():
    features = points(80, 4)
    between = pairwise_distances(features)
    order = coreset.k_center(features, 30, first=7)
    radius = coreset.k_center_radius(features, order)
    assert order[0] == 7 and len(set(order.tolist())) == 30
    for step in range(1, 30):
        gaps = between[:, order[:step]].min(1)
        assert order[step] == gaps.argmax()
        np.testing.assert_allclose(radius[step - 1], gaps.max(), rtol=1e-12)
    assert (np.diff(radius) <= 0).all()
    assert coreset.k_center_radius(features, coreset.k_center(features, 80, first=0))[-1] == 0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_k_center_is_within_twice_the_best_radius(k):
    features = points(12, 2, seed=1)
    between = pairwise_distances(features)
    best = min(between[:, list(centres)].min(1).max() for centres in combinations(range(12), k))
    for first in range(12):
        assert coreset.k_center_radius(features, coreset.k_center(features, k, first))[-1] <= 2 * best + 1e-12


def test_k_means_takes_the_image_nearest_to_each_centroid_of_clusters_apart():
    centres = 50.0 * np.eye(4)
    features = (centres[:, None] + points(40, 4).reshape(4, 10, 4)).reshape(40, 4)
    expected = []
    for cluster in np.arange(40).reshape(4, 10):  # by hand: the clusters are those made, and far apart
        centroid = features[cluster].mean(0)
        expected.append(cluster[np.linalg.norm(features[cluster] - centroid, axis=1).argmin()])
    for seed in range(5):
        found = clustering.k_means(features, 4, torch.Generator().manual_seed(seed))
        assert found.tolist() == expected
    # At one image a class: the one nearest to the mean of all, whatever is drawn
    nearest = np.linalg.norm(features - features.mean(0), axis=1).argmin()
    assert clustering.k_means(features, 1, torch.Generator().manual_seed(9)).tolist() == [nearest]


def test_lloyd_ends_where_the_library_does():
    features = points(200, 6, seed=3)
    start = features[[5, 60, 111, 150, 199]]
    library = KMeans(5, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(features)
    assert clustering.lloyd(features, start) == pytest.approx(library.cluster_centers_, abs=1e-10)


def test_k_means_takes_distinct_images_even_of_copies():
    features = np.repeat(points(3, 2), 4, axis=0)
    for k in (3, 7, 12):
        found = clustering.k_means(features, k, torch.Generator().manual_seed(k))
        assert len(set(found.tolist())) == k
        assert {int(index) // 4 for index in found} == {0, 1, 2}


def test_the_choice_for_a_smaller_k_comes_first():
    features = points(30, 3)
    assert coreset.herding(features, 20)[:6].tolist() == coreset.herding(features, 6).tolist()
    assert coreset.k_center(features, 20, 4)[:6].tolist() == coreset.k_center(features, 6, 4).tolist()
    large, small = (coreset.random_choice(30, k, torch.Generator().manual_seed(0)) for k in (20, 6))
    assert large[:6].tolist() == small.tolist()


def test_copies_of_a_sample_are_distinct_candidates_in_their_order():
    features = np.ones((4, 3))
    assert coreset.herding(features, 4).tolist() == [0, 1, 2, 3]
    assert coreset.k_center(features, 4, first=2).tolist() == [2, 0, 1, 3]


def test_tensors_and_arrays_give_the_same_choice():
    features = points(40, 5)
    tensor = torch.tensor(features, requires_grad=True)
    assert coreset.herding(tensor, 7).tolist() == coreset.herding(features, 7).tolist()
    assert coreset.k_center(tensor, 7, 0).tolist() == coreset.k_center(features, 7, 0).tolist()


def test_forgetting_counts_falls_from_right_to_wrong():
    correct = np.array([[0, 1, 1, 0, 1], [0, 0, 1, 1, 0], [0, 1, 1, 1, 1], [0, 0, 1, 0, 0]], dtype=bool)
    counts = coreset.forgetting_counts(correct)
    assert counts.tolist() == [0, 2, 0, 1, 2]  # never learnt and never forgotten both have 0
    assert coreset.forgetting_counts(torch.tensor(correct)).tolist() == counts.tolist()
    assert coreset.forgetting_counts(correct[:1]).tolist() == [0] * 5
    assert coreset.forgetting(counts, 5).tolist() == [1, 4, 3, 0, 2]


def test_random_choice_is_uniform_without_replacement():
    generator = torch.Generator().manual_seed(0)
    draws = [coreset.random_choice(5, 2, generator) for _ in range(4000)]
    assert all(len(set(draw.tolist())) == 2 for draw in draws)
    share = np.bincount(np.concatenate(draws), minlength=5) / 8000
    assert abs(share - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 8000)


@pytest.mark.parametrize("k", [0, 6])
def test_a_wrong_size_is_a_user_error(k):
    features, generator = points(5, 2), torch.Generator()
    for choose in (
        lambda: coreset.herding(features, k),
        lambda: coreset.k_center(features, k, 0),
        lambda: clustering.k_means(features, k, generator),
        lambda: coreset.forgetting(np.zeros(5), k),
        lambda: coreset.random_choice(5, k, generator),
    ):
        with pytest.raises(UserError, match=f"{k} images were asked of a class that has 5"):
            choose()
    with pytest.raises(ValueError, match="cannot be -1"):
        coreset.k_center(features, 2, first=-1)


def covering_radius(features, chosen):
    return pairwise_distances(features)[:, list(chosen)].min(1).max()


@pytest.mark.parametrize("k, seed", [(1, 0), (2, 1), (3, 2), (4, 3), (12, 4)])
def test_no_images_cover_better_than_minimum_covering(k, seed):
    features = points(12, 2, seed=seed)
    best = min(covering_radius(features, centres) for centres in combinations(range(12), k))
    for first in (0, 5):
        found = covering.minimum_covering(features, k, first, Covering())
        assert len(set(found.tolist())) == k and found.tolist() == sorted(found)
        assert covering_radius(features, found) == pytest.approx(best, abs=1e-12)
        chosen, everything = torch.tensor(features[found]), torch.tensor(features)
        assert hausdorff_distance(everything, chosen).item() == pytest.approx(best, abs=1e-12)


def test_covering_by_hand():
    # centres 1 and 9 have all within 1; greedy k-centre from 0 would take 0 and 10, 5 away from the 5
    features = np.array([[0.0], [1.0], [2.0], [8.0], [9.0], [10.0]])
    assert covering.minimum_covering(features, 2, 0, Covering()).tolist() == [1, 4]
    # Copies, filled up
    assert covering.minimum_covering(torch.zeros(4, 2), 3, 0, Covering()).tolist() == [0, 1, 2]


def test_covering_among_candidates_lies_between_greedy_and_best():
    features = points(90, 6)
    greedy = covering_radius(features, coreset.k_center(features, 5, 3))
    best = covering_radius(features, covering.minimum_covering(features, 5, 3, Covering()))
    radii = [
        covering_radius(features, covering.minimum_covering(features, 5, 3, Covering(count)))
        for count in (1, 5, 30, 90, 1000)
    ]
    assert radii[0] == radii[1] == greedy  # the greedy centres alone
    assert greedy > radii[2] >= radii[3] == radii[4] == best


def test_the_best_among_candidates_is_found():
    features = points(25, 3, seed=8)
    greedy = coreset.k_center(features, 3, 0)
    candidates = covering._candidates(features, greedy, 10)
    assert len(candidates) == 10 and set(greedy.tolist()) <= set(candidates.tolist())
    best = min(covering_radius(features, centres) for centres in combinations(candidates.tolist(), 3))
    found = covering.minimum_covering(features, 3, 0, Covering(10))
    assert set(found.tolist()) <= set(candidates.tolist()) and covering_radius(
        features, found
    ) == pytest.approx(best, abs=1e-12)


def test_a_covering_that_cannot_be_searched_for_is_refused():
    with pytest.raises(UserError, match="30 images, more than the 20 .* candidates"):
        covering.minimum_covering(points(30, 2), 3, 0, Covering(largest=20))
    with pytest.raises(UserError, match="nodes"):
        covering.minimum_covering(points(300, 20), 10, 0, Covering(nodes=1))
    with pytest.raises(UserError, match="covering"):
        catalogue.resolve(catalogue.recipe("k_center"), "digits", "none", 1, [("test", {"covering": {}})])
