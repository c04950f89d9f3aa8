"""The compiled kernel against torch's own operations, in the block and in whole networks, and what happens
without it."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from condense import kernels, models
from condense.kernels import winograd
from condense.kernels.norm_relu_pool import reference
from condense.kernels.precision import rounded
from condense.models.base import Stage
from condense.models.fusing import through

pytestmark = pytest.mark.usefixtures("one_thread")
needs_compiler = pytest.mark.skipif(kernels.state() != "compiled", reason=f"kernels: {kernels.state()}")
SHAPES = [(3, 5, 6, 6, 2), (2, 128, 16, 16, 2), (4, 7, 5, 7, 2), (2, 16, 4, 4, 1), (1, 3, 2, 6, 2)]


def sample(shape, dtype=torch.float32, mean=3.0):
    rng = torch.Generator().manual_seed(sum(shape))
    maps = (torch.randn(shape, generator=rng) * 2 + mean).to(dtype).requires_grad_()
    weight, bias = (torch.randn(shape[1], generator=rng).requires_grad_() for _ in range(2))
    return maps, weight, bias


def both(inputs, pool, dtype=torch.float32, relu=True):
    """Output and gradients by the kernel, and in double precision by torch."""
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    found, wanted = kernels.norm_relu_pool(*inputs, 1e-5, pool, relu), reference(*exact, 1e-5, pool, relu)
    given = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = given.to(dtype)
    gradients = torch.autograd.grad(found, inputs, given), torch.autograd.grad(wanted, exact, given.double())
    return (found, wanted), list(zip(*gradients, strict=True))


def error(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 3e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("relu", [True, False])
def test_kernel_and_its_gradients_equal_double_precision(shape, dtype, most, relu):
    *size, pool = shape
    values, gradients = both(sample(tuple(size), dtype), pool, dtype, relu)
    assert relu or (values[0] < 0).any()
    assert values[0].dtype == dtype and values[0].shape == values[1].shape
    assert error(*values) < most and all(error(*pair) < most for pair in gradients)


@needs_compiler
def test_a_constant_map_becomes_the_bias_exactly():
    maps = torch.full((2, 4, 8, 8), 1234.5)
    found = kernels.norm_relu_pool(maps, torch.ones(4), torch.tensor([0.5, -0.5, 0.0, 2.0]), 1e-5, 2)
    assert torch.equal(found, torch.tensor([0.5, 0.0, 0.0, 2.0]).view(1, 4, 1, 1).expand(2, 4, 4, 4))


@needs_compiler
def test_the_mean_of_a_channel_may_be_far_above_its_spread():
    values, gradients = both(sample((2, 4, 8, 8), mean=1000.0), 2)
    assert error(*values) < 1e-4 and all(error(*pair) < 1e-3 for pair in gradients)


@needs_compiler
def test_what_is_no_number_stays_none():
    """Divergence is noticed by it."""
    maps = torch.zeros(2, 3, 4, 4)
    maps[0, 1, 2, 2] = float("nan")
    found = kernels.norm_relu_pool(maps, torch.ones(3), torch.zeros(3), 1e-5, 2)
    assert (
        torch.isnan(found[0, 1]).all()
        and not torch.isnan(found[1]).any()
        and not torch.isnan(found[0, 0]).any()
    )
    half = kernels.norm_relu_pool(maps.bfloat16(), torch.ones(3), torch.zeros(3), 1e-5, 2)
    assert torch.isnan(half[0, 1]).all()


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_gives_the_same_bits_alone_and_in_a_batch_on_any_number_of_threads(dtype):
    maps, weight, bias = sample((9, 16, 8, 8), dtype)
    together = kernels.norm_relu_pool(maps, weight, bias, 1e-5, 2)
    torch.set_num_threads(3)
    threaded = kernels.norm_relu_pool(maps, weight, bias, 1e-5, 2)
    torch.set_num_threads(1)
    alone = torch.cat([kernels.norm_relu_pool(one[None], weight, bias, 1e-5, 2) for one in maps])
    assert torch.equal(together, alone) and torch.equal(together, threaded)


@needs_compiler
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 4, 4, 2)])
@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("relu", [True, False])
def test_gradients_of_gradients_equal_double_precision(shape, times, relu):
    """Each the gradient of the squares of those before: of maps, weight and bias, by the kernel the second,
    by torch the third."""
    *size, pool = shape
    inputs = sample(tuple(size))
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]

    def gradients(function, tensors):
        values = [function(*tensors, 1e-5, pool, relu)]
        rng = torch.Generator().manual_seed(1)  # squares alone of what is normalised have no gradient
        values = [values[0] * torch.rand(values[0].shape, generator=rng)]
        for order in range(times):
            size = sum(value.square().sum() for value in values) / 100
            values = torch.autograd.grad(size, tensors, create_graph=order + 1 < times)
        return values

    for found, wanted in zip(
        gradients(kernels.norm_relu_pool, inputs), gradients(reference, exact), strict=True
    ):
        assert error(found, wanted) < 1e-4


@needs_compiler
def test_the_second_gradient_of_maps_alone():
    """As where the windows of convolutions are all that is matched: weight and bias are there, but their
    gradients are not asked for."""
    inputs = sample((3, 16, 6, 6))
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    start, along = (
        torch.randn(3, 16, side, side, generator=torch.Generator().manual_seed(side)) for side in (3, 6)
    )
    pair = []
    for function, tensors in ((kernels.norm_relu_pool, inputs), (reference, exact)):
        given = start.to(tensors[0].dtype).requires_grad_()
        (first,) = torch.autograd.grad(function(*tensors, 1e-5, 2), tensors[:1], given, create_graph=True)
        pair.append(torch.autograd.grad((along * first).sum(), [given, *tensors[:2]]))
    assert all(error(found, wanted) < 1e-5 for found, wanted in zip(*pair, strict=True))


@pytest.mark.parametrize("options", [{}, {"pool": "none"}, {"depth": 2, "width": 24}])
def test_a_network_gives_the_same_with_the_kernel_and_without(options):
    # Drawn so that no value before a ReLU lies within a rounding error of 0: on which side it ends changes
    # gradients by all of it.
    torch.manual_seed(14)
    network = models.build("convnet", channels=3, size=16, classes=5, **options)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    parameters = list(network.parameters())

    def results():
        logits = network(images)
        return logits.detach(), torch.autograd.grad(logits.square().sum(), parameters)

    assert network.fused
    (logits, gradients), (plain_logits, plain_gradients) = results(), plainly(results)
    torch.testing.assert_close(logits, plain_logits, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def plainly(function):
    with kernels.plain():
        return function()


@pytest.mark.parametrize(
    "stage",
    [
        Stage([nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()], nn.AvgPool2d(2)),
        Stage([nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4), nn.SiLU()], nn.AvgPool2d(2)),
        Stage([nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4), nn.ReLU()], nn.MaxPool2d(2)),
        Stage([nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4), nn.ReLU()], nn.AvgPool2d(3)),
        Stage([nn.Conv2d(3, 4, 3), nn.ReLU()], nn.AvgPool2d(2)),
    ],
    ids=["groups", "activation", "max", "window", "no-norm"],
)
def test_other_blocks_are_no_single_operation(stage):
    assert not stage.fused
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stage(images), stage.pool(stage.body(images)), rtol=1e-4, atol=1e-5)


# Networks whose blocks are no single operation: which of their parts a kernel computes
PARTS = {
    "resnet18": {"width": 16},
    "resnet18_bn": {"width": 16},
    "resnet18_ap": {"width": 16},
    "vgg11": {"width": 16, "enlarge": 32},
    "alexnet": {"width": 32},
    "wrn_16_2": {},
}


@needs_compiler
@pytest.mark.parametrize("arch", PARTS)
def test_a_network_of_many_layers_and_its_gradients_equal_double_precision(arch):
    torch.manual_seed(3)
    network = models.build(arch, channels=3, size=16, classes=5, **PARTS[arch])
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(network).double()

    def results(network, images):
        images = images.clone().requires_grad_()
        logits = network(images)
        return logits.detach(), *torch.autograd.grad(
            logits.square().sum(), [images, *network.parameters()], materialize_grads=True
        )

    calls = []
    found = watched(calls, lambda: results(network, images))
    wanted = results(exact, images.double())
    assert {"winograd", "forward"} & set(calls), "a kernel took part"
    assert error(found[0], wanted[0]) < 3e-5
    whole = [torch.cat([value.flatten().double() for value in values[1:]]) for values in (found, wanted)]
    # A value within a rounding error of 0 may end on the other side of a ReLU; then this is about 1e-2
    assert error(*whole) < 2e-2


def watched(calls, function):
    """What `function` gives; `calls` become the kernels that it called."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (sys.modules["condense.kernels.norm_relu_pool"], winograd):
            patch.setattr(
                module,
                "call",
                lambda kernel, *rest, real=module.call: calls.append(kernel) or real(kernel, *rest),
            )
        return function()


