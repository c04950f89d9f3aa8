"""Networks of a program's own: what their names come from, and how a program that changes one is told."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import condense
from condense.config import UserError
from condense.models.own import own_network

CLASSES = 3
PROGRAM = """
import functools
import torch
from torch import nn
import torch.nn.functional as F

WIDTH, TABLE = 4, {"act": F.relu}
WEIGHTS = torch.ones(2)

def act(x):
    return x.relu()

class Block(nn.Module):
    slope = 0.1

    def forward(self, x):
        return act(x)

if WIDTH == 4:
    class Middle(nn.Module):
        def forward(self, x):
            return F.leaky_relu(x, Block.slope)
else:
    class Middle(nn.Module):
        def forward(self, x):
            return x.sin()

class Base(nn.Module):
    def body(self, x):
        return self.block(self.middle(TABLE["act"](self.pool(x.flatten(1)))))

class Net(Base):
    def __init__(self, width=8, places=frozenset({"a", "b", "c"})):
        super().__init__()
        self.pool, self.block, self.middle = nn.Linear(192, width), Block(), Middle()
        self.drop, self.last = nn.Dropout(0.1), nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.drop(self.body(x) * WEIGHTS.sum()))

def made(extra):
    return lambda: nn.Sequential(Net().pool, nn.Flatten(), nn.Linear(8, 3 + extra))

def by_global():
    return Net(WIDTH)

part = functools.partial(Net, 8)
"""


def space_of(text):
    space = {"__name__": "a_program_of_somebody"}
    exec(text, space)
    return space


def named(text, expression):
    return own_network(eval(expression, space_of(text)), channels=3, size=8, classes=CLASSES)


@pytest.mark.parametrize(
    ("before", "after", "expression"),
    [
        ("return x.relu()", "return x.tanh()", "Net"),
        ("slope = 0.1", "slope = 0.2", "Net"),
        ("if WIDTH == 4", "if WIDTH != 4", "Net"),
        ("WIDTH, TABLE = 4", "WIDTH, TABLE = 5", "by_global"),
        ('{"act": F.relu}', '{"act": F.silu}', "Net"),
        ('{"act": F.relu}', '{"act": torch.tanh}', "Net"),
        ("torch.ones(2)", "torch.zeros(2)", "Net"),
        ("nn.Dropout(0.1)", "nn.Dropout(0.2)", "Net"),
        ("self.middle(TABLE", "(TABLE", "Net"),
        ("return x.relu()", "return x.tanh()", "part"),
        ("Net, 8)", "Net, 9)", "part"),
        ("return x.relu()", "return x.tanh()", "lambda: Net(WIDTH)"),
        ("width=8, places", "width=9, places", "Net"),
    ],
)
def test_another_code_gives_another_name_wherever_it_stands(before, after, expression):
    changed = PROGRAM.replace(before, after)
    assert changed != PROGRAM
    first, second = named(PROGRAM, expression), named(changed, expression)
    assert first.name != second.name and not first.open and not second.open
    assert named(PROGRAM, expression).name == first.name


def test_comments_change_no_name_and_another_process_gives_the_same_one(tmp_path):
    name = named(PROGRAM, "Net").name
    assert named(PROGRAM.replace("def act(x):", "def act(x):  # rectified"), "Net").name == name
    (tmp_path / "a_program_of_somebody.py").write_text(PROGRAM, encoding="utf-8")
    script = (
        "from a_program_of_somebody import Net\n"
        "from condense.models.own import own_network\n"
        "print(own_network(Net, channels=3, size=8, classes=3).name)"
    )
    paths = f"{tmp_path}{os.pathsep}{Path(condense.__file__).parents[1]}"
    said = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            text=True,
            capture_output=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert said == [name, name]


def test_what_cannot_be_read_is_named():
    text = (
        PROGRAM
        + """
count = 0
stream = iter([1])

def counting():
    global count
    count += 1
    return Net()

def streaming():
    stream
    return Net()

class Varied(Net):
    def __init__(self):
        super().__init__()
        self.drawn = torch.rand(1).item()
"""
    )
    assert named(text, "counting").open == ("count (set by counting)",)
    assert named(text, "streaming").open == ("stream (list_iterator)",)
    assert named(text, "Varied").open == ("something that is another one at each call",)


def test_installed_networks_and_what_is_only_written_out_leave_nothing_open():
    text = (
        PROGRAM
        + """
import logging, re
from pathlib import Path
from typing import Optional
import torchvision

log, pattern, place, kind = logging.getLogger("x"), re.compile("a+"), Path("a"), Optional[int]

def resnet():
    log.debug("made %s", kind)
    if pattern.match(str(place)):
        return torchvision.models.resnet18(num_classes=3)

def deeper():
    return torchvision.models.resnet34(num_classes=3)
