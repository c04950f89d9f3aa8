"""Kernels for the first layer of a network, which is given images, against torch's own operations."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condense import kernels, models
from condense.kernels.norm_relu_pool import reference

pytestmark = pytest.mark.usefixtures("one_thread")
needs_compiler = pytest.mark.skipif(kernels.state() != "compiled", reason=f"kernels: {kernels.state()}")


@needs_compiler
@pytest.mark.parametrize(("channels", "size", "padding"), [(3, 3, 1), (1, 3, 3), (2, 5, 2), (4, 3, 0)])
def test_a_convolution_of_few_channels_has_the_same_gradient(channels, size, padding):
    rng = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(channels, 6, size, padding=padding).requires_grad_(False)
    images = (
        torch.randn(67, channels, 9, 8, generator=rng)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    assert kernels.few_channels.serves(convolution, images)
    found = kernels.few_channels.convolve(convolution, images)
    wanted = convolution(images)
    assert torch.equal(found, wanted)
    given = torch.randn(wanted.shape, generator=rng)
    pair = [torch.autograd.grad(value, images, given)[0] for value in (found, wanted)]
    torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-5)
    (first,) = torch.autograd.grad(
        kernels.few_channels.convolve(convolution, images), images, given.requires_grad_(), create_graph=True
    )
    (second,) = torch.autograd.grad(first.square().sum(), given)
    torch.testing.assert_close(
        second, 2 * convolution(first) - 2 * convolution.bias.view(-1, 1, 1), rtol=1e-4, atol=1e-4
    )


@needs_compiler
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("channels", "size", "padding"), [(3, 3, 1), (1, 3, 3), (4, 3, 0)])
def test_weights_of_few_channels_have_the_same_gradients(channels, size, padding, centred):
    """Those of the bias too, but where a norm follows: there they are 0, and torch's are what rounding
    leaves."""
    rng = torch.Generator().manual_seed(0)
    convolution, norm = nn.Conv2d(channels, 6, size, padding=padding), nn.GroupNorm(6, 6)
    images = torch.randn(20, channels, 9, 8, generator=rng).contiguous(memory_format=torch.channels_last)
    assert kernels.few_channels.serves(convolution, images)
    pair = []
    for maps in (kernels.few_channels.convolve(convolution, images, centred), convolution(images)):
        loss = (norm(maps) if centred else maps).pow(3).mean()
        pair.append(torch.autograd.grad(loss, [convolution.weight, convolution.bias], create_graph=True))
    torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-6)
    assert centred == (pair[0][1] == 0).all()
    second = [torch.autograd.grad(of_weight.square().sum(), convolution.weight)[0] for of_weight, _ in pair]
    torch.testing.assert_close(*second, rtol=1e-3, atol=1e-5)


STAGES = [
    (3, 32, 3, 1, (32, 32), 2),
    (1, 16, 3, 3, (28, 28), 2),
    (4, 48, 5, 2, (7, 9), 1),
    (3, 32, 3, 0, (9, 8), 2),
    (2, 16, 1, 0, (4, 6), 2),
]


def image_stage(channels, outputs, size, padding, sides):
    rng = torch.Generator().manual_seed(0)
    convolution, norm = nn.Conv2d(channels, outputs, size, padding=padding), nn.GroupNorm(outputs, outputs)
    for parameter in convolution.parameters():
        nn.init.uniform_(
            parameter,
            -(convolution.weight[0].numel() ** -0.5),
            convolution.weight[0].numel() ** -0.5,
            generator=rng,
        )
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=rng)
    return convolution, norm, torch.randn(21, channels, *sides, generator=rng)


@needs_compiler
@pytest.mark.parametrize(("channels", "outputs", "size", "padding", "sides", "pool"), STAGES)
def test_a_stage_of_images_is_that_of_its_layers(channels, outputs, size, padding, sides, pool):
    convolution, norm, images = image_stage(channels, outputs, size, padding, sides)
    with torch.no_grad():
        assert kernels.image_stage.serves(convolution, norm, images)
        found = kernels.image_stage.compute(convolution, norm, images, pool)
        wanted = torch.relu(norm.double()(convolution.double()(images.double())))
        wanted = nn.functional.avg_pool2d(wanted, pool)
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=3e-5)
        convolution.float(), norm.float()
        assert torch.equal(found[4:9], kernels.image_stage.compute(convolution, norm, images[4:9], pool))
        torch.set_num_threads(2)
        assert torch.equal(found, kernels.image_stage.compute(convolution, norm, images, pool))
        torch.set_num_threads(1)


@needs_compiler
@pytest.mark.parametrize(("channels", "outputs", "size", "padding", "sides", "pool"), STAGES)
def test_a_stage_of_images_has_the_gradients_of_its_layers(channels, outputs, size, padding, sides, pool):
    convolution, norm, images = image_stage(channels, outputs, size, padding, sides)
    wanted_of = [*convolution.parameters(), *norm.parameters()]
    found = kernels.image_stage.compute(convolution, norm, images, pool)
    given = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(found, wanted_of, given, retain_graph=True)
    assert all(
        torch.equal(*pair)
        for pair in zip(gradients, torch.autograd.grad(found, wanted_of, given), strict=True)
    )
    exact = [parameter.detach().double().requires_grad_() for parameter in wanted_of]
    value = reference(
        nn.functional.conv2d(images.double(), *exact[:2], padding=padding), *exact[2:], 1e-5, pool
    )
    for one, wanted in zip(gradients, torch.autograd.grad(value, exact, given.double()), strict=True):
        assert (one - wanted).norm() <= 2e-5 * wanted.norm() + 1e-5
    assert not gradients[1].any()


@needs_compiler
def test_a_stage_of_images_has_second_gradients_and_those_that_are_asked_for():
    convolution, norm, images = image_stage(3, 16, 3, 1, (8, 8))
    pair = []
    for stage in (
        partial(kernels.image_stage.compute, pool=2),
        lambda *layers: reference(layers[0](layers[2]), *norm.parameters(), 1e-5, 2),
    ):
        (first,) = torch.autograd.grad(
            stage(convolution, norm, images).square().sum(), convolution.weight, create_graph=True
        )
        pair.append(torch.autograd.grad(first.square().sum(), [convolution.weight, norm.weight]))
    torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-2)
    convolution.requires_grad_(False)
    norm.bias.requires_grad_(False)
    kernels.image_stage.compute(convolution, norm, images, 2).sum().backward()
    assert norm.weight.grad is not None and convolution.weight.grad is None and norm.bias.grad is None


@needs_compiler
@pytest.mark.parametrize("asked", ["images", "weight", "both"])
def test_a_convolution_of_few_channels_has_second_gradients(asked):
    rng = torch.Generator().manual_seed(0)
    values = (
        torch.randn(5, 3, 6, 6, generator=rng),
        torch.randn(8, 3, 3, 3, generator=rng),
        torch.randn(8, generator=rng),
    )
    pair = []
    for dtype in (torch.float32, torch.float64):
        images, weight, bias = (value.to(dtype).requires_grad_() for value in values)
        layer = SimpleNamespace(weight=weight, bias=bias, padding=(1, 1))
        exact = dtype == torch.float64
        value = (
            F.conv2d(images, weight, bias, padding=1)
            if exact
            else kernels.few_channels.convolve(layer, images)
        )
        wanted = {"images": [images], "weight": [weight], "both": [images, weight, bias]}[asked]
        first = torch.autograd.grad(value.sin().sum(), wanted, create_graph=True)
        pair.append(torch.autograd.grad(sum(one.sin().sum() for one in first), [images, weight, bias]))
    for found, wanted in zip(*pair, strict=True):
        assert ((found.double() - wanted.double()).norm() / wanted.norm()).item() < 1e-5


@needs_compiler
def test_a_stage_of_images_is_taken_where_they_have_no_gradient():
    convolution, norm, images = image_stage(3, 16, 3, 1, (8, 8))
    assert kernels.image_stage.serves(convolution, norm, images)
    assert not kernels.image_stage.serves(convolution, norm, images.clone().requires_grad_())
    with torch.inference_mode():
        assert kernels.image_stage.serves(convolution, norm, images)
        assert not kernels.image_stage.serves(convolution.bfloat16(), norm, images)
        assert not kernels.image_stage.serves(nn.Conv2d(3, 24, 3), nn.GroupNorm(24, 24), images)
        assert not kernels.image_stage.serves(nn.Conv2d(16, 16, 3), norm, torch.randn(2, 16, 8, 8))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not kernels.image_stage.serves(convolution.float(), norm, images)
    network = models.build("convnet", channels=3, size=8, classes=4, depth=2, width=16).requires_grad_(False)
    maps = network.embed_with_maps(images, before=True)
    with kernels.plain():
        for found, wanted in zip(maps, network.embed_with_maps(images, before=True), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_other_convolutions_are_left_to_torch():
    images = torch.randn(2, 3, 8, 8).requires_grad_()

    def frozen(*arguments, **named):
        return nn.Conv2d(*arguments, **named).requires_grad_(False)

    assert kernels.few_channels.serves(frozen(3, 4, 3, padding=1), images)
    assert kernels.few_channels.serves(nn.Conv2d(3, 4, 3, padding=1), images) and kernels.few_channels.serves(
        nn.Conv2d(3, 4, 3), images.detach()
    )
    others = [
        frozen(3, 4, 3, stride=2),
        frozen(3, 6, 3, groups=3),
        frozen(3, 4, (3, 1)),
        frozen(3, 4, 3, dilation=2),
    ]
    others += [frozen(3, 4, 3, padding=1, padding_mode="reflect"), frozen(3, 4, 3, padding="same")]
    assert not any(kernels.few_channels.serves(one, images) for one in others)
    assert not kernels.few_channels.serves(frozen(3, 4, 3), images.detach())
    assert not kernels.few_channels.serves(frozen(8, 4, 3), torch.randn(2, 8, 8, 8).requires_grad_())