@needs_compiler
def test_a_norm_goes_with_its_relu_and_alone_without():
    norm = nn.GroupNorm(4, 4)
    images = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for layers in ([norm], [norm, nn.ReLU()], [norm, nn.SiLU()], [norm, nn.AvgPool2d(2), nn.ReLU()]):
        calls = []
        found = watched(calls, lambda layers=layers: through(layers, images))
        torch.testing.assert_close(found, nn.Sequential(*layers)(images), rtol=1e-5, atol=1e-6)
        assert calls == ["forward"]
    for left in (nn.GroupNorm(2, 4), nn.GroupNorm(4, 4, affine=False), nn.BatchNorm2d(4)):
        calls = []
        torch.testing.assert_close(watched(calls, lambda left=left: through([left], images)), left(images))
        assert calls == []


PROBE = (
    "from condense import kernels; print(kernels.state()); import torch; "
    "print(kernels.available(torch.zeros(1, 1, 2, 2)))"
)


def said(**environment):
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return *done.stdout.split("\n")[:2], done.stderr


def test_without_a_compiler_or_switched_off_torch_does_it(tmp_path):
    assert said(CONDENSE_KERNELS="off")[:2] == ("torch (kernels switched off)", "False")
    assert said(CXX="no-such-compiler")[:2] == ("torch (no C++ compiler)", "False")


