"""Several networks of one architecture as one: their channels lie side by side, and every layer works on all
of them.

A convolution of K networks is one with K times the groups, a norm has K times the channels, what works
element by element stays as it is. So each layer is one operation of torch with nothing moved between two of
them, which batching by a function transform does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense import kernels
from condense.machine.fitting import COPIES, networks_at_once
from condense.models.base import GlobalAverage, Stage, StagedNetwork
from condense.models.classic import Perceptron
from condense.models.mobile import InvertedResidual
from condense.models.nas201 import Cell, MixedEdge, Reduction, Zero
from condense.models.resnet import Block, PreactivationBlock

# Layers that do not look across channels, and modules that only call such layers and add what they give.
_UNCHANGED = (
    *(
        nn.Sequential,
        nn.ModuleList,
        nn.Identity,
        nn.Flatten,
        nn.Upsample,
        nn.Dropout,
        nn.AvgPool2d,
        nn.MaxPool2d,
    ),
    *(nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.SiLU, nn.GELU),
    *(StagedNetwork, Perceptron, Stage, GlobalAverage, Block, PreactivationBlock, InvertedResidual),
    *(Cell, MixedEdge, Reduction, Zero),
)
N = TypeVar("N", bound=nn.Module)
_PROBE = 1e-3  # rate of the step by which networks side by side are compared with each alone


def can_be_batched(network: nn.Module) -> bool:
    """Whether networks like this one can be `Stacked`: all of its layers are known to work with channels side
    by side.

    Refused are layers that mix channels (shuffles), that have another axis before them (tokens), and those of
    other libraries.
    """
    return all(_known(module) for module in network.modules())


def _known(layer: nn.Module) -> bool:
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros"
    if type(layer) is nn.LayerNorm:
        return len(layer.normalized_shape) == 3
    return type(layer) in (nn.Linear, nn.GroupNorm, nn.BatchNorm2d, *_UNCHANGED)


class Stacked(nn.Module):
    """K networks of one architecture, on the device and in the type of the given ones, which are not changed.

    Each parameter and running statistic is that of all networks, joined along its first axis, under its own
    name. Images (K, b, c, h, w), a batch for each, or (b, c, h, w), the same for all, become logits
    (K, b, classes); the gradient of a sum over the networks is that of each alone. One generator draws the
    masks of all dropout layers, so there, and only there, what a network computes depends on its neighbours.
    Raises ValueError for networks that cannot be batched.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        first, self.count = networks[0], len(networks)
        if not can_be_batched(first):
            raise ValueError(f"a network of kind {type(first).__name__} with these layers cannot be batched")
        states = [network.state_dict() for network in networks]
        frozen = {name for name, parameter in first.named_parameters() if not parameter.requires_grad}
        self.layers = copy.deepcopy(first)
        for module in list(self.layers.modules()):
            for name, child in list(module.named_children()):
                setattr(module, name, _widened(child, self.count))
        for prefix, module in self.layers.named_modules():
            full_names = {
                name: f"{prefix}.{name}".lstrip(".") for name in (*module._parameters, *module._buffers)
            }
            for name, full in full_names.items():
                if full not in states[0]:  # a layer without bias
                    continue
                value = _joined([state[full] for state in states])
                setattr(
                    module,
                    name,
                    nn.Parameter(value, full not in frozen) if name in module._parameters else value,
                )

    @property
    def fused(self) -> bool:
        """As of the networks; see `precision.reduced`."""
        return getattr(self.layers, "fused", False)

    def forward(self, images: Tensor) -> Tensor:
        beside = (
            images.transpose(0, 1).flatten(1, 2) if images.dim() == 5 else images.repeat(1, self.count, 1, 1)
        )
        return self.layers(beside).unflatten(1, (self.count, -1)).transpose(0, 1)

    @torch.no_grad()
    def copy_to(self, index: int, network: nn.Module) -> None:
        """Gives `network` the parameters and running statistics of the one at `index`."""
        state = self.layers.state_dict()
        for name, value in network.state_dict().items():
            value.copy_(state[name].chunk(self.count)[index] if value.dim() else state[name])


