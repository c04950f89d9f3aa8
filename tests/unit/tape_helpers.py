"""What stands in for a CUDA graph where there is no GPU: a tape of torch's operations."""

from functools import partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# A GPU is waited for
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"}
FROM_HOST = {"aten::lift_fresh"}  # a tensor of numbers that the host has, which a graph must not read
# By a mask, a GPU is waited for
INDEXING = {"aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}


def assert_no_wait(function, args):
    """Raises AssertionError for an operation whose result, or the shape of it, the host has to know."""
    assert function.name() not in WAITING, function
    assert function.name() not in INDEXING or all(
        index is None or index.dtype != torch.bool for index in args[1]
    ), function


class Watch(TorchDispatchMode):
    """Inside, nothing waits for the device. `from_host`: tensors of numbers that the host has may be made."""

    def __init__(self, from_host=False):
        super().__init__()
        self.from_host = from_host

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert self.from_host or function.name() not in FROM_HOST, function
        assert_no_wait(function, args)
        return function(*args, **(kwargs or {}))


def forbid_copies_to_the_host(monkeypatch):
    """`.cpu()`, `.numpy()` and `.tolist()` raise: on a CPU no operation of torch shows them."""
    for name in ("cpu", "numpy", "tolist"):

        def waits(tensor, *arguments, name=name, **more):
            raise AssertionError(f"aten: a GPU would be waited for by .{name}()")

        monkeypatch.setattr(torch.Tensor, name, waits)


class Tape(TorchDispatchMode):
    """A graph: operations on tensors that stay where they are. What the host decided while they were recorded
    is decided for good."""

    def __init__(self):
        super().__init__()
        self.operations, self.before = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert function.name() not in FROM_HOST, function
        assert_no_wait(function, args)
        for argument, value in zip(function._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.before += [(tensor, tensor.clone()) for tensor in tree_leaves(value)]
        results = function(*args, **kwargs)
        self.operations.append((partial(function, *args, **kwargs), results))
        return results

    def undo(self):
        """Recording has done the work, which a graph of CUDA does not: what it changed is put back."""
        with torch.inference_mode():
            for tensor, value in reversed(self.before):
                tensor.detach().copy_(value)

    def replay(self):
        with torch.inference_mode():
            for operation, held in self.operations:
                for own, new in zip(tree_leaves(held), tree_leaves(operation()), strict=True):
                    if isinstance(own, torch.Tensor) and own.data_ptr() != new.data_ptr():
                        own.detach().copy_(new)


class TapeRecorder:
    """The recorder of tapes, which counts."""

    def __init__(self):
        self.plain = self.captures = 0

    def plainly(self, work):
        self.plain += 1
        return work()

    def captured(self, work):
        self.captures += 1
        tape = Tape()
        with tape:
            results = work()
        tape.undo()
        return tape, results
