"""What jobs compute, by hand, and what is said of a scale before it starts."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from condense import estimate, specs
from condense.config import UserError
from condense.estimate import measuring
from condense.estimate.jobs import named
from condense.estimate.rates import Rates, cost
from condense.estimate.work import Work, group_work, work_of
from condense.files.artifacts import write_json
from condense.plan import Maker, data_cell
from condense.plan.groups import groups
from condense.plan.manifests import manifest
from condense.plan.profiles import profile
from condense.plan.ranges import Share
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together
from condense.specs import catalogue
from condense.training.loop import number_of_epochs

# ConvNet of depth 3 and width 128 at 3 x 32 x 32: a product and a sum for each of 9 weights, channel in,
# channel out and pixel.
CONVOLUTIONS = 2 * 9 * (3 * 128 * 32**2 + 128 * 128 * 16**2 + 128 * 128 * 8**2)
LINEAR = 2 * 128 * 4 * 4 * 10
RATES = Rates(1e9, 5e8, 5e8, 1e-3, 2e-3, 1e-6, 1e-2, 1e-4, 3.0, 0.5, 1_000_000, 1000)


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """A working directory without results, and a machine whose rates are known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONDENSE_CLIP", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(estimate, "rates_for", lambda *args: (RATES, "known"))
    return tmp_path


@pytest.fixture(scope="module")
def maker():
    return Maker(catalogue.scale("paper"))


def test_flops_of_the_convnet_are_those_worked_out_by_hand():
    counted = profile("convnet", "{}", 3, 32, 10)
    assert counted.embed == CONVOLUTIONS == 101_449_728
    assert counted.forward == CONVOLUTIONS + LINEAR
    assert (counted.parameters, counted.features, counted.largest) == (320_010, 2048, 128 * 32**2)
    # Convolution, norm and ReLU at each of three resolutions, and the pooled maps; what comes in, the
    # embedding and the logits.
    assert (
        counted.activations
        == 128 * (3 * (32**2 + 16**2 + 8**2) + 16**2 + 8**2 + 4**2) + 3 * 32**2 + 2048 + 10
    )


def test_flops_of_attention_and_linear_layers_are_counted_too():
    dim, inner, mlp, patches = 64, 2 * 64, 64, 8 * 8
    tokens = patches + 1
    counted = profile("vit", '{"dim":64,"depth":2,"heads":2,"mlp":64}', 3, 32, 10)
    block = 2 * tokens * (4 * dim * inner + 2 * dim * mlp) + 2 * 2 * tokens**2 * inner
    assert counted.embed == 2 * block + 2 * patches * dim * 3 * 4 * 4


@pytest.mark.parametrize("arch", ["convnet", "resnet18"])
def test_the_count_agrees_with_a_pass_over_real_numbers(arch):
    from torch.utils.flop_counter import FlopCounterMode

    from condense import kernels, models

    network = models.build(arch, channels=3, size=32, classes=10)
    images = torch.zeros(2, 3, 32, 32)
    # What a kernel does is not counted
    with kernels.plain(), FlopCounterMode(display=False) as forward, torch.no_grad():
        network(images)
    with kernels.plain(), FlopCounterMode(display=False) as training:
        network(images).sum().backward()
    counted = profile(arch, "{}", 3, 32, 10)
    assert forward.get_total_flops() == 2 * counted.forward
    # The images need no gradient
    assert training.get_total_flops() == pytest.approx(3 * 2 * counted.forward, rel=0.05)


def test_matching_passes_real_images_once_and_synthetic_ones_there_and_back(maker):
    cell = maker.synthetic("cifar10", "dm", "convnet", 10, 0)
    work = work_of(cell)
    assert work.flops_forward == 20_000 * 10 * 256 * CONVOLUTIONS
    assert work.flops_moving == 20_000 * 2 * 10 * 10 * CONVOLUTIONS and work.flops_training == 0
    assert work.calls_forward == 20_000 * math.ceil(2560 / 128) * profile("convnet", "{}", 3, 32, 10).layers
    assert (work.draws, work.images) == (20_000 * 10, 20_000 * 10 * 266)
    assert work.parameters_drawn == 20_000 * 320_010
    assert work.bytes_out == 100 * (3 * 32**2 * 4 + 8)


