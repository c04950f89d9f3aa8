"""Distances of gradients, by other roads than the code: closed forms, torch's own cosine, invariances, second
gradients."""

import pytest
import torch
import torch.nn.functional as F

from condense.config import UserError
from condense.discrepancy.gradients import (
    DISTANCES,
    EPS,
    absolute_difference,
    gradient_distance,
    layerwise_cosine,
    squared_difference,
    whole_cosine,
)

SHAPES = [(4, 3, 3, 3), (4,), (5, 2, 2), (6, 7), (6,)]  # convolution, bias, layer norm, linear, bias
FUNCTIONS = (layerwise_cosine, squared_difference, absolute_difference, whole_cosine)
every_distance = pytest.mark.parametrize("name", DISTANCES)


def gradients(seed, classes=(), dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(*classes, *shape, generator=rng, dtype=torch.float64).to(dtype) for shape in SHAPES]


def test_layerwise_cosine_by_hand():
    # rows (3, 4) and (4, 3): cosine 24 / 25; rows (1, 0) and (0, 2): 0; rows (1, 1) and (-2, -2): -1. The
    # bias counts nothing.
    real = [torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([5.0, 6.0, 7.0])]
    synthetic = [torch.tensor([[4.0, 3.0], [0.0, 2.0], [-2.0, -2.0]]), torch.tensor([0.0, 0.0, 9.0])]
    torch.testing.assert_close(
        layerwise_cosine(real, synthetic), torch.tensor(1 / 25 + 1 + 2), rtol=1e-5, atol=0
    )
    assert squared_difference(real, synthetic) == 2 + 5 + 18 + 25 + 36 + 4
    assert absolute_difference(real, synthetic) == 2 + 3 + 6 + 5 + 6 + 2
    assert squared_difference(real, synthetic, least_axes=2) == 2 + 5 + 18


