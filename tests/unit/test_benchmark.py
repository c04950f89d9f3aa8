"""What the benchmark does, one iteration of everything on a little noise."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import bench
import equal_time
import limits
import observed
import reference
import tasks

FEW = tasks.noise("train", 20)
ROWS = {row.title: row for row in [*bench.CPU_ROWS, *bench.GPU_ROWS]}
BRIEF = {"networks": 2, "epochs": 2}


@pytest.mark.parametrize("side", ["reference", "ours"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_can_be_measured(row, side):
    name, settings = getattr(row, side)
    brief = {key: BRIEF.get(key, value) for key, value in settings.items()}
    if "sets" in brief:
        brief |= {"sets": [[method, min(ipc, 5)] for method, ipc in brief["sets"]], "batch": 16}
    elif "method" in brief:
        brief |= {"batch": 16, **({"inner": 1} if "inner" in brief else {})}
    elif "ipc" in brief:
        brief["ipc"] = min(brief["ipc"], 5)
    task = observed.TASKS[name](FEW, **brief)
    task.step()
    if hasattr(task, "result"):
        assert torch.isfinite(task.result()).all()


@pytest.mark.parametrize("run", equal_time.RUNS)
def test_every_set_that_is_judged_after_equal_time_can_be_made(run):
    name, settings, _ = equal_time.RUNS[run]
    task = tasks.TASKS[name](FEW, **settings | {"batch": 16})
    before = task.result().clone()
    for _ in range(2):
        task.step()
    assert task.result().shape == before.shape and not torch.equal(task.result(), before)


def test_the_gradient_is_that_of_the_plain_loop():
    found = tasks.gradient_error(FEW, ipc=2, batch=16, precision="fp32")
    assert 0 < found["relative"] < 1e-3 and found["cosine"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("method", ["dc", "dsa"])
def test_class_gradients_move_the_images_as_the_plain_loop_of_gradient_matching(method):
    found = tasks.class_gradient_error(FEW, ipc=1, batch=16, method=method)
    assert 0 < found["relative"] < 5e-3 and found["cosine"] == pytest.approx(1, abs=1e-4)


def test_the_plain_loop_of_statistics_has_the_loss_of_the_engine():
    ours = observed.OurSynthesis(FEW, ipc=1).run.observers[0]
    plain = observed.ReferenceSynthesis(FEW, ipc=1)
    images = plain.batches[0]
    seen = ours.observe(images.detach(), plain.labels)
    still = torch.optim.SGD([images], lr=0.0)
    loss = reference.statistics_step(plain.network, plain.hooks, images, plain.labels, still, (0, 0))
    assert loss == pytest.approx((seen.classification + 0.01 * seen.statistics).item(), rel=1e-4)


def test_the_loop_of_gradient_matching_trains_its_network_between_two_steps_of_the_images():
    task = tasks.ReferenceGradients(FEW, ipc=10, batch=4, inner=1)
    task.outer, seen = 2, []
    for _ in range(3):
        task.step()
        seen.append((task.network, task.network.classifier.weight.detach().clone(), task.result().clone()))
    assert seen[0][0] is seen[1][0] is not seen[2][0], "a new network after the last step of an iteration"
    assert torch.equal(seen[0][1], seen[1][1]), "nothing is trained after the last step"
    assert all(not torch.equal(one[2], other[2]) for one, other in zip(seen[1:], seen[:-1], strict=True))


def test_a_row_below_what_is_asked_says_so():
    measured = {
        "row": "x",
        "reference_s": 0.01,
        "ours_s": 0.002,
        "ratio": 5.0,
        "ratio_range": [4, 6],
        "ratio_settled": 3.0,
    }
    measured |= {"least": 6, "aim": 8, "in_ms": False, "peak_memory_bytes": 1 << 20, "memory_growth_bytes": 0}
    assert "BELOW" in bench.line_of(measured) and "aim" in bench.line_of(measured | {"least": 3, "aim": 5})
    assert "must" in bench.line_of(measured | {"least": 2.6, "aim": 1.3, "in_ms": True})


def test_limits_are_above_nothing():
    assert all(value > 0 for value in limits.measured().values())
