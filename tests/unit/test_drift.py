"""Training with a drift of style: what the network sees, and evaluations of it as jobs, cells and
commands."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bad_input_helpers import evaluation, refused, run
from interruption_helpers import Stopping, until_done

from condense import jobs, models
from condense.config import UserError
from condense.discrepancy.style import moments
from condense.evaluate.drift import Drifting
from condense.files.artifacts import read_json, read_tensors, write_tensors
from condense.plan.groups import groups
from condense.plan.tables import Plan
from condense.specs import DEFAULT_TASK, Drift, NetworkSGD, catalogue

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"depth": 2, "width": 8}


def network(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return models.build("convnet", channels=1, size=8, classes=3, **{**OPTIONS, **options}).double()


def images(seed, n=5):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * (
        seed + 1
    )


@pytest.mark.parametrize("stage", [1, 2])
def test_a_drifting_network_gives_each_image_the_mixed_style_of_its_pair(stage):
    plain, seen = network(), []
    model = Drifting(plain, Drift(ratio=0.25, stage=stage))
    after = plain.stages[stage] if stage < 2 else plain.neck
    handle = after.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(images(0), images(1))
    handle.remove()
    own, other = (moments(plain.feature_maps(batch)[stage - 1]) for batch in (images(0), images(1)))
    torch.testing.assert_close(moments(seen[0]).double(), 0.75 * own + 0.25 * other, rtol=1e-3, atol=1e-4)


def test_without_partners_or_ratio_it_is_the_plain_network():
    plain = network()
    model = Drifting(plain, Drift(ratio=0.0, stage=1))
    assert torch.equal(model(images(0)), plain(images(0)))
    torch.testing.assert_close(model(images(0), images(1)), plain(images(0)), rtol=1e-4, atol=1e-5)
    moved = Drifting(plain, Drift(ratio=1.0, stage=1))
    assert not torch.allclose(moved(images(0), images(1)), plain(images(0)), atol=1e-2)
    models.reinitialise(plain, 5)
    drawn = [parameter.clone() for parameter in plain.parameters()]
    models.reinitialise(model, 5)
    assert all(torch.equal(own, other) for own, other in zip(drawn, model.parameters(), strict=True))
    assert model.fused == plain.fused


def test_networks_that_cannot_drift_are_refused():
    with pytest.raises(UserError, match="stages 1 to 2"):
        Drifting(network(), Drift(ratio=0.5, stage=3))
    with pytest.raises(UserError, match="no stages"):
        Drifting(models.build("mlp", channels=1, size=8, classes=3), Drift(ratio=0.5, stage=1))


@pytest.fixture(scope="module")
def sets(digits, tmp_path_factory):
    """Two sets of digits: real images chosen at random, and others made paler."""
    folder = tmp_path_factory.mktemp("drift")
    recipe = catalogue.recipe("random")
    job = jobs.ShardJob(recipe, digits / "train.safetensors", arch="none", options={}, ipc=3, seed=0, key="k")
    jobs.condense_shard(folder / "shard.safetensors", job, jobs.Machine("cpu", 1))
    jobs.gather(folder / "content.safetensors", [folder / "shard.safetensors"], digits / "train.safetensors")
    tensors, header = read_tensors(folder / "content.safetensors", "synthetic")
    paler = tensors | {"images": (0.2 + 0.3 * np.roll(tensors["images"], 1, -1) ** 2).astype(np.float32)}
    write_tensors(folder / "style.safetensors", paler, header | {"method": "dm"})
    return folder


def judged(folder, digits, out, ratio=None, stage=1, **changes):
    protocol = replace(
        catalogue.protocol("dc"), epochs=3, augment="dataset", optimizer=NetworkSGD(lr=0.05, momentum=0.9)
    )
    task = DEFAULT_TASK if ratio is None else Drift(ratio=ratio, stage=stage)
    others = {} if ratio is None else {"style": folder / "style.safetensors"}
    settings = {"strategy": "color_crop", "n_networks": 2, "seed": 0, "key": "k", "sets": others} | changes
    job = jobs.EvaluationJob(
        task, folder / "content.safetensors", digits, "random", "convnet", OPTIONS, protocol, **settings
    )
    jobs.evaluate_set(out, job, jobs.Machine("cpu", 1))
    return read_json(out)


def test_a_set_of_other_images_is_refused_and_stays(sets, digits, tmp_path):
    folder = tmp_path / "others"
    folder.mkdir()
    tensors, header = read_tensors(sets / "content.safetensors")
    write_tensors(folder / "content.safetensors", tensors, header | {"data_sha256": "0" * 64})
    with pytest.raises(UserError, match="made from other images .*; give the folder that it was made from"):
        judged(folder, digits, tmp_path / "m.json")


def test_a_drift_by_nothing_is_the_ordinary_evaluation_and_by_all_is_another(sets, digits, tmp_path):
    plain = judged(sets, digits, tmp_path / "plain.json")
    still = judged(sets, digits, tmp_path / "0.json", 0.0)
    gone = judged(sets, digits, tmp_path / "1.json", 1.0)
    # But for rounding, the same networks
    assert still["accuracies"] == pytest.approx(plain["accuracies"], abs=1.0)
    assert gone["accuracies"] != still["accuracies"]
    assert (
        "drift" not in plain
        and gone["task"] == "drift"
        and gone["mean"] == pytest.approx(np.mean(gone["accuracies"]))
    )
    style = read_tensors(sets / "style.safetensors")[1]
    assert gone["drift"] == {
        "ratio": 1.0,
        "stage": 1,
        "towards": {"method": "dm", "key": style["key"], "sha256": style["content_sha256"]},
    }


def test_a_drift_resumed_anywhere_gives_the_same_metrics(sets, digits, tmp_path, monkeypatch):
    whole = judged(sets, digits, tmp_path / "whole.json", 0.5)
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("condense.jobs.judging.Checkpoint", Stopping)
    assert until_done(lambda: judged(sets, digits, tmp_path / "broken.json", 0.5))[0] > 3
    broken = read_json(tmp_path / "broken.json")
    assert {k: v for k, v in whole.items() if k != "run"} == {k: v for k, v in broken.items() if k != "run"}


def test_drifts_that_cannot_work_say_so(sets, digits, tmp_path):
    with pytest.raises(UserError, match="between 0 and 1"):
        judged(sets, digits, tmp_path / "x.json", 1.5)
    with pytest.raises(UserError, match="stages 1 to 2"):
        judged(sets, digits, tmp_path / "x.json", 0.5, stage=3)
    tensors, header = read_tensors(sets / "style.safetensors", "synthetic")
    write_tensors(
        tmp_path / "few.safetensors",
        {name: tensor[::3] for name, tensor in tensors.items()},
        header | {"ipc": 1},
    )
    with pytest.raises(UserError, match="needs a partner of its class"):
        judged(sets, digits, tmp_path / "x.json", 0.5, sets={"style": tmp_path / "few.safetensors"})
    with pytest.raises(
        UserError, match="--with NAME=FILE: task drift needs 'style', the set towards whose style"
    ):
        judged(sets, digits, tmp_path / "x.json", 0.5, sets={})
    with pytest.raises(UserError, match="--with NAME=FILE: task accuracy: unknown set 'style'"):
        judged(sets, digits, tmp_path / "x.json", sets={"style": sets / "style.safetensors"})


def test_the_command_takes_a_drift_whole_or_in_parts(made, sets, digits, tmp_path):
    style = ("--with", f"style={sets / 'style.safetensors'}")
    drift = ("--task", '{"kind": "drift", "ratio": 0.5, "stage": 1}', *style)
    given = (sets / "content.safetensors", digits)
    assert run(*evaluation(*given, tmp_path / "all.json", "--networks", 2, *drift))[0] == 0
    parts = [tmp_path / f"{part}.json" for part in (0, 1)]
    for part, out in enumerate(parts):
        assert run(*evaluation(*given, out, "--networks", 2, "--part", part, *drift))[0] == 0
    assert run("join", "--parts", *parts, "--out", tmp_path / "joined.json")[0] == 0
    whole, joined = (read_json(tmp_path / f"{name}.json") for name in ("all", "joined"))
    assert {k: v for k, v in whole.items() if k != "run"} == {k: v for k, v in joined.items() if k != "run"}
    out = tmp_path / "x.json"
    assert "--task: the key 'ratio' is missing" in refused(
        *evaluation(*given, out, "--task", "drift", *style)
    )
    assert "--with NAME=FILE: task drift needs 'style'" in refused(*evaluation(*given, out, *drift[:2]))
    assert "task accuracy by 'brief': unknown name 'style' (known: none)" in refused(
        *evaluation(*given, out, *style)
    )
    assert "'style' is given twice" in refused(*evaluation(*given, out, *drift, *style))
    assert "--with: NAME=FILE is needed, found 'style'" in refused(
        *evaluation(*given, out, "--with", "style")
    )


def test_cells_of_a_drift_have_keys_of_their_own_and_ask_for_both_sets(monkeypatch):
    plan = Plan("quick")
    cells = plan.metrics_of("ddm/figure1c")
    assert len({cell.key for cell in cells}) == len({cell.task.ratio for cell in cells}) == len(cells) == 5
    assert cells == plan.metrics_of("ddm/figure1d")  # there the same digits stand in for another dataset
    for cell in cells:
        assert cell.path.startswith("results/metrics/drift/digits16/herding/") and cell.path in plan.metrics
        assert [one.recipe.name for one in cell.all_sets] == ["herding", "dm"]
        assert (
            all(one.key in plan.synthetic for one in cell.all_sets)
            and cell.synthetic.parents["teacher"].key in plan.parents
        )
    first = cells[0]
    other = {"style": plan.maker.synthetic("digits16", "ed", "convnet", 10, 0)}
    others = [replace(first, task=replace(first.task, stage=2)), replace(first, sets=other)]
    assert len({first.key, *(cell.key for cell in others)}) == 3
    style = first.sets["style"]
    assert any(style in group.cells for group in groups(plan))
    plain = plan.maker.metrics(first.synthetic, "convnet", "dc", first.n_networks)
    assert plain.key != first.key and plain.all_sets == [first.synthetic]
    drift = Drift(ratio=0.0, stage=1)
    assert (
        plan.maker.metrics(first.synthetic, "convnet", "dc", first.n_networks, drift, {"style": style}).key
        == first.key
    )
    monkeypatch.setattr(Drift, "numerics", Drift.numerics + 1)
    assert replace(first).key != first.key and replace(plain).key == plain.key


def test_a_scale_may_draw_a_figure_on_data_of_its_own():
    plan = Plan("quick")
    assert "cifar100" not in plan.scale.datasets and {
        curve.dataset for curve in plan.figures["ddm/figure7"].curves
    } == {"digits16"}
    assert plan.datasets_of("cpdm/table1") == plan.scale.datasets and "digits16" in plan.scale.dataset_names
