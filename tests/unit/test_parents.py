"""What sets are made with: two parents of one kind, and kinds that are registered here alone, planned, estimated and run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from bad_input_helpers import run

from condense import engines, specs
from condense.command.pipeline import Request, plan_request
from condense.command.show import listing
from condense.costs.work import Shard, Work
from condense.engines.orders import Outcome
from condense.files import read_artifact, read_set
from condense.plan import Maker
from condense.specs import catalogue
from condense.teachers.pretrain import load_teacher

SCALE = """
name: brief
title: One epoch
n_sets: 1
n_networks: 1
datasets: {digits: [digits]}
only_tables: true
protocols:
  critic: {epochs: 1}
  dc: {epochs: 1}
architectures:
  convnet: {depth: 1, width: 4}
"""


@dataclass(frozen=True, kw_only=True)
class DoubtRecipe(specs.Recipe):
    """Of each class the images of which two classifiers of different architectures are the least sure together."""

    NUMBER: ClassVar[int] = 1

    engine: Literal["doubt"]

    def parents(self):
        return {"first": specs.TeacherNeed("critic", "mlp"), "second": specs.TeacherNeed("critic", "convnet")}

    def work(self, shard: Shard) -> Work:
        return Work(flops_forward=shard.data.train * sum(network.forward for network in shard.parents.values()))


def doubt(site, orders):
    def made(order):
        judges = [load_teacher(order.parents[name], site.data, site.device)[0] for name in ("first", "second")]
        chosen = []
        for label in site.classes:
            images = site.data.of_class(label)
            with torch.no_grad():
                sure = sum(judge(images).softmax(1)[:, label] for judge in judges)
            chosen.append(images[sure.argsort()[: order.ipc]])
        return Outcome(torch.stack(chosen))

    return [made(order) for order in orders]


def register(monkeypatch, kind, function, name):
    """An engine in both registries."""
    monkeypatch.setattr(specs.engines, "AnyRecipe", specs.engines.AnyRecipe | kind)
    monkeypatch.setitem(specs.engines.ENGINES, name, kind)
    monkeypatch.setitem(engines.ENGINES, name, function)


@pytest.fixture
def own(monkeypatch, tmp_path):
    """A folder of the user's own with a short scale and recipes of the engines that are registered here."""
    register(monkeypatch, DoubtRecipe, doubt, "doubt")
    for kind, name, text in (
        ("methods", "doubtful", "{name: doubtful, title: Doubtful images, source: {paper: ours}, engine: doubt}"),
        ("scales", "brief", SCALE),
    ):
        (tmp_path / "own" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / kind / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path / "own"))
    for read in (catalogue.recipe, catalogue.scale):
        read.cache_clear()
    yield
    for read in (catalogue.recipe, catalogue.scale):
        read.cache_clear()


def command(method, out):
    return ("run", "digits", "--method", method, "--scale", "brief", "--ipc", 2, "--arch", "convnet", "--device", "cpu", "--out", out)


def test_two_teachers_of_one_protocol_have_a_file_each(own, tmp_path):
    work = plan_request(Request(Path("digits"), tmp_path, method="doubtful", ipc=2, scale="brief", arch="convnet"))
    first, second = work.parents
    assert first.nickname == second.nickname and work.folder_of(first) != work.folder_of(second)
    assert run(*command("doubtful", tmp_path / "out"))[0] == 0
    files = {tmp_path / "out" / work.folder_of(parent) / "teacher.safetensors": parent for parent in work.parents}
    headers = {path: read_artifact(path)[1] for path in files}
    assert {path: header["key"] for path, header in headers.items()} == {path: parent.key for path, parent in files.items()}
    assert [header["arch"] for header in headers.values()] == ["mlp", "convnet"]
    assert read_set(tmp_path / "out" / "synthetic.safetensors")[1]["method"] == "doubtful"
    made = {path: path.stat().st_mtime_ns for path in files}
    assert run(*command("doubtful", tmp_path / "out"))[0] == 0
    assert made == {path: path.stat().st_mtime_ns for path in files}, "a run that is finished makes neither anew"


def test_a_lone_teacher_keeps_the_folder_that_it_had(own, tmp_path):
    work = plan_request(Request(Path("digits"), tmp_path, method="herding", ipc=2, scale="brief", arch="convnet"))
    assert [work.folder_of(parent) for parent in work.parents] == ["teacher-selection"]


def test_what_a_method_needs_is_listed_by_the_name_that_with_takes(own):
    lines = {line.split()[0]: line for line in listing("methods").splitlines()}
    assert "first: a pretrained classifier, second: a pretrained classifier" in lines["doubtful"]
    assert "teacher: a pretrained classifier, bank: trained networks" in lines["ncfm_cpdm"]


def test_two_parents_that_change_places_give_another_key(own):
    cell = Maker(catalogue.scale("brief")).synthetic("digits", "doubtful", "convnet", 1, 0)
    first, second = cell.parents.values()
    assert replace(cell, parents={"first": second, "second": first}).key != cell.key
    assert replace(cell, parents={"second": second, "first": first}).key == cell.key
    # In the place that is called after its kind, too, whose key is as it was before the others had names.
    plain = replace(cell, parents={"teacher": first, "other": second})
    assert len({plain.key, replace(cell, parents={"teacher": second, "other": first}).key, cell.key}) == 3
