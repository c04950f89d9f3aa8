"""What every engine owes, as checks of one tiny recipe: of the engines of the project, and of those that
tests make up."""

from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from interruption_helpers import stopped_after, until_done
from matching_helpers import ARCH, HERE
from reading_helpers import choices, noting, noting_orders

from condense import engines, jobs, models, plan, specs
from condense.config import UserError
from condense.files import read_set
from condense.files.artifacts import canonical, file_sha256, read_tensors, write_tensors
from condense.models.observing import LayerInputs
from condense.networks.layer_statistics import LAYERS, Sums
from condense.specs import catalogue

OTHER = "another value"  # of any setting: what enters a key is not checked for its type there
IPC = 2
PLATEAU = {"optimizer": {"plateau": {"patience": 0}}}  # which lowers the rate as soon as a loss is no less


def all_recipes_of(engine):
    """The project's recipes of an engine, but for those that need something brought along."""
    recipes = map(catalogue.recipe, catalogue.names_in("methods"))
    return [recipe.name for recipe in recipes if recipe.engine == engine and recipe.requires is None]


def recipes_of(engine):
    """Of the project's recipes of an engine the first with each set of things that have to be made
    beforehand, by their names."""
    chosen = {}
    for name in all_recipes_of(engine):
        parents = catalogue.recipe(name).parents()
        chosen.setdefault(tuple(sorted(key for key, parent in parents.items() if parent.needed)), name)
    return sorted(chosen.values())


def tried(name, trial=0, *changes):
    """A recipe as the digits get it, with what its class says makes it short."""
    base = catalogue.recipe(name)
    layers = [("test", dict(base.trials[trial])), *(("test", change) for change in changes)]
    return catalogue.resolve(base, "digits", plan.data_cell("digits").spec.strategy, IPC, layers)


def variants(name):
    """A recipe in all the ways that it is tried, each also with a plateau where its class has one and does
    not refuse it by name."""
    for trial in range(len(catalogue.recipe(name).trials)):
        yield tried(name, trial)
        try:
            yield tried(name, trial, PLATEAU)
        except UserError as error:
            assert "optimizer" in str(error) or "plateau" in str(error), error


class Workshop:
    """Makes sets of one recipe from the digits, in one job or in several."""

    def __init__(self, digits, folder, parents):
        self.data, self.folder, self.parents_of = digits / "train.safetensors", folder, parents

    def shard(self, recipe, name, **share):
        out = self.folder / recipe.name / f"{name}.safetensors"
        out.parent.mkdir(parents=True, exist_ok=True)
        settings = {**ARCH, "ipc": IPC, "seed": 0, "key": "k", "parents": self.parents_of(recipe)}
        jobs.condense_shard(out, jobs.ShardJob(recipe, self.data, **settings | share), HERE)
        return out

    def joined(self, recipe, name, *shards):
        out = self.folder / recipe.name / name / "synthetic.safetensors"
        out.parent.mkdir(parents=True, exist_ok=True)
        jobs.gather(out, list(shards), self.data)
        return read_set(out)


def check_set(workshop, recipe):
    """Every image of every class is there once, in the shape of the data, float32 and finite."""
    tensors, header = workshop.joined(recipe, "whole", workshop.shard(recipe, "all"))
    real, _ = read_tensors(workshop.data)
    assert (
        tensors["images"].shape == (10 * IPC, *real["images"].shape[1:])
        and tensors["images"].dtype == np.float32
    )
    assert (
        tensors["labels"].tolist() == [label for label in range(10) for _ in range(IPC)]
        and tensors["labels"].dtype == np.int64
    )
    assert all(np.isfinite(values).all() for values in tensors.values() if values.dtype.kind == "f")
    assert header["method"] == recipe.name and header["steps"] == recipe.number_of_steps
    assert header["recipe"]["engine"] == recipe.engine