"""
    )
    made = [named(text, name) for name in ("resnet", "deeper")]
    assert not made[0].open and made[0].name != made[1].name
    assert named(text.replace("a+", "a*"), "resnet").name != made[0].name


def test_an_own_module_that_code_names_is_followed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "import a_helper_of_mine\n" + PROGRAM.replace("x.relu()", "a_helper_of_mine.act(x)")
    names = []
    for body in ("x.relu()", "x.tanh()"):
        (tmp_path / "a_helper_of_mine.py").write_text(f"def act(x):\n    return {body}\n")
        sys.modules.pop("a_helper_of_mine", None)
        sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
        names.append(named(text, "Net").name)
        sys.dont_write_bytecode = kept
    sys.modules.pop("a_helper_of_mine", None)
    assert names[0] != names[1]


ONE = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.last = nn.Flatten(), nn.Linear(192, CLASSES)

    def forward(self, x):
        with torch.no_grad():
            features = self.body(x)
        return self.last(features.detach())


@pytest.mark.parametrize(
    ("factory", "said"),
    [(lambda: ONE, "same parameters at each call"), (Frozen, "no gradient by the images")],
)
def test_networks_that_no_method_can_use_are_refused(factory, said):
    with pytest.raises(UserError, match=said):
        own_network(factory, channels=3, size=8, classes=CLASSES)


def pictures():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (36, 3, 8, 8), dtype=np.uint8)
    return images, np.tile(np.arange(CLASSES), 12)


SMALL = {"method": "dm", "ipc": 2, "steps": 3, "threads": 1, "scale": "quick", "settings": {"batch_real": 8}}


def test_a_changed_network_is_another_run_and_an_unchanged_one_is_told(tmp_path, capsys):
    net, changed = (space_of(text)["Net"] for text in (PROGRAM, PROGRAM.replace("x.relu()", "x.tanh()")))
    made = condense.condense(*pictures(), network=net, out=tmp_path / "made", **SMALL)
    assert "nothing is made anew" not in capsys.readouterr().err
    assert condense.condense(*pictures(), network=net, out=tmp_path / "made", **SMALL) == made
    assert "the same call made it before; it is taken from there" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds another run"):
        condense.condense(*pictures(), network=changed, out=tmp_path / "made", **SMALL)


def test_what_the_program_set_in_torch_changes_no_result():
    wanted = condense.condense(*pictures(), **SMALL)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.no_grad(), torch.autocast("cpu"):
            assert condense.condense(*pictures(), **SMALL) == wanted
        with torch.inference_mode():
            assert condense.condense(*pictures(), **SMALL) == wanted
        assert torch.get_default_dtype() is torch.float64
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ipc": "3"}, "^ipc: a whole number is needed, found '3'"),
        ({"ipc": 1.5}, "^ipc: a whole number is needed, found 1.5"),
        ({"ipc": True}, "^ipc: a whole number is needed, found True"),
        ({"ipc": None}, "^ipc: a whole number is needed, found None"),
        ({"steps": "3"}, "^steps: a whole number is needed, found '3'"),
        ({"seed": "x"}, "^seed: a whole number is needed, found 'x'"),
        ({"seed": -1}, "^seed: at least 0 is needed, found -1"),
        ({"threads": 1.0}, "^threads: a whole number is needed, found 1.0"),
        ({"minutes": "3", "steps": None}, "^minutes: a number is needed, found '3'"),
        ({"settings": [1]}, "^settings: names and values as in a recipe's YAML are needed"),
        ({"settings": {1: 2}}, "^settings: names and values as in a recipe's YAML are needed"),
        ({"out": 5}, "^out: the path of a folder is needed, found 5"),
        ({"method": 3}, "^method: a text is needed, found 3"),
        ({"scale": None}, "^scale: a text is needed, found None"),
        ({"device": "gpu"}, "^device: 'auto', 'cpu', 'cuda' or 'cuda:N' is needed, found 'gpu'"),
        ({"strategy": 3}, "^strategy: a text is needed, found 3"),
        ({"strategy": "flop"}, "^strategy"),
        ({"class_names": 3}, "^class_names"),
        ({"class_names": "abc"}, "^class_names"),
    ],
)
def test_arguments_of_another_type_are_refused_by_their_names(change, said):
    with pytest.raises(UserError, match=said):
        condense.condense(*pictures(), **SMALL | change)


def test_numbers_of_numpy_are_numbers():
    made = condense.condense(*pictures(), **SMALL | {"ipc": np.int64(2), "seed": np.uint8(0)})
    assert made == condense.condense(*pictures(), **SMALL)


def test_a_data_set_without_a_length_is_refused():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(UserError, match="a Stream has no length"):
        condense.condense(Stream(), **SMALL)


def test_a_method_of_feature_maps_says_what_to_take_instead(tmp_path):
    with pytest.raises(UserError, match="network Net: the method compares the maps .* such as 'convnet'"):
        condense.condense(*pictures(), network=space_of(PROGRAM)["Net"], **SMALL | {"method": "datadam"})
