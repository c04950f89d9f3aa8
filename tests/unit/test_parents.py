"""What sets are made with: two parents of one kind, and kinds that are registered here alone, planned,
estimated and run."""

import inspect
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from bad_input_helpers import BRIEF, refused, run

from condense import engines, jobs, specs
from condense.command.cli import main
from condense.command.listings import listing
from condense.command.prune import prune_results
from condense.command.requests import Request, plan_request
from condense.config import UserError
from condense.data.dataset import load
from condense.engines.orders import Outcome
from condense.estimate import estimate_cells
from condense.estimate.advice import advice
from condense.estimate.measured import Pace
from condense.estimate.schedule import graph
from condense.files import read_artifact, read_set
from condense.files.artifacts import digest, read_tensors, write_tensors
from condense.jobs import parents
from condense.networks.pretrain import load_teacher
from condense.plan import PARENTS, Maker, ParentCell, data_cell
from condense.plan.groups import groups
from condense.plan.parents import TeacherCell
from condense.plan.tables import Plan
from condense.specs import catalogue
from condense.specs.costs.work import Shard, Work

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
    """Of each class the images of which two classifiers of different architectures are the least sure
    together."""

    NUMBER: ClassVar[int] = 1

    engine: Literal["doubt"]

    def parents(self):
        return {"first": specs.TeacherNeed("critic", "mlp"), "second": specs.TeacherNeed("critic", "convnet")}

    def work(self, shard: Shard) -> Work:
        return Work(
            flops_forward=shard.data.train * sum(network.forward for network in shard.parents.values())
        )


def doubt(site, orders):
    def made(order):
        judges = [
            load_teacher(order.parents[name], site.data, site.device)[0] for name in ("first", "second")
        ]
        chosen = []
        for label in site.classes:
            images = site.data.of_class(label)
            with torch.no_grad():
                sure = sum(judge(images).softmax(1)[:, label] for judge in judges)
            chosen.append(images[sure.argsort()[: order.ipc]])
        return Outcome(torch.stack(chosen))

    return [made(order) for order in orders]


@dataclass(frozen=True)
class LightNeed:
    """The images of every class in the order of their brightness: what a recipe asks for."""

    made_as: ClassVar[str] = "brightness"
    needed: ClassVar[bool] = True
    what: ClassVar[str] = "the order of brightness"
    making: ClassVar[str] = "`condense parent --help` says how"

    falling: bool = False

    def cell(self, maker, data, arch, seed, steps):
        return maker.parent(self.made_as, data, "none", falling=self.falling)


@dataclass(frozen=True)
class LightCell(ParentCell):
    """The cell of it: it has no network."""

    kind: ClassVar[str] = "brightness"
    file: ClassVar[str] = "order"
    room: ClassVar[str] = "orders"
    title: ClassVar[str] = "orders"

    falling: bool

    @cached_property
    def key(self) -> str:
        return digest([self.data.key, self.falling])

    @property
    def made_by(self) -> str:
        return "falling" if self.falling else "rising"

    def work(self, on_gpu: bool = False) -> Work:
        return Work(flops_forward=1e6, bytes_out=8 * self.data.spec.train, peak_bytes=self.data.spec.train)


def order_by_light(job, *, falling):
    """What makes it."""
    images = load(job.data)
    light = torch.cat([images.of_class(label).flatten(1).mean(1) for label in images.classes])
    write_tensors(
        job.out,
        {"order": light.argsort(descending=falling).numpy()},
        {"kind": "order", "key": job.key, "falling": falling},
    )


@dataclass(frozen=True, kw_only=True)
class LightRecipe(specs.Recipe):
    """The brightest images of each class."""

    NUMBER: ClassVar[int] = 1

    engine: Literal["light"]

    def parents(self):
        return {"order": LightNeed(falling=True)}

    def work(self, shard: Shard) -> Work:
        return Work()


def light(site, orders):
    def made(order):
        ranks = torch.from_numpy(read_tensors(order.parents["order"], "order")[0]["order"]).argsort()
        chosen, first = [], 0
        for label in site.data.classes:
            images = site.data.of_class(label)
            mine, first = ranks[first : first + len(images)], first + len(images)
            chosen += [images[mine.argsort()[: order.ipc]]] if label in site.classes else []
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
    register(monkeypatch, LightRecipe, light, "light")
    monkeypatch.setitem(PARENTS, "brightness", LightCell)
    monkeypatch.setitem(parents.MAKERS, "brightness", order_by_light)
    for kind, name, text in (
        (
            "methods",
            "brightest",
            "{name: brightest, title: Brightest images, source: {paper: ours}, engine: light}",
        ),
        (
            "methods",
            "doubtful",
            "{name: doubtful, title: Doubtful images, source: {paper: ours}, engine: doubt}",
        ),
        ("scales", "brief", SCALE),
    ):
        (tmp_path / "own" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / kind / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path / "own"))