def test_a_critic_adds_its_own_passes_and_the_energy_distance_its_pairs(maker):
    plain, critic = (
        work_of(maker.synthetic("cifar10", method, "convnet", 10, 0)) for method in ("ed", "cpdm")
    )
    pairs = 10 * (512 * 10 + 10 * 10)
    assert plain.flops_moving == 40_000 * 2 * 100 * CONVOLUTIONS
    assert plain.flops_training == critic.flops_training == 40_000 * 7 * pairs * 2048
    assert critic.flops_moving - plain.flops_moving == 40_000 * 2 * 100 * (CONVOLUTIONS + LINEAR)
    assert critic.flops_forward == plain.flops_forward
    targets = work_of(maker.synthetic("cifar10", "ed_kl", "convnet", 10, 0))
    assert targets.flops_forward - critic.flops_forward == 40_000 * 100 * (CONVOLUTIONS + LINEAR)
    assert work_of(maker.synthetic("cifar10", "diversity", "convnet", 10, 0)).flops_forward == 0


def test_a_trained_network_beside_that_of_the_step_takes_a_pass_of_its_own(maker):
    """In the same turn (`tgdd`) as in one of its own (`dance`)."""
    for method in ("tgdd", "dance"):
        work = work_of(maker.synthetic("cifar10", method, "convnet", 10, 0))
        assert work.flops_moving == 10_000 * 2 * 2 * 10 * 40 * CONVOLUTIONS
    once = {"terms": {"cross_entropy": {"under": "network"}}}
    work = work_of(maker.synthetic("cifar10", "tgdd", "convnet", 10, 0, once))
    assert work.flops_moving == 10_000 * 2 * 10 * 40 * CONVOLUTIONS


def test_images_under_a_frozen_observer_pass_it_there_and_back(maker):
    work = work_of(maker.synthetic("cifar10", "sre2l", "convnet", 10, 0))
    observer = profile("resnet18_bn", "{}", 3, 32, 10)
    assert work.flops_moving == 1000 * 2 * 100 * observer.forward
    assert work.flops_training == work.flops_forward == 0


def test_shards_share_the_work_of_a_set(maker):
    cell = maker.synthetic("cifar10", "cpdm", "convnet", 10, 0)
    both, one = work_of(cell), work_of(cell, 5)
    for kind in ("forward", "training", "moving"):
        assert getattr(both, f"flops_{kind}") == 2 * getattr(one, f"flops_{kind}") > 0
    assert both.bytes_out == 2 * one.bytes_out and one.peak_bytes < both.peak_bytes


def test_sets_of_one_job_pay_for_the_real_side_once(maker):
    first, second = (maker.synthetic("cifar10", "dm", "convnet", ipc, 0) for ipc in (10, 50))
    ones, both = [work_of(cell, 5) for cell in (first, second)], group_work([first, second], 5)
    assert group_work([first], 5) == ones[0]
    assert ones[0].flops_forward == ones[1].flops_forward == both.flops_forward
    assert both.flops_moving == ones[0].flops_moving + ones[1].flops_moving > 0
    assert (
        both.parameters_drawn == ones[0].parameters_drawn
        and both.calls_training == 2 * ones[0].calls_training
    )
    assert both.images == 20_000 * 5 * (256 + 10 + 50)
    assert both.bytes_out == ones[0].bytes_out + ones[1].bytes_out
    waiting = 3 * 5 * 10 * 3 * 32 * 32 * 4 + ones[0].bytes_out
    assert both.peak_bytes == ones[1].peak_bytes + waiting
    assert both.host_bytes == ones[0].host_bytes + 2 * ones[1].bytes_out


