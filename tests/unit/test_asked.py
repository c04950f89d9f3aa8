"""What jobs ask a scheduler for: from the estimate, with a margin, within limits; and the counts of networks
that it rests on."""

import csv
import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest

from condense.estimate import counting
from condense.estimate.asked import LEAST_MINUTES, MEMORY_MARGIN, TIME_MARGIN, Asked, Limits
from condense.estimate.measured import Pace
from condense.estimate.rates import REFERENCE, cost
from condense.estimate.schedule import graph
from condense.estimate.work import CARD, networks_together, work_of
from condense.files.artifacts import canonical
from condense.models import architecture_names
from condense.plan.groups import groups
from condense.plan.profiles import profile
from condense.plan.ranges import number_in
from condense.plan.tables import Plan
from condense.specs import Resources
from condense.specs.costs.networks import TABLE, counted_networks, listed_architectures
from condense.training.counting import count


@pytest.fixture(scope="module")
def plan():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CONDENSE_CLIP", raising=False)
        found = Plan("paper")
        assert found.metrics
    return found


@pytest.fixture
def asked(plan):
    return Asked(plan.scale)


def random_set(plan):
    return next(cell for cell in plan.synthetic.values() if cell.recipe.name == "random")


def test_only_jobs_that_compute_with_a_network_ask_for_a_gpu(plan, asked):
    random, herding = (
        random_set(plan),
        next(cell for cell in plan.synthetic.values() if cell.recipe.name == "herding"),
    )
    assert asked.synthesize([random], 10).gpu == 0 and asked.synthesize([herding], 10).gpu == 1
    assert (
        asked.gather(random).gpu == asked.copy().gpu == asked.page().gpu == asked.data(random.data).gpu == 0
    )
    metrics = next(iter(plan.metrics.values()))
    assert (
        asked.evaluate(metrics).gpu == asked.teach(herding.parents["teacher"]).gpu == 1
        and asked.join(metrics).gpu == 0
    )
    without = Asked(plan.scale, Limits(gpus=False))
    assert without.evaluate(metrics).gpu == without.synthesize([herding], 10).gpu == 0


def test_jobs_of_minutes_ask_for_minutes_and_long_ones_for_their_time_with_the_margin(plan, asked):
    short = min(plan.metrics.values(), key=lambda cell: asked.need("evaluate", cell).seconds)
    assert asked.need("evaluate", short).seconds < 120 and asked.evaluate(short).runtime == LEAST_MINUTES
    assert asked.synthesize([random_set(plan)], 10).runtime == LEAST_MINUTES
    cell = next(cell for cell in plan.synthetic.values() if cell.recipe.name == "dm" and cell.ipc == 50)
    seconds = cost(work_of(cell, 10, on_gpu=True), REFERENCE)
    found = asked.synthesize([cell], 10)
    assert TIME_MARGIN * seconds / 60 <= found.runtime < TIME_MARGIN * seconds / 60 + 5
    held = work_of(cell, 10, on_gpu=True).host_bytes + REFERENCE.memory
    assert MEMORY_MARGIN * held / 1e6 <= found.mem_mb < MEMORY_MARGIN * held / 1e6 + 500


def test_an_attempt_asks_for_as_much_again_and_never_for_more_than_a_limit(plan, asked):
    cell = next(cell for cell in plan.synthetic.values() if cell.recipe.name == "dm" and cell.ipc == 50)
    first, second = (asked.synthesize([cell], 10, attempt) for attempt in (1, 2))
    assert (second.runtime, second.mem_mb) == (2 * first.runtime, 2 * first.mem_mb)
    most = plan.scale.resources["synthesize"]
    assert asked.synthesize([cell], 10, 1000) == replace(most, gpu=1)
    limited = Asked(plan.scale, Limits(runtime=first.runtime + 1, mem_mb=first.mem_mb + 1))
    assert limited.synthesize([cell], 10) == first
    assert limited.synthesize([cell], 10, 2) == replace(
        first, runtime=first.runtime + 1, mem_mb=first.mem_mb + 1
    )
    assert (
        Asked(plan.scale, Limits(runtime=7)).page().runtime
        == Asked(plan.scale, Limits(runtime=7)).data(cell.data).runtime
        == 7
    )
    assert Asked(plan.scale, Limits(runtime=10**6)).page().runtime == plan.scale.resources["report"].runtime


def test_jobs_without_a_gpu_are_reckoned_for_a_cpu_and_its_threads():
    found = Plan("laptop")
    cell = next(cell for cell in found.synthetic.values() if cell.recipe.name == "dm" and cell.ipc == 10)
    given = [Resources(threads, gpu, 10**6, 10**6) for threads, gpu in ((1, 0), (2, 0), (1, 1))]
    scales = [replace(found.scale, resources={"synthesize": resources}) for resources in given]
    one, two, gpu = (Asked(scale).need_of_group([cell], 10) for scale in scales)
    assert one.seconds > 1.5 * two.seconds > 5 * gpu.seconds
    assert (
        gpu.on_gpu
        and gpu.gpu_bytes > 0
        and not one.on_gpu
        and one.gpu_bytes == 0
        and one.host_bytes < gpu.host_bytes
    )