def command(method, out):
    return (
        "run",
        "digits",
        "--method",
        method,
        "--scale",
        "brief",
        "--ipc",
        2,
        "--arch",
        "convnet",
        "--device",
        "cpu",
        "--out",
        out,
    )


def test_two_teachers_of_one_protocol_have_a_file_each(own, tmp_path):
    work = plan_request(
        Request(Path("digits"), tmp_path, method="doubtful", ipc=2, scale="brief", arch="convnet")
    )
    first, second = work.parents
    assert first.nickname == second.nickname and work.folder_of(first) != work.folder_of(second)
    assert run(*command("doubtful", tmp_path / "out"))[0] == 0
    files = {
        tmp_path / "out" / work.folder_of(parent) / "teacher.safetensors": parent for parent in work.parents
    }
    headers = {path: read_artifact(path)[1] for path in files}
    assert {path: header["key"] for path, header in headers.items()} == {
        path: parent.key for path, parent in files.items()
    }
    assert [header["arch"] for header in headers.values()] == ["mlp", "convnet"]
    assert read_set(tmp_path / "out" / "synthetic.safetensors")[1]["method"] == "doubtful"
    made = {path: path.stat().st_mtime_ns for path in files}
    assert run(*command("doubtful", tmp_path / "out"))[0] == 0
    assert made == {path: path.stat().st_mtime_ns for path in files}, (
        "a run that is finished makes neither anew"
    )


def test_a_lone_teacher_keeps_the_folder_that_it_had(own, tmp_path):
    work = plan_request(
        Request(Path("digits"), tmp_path, method="herding", ipc=2, scale="brief", arch="convnet")
    )
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


def test_every_kind_of_parent_has_a_cell_and_a_function_that_makes_it():
    assert set(PARENTS) == set(parents.MAKERS)
    for kind, cell in PARENTS.items():
        makes = inspect.signature(parents.MAKERS[kind]).parameters.values()
        named = {entry.name for entry in makes if entry.kind is not entry.VAR_KEYWORD}
        assert cell.kind == kind and named == {"job", *cell.setting_names(), *cell.made_from}
        assert {"work", "key", "made_by"} <= {
            name for base in cell.__mro__[: cell.__mro__.index(ParentCell)] for name in vars(base)
        }
    for name in catalogue.names_in("methods"):
        for parent in catalogue.recipe(name).parents().values():
            assert parent.made_as in PARENTS and parent.what and parent.making


def test_settings_of_a_cell_are_read_again_as_they_were():
    maker = Maker(replace(catalogue.scale("quick"), bank_mb=100))
    cells = [
        cell
        for name in ("cpdm", "ncfm", "best", "idm", "edc")
        for cell in maker.synthetic("digits", name, "convnet", 1, 0).parents.values()
    ]
    cells.append(
        specs.TruthNeed("nas201_truth", 3, images=40).cell(maker, data_cell("digits"), "nas_bench_201", 0, 0)
    )
    stored = {"rded": {"labels": {"stored": True, "top": 3}}}
    maker = Maker(replace(catalogue.scale("quick"), protocols=stored))
    made = maker.metrics(maker.synthetic("digits", "random", "convnet", 1, 0), "convnet", "rded")
    cells += made.parents.values()
    assert {cell.kind for cell in cells} == set(PARENTS)
    for cell in cells:
        assert type(cell).values_from(json.loads(cell.settings), "--settings") == cell.values
    teacher = next(cell for cell in cells if cell.kind == "teacher")
    with pytest.raises(UserError, match="--settings: the key 'strategy' is missing"):
        TeacherCell.values_from({"protocol": json.loads(teacher.settings)["protocol"]}, "--settings")
    with pytest.raises(UserError, match="--settings: unknown key 'epochs'"):
        TeacherCell.values_from(json.loads(teacher.settings) | {"epochs": 3}, "--settings")


