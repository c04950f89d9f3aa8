"""Networks of a user's own, as `nn.Module`s that a function makes, beside those of `ARCHITECTURES`."""

from __future__ import annotations

import copy
import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense.config import UserError
from condense.files.artifacts import digest
from condense.models.base import Builder, Network, Options

Factory = Callable[[], nn.Module]
_IMAGES = 3  # on which a network is tried


@dataclass(frozen=True)
class Own:
    """A network of a user's own: the `name` under which `build` makes it, and what its embedding is.

    `lasting`: another process that is given the same code gives it the same name, so that a run can go on
    there.
    """

    name: str
    builder: Builder
    embedding: str
    lasting: bool


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
    source, lasting = _source_of(factory, module)
    parameters = [[name, list(value.shape)] for name, value in module.state_dict().items()]
    key = digest([title, source, parameters])
    spelt = re.sub(r"[^a-z0-9]+", "_", title.rsplit(".", 1)[-1].lower()).strip("_")

    def fits(_options: Options, c: int, s: int) -> bool:
        return (c, s) == shape[:2]

    def make(_options: Options, _channels: int, _size: int, k: int) -> Network:
        if k != classes:
            raise UserError(f"{where}: is one for {classes} classes, where {k} are asked for")
        return _Taken(factory, layer)

    return Own(f"own_{spelt or 'network'}_{key}", Builder(Options(), fits, make), embedding, lasting)


class _Taken(Network):
    """A module of somebody else's, in two parts: all before its last linear layer, and this."""

    def __init__(self, factory: Factory, layer: str):
        super().__init__()
        self._making, self._layer = _Making(factory), layer
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

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all parameters as the factory does, which may be another way than that of torch's layers."""
        fresh = _Taken(self._making.factory, self._layer).state_dict()
        for name, value in self.state_dict().items():
            value.copy_(fresh[name])


class _Making:
    """A factory that copies of a network share."""

    def __init__(self, factory: Factory):
        self.factory = factory

    def __deepcopy__(self, memo: dict[int, Any]) -> _Making:
        return self


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
        with torch.no_grad():
            logits = module(images)
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


def _source_of(factory: Factory, module: nn.Module) -> tuple[str, bool]:
    """A checksum of the code of the factory, and of the classes of the modules of its network and those that
    they inherit from, torch's own left out; and whether all of it could be read and nothing else, such as a
    value that the factory was handed, decides."""
    kinds = {
        kind
        for part in module.modules()
        for kind in type(part).__mro__
        if kind.__module__.split(".")[0] not in ("torch", "builtins")
    }
    closed = getattr(factory, "__closure__", None) or getattr(factory, "keywords", None)
    texts, unread = [], False
    codes: list[Callable[..., Any]] = [factory, *sorted(kinds, key=lambda kind: kind.__qualname__)]
    for code in codes:
        try:
            texts.append(inspect.getsource(code))
        except (OSError, TypeError):
            unread = True
    return hashlib.sha256("\n".join(texts).encode()).hexdigest(), not (closed or unread)