def differs(
    stacked: Stacked, networks: Sequence[nn.Module], images: Tensor, labels: Tensor, rounding: float
) -> str:
    """How `stacked`, made from `networks`, works otherwise than each alone; '' if they agree but for
    `rounding` (a share).

    Images (b, c, h, w), the same for all, and labels (b,). Compared are the logits, the gradients by what a
    step along them makes of the logits, and the running statistics. Copies are worked on. Dropout is left
    out: its masks differ by design.
    """
    together = _copy_without_dropout(stacked)
    before = together(images)
    _descend(before.flatten(0, 1), labels.repeat(stacked.count), together)
    after = together(images).detach()
    for index, network in enumerate(networks):
        alone = _copy_without_dropout(network)
        logits = alone(images)
        _descend(logits, labels, alone)
        for when, wanted, actual in (
            ("before", logits, before[index]),
            ("after", alone(images), after[index]),
        ):
            wanted, actual = wanted.detach().double(), actual.detach().double()
            if not float((wanted - actual).norm()) <= rounding * float(wanted.norm()):
                return f"network {index} gives other values {when} a step"
        extracted = copy.deepcopy(alone)
        together.copy_to(index, extracted)
        for (name, wanted), actual in zip(alone.named_buffers(), extracted.buffers(), strict=True):
            if not float((wanted.double() - actual.double()).norm()) <= rounding * (
                float(wanted.double().norm()) + 1
            ):
                return f"network {index} keeps other statistics ({name})"
    return ""


def _copy_without_dropout(network: N) -> N:
    copied = copy.deepcopy(network).train()
    for layer in copied.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
    return copied


def _descend(logits: Tensor, labels: Tensor, network: nn.Module) -> None:
    """One small step along the gradient of the sum of the losses, in which networks side by side do not
    meet."""
    tensors = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), tensors)
    with torch.no_grad():
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.sub_(_PROBE * gradient)


def _joined(values: Sequence[Tensor]) -> Tensor:
    # The number of batches seen is the same for all
    return torch.cat(list(values)) if values[0].dim() else values[0].clone()


def _widened(layer: nn.Module, count: int) -> nn.Module:
    """`layer` for so many networks; its parameters are still those of one."""
    if type(layer) is nn.Conv2d:
        layer.in_channels, layer.out_channels, layer.groups = (
            count * n for n in (layer.in_channels, layer.out_channels, layer.groups)
        )
    elif type(layer) is nn.GroupNorm:
        layer.num_groups, layer.num_channels = count * layer.num_groups, count * layer.num_channels
    elif type(layer) is nn.BatchNorm2d:
        layer.num_features *= count
    elif type(layer) is nn.Linear:
        return _Linears(layer, count)
    elif type(layer) is nn.LayerNorm:
        return _LayerNorms(layer, count)
    return layer


class _Linears(nn.Module):
    """Linear layers side by side: (b, K * inputs) -> (b, K * outputs)."""

    def __init__(self, layer: nn.Linear, count: int) -> None:
        super().__init__()
        self.count, self.weight, self.bias = count, layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        x, weight = (
            x.unflatten(1, (self.count, -1)).transpose(0, 1),
            self.weight.unflatten(0, (self.count, -1)).transpose(1, 2),
        )
        out = x @ weight if self.bias is None else torch.baddbmm(self.bias.view(self.count, 1, -1), x, weight)
        return out.transpose(0, 1).flatten(1)


class _LayerNorms(nn.Module):
    """Layer norms over all but the first axis, side by side: (b, K * c, h, w) -> the same."""

    def __init__(self, layer: nn.LayerNorm, count: int) -> None:
        super().__init__()
        self.count, self.shape, self.eps, self.weight, self.bias = (
            count,
            layer.normalized_shape,
            layer.eps,
            layer.weight,
            layer.bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.unflatten(1, (self.count, -1)), self.shape, eps=self.eps).flatten(1, 2)
        return x * self.weight + self.bias


# Norms of one network, and of several side by side
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, _LayerNorms)


@torch.no_grad()
def fitting(network: nn.Module, image: Tensor, batch: int, memory: float, held: int = COPIES) -> int:
    """How many networks like `network` train at once on batches of so many images like `image` (c, h, w) in
    `memory` bytes; at least 1.

    The rule is `networks_at_once` of `fitting`; `held` times the parameters are in memory.
    """
    counted = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        counted += output.numel()

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    trained = network.training
    with kernels.plain():
        network.eval()(image[None])
    network.train(trained)
    for handle in handles:
        handle.remove()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return networks_at_once(parameters, counted, batch, memory, held)
