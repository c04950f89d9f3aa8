"""Networks of a user's own, as `nn.Module`s that a function makes, beside those of `ARCHITECTURES`."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense.config import UserError
from condense.files.artifacts import digest
from condense.models.base import Builder, Network, Options
from condense.models.own_code import Code

Factory = Callable[[], nn.Module]
_IMAGES = 3  # on which a network is tried


@dataclass(frozen=True)
class Own:
    """A network of a user's own: the `name` under which `build` makes it, and what its embedding is.

    The name comes from the code, so that another code has another one. `open`: what may decide, too, and
    could not be read; two networks that differ in it alone have one name.
    """

    name: str
    builder: Builder
    embedding: str
    open: tuple[str, ...]


def own_network(factory: Factory, *, channels: int, size: int, classes: int) -> Own:
    """The network that `factory()` makes, for images of `channels` x `size` x `size` pixels and `classes`.

    It maps images (n, channels, size, size) to logits (n, classes), the last thing it does being a linear
    layer; what this is given is the embedding, as an `embed` of its own has to give it, too. All its
    parameters are drawn by calling `factory` anew.
    Raises UserError for a factory whose networks are not so.
    """
    title = getattr(factory, "__qualname__", type(factory).__qualname__)
    where = f"network {title}"
    try:
        module = factory()
    except Exception as error:
        raise UserError(f"{where}: cannot be made by calling it without arguments ({error})") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"{where}: makes {type(module).__name__}, where a torch.nn.Module is needed")
    shape = (channels, size, classes)
    layer, embedding = _checked(module, shape, where)
    code = _code_of(factory, (module, _another(factory, module, where)))
    parameters = [[name, list(value.shape)] for name, value in module.state_dict().items()]
    key = digest([title, code.checksum(), parameters])
    spelt = re.sub(r"[^a-z0-9]+", "_", title.rsplit(".", 1)[-1].lower()).strip("_")

    def fits(_options: Options, c: int, s: int) -> bool:
        return (c, s) == shape[:2]

    def make(_options: Options, _channels: int, _size: int, k: int) -> Network:
        if k != classes:
            raise UserError(f"{where}: is one for {classes} classes, where {k} are asked for")
        return _Taken(factory, layer, where)

    named = f"own_{spelt or 'network'}_{key}"
    return Own(named, Builder(Options(), fits, make), embedding, tuple(dict.fromkeys(code.open)))


class _Taken(Network):
    """A module of somebody else's, in two parts: all before its last linear layer, and this."""

    def __init__(self, factory: Factory, layer: str, where: str):
        super().__init__()
        self._making, self._layer, self._where = _Making(factory), layer, where
        self._take(self._making.factory())

    def _take(self, module: nn.Module) -> None:
        parent, _, name = self._layer.rpartition(".")
        owner = module.get_submodule(parent)
        layer = owner.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"{self._layer} of another network of this factory is no linear layer")
        self.classifier = layer
        setattr(owner, name, nn.Identity())
        self.module = module

    def _embed(self, x: Tensor) -> Tensor:
        return self.module(x)

    def embed_with_maps(self, x: Tensor, before: bool = False) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Raises UserError: nobody knows which maps of the module are those between its stages."""
        raise UserError(
            f"{self._where}: the method compares the maps between the layers of a network, which one of your "
            "own does not show; take an architecture of `condense list architectures`, such as 'convnet', or "
            "another method, such as 'dm'"
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all parameters as the factory does, which may be another way than that of torch's layers."""
        fresh = _Taken(self._making.factory, self._layer, self._where).state_dict()
        for name, value in self.state_dict().items():
            value.copy_(fresh[name])


class _Making:
    """A factory that copies of a network share."""

    def __init__(self, factory: Factory):
        self.factory = factory

    def __deepcopy__(self, memo: dict[int, Any]) -> _Making:
        return self


def _another(factory: Factory, module: nn.Module, where: str) -> nn.Module:
    """A second network of `factory`. Raises UserError where it is the first one again, whole or in part."""
    try:
        other = factory()
    except Exception as error:
        raise UserError(f"{where}: can be made once, and not a second time ({error})") from error
    held = {id(value) for value in module.parameters()}
    if other is module or any(id(value) in held for value in other.parameters()):
        raise UserError(
            f"{where}: gives the same parameters at each call, where methods draw many networks; make the "
            "network inside the function"
        )
    return other


def _checked(module: nn.Module, shape: tuple[int, int, int], where: str) -> tuple[str, str]:
    """The name of the linear layer that ends `module`, and what its input, the embedding, is called."""
    channels, size, classes = shape
    state, training = copy.deepcopy(module.state_dict()), module.training
    module.eval()
    images = torch.randn(_IMAGES, channels, size, size, generator=torch.Generator().manual_seed(0))
    called: list[tuple[str, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(
            lambda _layer, given, out, name=name: called.append((name, given[0], out))
        )
        for name, layer in module.named_modules()
        if type(layer) is nn.Linear
    ]
    try:
        logits = module(images.requires_grad_().clone())
    except Exception as error:
        raise UserError(
            f"{where}: cannot take images of {channels} x {size} x {size} pixels ({error})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (_IMAGES, classes):
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{where}: gives {given} of {_IMAGES} images, where ({_IMAGES}, {classes}) is needed")
    if not logits.requires_grad or torch.autograd.grad(logits.sum(), images, allow_unused=True)[0] is None:
        raise UserError(
            f"{where}: its output has no gradient by the images, by which methods change them; leave out "
            "torch.no_grad(), detach() and the like in its `forward`"
        )
    if not called or called[-1][2] is not logits:
        raise UserError(
            f"{where}: a linear layer (torch.nn.Linear) has to be the last thing that it does: what it is "
            "given is the embedding that methods compare"
        )
    layer, features, _ = called[-1]
    if not layer or features.ndim != 2 or [name for name, _, _ in called].count(layer) > 1:
        raise UserError(f"{where}: its last linear layer has to be used once, on features (n, d) of its own")
    embed = getattr(module, "embed", None)
    if callable(embed):
        with torch.no_grad():
            if not torch.equal(embed(images), features):
                raise UserError(
                    f"{where}: its `embed` gives something else than what its layer '{layer}' is given"
                )
    module.load_state_dict(state)
    module.train(training)
    named = "its `embed`" if callable(embed) else f"the input of its last layer '{layer}'"
    return layer, f"{named}, {features.shape[1]} numbers an image"


def _code_of(factory: Factory, networks: Sequence[nn.Module]) -> Code:
    """The code of the factory and of the networks that it made, whose structure is told where all have the
    same one."""
    made = []
    for network in networks:
        made.append(code := Code())
        code.add(factory, "the function")
        code.add_structure(network)
    if len({code.checksum() for code in made}) > 1:
        made[0].open.append("something that is another one at each call")
        made[0].words = []
    return made[0]