def test_no_job_of_the_papers_takes_more_than_a_card_of_80_gb_or_more_than_it_asks_for(plan, asked):
    for node in graph(plan, [*plan.tables, *plan.figures], plan.scale.classes_per_job, Pace(plan.maker)):
        assert node.gpu_bytes < CARD, node.output
    needs = [(asked.need_of_group(group.cells, group.shard), "synthesize") for group in groups(plan)]
    needs += [
        (asked.need("evaluate", cell, number_in(part)), "evaluate")
        for cell in plan.metrics.values()
        for part in plan.parts(cell)
    ]
    for need, stage in needs:
        most = asked.most(stage)
        assert need.seconds < 60 * most.runtime and need.host_bytes < 1e6 * most.mem_mb


def test_networks_at_once_are_those_that_the_job_trains(plan):
    import torch

    from condense import models
    from condense.training.stacked import fitting

    def together(arch, **changes):
        synthetic = plan.maker.synthetic("tinyimagenet", "dm", "convnetd4", 10, 0)
        cell = replace(plan.maker.metrics(synthetic, arch, "dc"), **changes)
        return networks_together(cell, cell.n_networks), cell

    (resnet, cell), (convnet, _), (vit, _) = map(together, ("resnet152", "convnetd4", "vit"))
    assert vit == 1 < resnet < convnet <= 20, "the transformer cannot be batched"
    with torch.device("meta"):
        options, image = json.loads(plan.maker.options("resnet18", "tinyimagenet")), torch.empty(3, 64, 64)
        network = models.build("resnet18", channels=3, size=64, classes=200, **options)
    assert together("resnet18", n_networks=100)[0] == fitting(network, image, 256, CARD) > 1
    assert together("convnetd4", protocol=replace(cell.protocol, cutmix=0.5))[0] == 1


def test_the_kept_counts_are_of_all_networks_of_the_scales_and_agree_with_a_count():
    assert listed_architectures() == set(architecture_names()), (
        "write them again: python -m condense.estimate.counting"
    )
    kept = counted_networks()
    assert set(kept) == counting.networks_of_scales(), (
        "write them again: python -m condense.estimate.counting"
    )
    for network, counted in kept.items():
        assert count(*network) == counted, (
            f"{network}: write them again: python -m condense.estimate.counting"
        )
    with open(TABLE, encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == len(kept) + 1


def test_a_network_of_ones_own_is_counted_when_it_is_asked_for():
    options = canonical({"depth": 2, "width": 24})
    assert ("convnet", options, 3, 40, 7) not in counted_networks()
    assert profile("convnet", options, 3, 40, 7).embed == 2 * 9 * (3 * 24 * 40**2 + 24 * 24 * 20**2)


def test_what_a_pass_keeps_is_what_its_gradient_needs():
    """A perceptron keeps what goes into its linear layers, as ReLUs keep what they give; a convolution its
    input too."""
    counted = count("mlp", "{}", 1, 8, 10)
    assert 64 <= counted.kept < counted.activations + 64
    convnet = count("convnet", "{}", 3, 32, 10)
    maps = 128 * (32**2 + 16**2 + 8**2)
    assert 2 * maps < convnet.kept < 3 * maps + math.prod((4, 32, 32)), (
        "of convolution, norm and ReLU two are kept"
    )


CODE = """
import sys
from condense.estimate import asked as module
from condense.estimate.asked import Asked, Limits
from condense.plan.groups import groups
from condense.plan.ranges import number_in
from condense.plan.tables import Plan
reckoned, cost = [], module.cost
module.cost = lambda *given: reckoned.append(given) or cost(*given)
plan = Plan("paper")
jobs, metrics = groups(plan), list(plan.metrics.values())
asked, first = Asked(plan.scale, Limits()), 0
for attempt in range(1, 4):
    for group in jobs:
        asked.synthesize(group.cells, group.shard, attempt)
    for cell in plan.synthetic.values():
        asked.gather(cell, attempt)
    for cell in plan.parents.values():
        asked.teach(cell, attempt)
    for cell in metrics:
        for part in plan.parts(cell):
            asked.evaluate(cell, number_in(part), attempt)
    first = first or len(reckoned)
print(first, len(reckoned), *[name for name in ("torch", "numpy", "PIL") if name in sys.modules])
"""


def test_each_job_of_the_paper_scale_is_reckoned_once_and_without_torch():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    first, in_all, *heavy = done.stdout.split()
    assert not heavy and 1000 < int(first) == int(in_all)


def test_fewer_sets_and_classes_a_job_need_less_time(plan):
    group = max(groups(plan), key=lambda group: len(group.cells))
    asked = Asked(plan.scale)
    assert (
        asked.need_of_group(group.cells[:1], 1).seconds
        < asked.need_of_group(group.cells, group.shard).seconds
    )
