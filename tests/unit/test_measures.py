"""Measures of synthetic sets against cases worked by hand, other libraries, and limits that are known."""

import numpy as np
import pytest
import torch

from condense.discrepancy.style import drifted, moments
from condense.evaluate.consistency import consistency_ratio
from condense.evaluate.texture import grey_levels, texture


def test_consistency_by_hand():
    # On a line: class 0 at 0, 1, 2 and class 1 at 10, 11. The set: class 0 at 0.4, class 1 at 2.2.
    real, labels = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]]), torch.tensor([0, 0, 0, 1, 1])
    found = consistency_ratio(real, labels, torch.tensor([[0.4], [2.2]]), torch.tensor([0, 1]), [1, 3, 4, 5])
    assert found.tolist() == pytest.approx(
        [(1 + 0) / 2, (1 + 0) / 2, (3 / 4 + 1 / 4) / 2, (3 / 5 + 2 / 5) / 2], abs=1e-15
    )


def test_consistency_agrees_with_the_neighbours_of_scikit_learn(monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    real, labels = rng.normal(size=(200, 7)), rng.integers(0, 4, 200)
    made, wanted = rng.normal(size=(30, 7)), rng.integers(0, 4, 30)
    ks = [1, 5, 20, 150]
    near = (
        NearestNeighbors(n_neighbors=150, algorithm="kd_tree")
        .fit(real)
        .kneighbors(made, return_distance=False)
    )
    expected = [(labels[near[:, :k]] == wanted[:, None]).mean() for k in ks]
    given = [torch.from_numpy(array) for array in (real, labels, made, wanted)]
    assert consistency_ratio(*given, ks).tolist() == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr("condense.evaluate.consistency._AT_ONCE", 1000)  # five synthetic images at a time
    assert consistency_ratio(*given, ks).tolist() == pytest.approx(expected, rel=1e-12)


def test_consistency_of_real_images_among_all_of_them_is_their_classes_share():
    features, labels = (
        torch.randn(12, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0] * 9 + [1] * 3),
    )
    assert consistency_ratio(features, labels, features, labels, [1, 12]).tolist() == pytest.approx(
        [1, (9 * 9 + 3 * 3) / 12 / 12]
    )
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    turned = consistency_ratio(features[order], labels[order], features.flip(0), labels.flip(0), [2, 4])
    torch.testing.assert_close(
        turned, consistency_ratio(features, labels, features, labels, [2, 4]), rtol=1e-14, atol=0
    )
    for ks in ([], [0], [13]):
        with pytest.raises(ValueError, match="between 1 and the 12"):
            consistency_ratio(features, labels, features, labels, ks)


def by_scikit_image(image, kernel):
    """Dissimilarity and entropy of every window by another library, averaged over directions and windows."""
    from skimage.feature import graycomatrix, graycoprops

    values = []
    for top in range(image.shape[0] - kernel + 1):
        for left in range(image.shape[1] - kernel + 1):
            window = image[top : top + kernel, left : left + kernel]
            angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
            matrix = graycomatrix(window, [1], angles, levels=256, symmetric=True, normed=True)
            values.append(
                [graycoprops(matrix, "dissimilarity").mean(), graycoprops(matrix, "entropy").mean()]
            )
    return np.mean(values, 0)


@pytest.mark.parametrize("levels", [3, 256])  # few, so that pairs repeat, and all
def test_texture_agrees_with_scikit_image(levels):
    image = np.random.default_rng(levels).integers(0, levels, (6, 7), dtype=np.uint8)
    expected = (by_scikit_image(image, 3) + by_scikit_image(image, 5)) / 2
    np.testing.assert_allclose(np.ravel(texture(image[None])), expected, rtol=1e-12)


def test_texture_by_hand():
    flat = np.full((1, 5, 5), 77, np.uint8)
    assert np.ravel(texture(flat)).tolist() == [0, 0]
    # Stripes of 0 and 10, rows alike: along a row all pairs differ, down none, across the corners all. A pair
    # is (0, 10) or (10, 0).
    stripes = np.tile(np.array([0, 10, 0], np.uint8), (3, 1))[None]
    dissimilarity, entropy = texture(stripes, kernels=[3])
    assert dissimilarity[0] == pytest.approx((10 + 10 + 0 + 10) / 4)
    down = -(4 / 6 * np.log(4 / 6) + 2 / 6 * np.log(2 / 6))
    assert entropy[0] == pytest.approx((3 * np.log(2) + down) / 4)


def test_texture_turns_and_reflects_with_the_image_and_scales_with_its_contrast():
    images = np.random.default_rng(1).integers(0, 100, (3, 8, 8), dtype=np.uint8)
    for same in (images.transpose(0, 2, 1), images[:, ::-1], np.rot90(images, axes=(1, 2)), images + 55):
        np.testing.assert_allclose(texture(same), texture(images), rtol=1e-12)
    dissimilarity, entropy = texture(2 * images)
    np.testing.assert_allclose(dissimilarity, 2 * texture(images)[0], rtol=1e-12)
    np.testing.assert_allclose(entropy, texture(images)[1], rtol=1e-12)
    with pytest.raises(ValueError, match="2 to 8 pixels"):
        texture(images, kernels=[3, 9])


def test_grey_levels_are_those_of_pillow():
    from PIL import Image

    pixels = np.random.default_rng(2).integers(0, 256, (1, 3, 4, 5), dtype=np.uint8)
    by_pillow = np.asarray(Image.fromarray(np.moveaxis(pixels[0], 0, -1)).convert("L"))
    # Which cuts where we round
    assert np.abs(grey_levels(pixels / 255)[0].astype(int) - by_pillow).max() <= 1
    assert grey_levels(np.array([[[[-0.5, 0.5, 1.5]]]])).tolist() == [[[0, 128, 255]]]


def maps(seed, n=4):
    return (
        torch.randn(n, 3, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        * (1 + seed)
        + seed
    )


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_drifted_maps_have_the_mixed_moments_and_keep_their_content(ratio):
    content, style = maps(0), maps(1)
    found = drifted(content, style, ratio)
    torch.testing.assert_close(
        moments(found), (1 - ratio) * moments(content) + ratio * moments(style), rtol=1e-4, atol=1e-4
    )
    flat, before = found.flatten(2), content.flatten(2)
    shapes = [(one - one.mean(-1, keepdim=True)) / one.std(-1, keepdim=True) for one in (flat, before)]
    torch.testing.assert_close(*shapes, rtol=1e-10, atol=1e-10)
    if ratio == 0:
        torch.testing.assert_close(found, content, rtol=1e-12, atol=1e-12)


def test_a_drift_by_hand_and_of_channels_without_variation():
    content, style = torch.tensor([[[[1.0, 3.0]]]]).double(), torch.tensor([[[[0.0, 8.0]]]]).double()
    # Means 2 and 4, variances 1 and 16; halfway 3 and 8.5.
    expected = 3 + torch.tensor([-1.0, 1.0]).double() * 8.5**0.5
    torch.testing.assert_close(drifted(content, style, 0.5).flatten(), expected, rtol=1e-3, atol=0)
    flat = torch.full((1, 1, 2, 2), 5.0, dtype=torch.float64, requires_grad=True)
    found = drifted(flat, torch.ones_like(flat), 0.5)
    torch.testing.assert_close(found, torch.full_like(found, 3.0))
    found.sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_the_gradient_of_a_drift():
    content, style = (maps(seed, 2)[..., :2, :2].clone().requires_grad_(True) for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda *given: drifted(*given, 0.3), (content, style))