def test_training_costs_three_forward_passes_an_image_and_every_network_is_tested(maker):
    synthetic = maker.synthetic("cifar10", "dm", "convnet", 10, 0)
    cell = maker.metrics(synthetic, "convnet", "dc", 5)
    work, epochs = work_of(cell), number_of_epochs(cell.protocol, 100)
    assert work.flops_training == 5 * epochs * 100 * 3 * (CONVOLUTIONS + LINEAR)
    passes = maker.scale.follow
    assert passes == 20 and work.flops_forward == passes * 5 * 10_000 * (CONVOLUTIONS + LINEAR)
    whole = maker.metrics(maker.synthetic("cifar10", "whole", "convnet", "full", 0), "convnet", "dc", 5)
    epochs = number_of_epochs(whole.protocol, 50_000)
    assert work_of(whole).flops_training == 5 * epochs * 50_000 * 3 * (CONVOLUTIONS + LINEAR)
    curve = maker.metrics(
        maker.synthetic("cifar10", "dm", "convnet", 10, 0, {"snapshots": 5000}),
        "convnet",
        "dc",
        5,
        specs.Snapshots(),
    )
    assert work_of(curve).flops_training == 4 * work.flops_training


def test_teachers_and_selections(maker):
    teacher = maker.teacher(data_cell("cifar10"), "convnet", "selection")
    work = work_of(teacher)
    assert work.flops_training == 40 * 50_000 * 3 * (CONVOLUTIONS + LINEAR)
    assert work.calls_training == 40 * math.ceil(50_000 / 128) * profile("convnet", "{}", 3, 32, 10).layers
    herding, random = (
        work_of(maker.synthetic("cifar10", method, "convnet", 10, 0)) for method in ("herding", "random")
    )
    assert (
        herding.flops_forward == 50_000 * CONVOLUTIONS and random.flops_forward == random.flops_training == 0
    )


def test_the_cost_is_the_sum_of_everything_over_its_rate():
    work = Work(2e9, 1e9, 5e8, 1000, 1000, 1e6, 100, 10_000)
    assert cost(work, RATES) == pytest.approx(2 + 2 + 1 + 1 + 2 + 1 + 1 + 1 + 3)
    assert cost(replace(work, light=True), RATES) == pytest.approx(11 + 0.5)


def test_an_estimate_of_cells_adds_up_their_jobs(empty, maker):
    synthetic = maker.synthetic("cifar10", "cpdm", "convnet", 10, 0)
    metrics = maker.metrics(synthetic, "convnet", "dc", 5)
    found = estimate.estimate_cells(
        [synthetic.parents["teacher"]], [synthetic], [metrics], threads=1, gpu=False
    )
    counts = {stage.name: (stage.jobs, stage.done) for stage in found.stages if stage.jobs}
    assert counts == dict.fromkeys(("data", "teach", "synthesize", "gather", "evaluate"), (1, 0))
    works = [work_of(cell) for cell in (synthetic.data, synthetic.parents["teacher"], synthetic, metrics)] + [
        estimate.gather_work(synthetic)
    ]
    assert found.seconds == pytest.approx(sum(cost(work, RATES) for work in works))
    assert found.disk_bytes == sum(work.bytes_out for work in works)
    assert found.memory_bytes == max(work.peak_bytes + (1000 if work.light else 1_000_000) for work in works)
    assert "in all 5 jobs: 0 done, 5 to do" in found.text() and "GPU" not in found.text()


def jobs_of(plan):
    """Where one job makes all sets of the steps of continual learning, it is counted in their place."""
    alone = plan.scale.steps_in_one_job

    def jobs(cells):
        return [cell for cell in cells if not (alone and getattr(cell, "data", cell).is_part)]

    shards = [group for group in groups(plan) if jobs(group.cells)]
    drawn = len(plan.targets) + 1
    evaluating = len(plan.metrics) + len(evaluations_together(plan))
    made = [*plan.data.values(), *plan.parents.values(), *plan.synthetic.values()]
    return len(jobs(made)) + len(shards) + evaluating + drawn