def test_a_compiler_that_fails_is_told_once_and_done_without(tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'unknown option' >&2\nexit 1\n")
    compiler.chmod(0o755)
    state, available, told = said(CXX=str(compiler), XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path))
    assert (
        state == "torch (c++ could not compile the kernels)"
        and available == "False"
        and told.count("unknown option") == 1
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [compiler], (
        "no half-written file stays"
    )


@needs_compiler
def test_it_is_compiled_once_into_a_folder_of_the_users_own(tmp_path):
    assert said(XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path))[0] == "compiled"
    (library,) = tmp_path.rglob("*.so")
    made = library.stat().st_mtime_ns
    assert (
        said(XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path))[0] == "compiled"
        and library.stat().st_mtime_ns == made
    )
    assert library.parent.stat().st_mode & 0o077 == 0


@needs_compiler
def test_a_cache_that_others_may_write_to_is_not_used(tmp_path):
    folder = tmp_path / "condense" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert said(XDG_CACHE_HOME=str(tmp_path), TMPDIR=str(tmp_path))[0] == "compiled" and not list(
        folder.iterdir()
    )


def test_rounding_errors_of_a_window_cancel():
    weight = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    found, nearest = rounded(weight, torch.bfloat16), weight.bfloat16()
    assert found.dtype == torch.bfloat16 and (found.float() - weight).abs().max() < 0.02
    sums = [(one.double() - weight.double()).sum((2, 3)).std().item() for one in (found, nearest)]
    assert sums[0] < 0.6 * sums[1]
    exact = nearest.float()
    assert torch.equal(rounded(exact, torch.bfloat16), nearest), "nothing to round, nothing to carry"
    assert torch.equal(rounded(weight[0, 0, 0], torch.bfloat16), nearest[0, 0, 0])
