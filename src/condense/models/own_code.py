"""What the code of a user's own network says, so that another code gets another name.

Compiled code is read, and not its text: it is there for classes that are typed at a prompt, made in a loop or
defined twice, and it is what runs. Comments do not change it; another version of Python may.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import logging
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condense.files.artifacts import digest

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice)
_NAMED = (torch.dtype, torch.device, torch.Size, torch.memory_format, np.dtype)
# What is told apart by how it is written out, and changes nothing beyond that
_WRITTEN = (re.Pattern, PurePath, logging.Logger, np.ufunc, types.GenericAlias, types.UnionType)
_PASSED = frozenset(
    "__module__ __doc__ __dict__ __weakref__ __annotations__ __annotate__ __annotations_cache__ "
    "__firstlineno__ __static_attributes__ __conditional_annotations__ __orig_bases__ __parameters__ "
    "__abstractmethods__ _abc_impl __dataclass_fields__ __match_args__".split()
)
_PADDING = ("CACHE", "PUSH_NULL", "PRECALL", "NOP", "EXTENDED_ARG", "RESUME")


class Code:
    """The words that code comes to, gathered in one order: of what is added, of all the functions, classes
    and values of a program's own that it names, and so on.

    `open`: what may decide, too, and could not be read, such as an object of a kind that nobody knows.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.open: list[str] = []
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # a number of `_seen` stands for one object as long as this lives

    def checksum(self) -> str:
        return digest(self.words)

    def add(self, value: Any, name: str) -> None:
        """`name`: what `value` is called where it is used, for what is said of it."""
        if isinstance(value, _PLAIN) or isinstance(value, _NAMED):
            self.words.append(f"{type(value).__name__} {value!r}")
            return
        if not isinstance(value, tuple | frozenset):  # equal ones may be one object in one process alone
            if id(value) in self._seen:
                self.words.append(f"number {self._seen[id(value)]}")
                return
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
        for kinds, adding in self._ways():
            if isinstance(value, kinds):
                adding(value, name)
                return
        self._add_object(value, name)

    def _ways(self) -> Iterator[tuple[Any, Callable[[Any, str], None]]]:
        yield (list, tuple, set, frozenset, Mapping), self._add_collection
        yield (Tensor, np.ndarray, np.generic), self._add_numbers
        yield types.ModuleType, self._add_installed
        yield type, self._add_class
        yield (classmethod, staticmethod, types.MethodType), self._add_bound
        yield (property, functools.cached_property), self._add_property
        yield types.FunctionType, self._add_function
        yield (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType), self._say
        yield (types.MemberDescriptorType, types.GetSetDescriptorType), self._say
        yield functools.partial, self._add_partial
        yield nn.Module, self._add_module

    def _add_collection(self, value: Any, name: str) -> None:
        members: list[Any] = list(value)
        if isinstance(value, Mapping):
            members = [part for pair in value.items() for part in pair]
        elif isinstance(value, set | frozenset):
            members.sort(key=repr)
            if not all(map(_is_plain, members)):  # whose order is another one in each process
                self.open.append(f"{name} ({type(value).__name__})")
                members = []
        self.words.append(f"{type(value).__name__} {len(members)}")
        for member in members:
            self.add(member, name)

    def _add_numbers(self, value: Any, name: str) -> None:
        if isinstance(value, Tensor):
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        else:
            raw = np.asarray(value)
        if raw.dtype.hasobject:
            self.open.append(f"{name} (an array of objects)")
            return
        self.words.append(f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(raw.tobytes()).hexdigest()}")

    def _add_installed(self, value: types.ModuleType, _name: str) -> None:
        self.words.append(f"module {value.__name__} {_version(value.__name__)}")

    def _add_class(self, value: type, name: str) -> None:
        self.words.append(f"class {value.__qualname__}")
        if _is_installed(value.__module__):
            self.words.append(f"{value.__module__} {_version(value.__module__)}")
            return
        for parent in value.__bases__:
            self.add(parent, parent.__qualname__)
        for key, member in sorted(vars(value).items()):
            if key not in _PASSED:
                self.words.append(key)
                self.add(member, f"{name}.{key}")

    def _add_bound(self, value: Any, name: str) -> None:
        self.words.append(type(value).__name__)
        self.add(value.__func__, name)
        if isinstance(value, types.MethodType):
            self.add(value.__self__, name)

    def _add_property(self, value: Any, name: str) -> None:
        for part in ("fget", "fset", "func"):
            if (function := getattr(value, part, None)) is not None:
                self.add(function, name)

    def _add_function(self, value: types.FunctionType, name: str) -> None:
        self.words.append(f"function {value.__qualname__}")
        if _is_installed(value.__module__):
            self.words.append(f"{value.__module__} {_version(value.__module__)}")
            return
        self.add(value.__defaults__, name)
        self.add(value.__kwdefaults__, name)
        self._add_code(value.__code__, value.__globals__)
        for freed, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                self.add(cell.cell_contents, freed)
            except ValueError:  # it is not bound yet
                self.words.append(f"{freed} unbound")

    def _add_code(self, code: types.CodeType, known: dict[str, Any]) -> None:
        self.words += [code.co_code.hex(), *map(repr, (code.co_names, code.co_varnames, code.co_freevars))]
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._add_code(constant, known)
            else:
                self.add(constant, code.co_qualname)
        for path, value in _named(code, known, self.open):
            self.words.append(path)
            self.add(value, path)

    def _say(self, value: Any, _name: str) -> None:
        self.words.append(f"{type(value).__name__} {getattr(value, '__qualname__', '')}")

    def _add_partial(self, value: functools.partial, name: str) -> None:
        for part in (value.func, value.args, value.keywords):
            self.add(part, name)

    def _add_module(self, value: nn.Module, name: str) -> None:
        """Its structure, its parameters, and the plain values that its parts hold, such as a stride."""
        self.add_structure(value)
        for key, held in value.state_dict().items():
            self.words.append(key)
            if isinstance(held, Tensor):
                self.add(held, f"{name}.{key}")

    def add_structure(self, module: nn.Module) -> None:
        """The parts of a network, their code, and the plain values that they hold; not its parameters."""
        for key, part in module.named_modules():
            self.words.append(f"part {key}")
            self.add(type(part), type(part).__qualname__)
            if isinstance(part, torch.jit.ScriptModule):
                self.open.append(f"{key or 'the network'} (compiled by torch.jit)")
            for attribute, held in sorted(vars(part).items()):
                if not attribute.startswith("_") and _is_plain(held):
                    self.words.append(f"{attribute} {held!r}")

    def _add_object(self, value: Any, name: str) -> None:
        """One of a class of the program's own by what it holds; of other kinds nobody knows what decides."""
        kind = type(value)
        wrapped = inspect.unwrap(value) if callable(value) and hasattr(value, "__wrapped__") else value
        if wrapped is not value:
            self.words.append(f"wrapped by {kind.__qualname__}")
            self.add(wrapped, name)
        elif isinstance(value, _WRITTEN) or kind.__module__ == "typing":
            self.words.append(f"{kind.__qualname__} {value!r}")
        elif not _is_installed(kind.__module__) and hasattr(value, "__dict__"):
            self.words.append("one of")
            self.add(kind, kind.__qualname__)
            self.add(dict(vars(value)), name)
        else:
            self.words.append(f"one of {kind.__module__}.{kind.__qualname__}")
            self.open.append(f"{name} ({kind.__qualname__})")


