"""The convolution with a quarter of the products against torch's, in double precision, and when it is left
alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condense import kernels
from condense.kernels import winograd

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(kernels.state() != "compiled", reason=f"kernels: {kernels.state()}"),
]
SHAPES = [
    (128, 128, 2, 16, 16),
    (16, 48, 13, 8, 8),
    (32, 16, 3, 7, 7),
    (16, 16, 1, 4, 12),
    (48, 144, 30, 5, 8),
    (64, 32, 2, 3, 3),
]


def sample(inputs, outputs, count, height, width, **options):
    rng = torch.Generator().manual_seed(inputs + height)
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, **options)
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) / (9 * inputs) ** 0.5)
    maps = torch.randn(count, inputs, height, width, generator=rng).contiguous(
        memory_format=torch.channels_last
    )
    return convolution, maps.requires_grad_(), torch.randn(count, outputs, height, width, generator=rng)


def in_double_precision(convolution, maps):
    """(inputs, result) of the same convolution."""
    inputs = [tensor.detach().double().requires_grad_() for tensor in (maps, *convolution.parameters())]
    return inputs, F.conv2d(*inputs, padding=1)


def error(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_equal_double_precision(shape):
    convolution, maps, given = sample(*shape)
    assert winograd.serves(convolution, maps)
    found = winograd.convolve(convolution, maps)
    inputs, wanted = in_double_precision(convolution, maps)
    assert found.shape == wanted.shape and found.is_contiguous(memory_format=torch.channels_last)
    gradients = (
        torch.autograd.grad(found, (maps, *convolution.parameters()), given),
        torch.autograd.grad(wanted, inputs, given.double()),
    )
    assert error(found, wanted) < 5e-6
    assert all(error(*pair) < 2e-5 for pair in zip(*gradients, strict=True))


def test_without_a_bias_and_with_frozen_windows():
    convolution, maps, given = sample(16, 16, 2, 8, 8, bias=False)
    convolution.requires_grad_(False)
    found = winograd.convolve(convolution, maps)
    (gradient,) = torch.autograd.grad(found, maps, given)
    assert error(found, F.conv2d(maps.double(), convolution.weight.double(), padding=1)) < 5e-6
    assert error(gradient, F.conv_transpose2d(given.double(), convolution.weight.double(), padding=1)) < 5e-6


def given_for(maps):
    return torch.linspace(-1, 1, maps.numel(), dtype=torch.float64).view(maps.shape)


def frozen(*shape, **settings):
    convolution, maps, given = sample(*shape, **settings)
    return convolution.requires_grad_(False), maps, given


@pytest.mark.parametrize("bias", [True, False])
def test_kept_windows_give_the_same_bits(bias):
    convolution, maps, given = frozen(16, 32, 3, 8, 8, bias=bias)
    plain = winograd.convolve(convolution, maps)
    (wanted,) = torch.autograd.grad(plain, maps, given)
    winograd.keep_windows(convolution)
    for _ in range(2):  # made, and then kept
        found = winograd.convolve(convolution, maps)
        (gradient,) = torch.autograd.grad(found, maps, given)
        assert torch.equal(found, plain) and torch.equal(gradient, wanted)


def test_kept_windows_follow_weights_that_change_all_the_same():
    convolution, maps, _ = frozen(16, 16, 2, 8, 8)
    winograd.keep_windows(convolution)
    winograd.convolve(convolution, maps)
    with torch.no_grad():
        convolution.weight.mul_(2)
        convolution.bias.zero_()
    assert (
        error(
            winograd.convolve(convolution, maps),
            F.conv2d(maps.double(), convolution.weight.double(), padding=1),
        )
        < 5e-6
    )
    convolution.requires_grad_(True)
    assert winograd.convolve(convolution, maps).grad_fn.name() == "_ConvolutionBackward"


def test_gradients_by_kept_windows_can_be_differentiated():
    convolution, maps, given = frozen(16, 16, 2, 4, 4)
    winograd.keep_windows(convolution)

    def second(convolve, maps, given):
        (first,) = torch.autograd.grad(convolve(maps).pow(3).sum(), maps, create_graph=True)
        return torch.autograd.grad((first * given).sum(), maps)[0]

    inputs, weight = maps.detach().double().requires_grad_(), convolution.weight.double()
    exact = second(
        lambda x: F.conv2d(x, weight, convolution.bias.double(), padding=1), inputs, given_for(maps)
    )
    found = second(lambda x: winograd.convolve(convolution, x), maps, given_for(maps).float())
    assert error(found, exact) < 2e-5


def test_a_bias_before_a_norm_has_no_gradient():
    """Which is what the sum gives there, but for rounding."""
    convolution, maps, _ = sample(16, 16, 3, 8, 8)
    norm = nn.GroupNorm(16, 16)
    summed, known = (
        torch.autograd.grad(
            norm(winograd.convolve(convolution, maps, centred)).pow(3).sum(), list(convolution.parameters())
        )
        for centred in (False, True)
    )
    assert known[1].abs().max() == 0 and summed[1].abs().max() < 1e-4 * summed[0].abs().max()
    assert torch.equal(summed[0], known[0])


def test_an_image_gives_the_same_bits_alone_and_in_a_batch_on_any_number_of_threads():
    convolution, maps, _ = sample(32, 64, 17, 8, 8)
    with torch.no_grad():
        together = winograd.convolve(convolution, maps)
        torch.set_num_threads(3)
        threaded = winograd.convolve(convolution, maps)
        torch.set_num_threads(1)
        alone = torch.cat([winograd.convolve(convolution, one[None]) for one in maps])
    assert torch.equal(together, alone) and torch.equal(together, threaded)


def test_the_gradient_of_the_windows_adds_up_over_threads():
    convolution, maps, given = sample(16, 16, 40, 8, 8)
    torch.set_num_threads(3)
    (found,) = torch.autograd.grad(winograd.convolve(convolution, maps), convolution.weight, given)
    inputs, wanted = in_double_precision(convolution, maps)
    assert error(found, torch.autograd.grad(wanted, inputs[1], given.double())[0]) < 2e-5


def test_the_gradient_can_be_differentiated_in_its_turn():
    convolution, maps, _ = sample(16, 16, 2, 4, 4)
    inputs, exact = in_double_precision(convolution, maps)

    def of_gradients(result, tensors):
        first = torch.autograd.grad(result.pow(3).sum(), tensors[:2], create_graph=True)
        return torch.autograd.grad(sum(one.square().sum() for one in first), tensors)

    own = (maps, *convolution.parameters())
    pairs = zip(
        of_gradients(winograd.convolve(convolution, maps), own), of_gradients(exact, inputs), strict=True
    )
    assert all(error(*pair) < 1e-4 for pair in pairs)


def test_what_is_no_number_stays_none():
    convolution, maps, _ = sample(16, 16, 2, 8, 8)
    with torch.no_grad():
        maps[0, 3, 2, 2] = float("nan")
        found = winograd.convolve(convolution, maps)
    assert torch.isnan(found[0, :, 1:4, 1:4]).all() and not torch.isnan(found[1]).any()


def test_other_convolutions_are_left_to_torch():
    maps = torch.randn(2, 16, 8, 8)
    assert winograd.serves(nn.Conv2d(16, 16, 3, padding=1), maps)
    others = [
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
    ]
    others += [nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=2)]
    others += [nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")]
    assert not any(winograd.serves(one, maps) for one in others)
    assert not winograd.serves(nn.Conv2d(16, 16, 3, padding=1), torch.randn(2, 16, 2, 2)), (
        "most of a tile would be wasted"
    )
    assert not winograd.serves(nn.Conv2d(16, 16, 3, padding=1).double(), maps.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not winograd.serves(nn.Conv2d(16, 16, 3, padding=1), maps)
    with kernels.plain():
        assert not winograd.serves(nn.Conv2d(16, 16, 3, padding=1), maps)