def test_rows_are_those_of_torch_where_no_epsilon_matters():
    real, synthetic = gradients(0), gradients(1)
    counted = [(a, b) for a, b in zip(real, synthetic, strict=True) if a.ndim > 1]
    wanted = sum((1 - F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)).sum() for a, b in counted)
    torch.testing.assert_close(layerwise_cosine(real, synthetic), wanted, rtol=1e-5, atol=0)
    joined = [torch.cat([tensor.flatten() for tensor in side]) for side in (real, synthetic)]
    torch.testing.assert_close(
        whole_cosine(real, synthetic), 1 - F.cosine_similarity(*joined, dim=0), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(squared_difference(real, synthetic), (joined[0] - joined[1]).square().sum())


def test_the_epsilon_is_added_to_the_product_of_the_norms():
    small = torch.tensor([[1e-3, 0.0]], dtype=torch.float64)
    assert layerwise_cosine([small], [small]).item() == pytest.approx(1 - 1e-6 / (1e-6 + EPS), rel=1e-12)


def test_the_scale_of_a_row_does_not_matter_to_cosines_of_rows_and_matters_to_the_others():
    real, synthetic = gradients(0), gradients(1)
    factors = torch.tensor([2.0, 30.0, 400.0, 5.0], dtype=torch.float64).view(4, 1, 1, 1)
    scaled = [synthetic[0] * factors, *synthetic[1:]]
    torch.testing.assert_close(
        layerwise_cosine(real, scaled), layerwise_cosine(real, synthetic), rtol=1e-5, atol=0
    )
    for function in (squared_difference, absolute_difference, whole_cosine):
        assert (function(real, scaled) - function(real, synthetic)).abs() > 1e-3
    everything = [7 * tensor for tensor in synthetic]
    torch.testing.assert_close(
        whole_cosine(real, everything), whole_cosine(real, synthetic), rtol=1e-6, atol=0
    )


@every_distance
def test_a_gradient_is_at_distance_zero_from_itself_and_not_from_its_opposite(name):
    real = gradients(0)
    distance = DISTANCES[name]
    assert distance(real, real).abs() < 1e-5 < distance(real, [-tensor for tensor in real])
    assert distance(real, gradients(1)) == pytest.approx(distance(gradients(1), real).item(), rel=1e-12)


@every_distance
def test_what_does_not_count_can_be_left_out(name):
    real, synthetic = gradients(0), gradients(1)
    distance = DISTANCES[name]
    counted = distance.counted(real)
    assert len(counted) == sum(len(shape) >= distance.least_axes for shape in SHAPES)
    torch.testing.assert_close(
        distance(counted, distance.counted(synthetic)), distance(real, synthetic), rtol=0, atol=0
    )


@every_distance
def test_a_class_alone_is_the_class_among_others_and_their_order_does_not_matter(name):
    real, synthetic = gradients(0, (2, 3)), gradients(1, (2, 3))
    together = DISTANCES[name](real, synthetic, leading=2)
    assert together.shape == (2, 3)
    for place in ((0, 0), (1, 2)):
        alone = DISTANCES[name]([tensor[place] for tensor in real], [tensor[place] for tensor in synthetic])
        torch.testing.assert_close(together[place], alone, rtol=1e-12, atol=0)
    turned = DISTANCES[name](
        [tensor.flip(1) for tensor in real], [tensor.flip(1) for tensor in synthetic], leading=2
    )
    torch.testing.assert_close(turned.flip(1), together, rtol=1e-12, atol=0)


@every_distance
def test_first_and_second_gradients_are_those_of_finite_differences(name):
    real = gradients(0, (2,))
    synthetic = [tensor.requires_grad_() for tensor in gradients(1, (2,))]

    def distance(*tensors):
        return DISTANCES[name](real, tensors, leading=1)

    assert torch.autograd.gradcheck(distance, synthetic)
    if "absolute" not in name:
        assert torch.autograd.gradgradcheck(distance, synthetic)


@every_distance
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("what", ["equal", "a zero row", "all zero", "both zero", "tiny"])
def test_gradients_stay_finite_where_rows_are_zero_or_equal(name, dtype, what):
    real = gradients(0, dtype=dtype)
    synthetic = [tensor.clone() for tensor in real]
    if what == "a zero row":
        for tensor in synthetic:
            tensor[0] = 0
    elif what == "tiny":
        synthetic = [tensor * 1e-18 for tensor in synthetic]
    elif what != "equal":
        synthetic = [torch.zeros_like(tensor) for tensor in synthetic]
        real = synthetic if what == "both zero" else real
    synthetic = [tensor.clone().requires_grad_() for tensor in synthetic]
    value = DISTANCES[name](real, synthetic)
    first = torch.autograd.grad(value, synthetic, create_graph=True, materialize_grads=True)
    size = sum(tensor.square().sum() for tensor in first)
    second = torch.autograd.grad(size, synthetic, materialize_grads=True) if size.requires_grad else ()
    assert all(torch.isfinite(tensor).all() for tensor in (value, *first, *second))


def test_a_zero_row_counts_one_and_has_the_gradient_of_the_formula():
    # 1 - <a, h> / (|a| |h| + EPS) for a small h: the slope at 0 is -a / EPS.
    real, synthetic = [torch.ones(2, 3)], [torch.zeros(2, 3).requires_grad_()]
    value = layerwise_cosine(real, synthetic)
    value.backward()
    assert value == 2
    torch.testing.assert_close(synthetic[0].grad, torch.full((2, 3), -1 / EPS))
    assert layerwise_cosine([torch.zeros(2, 3)], [torch.ones(2, 3)]) == 2


@pytest.mark.parametrize("function", FUNCTIONS)
def test_precision_is_kept_and_half_is_summed_in_single(function):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert function(gradients(0, dtype=dtype), gradients(1, dtype=dtype)).dtype == dtype
    half, single = gradients(0, dtype=torch.bfloat16), gradients(1, dtype=torch.float32)
    assert torch.equal(function(half, single), function([tensor.float() for tensor in half], single))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_does_not_fit_is_refused(function):
    real = gradients(0)
    for other in (real[:-1], [*real[:-1], torch.zeros(7)]):
        with pytest.raises(ValueError, match="same shapes"):
            function(real, other)
    with pytest.raises(ValueError, match="axes of classes"):
        function(
            [torch.zeros(2, 3, 4), torch.zeros(3, 3, 4)],
            [torch.zeros(2, 3, 4), torch.zeros(3, 3, 4)],
            leading=1,
        )
    with pytest.raises(ValueError, match="no tensor"):
        function([torch.zeros(3)], [torch.zeros(3)], least_axes=2)


def test_an_unknown_distance_is_answered_with_the_right_one():
    assert gradient_distance("layerwise_cosine").function is layerwise_cosine
    with pytest.raises(UserError, match="layerwise_cosine"):
        gradient_distance("layerwise_cosin")