def _named(code: types.CodeType, known: dict[str, Any], left: list[str]) -> Iterator[tuple[str, Any]]:
    """The globals that `code` takes, and of modules of the program's own what it takes of them, by the names
    under which it does. What cannot be followed is added to `left`: globals that it sets itself, whose value
    is another one at each call, and modules of the program's own that it imports when it runs."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in _PADDING]
    varying = {step.argval for step in steps if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")}
    left.extend(f"{name} (set by {code.co_qualname})" for name in sorted(varying))
    path, value = "", None
    for step in steps:
        if step.opname == "IMPORT_NAME" and not _is_installed(step.argval):
            left.append(f"{step.argval} (imported inside {code.co_qualname})")
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in known:
            path, value = step.argval, known[step.argval]
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and _is_own_module(value):
            path, value = f"{path}.{step.argval}", getattr(value, step.argval, None)
        else:
            value = None
            continue
        if path not in varying and not _is_own_module(value):
            yield path, value


def _is_own_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and not _is_installed(value.__name__)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN) or isinstance(value, _NAMED)


@functools.cache
def _is_installed(module: str) -> bool:
    """Whether a module came with Python or was installed, and so is another one only in another version."""
    top = module.partition(".")[0]
    if top == "torch" or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    origin = getattr(sys.modules.get(module), "__file__", None) or ""
    return bool({"site-packages", "dist-packages"} & set(Path(origin).parts))


def _version(module: str) -> str:
    return str(getattr(sys.modules.get(module.partition(".")[0]), "__version__", ""))