def check_shares(workshop, recipe):
    """A set that its recipe lets be made in jobs of its own is the one that a single job makes. Gives what it
    splits by."""
    split = recipe.splits_by(False)
    if split is None:
        return None
    total = 10 if split == "classes" else IPC
    cuts = [(0, total // 2), (total // 2, total)]
    shards = [
        workshop.shard(recipe, f"{split}{first}", **{split: range(first, last)}) for first, last in cuts
    ]
    (tensors, header), (whole, other) = (
        workshop.joined(recipe, "joined", *shards),
        workshop.joined(recipe, "one", workshop.shard(recipe, "all")),
    )
    assert tensors.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(
            tensors[name],
            values,
            rtol=1e-6,
            atol=1e-6,
            err_msg=f"{recipe.name}: {name}, made in shares of {split}",
        )
    assert {**header, "content_sha256": ""} == {**other, "content_sha256": ""}
    return split


def check_resumed(workshop, recipe, monkeypatch):
    """Stopped at every checkpoint that there is and called again, the job ends with the same bytes."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    whole = workshop.shard(recipe, "unbroken")
    with monkeypatch.context() as patched:
        written = stopped_after(patched, 1)
        # Engines that take no steps keep no checkpoints
        calls, stopped = until_done(lambda: workshop.shard(recipe, "stopped"), interrupted=False)
    assert file_sha256(stopped) == file_sha256(whole)
    assert calls == len(written) + 1 and len(written) >= recipe.number_of_steps - 1, (
        "a step keeps no checkpoint"
    )
    assert sorted(path.name for path in stopped.parent.glob("stopped*")) == [
        "stopped.run.json",
        "stopped.safetensors",
    ]


def _blank(kind):
    """Settings of a class with their defaults, and those that have none at some value; nothing is checked."""
    value = object.__new__(kind)
    for field in fields(kind):
        factory = field.default_factory
        default = field.default if not callable(factory) else factory()
        options = get_args(get_type_hints(kind)[field.name])
        tag = field.name in ("kind", "name", "engine") and len(options) == 1
        object.__setattr__(
            value, field.name, options[0] if tag else default if _given(default) else "a value"
        )
    return value


def _given(default):
    return type(default).__name__ != "_MISSING_TYPE"


def _with(value, name, other):
    changed = object.__new__(type(value))  # not a copy, which would keep what was reckoned from the old value
    for field in fields(value):
        object.__setattr__(changed, field.name, other if field.name == name else getattr(value, field.name))
    return changed


def changes(value, where=""):
    """(where, `value` with another value of one setting), for all settings of it and of whatever its settings
    can hold."""
    hints = get_type_hints(type(value))
    for field in fields(value):
        now, path = getattr(value, field.name), f"{where}{field.name}"
        if len(get_args(hints[field.name])) == 1 and field.name in ("kind", "name", "engine"):
            continue
        yield path, _with(value, field.name, OTHER)
        many = isinstance(now, list)
        for kind in _held(hints[field.name]):
            inner = now if type(now) is kind else _blank(kind)
            if inner is not now:
                yield f"{path}={kind.__name__}", _with(value, field.name, [inner] if many else inner)
            for name, changed in changes(inner, f"{path}={kind.__name__}."):
                yield name, _with(value, field.name, [changed] if many else changed)


def _held(hint):
    """The classes of settings that a value of a type can be, or be a list of."""
    if is_dataclass(hint):
        return [hint]
    return [kind for part in get_args(hint) for kind in _held(part)]


def check_key(recipe):
    """No two recipes that differ in one setting have the same key, but for what only describes."""
    seen = {canonical(recipe.computed_part()): "the recipe itself"}
    for where, changed in changes(recipe):
        part = canonical(changed.computed_part())
        if where.split(".")[0].split("=")[0] in recipe.DESCRIBING:
            assert part in seen, f"{recipe.engine}: {where} only describes, and changes the key"
        else:
            assert part not in seen, (
                f"{recipe.engine}: {where} does not enter the key: the same as {seen.get(part)}"
            )
            seen[part] = where
    return set(seen.values())


def check_read(engine, workshop, monkeypatch):
    """Every setting of the recipes of `engine` is read, in one of the ways that it is tried, by its function,
    or where the recipe says what it needs beforehand and how it may be split."""
    kind, read = specs.ENGINES[engine], set()
    monkeypatch.setitem(engines.ENGINES, engine, noting_orders(engines.ENGINES[engine], read))
    wanted = choices(kind, "name", "engine", "revision", *kind.DESCRIBING)
    for number, name in enumerate([*recipes_of(engine), *all_recipes_of(engine)]):
        for recipe in variants(name):
            noting(recipe, read).parents()
            noting(recipe, read).splits_by(False)
            workshop.shard(recipe, f"read{number}")
            if wanted <= read:
                return
    raise AssertionError(
        f"engine '{engine}': its function reads no {', '.join(sorted(wanted - read))}: use it there, or "
        f"leave it out of {kind.__name__}"
    )


def check_cost(recipe):
    """The plan has a key for it, and the estimate a time that does not fall with the number of images."""
    from condense.estimate.rates import REFERENCE, cost
    from condense.estimate.work import work_of
    from condense.plan import Maker

    maker = Maker(catalogue.scale("quick"))
    cells = [maker.synthetic("digits16", recipe.name, "convnet", ipc, 0) for ipc in (1, 10)]
    assert cells[0].key != cells[1].key
    few, many = (cost(work_of(cell), REFERENCE) for cell in cells)
    assert 0 < few <= many < 1e9
    assert isinstance(cells[0].recipe, specs.ENGINES[recipe.engine])
    assert work_of(cells[1]).bytes_out > work_of(cells[0]).bytes_out > 0


def needed_parents(recipe, teacher, bank_of):
    """The files of what a recipe needs beforehand. Fails for a name that the fixtures of tests do not
    make."""
    made = {"teacher": teacher, "bank": bank_of(getattr(recipe, "networks", None))}
    made |= {name: observer_beside(teacher) for name in recipe.parents() if name.startswith("observer_")}
    made |= {name: statistics_beside(teacher) for name in recipe.parents() if name.startswith("statistics_")}
    for name, parent in recipe.parents().items():
        if parent.needed and made.get(name) is None:
            pytest.fail(
                f"{recipe.name}: the tests make no '{name}' beforehand; make it in `needed_parents` of "
                f"{__file__}"
            )
    return {name: made[name] for name in recipe.parents() if made.get(name) is not None}


def observer_beside(teacher):
    """The file of a network with batch norm, as it was drawn, that passes for a classifier of the images of
    `teacher`."""
    path = teacher.with_name("observer.safetensors")
    if not path.exists():
        tensors, header = read_tensors(teacher, "teacher")
        options, kept = {"depth": 1, "width": 4}, torch.get_default_dtype()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.set_default_dtype(torch.float64)  # whichever test asks first
            network = models.build("convnet_bn", **header["shape"], **options)
            torch.set_default_dtype(kept)
        weights = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
        header |= {"arch": "convnet_bn", "options": options}
        write_tensors(path, weights | {"forgetting_events": tensors["forgetting_events"]}, header)
    return path


def statistics_beside(teacher):
    """The file of what its layers are given, of noise in place of the digits."""
    observer = observer_beside(teacher)
    path = observer.with_name("statistics.safetensors")
    if not path.exists():
        tensors, header = read_tensors(observer, "teacher")
        shape, classes = header["shape"], header["shape"]["classes"]
        network = models.build(header["arch"], **shape, **header["options"]).float().eval()
        weights = {
            name[8:]: torch.from_numpy(values) for name, values in tensors.items() if "network." in name
        }
        network.load_state_dict(weights)
        layers, sums, labels = LayerInputs(network, LAYERS), Sums(classes), torch.arange(classes).repeat(3)
        drawn = torch.Generator().manual_seed(0)
        size = (len(labels), shape["channels"], shape["size"], shape["size"])
        with torch.no_grad(), layers:
            network(torch.randn(size, generator=drawn, dtype=torch.float32))
        sums.add(layers.taken(), [isinstance(layer, torch.nn.Conv2d) for layer in layers.layers], labels)
        about = {name: header[name] for name in ("dataset", "data_sha256", "arch", "options")}
        about |= {name: header[name] for name in ("protocol", "seed", "key")}
        about |= {"kind": "statistics", "observer_sha256": header["content_sha256"], "strategy": "none"}
        about |= {"class_names": [str(label) for label in range(classes)]}
        about |= {"layers": [type(layer).__name__ for layer in layers.layers]}
        write_tensors(path, {name: value.float().numpy() for name, value in sums.means().items()}, about)
    return path
