"""Architectures by name: `build` makes one for images of a given shape; parameters are drawn as PyTorch's
layers do by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from torch import nn

from condense.config import UserError, read, unknown
from condense.models import classic, convnet, mobile, nas201, resnet, space, tv, vit
from condense.models.base import Builder, Network, Options, count_parameters
from condense.models.convnet import ConvNetOptions
from condense.models.initialise import Drawing, reinitialise, take

__all__ = [
    "ARCHITECTURES",
    "Builder",
    "Drawing",
    "Network",
    "architecture_names",
    "build",
    "count_parameters",
    "reinitialise",
    "take",
]

CONVNETS: dict[str, ConvNetOptions] = {
    "convnet": ConvNetOptions(),
    "convnetd1": ConvNetOptions(depth=1),
    "convnetd2": ConvNetOptions(depth=2),
    "convnetd3": ConvNetOptions(depth=3),
    "convnetd4": ConvNetOptions(depth=4),
    "convnetd5": ConvNetOptions(depth=5),
    "convnetd6": ConvNetOptions(depth=6),
    "convnetw32": ConvNetOptions(width=32),
    "convnetw64": ConvNetOptions(width=64),
    "convnetw128": ConvNetOptions(width=128),
    "convnetw256": ConvNetOptions(width=256),
    "convnet_nonorm": ConvNetOptions(norm="none"),
    "convnet_bn": ConvNetOptions(norm="batch"),
    "convnet_ln": ConvNetOptions(norm="layer"),
    "convnet_in": ConvNetOptions(norm="instance"),
    "convnet_gn": ConvNetOptions(norm="group"),
    "convnet_nopool": ConvNetOptions(pool="none"),
    "convnet_max": ConvNetOptions(pool="max"),
    "convnet_avg": ConvNetOptions(pool="average"),
    "convnet_sigmoid": ConvNetOptions(act="sigmoid"),
    "convnet_relu": ConvNetOptions(act="relu"),
    "convnet_leaky": ConvNetOptions(act="leaky_relu"),
    "convnet_swish": ConvNetOptions(act="swish"),
}

ARCHITECTURES: dict[str, Builder] = {
    **{name: convnet.builder(options) for name, options in CONVNETS.items()},
    "mlp": classic.mlp(),
    "lenet": classic.lenet(),
    "alexnet": classic.alexnet(),
    "alexnet_bn": classic.alexnet(norm="batch"),
    "vgg11": classic.vgg(11),
    "vgg11_bn": classic.vgg(11, norm="batch"),
    "vgg13": classic.vgg(13),
    "vgg16": classic.vgg(16),
    "vgg19": classic.vgg(19),
    "resnet10_ap": resnet.resnet10_ap(),
    "resnet18": resnet.resnet(18),
    "resnet18_bn": resnet.resnet(18, norm="batch"),
    "resnet18_ap": resnet.resnet_ap(),
    "resnet18_ap_bn": resnet.resnet_ap(norm="batch"),
    "resnet34": resnet.resnet(34),
    "resnet50": resnet.resnet(50),
    "resnet50_bn": resnet.resnet(50, norm="batch"),
    "resnet101": resnet.resnet(101),
    "resnet101_bn": resnet.resnet(101, norm="batch"),
    "resnet152": resnet.resnet(152),
    "wrn_16_2": resnet.wide_resnet(16, 2),
    "wrn_40_2": resnet.wide_resnet(40, 2),
    "mobilenet_v2": mobile.mobilenet_v2(),
    "shufflenet_v2_x0_5": mobile.shufflenet_v2(),
    "convnet_search_space": space.convnet_space(),
    "nas_bench_201": nas201.nas201(),
    "vit": vit.vit(),
    "deit_tiny": tv.deit_tiny(),
    "tv_alexnet": tv.convolutional("alexnet"),
    "tv_convnext_tiny": tv.convolutional("convnext_tiny"),
    "tv_densenet121": tv.convolutional("densenet121"),
    "tv_efficientnet_b0": tv.convolutional("efficientnet_b0"),
    "tv_mobilenet_v2": tv.convolutional("mobilenet_v2"),
    "tv_resnet18": tv.resnet("resnet18"),
    "tv_resnet50": tv.resnet("resnet50"),
    "tv_resnet101": tv.resnet("resnet101"),
    "tv_shufflenet_v2_x0_5": tv.convolutional("shufflenet_v2_x0_5"),
    "tv_swin_t": tv.convolutional("swin_t"),
    "tv_vgg11_bn": tv.convolutional("vgg11_bn"),
    "tv_vit_b_16": tv.vit("vit_b_16"),
}

_LARGEST = 4096  # pixels: where the search for a size that fits ends


def architecture_names() -> list[str]:
    """All names that `build` knows, in alphabetical order."""
    return sorted(ARCHITECTURES)


def build(name: str, *, channels: int, size: int, classes: int, **options: object) -> Network:
    """A new network for images of `channels` x `size` x `size` pixels, drawn from PyTorch's global generator.

    `options` are those of the architecture, such as depth and width, and for each of them `enlarge`: images
    are first brought to that many pixels a side by bilinear interpolation, for networks too deep for the
    images.
    Raises UserError for an unknown name or option, a value of the wrong type, and images too small for the
    network.
    """
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    builder, where = ARCHITECTURES[name], f"architecture '{name}'"
    for key, value in {"channels": channels, "size": size, "classes": classes}.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{where}: {key}: a whole number of at least 1 is needed, found {value!r}")
    chosen = chosen_options(name, options)
    if chosen.enlarge is not None and chosen.enlarge < size:
        raise UserError(
            f"{where}: 'enlarge: {chosen.enlarge}' would shrink images of {size} x {size} pixels: leave it "
            "out"
        )
    side = chosen.enlarge or size
    if not builder.fits(chosen, channels, side):
        raise _unfit(where, builder, chosen, channels, side)
    model = builder.make(chosen, channels, side, classes)
    if chosen.enlarge is not None:
        model.enlarge = nn.Upsample(size=(side, side), mode="bilinear", align_corners=False)
    return model


def chosen_options(name: str, options: Mapping[str, object]) -> Options:
    """The options of an architecture, those that are not given at their defaults. Raises UserError for an
    unknown name or option and a value of the wrong type."""
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    builder, where = ARCHITECTURES[name], f"architecture '{name}'"
    for option in options:
        if option not in asdict(builder.defaults):
            raise unknown("option", option, asdict(builder.defaults), where)
    chosen: Options = read(type(builder.defaults), asdict(builder.defaults) | dict(options), where)
    return chosen


def _unfit(where: str, builder: Builder, options: Options, channels: int, size: int) -> UserError:
    fitting = next(
        (side for side in range(size + 1, _LARGEST + 1) if builder.fits(options, channels, side)), None
    )
    if fitting is None:
        return UserError(
            f"{where}: images of {size} x {size} pixels do not fit, nor do any up to {_LARGEST} pixels: take "
            "a smaller depth"
        )
    shallower = " or a smaller depth" if hasattr(options, "depth") else ""
    return UserError(
        f"{where}: images of {size} x {size} pixels do not fit; the smallest size that fits is {fitting} x "
        f"{fitting}: take larger images, have the network enlarge them (its option `enlarge: {fitting}`, in "
        f"a scale under `architectures`), or choose another architecture{shallower}"
    )