def test_a_whole_scale_has_the_jobs_of_its_plan(empty):
    plan, text = Plan("quick"), estimate.estimate_text(None, "quick")
    assert f"in all {jobs_of(plan)} jobs: 0 done, {jobs_of(plan)} to do" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    together = [len(group.cells) for group in evaluations_together(plan)]
    processes = str(len(plan.metrics) - sum(together) + len(together))
    assert rows["evaluate"][1:4] == [processes, "0", processes] and rows["join"][1] == str(sum(together))
    gathered = [cell for cell in plan.synthetic.values() if not cell.data.is_part and not cell.joins]
    assert rows["gather"][1] == str(len(gathered)) and 0 < int(rows["synthesize"][1]) < len(gathered)
    assert "core-hours" in text and "GPU-hours" not in text


def test_a_target_is_charged_what_the_sets_beside_its_own_need(empty):
    plan = Plan("quick")
    grouped = {cell.key: group for group in groups(plan) for cell in group.cells}
    target, cell = next(
        (path, one.synthetic)
        for path, one in plan.metrics.items()
        if one.synthetic.key in grouped
        and "teacher" not in one.synthetic.parents
        and "teacher" in grouped[one.synthetic.key].parents
    )
    assert rows_of(estimate.estimate_text(target, "quick"))["teach"] == (1, 0, 1)
    make(cell.shard_path(grouped[cell.key].shard))
    assert "teach" not in rows_of(estimate.estimate_text(target, "quick"))


def companions(plan):
    return {cell.path: group for group in evaluations_together(plan) for cell in group.cells}


def test_a_target_is_charged_what_is_evaluated_in_its_job(empty):
    plan = Plan("quick")
    target, group = next(iter(companions(plan).items()))
    rows = rows_of(estimate.estimate_text(target, "quick"))
    sets = {cell.synthetic.key for cell in group.cells}
    assert rows["evaluate"] == (1, 0, 1) and rows["join"][0] == len(group.cells)
    assert rows["gather"][0] == len(sets)
    make(target)
    assert rows_of(estimate.estimate_text(target, "quick"))["join"] == (1, 1, 0)


def test_where_gpus_are_asked_for_and_absent_both_are_estimated_and_it_is_said(empty):
    text = estimate.estimate_text("cpdm/table1", "paper")
    assert "a GPU is asked for and this machine has none" in text
    assert f"on one {estimate.REFERENCE_NAME} (not measured here" in text and "core-hours" in text