def test_a_kind_of_parent_that_is_registered_here_is_planned_estimated_and_run(own, tmp_path):
    """One class of need, one cell, one function: no other file knows of it."""
    work = plan_request(
        Request(Path("digits"), tmp_path, method="brightest", ipc=2, scale="brief", arch="convnet")
    )
    (order,) = work.parents
    assert order.path == f"results/orders/digits/none/falling/seed0-{order.key}/order.safetensors"
    stages = {
        stage.name: stage
        for stage in estimate_cells(work.parents, work.sets, work.metrics, threads=1, gpu=False).stages
    }
    assert stages["teach"].jobs == 1 and stages["teach"].disk_bytes == order.work().bytes_out
    assert run(*command("brightest", tmp_path / "out"))[0] == 0
    made = tmp_path / "out" / work.folder_of(order) / "order.safetensors"
    tensors, header = read_tensors(made, "order")
    assert header["key"] == order.key and sorted(tensors["order"]) == list(range(len(tensors["order"])))
    images = read_set(tmp_path / "out" / "synthetic.safetensors")[0]["images"]
    random = read_set(tmp_path / "out" / "random" / "synthetic.safetensors")[0]["images"]
    assert images.mean() > random.mean() + 0.05 and run("inspect", made)[0] == 0
    before = made.stat().st_mtime_ns
    assert run(*command("brightest", tmp_path / "out"))[0] == 0 and made.stat().st_mtime_ns == before
    assert "order: the order of brightness" in listing("methods")
    made.write_bytes(made.read_bytes()[:-8])
    assert run(*command("brightest", tmp_path / "out"))[0] == 2, "a damaged one is told, and not used"


def test_the_help_of_the_verb_tells_the_settings_of_every_kind(capsys):
    with pytest.raises(SystemExit):
        main(["parent", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for kind, cell in PARENTS.items():
        assert f" {kind} ({', '.join(cell.setting_names())}" in told
    assert "layer_statistics (protocol, strategy; --with observer=FILE)" in told


def test_settings_name_a_protocol_as_other_verbs_do(digits, tmp_path, monkeypatch):
    taken, file = [], tmp_path / "brief.yaml"
    monkeypatch.setitem(parents.MAKERS, "teacher", lambda job, protocol, strategy: taken.append(protocol))
    file.write_text(BRIEF, encoding="utf-8")

    def asked(protocol):
        settings = json.dumps({"protocol": protocol, "strategy": "none"})
        paths = ("--data", digits, "--out", tmp_path / "t")
        return ("parent", "teacher", "--settings", settings, "--arch", "convnet", *paths)

    assert [run(*asked(named))[0] for named in ("dc", str(file), json.loads(BRIEF))] == [0, 0, 0]
    assert taken[0] == catalogue.protocol("dc") and taken[1] == taken[2] and taken[1].name == "brief"
    assert "unknown protocol 'dcc'" in refused(*asked("dcc"))


def test_the_verb_of_the_rule_makes_it_too(own, digits, tmp_path):
    """As the rule `teach` calls it, from what the cell says."""
    cell = Maker(catalogue.scale("brief")).synthetic("digits", "brightest", "convnet", 1, 0).parents["order"]
    asked = (
        cell.kind,
        "--settings",
        cell.settings,
        "--data",
        digits,
        "--arch",
        cell.arch,
        "--key",
        cell.key,
        "--out",
        tmp_path / "order",
    )
    assert run("parent", *asked)[0] == 0 and jobs.is_whole(tmp_path / "order", cell.file, cell.key)
    assert "unknown kind 'brightnes'; did you mean 'brightness'" in refused("parent", "brightnes", *asked[1:])
    assert "--settings: unknown key 'rising'" in refused(
        "parent", cell.kind, "--settings", '{"rising": true}', *asked[3:]
    )


def test_sets_of_a_plan_share_it_and_prune_knows_its_folder(own, tmp_path, monkeypatch):
    monkeypatch.chdir(catalogue.params_folder().resolve().parent)
    figure = (
        "{kind: figure, paper: ours, figure: '90', title: Bright, draw: accuracy_by_ipc, dataset: digits, "
        "methods: [brightest], ipc: [1, 2]}"
    )
    (tmp_path / "own" / "tables").mkdir()
    (tmp_path / "own" / "tables" / "ours_figure90.yaml").write_text(figure, encoding="utf-8")
    scale = tmp_path / "own" / "scales" / "brief.yaml"
    scale.write_text(scale.read_text(encoding="utf-8") + "tables: {ours/figure90: {}}\n", encoding="utf-8")
    plan = Plan("brief")
    (order,) = plan.parents.values()
    assert len(plan.synthetic) == 2 and all(list(group.parents.values()) == [order] for group in groups(plan))
    nodes = graph(plan, ["ours/figure90"], None, Pace(plan.maker))
    assert [node.stage for node in nodes if node.output == order.path] == ["teach"]
    assert sum(node.output == order.path for node in nodes) == 1 and advice(plan)
    results = tmp_path / "results"
    for key in (order.key, "0" * 12):
        path = results / Path(order.path.replace(order.key, key)).relative_to("results")
        path.parent.mkdir(parents=True)
        path.touch()
    told = prune_results(results, dry=False)
    assert "000000000000" in told and [path.parent.name for path in results.rglob("*.safetensors")] == [
        f"seed0-{order.key}"
    ]
