"""The cost of a scale: its graph of jobs, schedules worked out by hand, and the page in docs/."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from condense import estimate
from condense.command import cli
from condense.config import UserError
from condense.estimate.cluster import PROFILE, Cluster, cluster
from condense.estimate.measured import COLUMNS, Measured, Pace, measured_rows
from condense.estimate.page import scale_page
from condense.estimate.rates import REFERENCE, REFERENCE_NAME, cost
from condense.estimate.schedule import Node, graph, remaining, wall_seconds
from condense.estimate.work import work_of
from condense.machine import fitting
from condense.plan import Maker
from condense.plan.groups import groups
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together
from condense.training.loop import number_of_epochs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


@pytest.fixture(autouse=True)
def without_clip(monkeypatch):
    monkeypatch.delenv("CONDENSE_CLIP", raising=False)


@pytest.fixture
def split():
    """A plan of the quick scale with so many networks, split so."""

    def plan(networks_per_job, n_networks):
        found = Plan("quick")
        found.scale = replace(found.scale, networks_per_job=networks_per_job, n_networks=n_networks)
        found.maker = Maker(found.scale)
        return found

    return plan


def node(name, seconds, *parents, stage="evaluate"):
    return Node(name, stage, seconds, 0, parents)


# a and b first; c after a, d after both; the table takes no GPU.
DIAMOND = [
    node("a", 4),
    node("b", 2),
    node("c", 3, "a"),
    node("d", 5, "a", "b"),
    node("t", 1, "c", "d", stage="tables/figures"),
]


def test_the_longest_path_behind_each_job():
    assert remaining(DIAMOND) == {"a": 10, "b": 8, "c": 4, "d": 6, "t": 1}


def test_schedules_worked_out_by_hand():
    assert wall_seconds(DIAMOND, 1) == 4 + 2 + 5 + 3 + 1
    assert wall_seconds(DIAMOND, 2) == wall_seconds(DIAMOND, 100) == 10
    independent = [node(str(place), seconds) for place, seconds in enumerate([5, 4, 3, 3, 3])]
    # 5 + 3 and 4 + 3 + 3, while 9 would be the best: the longest go first
    assert wall_seconds(independent, 2) == 10
    # No GPU, no waiting
    assert wall_seconds([node("a", 4, stage="data"), node("b", 4, stage="data")], 1) == 4


def test_the_rate_of_the_scheduler_delays_jobs_in_the_order_in_which_they_become_ready():
    assert wall_seconds([node(str(place), 1) for place in range(10)], 100, per_minute=30) == 9 * 2 + 1
    # The second is handed over when it is ready
    assert wall_seconds([node("a", 5), node("b", 5, "a")], 100, per_minute=30) == 10


def test_jobs_that_wait_for_each_other_are_found_out():
    with pytest.raises(ValueError, match="circle"):
        wall_seconds([node("a", 1, "b"), node("b", 1, "a")], 1)


@pytest.mark.parametrize("classes", [1, 10, None])
def test_the_graph_has_the_jobs_of_the_plan_parents_first(classes):
    plan = Plan("quick")
    nodes = graph(plan, [*plan.tables, *plan.figures], classes, Pace(plan.maker))
    seen = set()
    for found in nodes:
        assert found.output not in seen and set(found.parents) <= seen and found.seconds > 0
        seen.add(found.output)
    shards = groups(plan, lambda cell: cell.shards(classes))
    made = [*plan.data.values(), *plan.parents.values(), *plan.synthetic.values()]
    if plan.scale.steps_in_one_job:  # which is counted in place of what it makes for each step
        made = [cell for cell in made if not getattr(cell, "data", cell).is_part]
        shards = [group for group in shards if not group.cells[0].data.is_part]
    counts = len(made) + len(shards) + len(plan.metrics)
    together = len(evaluations_together(plan))
    assert len(nodes) == counts + together + len(plan.tables) + len(plan.figures)
    assert {found.output for found in nodes} >= set(plan.metrics)


def test_sets_that_share_the_real_side_are_one_job_shorter_than_theirs_alone():
    plan = Plan("quick")
    group = max(groups(plan, lambda cell: cell.shards(None)), key=lambda group: len(group.cells))
    pace = Pace(plan.maker)
    nodes = {node.output: node for node in graph(plan, [*plan.tables, *plan.figures], None, pace)}
    job, alone = nodes[group.name], [pace.job("synthesize", cell, 10) for cell in group.cells]
    assert all(nodes[cell.path].parents == (group.name,) for cell in group.cells) and not set(
        group.outputs
    ) & set(nodes)
    assert group.parents["teacher"].path in job.parents and job.on_gpu and job.bytes_out == 0
    assert (
        max(one.seconds for one in alone)
        < job.seconds
        < sum(one.seconds for one in alone) - REFERENCE.start * (len(alone) - 1)
    )
    rows = [row(cell, 0.5) for cell in {(cell.recipe.name, cell.ipc): cell for cell in group.cells}.values()]
    rated = Pace(plan.maker, rows)
    share = (job.seconds - REFERENCE.start) / sum(one.seconds - REFERENCE.start for one in alone)
    measured = sum(cell.recipe.steps * 0.5 for cell in group.cells)
    assert rated.group(group.cells, 10).seconds == pytest.approx(REFERENCE.start + share * measured)


def test_an_evaluation_in_parts_is_several_shorter_jobs_and_one_without_a_gpu(split):
    """Seven networks, three a job: two jobs of three and one of one, whose products add up to those of one
    job."""
    plan = split({"convnet": 3, "convnet/cifar10": 5}, n_networks=7)
    pace = Pace(plan.maker)
    nodes = {node.output: node for node in graph(plan, ["cpdm/table1"], None, pace)}
    cell = next(cell for cell in plan.metrics.values() if cell.synthetic.recipe.name == "dm")
    parts = [nodes[cell.part_path(part)] for part in ("0-2", "3-5", "6-6")]
    joined, whole = nodes[cell.path], pace.job("evaluate", cell)
    assert (
        joined.parents == tuple(part.output for part in parts)
        and joined.stage == "join"
        and not joined.on_gpu
    )
    assert all(
        part.stage == "evaluate" and part.on_gpu and cell.synthetic.path in part.parents for part in parts
    )
    of_parts, of_whole = [work_of(cell, count, True) for count in (3, 3, 1)], work_of(cell, on_gpu=True)
    for part, work in zip(parts, of_parts, strict=True):
        assert part.seconds == pytest.approx(cost(work, REFERENCE))
    # The same products in all; a call of a layer serves fewer networks at once
    assert sum(work.flops_training for work in of_parts) == pytest.approx(of_whole.flops_training)
    assert [work.calls_training for work in of_parts] == [of_whole.calls_training] * 3
    assert parts[2].seconds < parts[0].seconds < whole.seconds
    # A GPU trains the networks of a part at once: activations and parameters of each, and one copy of the
    # data.
    network, spec = cell.synthetic.data.profile(cell.eval_arch, cell.options), cell.synthetic.data.spec
    data = (spec.train + spec.test) * 256 + 10 * cell.synthetic.ipc * 256 * 4
    each = 10 * cell.synthetic.ipc * (1.25 * network.kept + 3 * network.largest) + 5 * network.parameters
    jobs = [*parts, whole, pace.job("evaluate", cell, 40)]

    def tested(count):
        return 3 * count * min(fitting.test_batch("cuda", count), spec.test) * network.largest

    expected = [data + 4 * math.ceil(max(count * each, tested(count))) for count in (3, 3, 1, 7, 40)]
    assert [job.gpu_bytes for job in jobs] == expected and expected[-1] > expected[0]
    assert [part.bytes_out for part in parts] == [0, 0, 0] and joined.bytes_out == whole.bytes_out
    rated = Pace(
        plan.maker,
        [
            Measured(
                REFERENCE_NAME,
                "evaluate",
                "digits16",
                "dm",
                "convnet",
                str(cell.synthetic.ipc),
                "",
                2.0,
                "",
                "",
            )
        ],
    )
    epochs = number_of_epochs(cell.protocol, 10 * cell.synthetic.ipc)
    assert rated.job("evaluate", cell, 3).seconds == pytest.approx(REFERENCE.start + 3 * epochs * 2.0)


def test_the_text_counts_parts_and_those_that_are_done(split, monkeypatch, tmp_path):
    plan = split({"convnet": 3}, n_networks=7)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "Plan", lambda scale: plan)
    monkeypatch.setattr(estimate, "rates_for", lambda *args: (REFERENCE, "known"))
    target, cell = next(
        (path, cell) for path, cell in plan.metrics.items() if cell.synthetic.recipe.name == "dm"
    )

    def rows():
        lines = [line.split() for line in estimate.estimate_text(target, "quick").splitlines()[2:]]
        return {line[0]: tuple(map(int, line[1:4])) for line in lines if line[1:2] and line[1].isdigit()}

    ones = {"data": (1, 0, 1), "synthesize": (1, 0, 1), "gather": (1, 0, 1)}
    beside = {"teach": (1, 0, 1)}  # the critic of a set that is condensed by the same job
    assert rows() == ones | beside | {"evaluate": (3, 0, 3), "join": (1, 0, 1)}
    for count, part in enumerate(cell.parts(3), 1):
        Path(cell.part_path(part)).parent.mkdir(parents=True, exist_ok=True)
        Path(cell.part_path(part)).touch()
        left = ones | beside if count < 3 else {name: (1, 1, 0) for name in ones}
        assert rows() == left | {"evaluate": (3, count, 3 - count), "join": (1, 0, 1)}


def test_every_job_of_the_papers_ends_in_its_first_attempt_with_the_memory_that_it_asks_for():
    plan = Plan("paper")
    for found in graph(
        plan, [*plan.tables, *plan.figures], plan.scale.classes_per_job, Pace(plan.maker, measured_rows())
    ):
        if found.on_gpu:
            asked = plan.scale.resources[found.stage]
            assert found.seconds < 60 * asked.runtime and found.host_bytes < 1e6 * asked.mem_mb, found.output
            assert found.gpu_bytes < 0.9 * 141e9, f"{found.output} on one {REFERENCE_NAME}"


def test_rate_and_attempts_are_those_of_the_profile(monkeypatch, tmp_path):
    profile = yaml.safe_load((PAGE.parents[1] / PROFILE).read_text(encoding="utf-8"))
    assert (
        profile["max-jobs-per-timespan"] == f"{cluster().per_minute:g}/1m"
        and cluster().attempts == profile["retries"] + 1
    )
    monkeypatch.setattr("condense.estimate.cluster.catalogue.params_folder", lambda: tmp_path / "params")
    (tmp_path / PROFILE).parent.mkdir(parents=True)
    for text, said in (
        ("retries: 2", "'None'"),
        ("max-jobs-per-timespan: 60", "'60'"),
        ("max-jobs-per-timespan: 9/3s", "retries"),
    ):
        (tmp_path / PROFILE).write_text(text)
        with pytest.raises(UserError, match=f"slurm/config.yaml: .*{said}"):
            cluster.__wrapped__()
    (tmp_path / PROFILE).write_text("max-jobs-per-timespan: 9/3s\nretries: 0")
    assert cluster.__wrapped__() == Cluster(180, 1)


def test_measured_epochs_are_those_of_networks_that_are_trained_on_the_set():
    """A memory that grows in five steps is trained on three times; what trains no network takes no epoch."""
    plan, cells = Plan("quick"), {}
    for curve in [*plan.figures["cpdm/figure3"].curves, *plan.figures["ours/figure2"].curves]:
        cells |= {cell.task.kind: cell for cell in curve.cells if curve.method == "dm"}
    plain, several, untrained = (cells[kind] for kind in ("accuracy", "continual", "discrepancies"))
    made = plain.synthetic
    given = ("evaluate", made.data.name, made.recipe.name, plain.eval_arch, str(made.ipc), "", 2.0, "", "")
    rated, reckoned = Pace(plan.maker, [Measured(REFERENCE_NAME, *given)]), Pace(plan.maker)

    def seconds(pace, cell):
        return pace.job("evaluate", cell).seconds - REFERENCE.start

    epochs = number_of_epochs(plain.protocol, made.data.spec.classes * made.ipc)
    assert seconds(rated, plain) == pytest.approx(plain.n_networks * epochs * 2.0)
    assert seconds(rated, several) == pytest.approx(several.n_networks * 3 * epochs * 2.0)
    # As all others of its stage: as much longer as the measured one
    assert seconds(rated, untrained) / seconds(reckoned, untrained) == pytest.approx(
        seconds(rated, plain) / seconds(reckoned, plain)
    )


def row(cell, seconds, classes=10):
    return Measured(
        REFERENCE_NAME,
        "synthesize",
        cell.data.name,
        cell.recipe.name,
        cell.arch,
        str(cell.ipc),
        str(classes),
        seconds,
        "",
        "",
    )


def test_what_was_measured_is_taken_and_scales_what_was_not():
    plan = Plan("paper")
    dm, ed = (plan.maker.synthetic("cifar10", method, "convnet", 10, 0) for method in ("dm", "ed"))
    reckoned = cost(work_of(dm, on_gpu=True), REFERENCE) - REFERENCE.start
    assert Pace(plan.maker).job("synthesize", dm, 10)[0] == pytest.approx(REFERENCE.start + reckoned)
    pace = Pace(plan.maker, [row(dm, 3 * reckoned / dm.recipe.steps)])
    assert pace.job("synthesize", dm, 10)[0] == pytest.approx(REFERENCE.start + 3 * reckoned)
    other = cost(work_of(ed, on_gpu=True), REFERENCE) - REFERENCE.start
    assert pace.job("synthesize", ed, 10)[0] == pytest.approx(REFERENCE.start + 3 * other)
    teacher = plan.maker.teacher(dm.data, "convnet", "critic")
    assert pace.job("teach", teacher)[0] == pytest.approx(cost(work_of(teacher, on_gpu=True), REFERENCE)), (
        "another stage"
    )


def test_rows_that_cannot_be_used_are_named(tmp_path):
    for line, said in (
        ("A40,synthesize,cifar10,dm,convnet,10,10,0.1,,", "device 'A40'"),
        (f"{REFERENCE_NAME},gather,cifar10,dm,convnet,10,10,0.1,,", "stage 'gather'"),
        (f"{REFERENCE_NAME},teach,cifar10,critic,convnet,,,-1,,", "seconds '-1'"),
    ):
        (tmp_path / "rates.csv").write_text(f"{','.join(COLUMNS)}\n{line}\n")
        with pytest.raises(UserError, match=f"rates.csv:2: {said}"):
            measured_rows(tmp_path)
    (tmp_path / "rates.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="columns"):
        measured_rows(tmp_path)


@pytest.mark.slow
def test_the_committed_page_is_the_one_that_the_command_writes(tmp_path):
    """Where rates were measured its numbers differ, and then the page is to be written again."""
    assert cli.main(["estimate", "--scale", "paper", "--write", str(tmp_path / "scale.md")]) == 0
    assert (tmp_path / "scale.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_a_page_says_what_was_measured_and_what_was_not():
    plan = Plan("quick")
    cell = next(cell for cell in plan.synthetic.values() if cell.recipe.name == "dm")
    assumed, measured = scale_page("quick", []), scale_page("quick", [row(cell, 0.5)])
    assert "**not measured here**" in assumed and "measured (`params" not in assumed
    assert "| synthesize | digits16 | dm | convnet |" in measured and "scaled by the same ratio" in measured


def test_the_page_is_of_a_whole_scale(tmp_path, capsys):
    assert cli.main(["estimate", "cpdm/table1", "--write", str(tmp_path / "scale.md")]) == 2
    assert "leave out 'cpdm/table1'" in capsys.readouterr().err and not (tmp_path / "scale.md").exists()