def make(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()


def rows_of(text):
    return {
        line.split()[0]: tuple(map(int, line.split()[1:4]))
        for line in text.splitlines()[2:]
        if line.split()[1:2][0].isdigit()
    }


def test_what_is_made_counts_as_done_and_so_does_what_is_no_longer_needed(empty):
    plan = Plan("quick")
    target = next(
        path
        for path, cell in plan.metrics.items()
        if "teacher" in cell.synthetic.parents and path not in companions(plan)
    )
    cell = plan.metrics[target]
    ones = dict.fromkeys(("data", "teach", "synthesize", "gather", "evaluate"), (1, 0, 1))
    assert rows_of(estimate.estimate_text(target, "quick")) == ones
    make(cell.synthetic.parents["teacher"].path)
    assert rows_of(estimate.estimate_text(target, "quick")) == ones | {"teach": (1, 1, 0)}
    make(cell.synthetic.shard_path(Share("classes", "0-9")))
    Path(cell.synthetic.parents["teacher"].path).unlink()  # nothing needs it any more
    made = ones | {"teach": (1, 1, 0), "synthesize": (1, 1, 0)}
    assert rows_of(estimate.estimate_text(target, "quick")) == made
    make(cell.synthetic.path)
    make(cell.synthetic.data.train)
    # The test images are still needed
    assert rows_of(estimate.estimate_text(target, "quick")) == made | {"gather": (1, 1, 0)}
    make(cell.synthetic.data.test)
    assert rows_of(estimate.estimate_text(target, "quick")) == made | {"gather": (1, 1, 0), "data": (1, 1, 0)}
    for path in (cell.synthetic.path, cell.synthetic.data.train):
        Path(path).unlink()
    make(target)
    text = estimate.estimate_text(target, "quick")
    assert "in all 5 jobs: 5 done, 0 to do" in text and "rates: none needed" in text
    assert rows_of(estimate.estimate_text(None, "quick"))["gather"][1] == 0  # the report shows every set


def test_a_table_counts_as_done_if_this_scale_made_it(empty):
    plan = Plan("quick")
    for cell in plan.metrics_of("cpdm/table1"):
        make(cell.path)
    make("results/tables/cpdm/table1.csv")
    write_json(Path("results/tables/cpdm/table1.json"), manifest(plan, "cpdm/table1") | {"scale": "laptop"})
    assert rows_of(estimate.estimate_text("results/tables/cpdm/table1.csv", "quick"))["tables/figures"] == (
        1,
        0,
        1,
    )
    write_json(Path("results/tables/cpdm/table1.json"), manifest(plan, "cpdm/table1"))
    assert rows_of(estimate.estimate_text("cpdm/table1", "quick"))["tables/figures"] == (1, 1, 0)


def test_a_figure_of_embeddings_needs_its_sets_teacher_and_data(empty):
    plan = Plan("quick")
    rows = rows_of(estimate.estimate_text("results/figures/cpdm/figure5.png", "quick"))
    curves = plan.figures["cpdm/figure5"].curves
    assert (
        rows["gather"] == (len(curves), 0, len(curves))
        and rows["teach"][2] >= 1
        and rows["data"] == (1, 0, 1)
    )
    assert "evaluate" not in rows


@pytest.mark.parametrize(
    "target,said",
    [("cpdm/tabel1", "did you mean 'cpdm/table1'"), ("cpdm/table6", "not made at scale laptop")],
)
def test_targets_that_are_not_there(empty, target, said):
    with pytest.raises(UserError, match=said):
        estimate.estimate_text(target, "laptop")


def test_rates_are_kept_and_measured_again_where_they_no_longer_hold(monkeypatch, tmp_path):
    measured = []
    monkeypatch.setattr(
        measuring,
        "_measured",
        lambda *args: measured.append(args) or replace(RATES, start=float(len(measured))),
    )
    file = tmp_path / "rates.json"

    def rates(threads=1, arch="convnet"):
        found, source = estimate.rates_for(
            data_cell("digits"), arch, "{}", threads, torch.device("cpu"), file
        )
        return found.start, source

    assert rates()[0] == 1.0 and "measured now" in rates(arch="mlp")[1]
    assert rates()[0] == 1.0 and "rates.json" in rates()[1] and len(measured) == 2
    start, source = rates(threads=2)
    assert start == 3.0 and "measured anew, since" in source and rates(threads=2)[0] == 3.0
    assert rates(threads=1)[0] == 4.0  # the entry of one thread has given way
    file.write_text(file.read_text()[:-9])
    assert rates()[0] == 5.0 and len(measured) == 5
    file.write_text('{"entries": {"a": {"rates": {}}}}')
    assert "was damaged" in rates()[1]


def test_measured_rates_are_of_this_world(monkeypatch):
    monkeypatch.setattr(measuring, "_start", lambda: ((0.5, 3.0), (1000, 10**6)))
    threads = torch.get_num_threads()
    found = measuring._measured(data_cell("digits"), "convnet", '{"depth":2,"width":16}', torch.device("cpu"))
    assert torch.get_num_threads() == threads
    assert (
        1e7 < found.forward < 1e15
        and 1e7 < found.training < 1e15
        and all(value >= 0 for value in asdict(found).values())
    )
    assert 1e-7 < found.call < found.call_training < 1.0


@pytest.mark.parametrize(
    "target", ["results/tables/cpdm/table1.pdf", "results/figures/cpdm/table1.png", "cpdm/figure2.csv"]
)
def test_a_file_that_the_workflow_does_not_make_is_not_estimated(target):
    with pytest.raises(
        UserError, match=f"{target}: is no file of the workflow, which makes results/(tables|figures)/cpdm/"
    ):
        named(Plan("quick"), target)
