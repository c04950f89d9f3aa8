"""What the tests of statistics matching by classes share: small observers of the digits, what their layers
are given, and the moments of layers by loops of their own."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from matching_helpers import CPU, NOWHERE

from condense import engines, kernels, plan
from condense.engines.orders import Order, Site
from condense.networks.layer_statistics import LAYERS, gather_statistics
from condense.networks.making import Making
from condense.networks.pretrain import pretrain
from condense.specs import catalogue

ARCHS = {"resnet18_bn": {"width": 4}, "convnet": {"depth": 1, "width": 8}}
PROTOCOL = replace(catalogue.protocol("edc_observer"), epochs=1, batch=200)
SMALL = {
    "steps": 5,
    "init": "real",
    "batches": {"images": 6, "order": "class_by_class"},
    "observers": {"protocol": "edc_observer", "archs": list(ARCHS)},
    "view": {"crop": {"least": 0.3}, "shift": 1, "roll": 0, "one_way": False, "flip": False},
}


def recipe(name="edc", **changes):
    strategy = plan.data_cell("digits").spec.strategy
    return catalogue.resolve(catalogue.recipe(name), "digits", strategy, 2, [("test", SMALL | changes)])


def teach(folder, train, arch, seed=0):
    path = folder / f"{arch}-{seed}.safetensors"
    pretrain(Making(path, train, arch, ARCHS[arch], seed, "0" * 12, CPU), PROTOCOL, "crop")
    return path


def gathered(path, train, observer, arch, **changes):
    settings = {"arch": arch, "options": ARCHS[arch], "seed": 0, "key": "1" * 12, "device": CPU}
    gather_statistics(Making(path, train, **{**settings, **changes}), PROTOCOL, "crop", observer)
    return path


def made_parents(train, folder):
    """Two observers of the digits and what their layers are given, by the names that a recipe gives them."""
    made = {}
    for arch in ARCHS:
        made[f"observer_{arch}"] = teach(folder, train, arch)
        path = folder / f"{arch}.statistics.safetensors"
        made[f"statistics_{arch}"] = gathered(path, train, made[f"observer_{arch}"], arch)
    return made


def run(value, train, parents, *, ipc=2, first=0, checkpoint=NOWHERE):
    site = Site(train, train.classes, "resnet18_bn", ARCHS["resnet18_bn"], 3, CPU)
    asked = {name: parents[name] for name in value.parents()}
    return engines.engine("statistics")(site, [Order(value, ipc, asked, checkpoint, first)])[0]


def plainly_seen(network, images):
    """What every layer is given, in the order of the modules, by torch's own operations and hooks."""
    layers = [layer for layer in network.modules() if isinstance(layer, LAYERS)]
    seen = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, at=at: seen.update({at: given[0]}))
        for at, layer in enumerate(layers)
    ]
    with kernels.plain():
        logits = network(images)
    for hook in hooks:
        hook.remove()
    return layers, [seen[at] for at in range(len(layers))], logits


def plain_moments(maps, each=False):
    """Means and variances of channels and of patches of 4 x 4 places, by loops."""
    axes = (2, 3) if each else (0, 2, 3)
    sides = [4 * -(-side // 4) for side in maps.shape[2:]]
    large = F.interpolate(maps, sides, mode="bilinear")
    corners = [(top, left) for top in range(0, sides[0], 4) for left in range(0, sides[1], 4)]
    cells = [large[:, :, top : top + 4, left : left + 4] for top, left in corners]
    over = (1, 2, 3) if each else (0, 1, 2, 3)
    means = torch.stack([cell.mean(over) for cell in cells], -1)
    variances = torch.stack([cell.var(over, correction=0) for cell in cells], -1)
    return maps.mean(axes), maps.var(axes, correction=0), means, variances
