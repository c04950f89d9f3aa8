"""Architectures: parameter counts of the literature, the split into embedding and head, drawing anew, and
messages."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from reading_helpers import choices, noting
from torch import nn

from condense import kernels
from condense.config import UserError
from condense.models import ARCHITECTURES, architecture_names, build, count_parameters, reinitialise
from condense.specs.common import check_name
from hang_helpers import HUNG

pytestmark = pytest.mark.filterwarnings("error")

# The image size at which a network is tested is the first that fits it, but for those of another library.
SIZES = {"deit_tiny": 64} | {name: 64 for name in ARCHITECTURES if name.startswith("tv_")}
# Enough narrowed to be quick; what is tested does not depend on the width.
NARROW = {
    "vit": {"dim": 32, "heads": 2, "head_dim": 8, "mlp": 16, "depth": 2},
    "resnet152": {"width": 4},
    "resnet101": {"width": 4},
}
# Tens of millions of parameters that no option makes fewer
HEAVY = ("tv_vit_b_16", "tv_resnet101", "tv_alexnet", "tv_vgg11_bn")
NAMES = [name for name in architecture_names() if name not in HEAVY]
BATCH_NORM = [
    "convnet_bn",
    "alexnet_bn",
    "vgg11_bn",
    "resnet18_bn",
    "resnet18_ap_bn",
    "wrn_16_2",
    "mobilenet_v2",
    "shufflenet_v2_x0_5",
]


def side(name: str) -> int:
    builder = ARCHITECTURES[name]
    fitting = (size for size in (16, 32, 64, 128, 256, 512) if builder.fits(builder.defaults, 3, size))
    return SIZES.get(name) or next(fitting)


def small(name: str, channels: int = 3, classes: int = 5, **options) -> nn.Module:
    return build(name, channels=channels, size=side(name), classes=classes, **NARROW.get(name, {}), **options)


def images(name: str, n: int = 2, channels: int = 3) -> torch.Tensor:
    size = side(name)
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


COUNTS = [
    ("convnet", 3, 32, 10, {}, 320_010),
    ("convnet", 3, 32, 100, {}, 504_420),
    ("convnet", 1, 28, 10, {}, 317_706),
    ("convnet", 3, 64, 200, {}, 1_938_120),
    ("convnetd4", 3, 64, 10, {}, 467_850),
    ("convnetd4", 3, 64, 200, {}, 857_160),
    ("convnetd5", 3, 128, 10, {}, 615_690),
    ("convnetd5", 3, 128, 100, {}, 800_100),
    ("convnetd6", 3, 224, 10, {}, 754_570),
    ("convnetd6", 3, 224, 100, {}, 858_340),
    ("convnetw32", 3, 32, 10, {}, 24_714),
    ("convnetw64", 3, 32, 10, {}, 86_282),
    ("convnetw128", 3, 32, 10, {}, 320_010),
    ("convnetw256", 3, 32, 10, {}, 1_229_834),
    ("convnetd1", 3, 32, 10, {}, 331_530),
    ("convnetd2", 3, 32, 10, {}, 233_610),
    ("convnetd3", 3, 32, 10, {}, 320_010),
    ("convnetd4", 3, 32, 10, {}, 452_490),
    ("convnet_nonorm", 3, 32, 10, {}, 319_242),
    ("convnet_bn", 3, 32, 10, {}, 320_010),
    ("convnet_ln", 3, 32, 10, {}, 663_306),
    ("convnet_in", 3, 32, 10, {}, 320_010),
    ("convnet_gn", 3, 32, 10, {}, 320_010),
    ("convnet_nopool", 3, 32, 10, {}, 1_610_250),
    ("convnet", 3, 32, 10, {"width": 32, "norm": "none", "pool": "max"}, 24_522),
    ("convnet", 3, 32, 10, {"width": 256, "depth": 4, "norm": "layer", "pool": "none"}, 6_496_010),
    ("mlp", 3, 32, 10, {}, 411_146),
    ("mlp", 3, 32, 100, {}, 422_756),
    ("mlp", 1, 28, 10, {}, 118_282),
    ("mlp", 1, 28, 100, {}, 129_892),
    ("mlp", 3, 64, 200, {}, 1_615_304),
    ("lenet", 3, 32, 10, {}, 62_006),
    ("lenet", 1, 28, 10, {}, 61_706),
    ("lenet", 3, 32, 100, {}, 69_656),
    ("alexnet", 3, 32, 10, {}, 1_872_202),
    ("alexnet", 1, 28, 10, {}, 1_865_802),
    ("alexnet", 3, 32, 100, {}, 2_148_772),
    ("alexnet_bn", 3, 32, 10, {}, 1_874_122),
    ("alexnet_bn", 3, 32, 100, {}, 2_150_692),
    ("vgg11", 3, 32, 10, {}, 9_231_114),
    ("vgg11", 3, 32, 100, {}, 9_277_284),
    ("vgg11_bn", 3, 32, 10, {}, 9_231_114),
    ("vgg11_bn", 3, 32, 100, {}, 9_277_284),
    ("vgg13", 3, 32, 10, {}, 9_416_010),
    ("vgg13", 3, 32, 100, {}, 9_462_180),
    ("vgg16", 3, 32, 10, {}, 14_728_266),
    ("vgg16", 3, 32, 100, {}, 14_774_436),
    ("vgg19", 3, 32, 10, {}, 20_040_522),
    ("vgg19", 3, 32, 100, {}, 20_086_692),
    ("resnet18", 3, 32, 10, {}, 11_173_962),
    ("resnet18", 3, 32, 100, {}, 11_220_132),
    ("resnet18_bn", 3, 32, 10, {}, 11_173_962),
    ("resnet18_bn", 3, 32, 100, {}, 11_220_132),
    ("resnet18_ap", 3, 32, 10, {}, 11_250_762),
    ("resnet18_ap", 3, 32, 100, {}, 11_988_132),
    ("resnet18_ap_bn", 3, 32, 10, {}, 11_250_762),
    ("resnet18_ap_bn", 3, 32, 100, {}, 11_988_132),
    ("resnet34", 3, 32, 10, {}, 21_282_122),
    ("resnet34", 3, 32, 100, {}, 21_328_292),
    ("resnet50", 3, 32, 10, {}, 23_520_842),
    ("resnet50", 3, 32, 100, {}, 23_705_252),
    ("resnet101", 3, 32, 10, {}, 42_512_970),
    ("resnet101", 3, 32, 100, {}, 42_697_380),
    ("resnet152", 3, 32, 10, {}, 58_156_618),
    ("resnet152", 3, 32, 100, {}, 58_341_028),
    ("resnet18", 3, 64, 200, {"stem": "imagenet"}, 11_279_112),
    ("resnet152", 3, 64, 200, {"stem": "imagenet"}, 58_553_608),
    ("resnet10_ap", 3, 224, 10, {}, 4_910_922),
    ("resnet10_ap", 3, 224, 100, {}, 4_957_092),
    ("vit", 3, 32, 10, {}, 9_523_722),
    ("vit", 3, 32, 100, {}, 9_569_892),
    ("vit", 3, 64, 200, {}, 9_719_496),
    ("mobilenet_v2", 3, 32, 10, {}, 697_546),
    ("mobilenet_v2", 3, 32, 100, {}, 812_836),
    ("wrn_16_2", 3, 32, 10, {}, 691_674),
    ("wrn_16_2", 3, 32, 100, {}, 703_284),
    ("shufflenet_v2_x0_5", 3, 32, 10, {}, 351_466),
    ("shufflenet_v2_x0_5", 3, 32, 100, {}, 443_716),
    ("tv_resnet18", 3, 32, 10, {"stem": "small"}, 11_173_962),
    ("tv_resnet18", 3, 64, 200, {"stem": "small"}, 11_271_432),
    ("tv_resnet101", 3, 32, 10, {"stem": "small"}, 42_512_970),
    # as torchvision and the DeiT paper state them, for 1000 classes
    ("tv_resnet18", 3, 224, 1000, {}, 11_689_512),
    ("tv_resnet50", 3, 224, 1000, {}, 25_557_032),
    ("tv_mobilenet_v2", 3, 224, 1000, {}, 3_504_872),
    ("tv_efficientnet_b0", 3, 224, 1000, {}, 5_288_548),
    ("tv_vgg11_bn", 3, 224, 1000, {}, 132_868_840),
    ("tv_vit_b_16", 3, 224, 1000, {}, 86_567_656),
    ("tv_swin_t", 3, 224, 1000, {}, 28_288_354),
    ("deit_tiny", 3, 224, 1000, {}, 5_717_416),
]


@pytest.mark.parametrize("name, channels, size, classes, options, count", COUNTS)
def test_parameter_counts_are_those_of_the_literature(name, channels, size, classes, options, count):
    with torch.device("meta"):
        assert (
            count_parameters(build(name, channels=channels, size=size, classes=classes, **options)) == count
        )


@pytest.mark.parametrize(
    "name, channels, size, width",
    [
        ("convnet", 3, 32, 2048),
        ("convnet", 1, 28, 2048),
        ("convnet", 3, 64, 8192),
        ("convnetd4", 3, 64, 2048),
        ("convnetd5", 3, 128, 2048),
        ("convnetd6", 3, 224, 1152),
        ("convnet_nopool", 3, 32, 131_072),
        ("mlp", 3, 32, 128),
        ("lenet", 3, 32, 84),
        ("alexnet", 1, 28, 3072),
        ("vgg11", 1, 28, 512),
        ("vgg11", 3, 64, 512),
        ("resnet18_ap", 1, 28, 512 * 3 * 3),
        ("resnet18_ap", 3, 32, 512 * 4 * 4),
        ("resnet50", 3, 28, 2048),
        ("vit", 1, 28, 512),
        ("mobilenet_v2", 3, 32, 1280),
        ("shufflenet_v2_x0_5", 3, 32, 1024),
    ],
)
def test_embedding_width(name, channels, size, width):
    with torch.device("meta"):
        model = build(name, channels=channels, size=size, classes=10)
        assert model.embed(torch.empty(2, channels, size, size)).shape == (2, width)
        assert model(torch.empty(2, channels, size, size)).shape == (2, 10)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_head_of_the_embedding(name):
    model, x = small(name).eval(), images(name)
    with torch.no_grad():
        embedding = model.embed(x)
        logits = model(x)
    assert embedding.dim() == 2 and logits.shape == (2, 5) and logits.isfinite().all()
    assert torch.equal(model.head(embedding), logits)
    assert not torch.equal(embedding[0], embedding[1])  # the image reaches the embedding


@pytest.mark.parametrize("name", NAMES)
def test_grey_images_and_eval_mode_takes_each_image_alone(name):
    model, x = small(name, channels=1).double().eval(), images(name, channels=1).double()
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:], model(x[1:]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_reinitialised_is_freshly_built(name):
    torch.manual_seed(7)
    fresh = small(name)
    torch.manual_seed(8)
    model = small(name)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.mul_(3).add_(1)  # running statistics of some training
    reference, state = fresh.state_dict(), torch.get_rng_state()
    reinitialise(model, 7)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, reference[key]), key


@pytest.mark.parametrize("name", ["convnet", "convnet_bn", "vit", "wrn_16_2"])
def test_reinitialised_values_do_not_depend_on_type_layout_mode_or_grad(name):
    torch.manual_seed(3)
    fresh = small(name)
    model = small(name).double().to(memory_format=torch.channels_last).requires_grad_(False).eval()
    reinitialise(model, 3)
    for own, expected in zip(model.parameters(), fresh.parameters(), strict=True):
        assert own.dtype == torch.float64 and not own.requires_grad
        assert torch.equal(own, expected.double())
    assert not any(module.training for module in model.modules())
    reinitialise(model, 4)
    assert not torch.equal(model.classifier.weight, fresh.classifier.weight.double())


def test_reinitialise_takes_the_seeds_of_named_streams():
    model = small("mlp")
    reinitialise(model, 2**63 - 1)
    first = model.classifier.weight.clone()
    reinitialise(model, 0)
    reinitialise(model, 2**63 - 1)
    assert torch.equal(model.classifier.weight, first)


def test_reinitialise_refuses_parameters_it_cannot_draw():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(TypeError, match="Own has parameters of its own"):
        reinitialise(nn.Sequential(Own()), 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
def test_convnets_of_all_depths_that_fit(size, channels):
    entry = 32 if (size, channels) == (28, 1) else size
    for depth in range(1, 7):
        if entry >> depth:
            model = build("convnet", channels=channels, size=size, classes=4, depth=depth, width=8)
            maps = model.feature_maps(torch.randn(2, channels, size, size))
            assert [tuple(m.shape) for m in maps] == [
                (2, 8, entry >> k, entry >> k) for k in range(1, depth + 1)
            ]
        else:
            # Grey images of 28 pixels enter as 32
            smallest = 28 if channels == 1 and depth == 5 else 2**depth
            with pytest.raises(
                UserError,
                match=f"'convnet': images of {size} x {size} pixels do not fit; .* is {smallest} x "
                f"{smallest}",
            ):
                build("convnet", channels=channels, size=size, classes=4, depth=depth, width=8)


@pytest.mark.parametrize(
    "name",
    ["convnet", "convnet_nopool", "convnet_max", "alexnet", "vgg11", "resnet18", "resnet18_ap", "wrn_16_2"],
)
def test_the_last_map_gives_the_embedding(name):
    model, x = small(name).eval(), images(name)
    with torch.no_grad():
        last = model.feature_maps(x)[-1]
        torch.testing.assert_close(model.neck(last), model.embed(x), rtol=0, atol=0)


def test_maps_before_pooling_are_relu_outputs_and_pool_to_the_maps():
    model, x = small("convnet"), images("convnet")
    with kernels.plain():  # to the bit; the kernel pools as it goes
        unpooled, pooled = model.feature_maps(x, pooled=False), model.feature_maps(x)
    for before, after in zip(unpooled, pooled, strict=True):
        assert before.min() == 0
        torch.testing.assert_close(nn.functional.avg_pool2d(before, 2), after, rtol=0, atol=0)


def test_a_network_without_maps_says_so():
    with pytest.raises(UserError, match="Perceptron does not show the maps"):
        small("mlp").feature_maps(images("mlp"))


def test_instance_norm_by_hand():
    """Each map of each image is normalised over its own places, the same in train and eval."""
    model, x = build("convnetd1", channels=3, size=8, classes=2, width=4), torch.randn(2, 3, 8, 8)
    convolution, norm = model.stages[0].body[0], model.stages[0].body[1]
    raw = convolution(x)
    by_hand = (raw - raw.mean((2, 3), keepdim=True)) / (
        raw.var((2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(norm(raw), by_hand)
    assert torch.equal(model.train()(x), model.eval()(x))


@pytest.mark.parametrize("name", BATCH_NORM)
def test_batch_norm_uses_the_batch_in_training_and_keeps_statistics(name):
    model, x = small(name), images(name, n=4)
    before = {key: value.clone() for key, value in model.named_buffers()}
    training = model(x)
    assert all(not torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert not torch.allclose(training, model.eval()(x))


def test_dropout_only_in_training():
    model, x = small("vit"), images("vit")
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    "name", ["convnet_ln", "lenet", "alexnet_bn", "vgg11", "resnet18_ap", "vit", "mobilenet_v2", "tv_swin_t"]
)
def test_type_is_kept_and_gradients_reach_the_images(name):
    model, x = small(name).double(), images(name).double().requires_grad_()
    logits = model(x)
    logits.square().sum().backward()
    assert logits.dtype == torch.float64
    assert x.grad.isfinite().all() and (x.grad.flatten(1).norm(dim=1) > 0).all()


def test_second_derivatives_for_gradient_matching():
    model, x = small("vit").eval(), images("vit").requires_grad_()
    gradients = torch.autograd.grad(model(x).square().sum(), list(model.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(g.square().sum() for g in gradients), x)
    assert second.isfinite().all() and second.norm() > 0


def test_attention_agrees_with_pytorch():
    attention = small("vit").eval().layers[0].inner
    x = torch.randn(2, 5, 32)
    query, key, value = (
        part.unflatten(2, (2, 8)).transpose(1, 2) for part in attention.queries_keys_values(x).chunk(3, 2)
    )
    expected = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x), attention.leave(expected))


def test_patches_hold_their_own_pixels():
    """A pixel outside a patch does not change its token; inside, the channel runs fastest."""
    model = build("vit", channels=2, size=8, classes=2, depth=1, dim=8, heads=1)
    seen = []
    model.patches.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.arange(2 * 64.0).reshape(1, 2, 8, 8)
    model(x)
    assert seen[0].shape == (1, 4, 32)
    # The second patch starts at column 4; channel 1 lies 64 further
    assert seen[0][0, 1, :4].tolist() == [4, 68, 5, 69]
    assert seen[0][0, 2, 0] == 32  # the third at row 4


def test_our_resnet_with_batch_norm_is_torchvisions_with_a_small_stem():
    ours = build("resnet50", channels=3, size=32, classes=3, norm="batch").eval()
    theirs = build("tv_resnet50", channels=3, size=32, classes=3, stem="small").eval()
    blocks = [block for stage in ours.stages[1:] for block in stage.body]
    their_blocks = [
        block
        for layer in (theirs.body.layer1, theirs.body.layer2, theirs.body.layer3, theirs.body.layer4)
        for block in layer
    ]
    pairs = [
        (ours.stages[0].body[0], theirs.body.conv1),
        (ours.stages[0].body[1], theirs.body.bn1),
        (ours.classifier, theirs.classifier),
    ]
    for mine, other in zip(blocks, their_blocks, strict=True):
        layers = (other.conv1, other.bn1, other.conv2, other.bn2, other.conv3, other.bn3)
        pairs += zip((mine.body[place] for place in (0, 1, 3, 4, 6, 7)), layers, strict=True)
        if other.downsample is not None:
            pairs += [(mine.shortcut, other.downsample)]
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_shuffle_takes_channels_of_both_halves_in_turn():
    from condense.models.mobile import _shuffled

    assert _shuffled(torch.tensor([[0, 1, 2]]), torch.tensor([[5, 6, 7]])).tolist() == [[0, 5, 1, 6, 2, 7]]


def test_enlarged_images_go_through_the_larger_network():
    torch.manual_seed(0)
    plain = build("convnet", channels=1, size=32, classes=3, width=8)
    torch.manual_seed(0)
    model = build("convnet", channels=1, size=8, classes=3, width=8, enlarge=32)
    x = torch.randn(2, 1, 8, 8)
    larger = nn.functional.interpolate(x, size=32, mode="bilinear", align_corners=False)
    assert torch.equal(model(x), plain(larger))
    assert torch.equal(model.feature_maps(x)[0], plain.feature_maps(larger)[0])


def check_smallest(name):
    """The size that the message names for one that is too small is the smallest that fits; or all do."""
    with torch.device("meta"):
        try:
            model = build(name, channels=3, size=1, classes=2).eval()
        except UserError as error:
            assert f"architecture '{name}': images of 1 x 1 pixels do not fit" in str(error)
            smallest = int(str(error).split("`enlarge: ")[1].split("`")[0])
            model = build(name, channels=3, size=1, classes=2, enlarge=smallest).eval()
            with pytest.raises(UserError, match="do not fit"):
                build(name, channels=3, size=1, classes=2, enlarge=smallest - 1)
        assert model(torch.empty(2, 3, 1, 1)).shape == (2, 2), f"'{name}' fits images that it cannot take"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_its_name_may_stand_in_paths(name):
    check_name("the name of an architecture", name)


@pytest.mark.parametrize("name", NAMES)
def test_the_size_that_the_message_names_is_the_smallest_that_fits(name):
    check_smallest(name)


def test_an_architecture_of_ones_own_may_take_every_image(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "my_own", ARCHITECTURES["mlp"])
    check_smallest("my_own")
    wrong = replace(ARCHITECTURES["convnet"], fits=lambda options, channels, size: True)
    monkeypatch.setitem(ARCHITECTURES, "my_own", wrong)
    with pytest.raises((AssertionError, RuntimeError, ValueError, UserWarning)):
        check_smallest("my_own")


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("convnt", {}, "unknown architecture 'convnt'; did you mean 'convnet'"),
        ("convnet", {"widht": 3}, "architecture 'convnet': unknown option 'widht'; did you mean 'width'"),
        ("lenet", {"width": 3}, "architecture 'lenet': unknown option 'width' .known: enlarge."),
        (
            "convnet",
            {"norm": "bacth"},
            "architecture 'convnet': norm: unknown value 'bacth'; did you mean 'batch'",
        ),
        (
            "convnet",
            {"width": "128"},
            "architecture 'convnet': width: a number is needed, found the text '128'",
        ),
        ("convnet", {"depth": 0}, "architecture 'convnet': depth: a number of at least 1 is needed, found 0"),
        (
            "convnet",
            {"norm": "group", "width": 6},
            "architecture 'convnet': width: norm 'group' makes 4 groups",
        ),
        ("alexnet", {"width": 5}, "architecture 'alexnet': width: a multiple of 2"),
        ("vit", {"dropout": 1.0}, "architecture 'vit': dropout: "),
        (
            "vit",
            {"patch": 5},
            "architecture 'vit': images of 32 x 32 pixels do not fit; the smallest size that fits is 35 x 35",
        ),
        ("convnet", {"enlarge": 16}, "would shrink images of 32 x 32"),
        ("convnet", {"depth": 13}, "nor do any up to 4096 pixels: take a smaller depth"),
        (
            "tv_resnet18",
            {},
            "architecture 'tv_resnet18': images of 32 x 32 pixels do not fit; the smallest size that fits is "
            "64 x 64",
        ),
    ],
)
def test_messages(name, options, message):
    with pytest.raises(UserError, match=message):
        build(name, channels=3, size=32, classes=10, **options)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"size": -1}, {"classes": 2.5}])
def test_a_wrong_shape_is_named(wrong):
    with pytest.raises(
        UserError, match=f"architecture 'mlp': {next(iter(wrong))}: a whole number of at least 1"
    ):
        build("mlp", **{"channels": 3, "size": 8, "classes": 2} | wrong)


def test_torchvision_refuses_other_channels():
    with pytest.raises(UserError, match="1 or 3 channels, not 2"):
        build("tv_mobilenet_v2", channels=2, size=64, classes=2)


def test_instance_norm_of_a_single_pixel_is_refused():
    """8-pixel images end as maps of one pixel, which instance norm makes zero; batch norm does not."""
    with pytest.raises(UserError, match="smallest size that fits is 9 x 9"):
        build("resnet18", channels=3, size=8, classes=2, width=4)
    model, x = build("resnet18_bn", channels=3, size=8, classes=2, width=4).eval(), torch.randn(2, 3, 8, 8)
    assert not torch.equal(model(x)[0], model(x)[1])


def test_registry_is_in_step_with_the_names():
    assert architecture_names() == sorted(ARCHITECTURES) and len(set(architecture_names())) == len(
        ARCHITECTURES
    )


@pytest.mark.parametrize("name", architecture_names())
def test_every_option_is_read(name):
    builder, read = ARCHITECTURES[name], set()
    options, size = noting(builder.defaults, read), side(name)
    assert builder.fits(options, 3, size)
    with torch.device("meta"):
        builder.make(options, 3, size, 5)
    # Which `build` reads, and which is there for keys alone
    assert choices(type(builder.defaults), "enlarge", "revision") <= read


NARROW_TRAINED = """
import torch
from condense import models
torch.set_num_threads(1)
network = models.build("resnet18_bn", channels=1, size=8, classes=10, width=4)
for _ in range(60):
    logits = network(torch.randn(64, 1, 8, 8))
    torch.nn.functional.cross_entropy(logits, torch.arange(64) % 10).backward()
print("trained")
"""


def test_a_narrow_residual_network_trains_without_damage_to_memory():
    """In a process of its own, which the damage would end."""
    command = [sys.executable, "-c", NARROW_TRAINED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HUNG)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr[-500:]
