"""Sets that are made in shares: classes, or images of each class, and what a set is joined from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from matching_helpers import tiny

from condense import engines, jobs, specs
from condense.config import UserError
from condense.engines.orders import Outcome
from condense.estimate.measured import Pace
from condense.estimate.schedule import graph
from condense.files import read_set
from condense.files.artifacts import write_tensors
from condense.files.tensors import read_shard
from condense.jobs.machine import Machine
from condense.machine import seeds
from condense.plan import Maker
from condense.plan.groups import groups
from condense.plan.ranges import Share
from condense.plan.tables import Plan
from condense.specs import catalogue
from condense.specs.costs.work import Shard, Work

CPU = Machine("cpu", 1)


@dataclass(frozen=True, kw_only=True)
class Speckled(specs.Recipe):
    """Every image is drawn for itself."""

    NUMBER: ClassVar[int] = 1
    engine: Literal["speckled"]

    def splits_by(self, ties_batch):
        return None if ties_batch else "images"

    def work(self, shard):
        return Work(flops_training=1e13 * shard.classes * shard.ipc, peak_bytes=10**6)


def draw(site, orders):
    size, outcomes = (site.data.channels, site.data.size, site.data.size), []
    for order in orders:
        numbers = range(order.first, order.first + order.ipc)
        drawn = [
            [
                torch.randn(size, generator=seeds.generator(site.seed, "image", label, number))
                for number in numbers
            ]
            for label in site.classes
        ]
        images = torch.stack([torch.stack(images) for images in drawn])
        soft = (
            torch.nn.functional.one_hot(torch.tensor(site.classes), len(site.data.counts))
            .float()[:, None]
            .repeat(1, order.ipc, 1)
        )
        outcomes.append(
            Outcome(
                images,
                snapshots={0: images, 1: images + 1},
                tensors={"soft_labels": soft, "score": images[:, :, 0, 0, 0]},
            )
        )
    return outcomes


def speckled(**changes):
    source = specs.Source("none", "nowhere")
    return Speckled(name="speckled", title="Speckled", source=source, engine="speckled", **changes)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "speckled", draw)


def shard(folder, digits, name, **asked):
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{name}.safetensors"
    jobs.condense_shard(
        out, jobs.ShardJob(speckled(), digits / "train.safetensors", "none", {}, 5, 3, "k", **asked), CPU
    )
    return out


def joined(folder, digits, *shards):
    out = folder / "synthetic.safetensors"
    jobs.gather(out, list(shards), digits / "train.safetensors")
    return {path.name: path.read_bytes() for path in (out, out.with_name("snapshots.safetensors"))}


def test_images_made_by_jobs_of_their_own_give_the_bytes_of_the_whole_set(tmp_path, digits):
    alone = joined(tmp_path / "a", digits, shard(tmp_path / "a", digits, "all"))
    parts = [
        shard(tmp_path / "b", digits, f"images{part[0]}", images=part) for part in (range(3, 5), range(0, 3))
    ]
    assert joined(tmp_path / "b", digits, *parts) == alone
    mixed = [shard(tmp_path / "c", digits, "classes0-3", classes=range(4))]
    mixed += [
        shard(tmp_path / "c", digits, f"rest{part[0]}", classes=range(4, 10), images=part)
        for part in (range(0, 1), range(1, 5))
    ]
    assert joined(tmp_path / "c", digits, *mixed) == alone
    tensors, header = read_set(tmp_path / "b" / "synthetic.safetensors")
    assert tensors["labels"].tolist() == np.repeat(range(10), 5).tolist() and "images" not in header


def test_missing_and_doubled_images_are_told(tmp_path, digits):
    first, last = (
        shard(tmp_path, digits, f"images{part[0]}", images=part) for part in (range(0, 3), range(2, 5))
    )
    for some in ([first], [first, last]):
        with pytest.raises(
            UserError, match="hold the images 0-2.* instead of each of 5 of each of 10 classes once"
        ):
            jobs.gather(tmp_path / "synthetic.safetensors", some, digits / "train.safetensors")


def test_a_shard_that_lies_about_its_images_is_refused(tmp_path, digits):
    tensors, header = read_shard(shard(tmp_path, digits, "x", images=range(1, 3)))
    for images, why in (
        ([0, 2], "does not hold 3 images"),
        ([3, 5], "first and the last of its 5"),
        ([2, 1], "first and the last"),
    ):
        write_tensors(tmp_path / "bent.safetensors", tensors, header | {"images": images})
        with pytest.raises(UserError, match=why):
            read_shard(tmp_path / "bent.safetensors")


def test_images_are_asked_for_only_of_recipes_that_split_so(tmp_path, digits):
    job = jobs.ShardJob(speckled(), digits / "train.safetensors", "none", {}, 5, 3, "k", images=range(3, 6))
    with pytest.raises(UserError, match="at ipc 5 they go from 0 to 4, found 5"):
        jobs.condense_shard(tmp_path / "x.safetensors", job, CPU)
    for recipe in (catalogue.recipe("random"), catalogue.recipe("dm")):
        job = jobs.ShardJob(recipe, digits / "train.safetensors", "none", {}, 5, 3, "k", images=range(0, 2))
        with pytest.raises(
            UserError, match=f"{recipe.name}: the images of a class are made together; leave --images out"
        ):
            jobs.condense_shard(tmp_path / "x.safetensors", job, CPU)
    batch_norm = jobs.ShardJob(
        speckled(), digits / "train.safetensors", "convnet", {"norm": "batch"}, 5, 3, "k", images=range(0, 2)
    )
    with pytest.raises(UserError, match="made together"):
        jobs.condense_shard(tmp_path / "x.safetensors", batch_norm, CPU)
    assert not list(tmp_path.glob("*.safetensors"))


def test_some_classes_are_asked_for_only_of_recipes_whose_classes_do_not_depend_on_each_other(
    tmp_path, digits
):
    for name in ("dsa", "dm_regularised"):
        job = jobs.ShardJob(
            tiny(name), digits / "train.safetensors", "convnet", {}, 1, 3, "k", classes=range(4)
        )
        with pytest.raises(UserError, match=f"{name}: its classes depend on each other.*leave --classes out"):
            jobs.condense_shard(tmp_path / "x.safetensors", job, CPU)
    job = jobs.ShardJob(
        tiny("dm"), digits / "train.safetensors", "convnet", {"norm": "batch"}, 1, 3, "k", classes=range(4)
    )
    with pytest.raises(UserError, match="dm: its classes depend on each other"):
        jobs.condense_shard(tmp_path / "x.safetensors", job, CPU)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_scale_cuts_the_images_of_methods_that_split_so_and_no_others(monkeypatch):
    cell = Maker(catalogue.scale("quick")).synthetic("digits", "random", "none", 10, 0)
    cell = type(cell)(cell.data, speckled(), "none", "{}", 10, 0)
    assert [str(share) for share in cell.shards(None, 4)] == ["images0-3", "images4-7", "images8-9"]
    assert [str(share) for share in cell.shards(5)] == ["classes0-9"]
    assert [cell.size_of(share) for share in cell.shards(2, 4)] == [(10, 4), (10, 4), (10, 2)]
    assert Path(cell.shard_path(Share("images", "4-7"))).name == "images4-7.safetensors"
    assert cell.recipe.work(Shard(cell.data.spec, 10, 4, None, {})).flops_training == 4e14


def test_a_plan_makes_a_job_of_every_share(monkeypatch):
    monkeypatch.setattr(specs.SelectionRecipe, "splits_by", lambda self, ties_batch: "images")
    monkeypatch.setattr(specs.SelectionRecipe, "condenses", True)
    plan = Plan("quick")
    monkeypatch.setattr(plan, "scale", replace(plan.scale, images_per_job=4))
    shares = {}
    for group in groups(plan):
        for cell in group.cells:
            shares.setdefault((cell.recipe.engine == "select", cell.ipc), set()).add(str(group.shard))
    assert shares[True, 10] == {"images0-3", "images4-7", "images8-9"} and shares[True, 1] == {"images0-0"}
    assert all(
        share.startswith("classes")
        for (selected, _), some in shares.items()
        if not selected
        for share in some
    )
    nodes = {node.output for node in graph(plan, ["cpdm/table1"], None, Pace(plan.maker))}
    assert sum("/random/" in output and "/images" in output for output in nodes) >= 3
