"""The search among networks of a space, from true accuracies to metrics: by a plain loop, resumed, in parts,
planned and refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from bad_input_helpers import BRIEF, refused, run
from interruption_helpers import Stopping, until_done
from report_helpers import made_up_metrics, metrics_of, rows_of

from condense import models
from condense.config import UserError, convert
from condense.data.dataset import load
from condense.estimate.work import work_of
from condense.evaluate import search as searching
from condense.evaluate.correlation import spearman, spearman_interval, spearman_of_best
from condense.evaluate.joint import JOINT, agreement
from condense.evaluate.protocols import evaluate
from condense.evaluate.trainer import TaskSet, TaskSets, Trainer
from condense.files import metrics_in, read_artifact, read_metrics, read_truth
from condense.files.artifacts import canonical, read_json, write_json, write_tensors
from condense.files.checkpoints import INTERVAL, Checkpoint
from condense.machine import seeds
from condense.plan import PARENTS, Maker
from condense.plan.rows import Run
from condense.plan.tables import Plan
from condense.report.measured import measure, other_readings
from condense.report.tables import make_table
from condense.specs import AnyTask, TableSpec, catalogue
from condense.specs.spaces import space_of
from condense.specs.tasks import Search
from condense.training.counting import count
from condense.training.sets import pixel_set

pytestmark = pytest.mark.usefixtures("one_thread")
SPACE = space_of("nas_bench_201")
OPTIONS = {"cells": 1, "width": 4}
NETS = ("--arch", "nas_bench_201", "--options", canonical(OPTIONS), "--device", "cpu", "--threads", "1")
CANDIDATES = 4
CPU = torch.device("cpu")


def settings(**changes):
    given = {"kind": "search", "candidates": CANDIDATES, "truth_protocol": "brief", "resamples": 20}
    return canonical(given | changes)


def truth_settings(**changes):
    given = {"candidates": CANDIDATES, "draw": 0, "networks": 1, "images": 200, "table": ""}
    return canonical(given | {"protocol": json.loads(BRIEF), "strategy": "none"} | changes)


@pytest.fixture(scope="module")
def truth(made, tmp_path_factory):
    """True accuracies of four networks, as the rule of parents makes them."""
    path = tmp_path_factory.mktemp("truth") / "truth.safetensors"
    asked = ("--settings", truth_settings(), "--data", made.digits / "train.safetensors")
    status, told = run("parent", "truth", *asked, *NETS, "--key", "k", "--out", path)
    assert status == 0, told
    return path


def searched(made, truth, out, *more, task=None):
    images = ("--data", made.digits, "--with", f"truth={truth}")
    task = ("--task", task or settings(truth_images=200))
    return ("evaluate", *images, *NETS, "--protocol", BRIEF, "--strategy", "none", *task, "--out", out, *more)


def on_set(made, truth, out, *more, **given):
    return searched(made, truth, out, "--synthetic", made.synthetic, *more, **given)


def test_true_accuracies_are_those_of_networks_trained_alone(made, truth):
    """By the means of every other evaluation, on the images that are drawn for them."""
    tensors, known, header = read_truth(truth)
    chosen = SPACE.sample(CANDIDATES, 0)
    assert tensors["candidates"].tolist() == chosen and header["names"] == [SPACE.told(k) for k in chosen]
    assert known.images == 200 and known.protocol["name"] == "brief" and "measured here" in known.told
    train, test = (load(made.digits / f"{name}.safetensors") for name in ("train", "test"))
    order = torch.randperm(len(train), generator=seeds.generator(0, "truth-images"))[:200].sort().values
    protocol = convert(type(catalogue.protocol("dc")), json.loads(BRIEF), "brief")
    for candidate, found in zip(chosen, tensors["accuracies"], strict=True):
        alone = evaluate(
            pixel_set(train, CPU).part(order),
            test,
            protocol,
            arch=SPACE.name,
            options=OPTIONS | {"cell": candidate},
            strategy="none",
            networks=[0],
            seed=seeds.stream(0, "truth"),
            checkpoint=Checkpoint(None, ""),
            device=CPU,
        )
        assert found.tolist() == alone
    assert (tensors["seconds"] > 0).all() and read_artifact(truth)[1]["kind"] == "truth"


def test_metrics_are_those_of_the_rankings(made, truth, tmp_path):
    out = tmp_path / "m.json"
    status, told = run(*on_set(made, truth, out, "--networks", 2))
    assert status == 0, told
    value = read_metrics(out, "search")
    metrics = metrics_in(value)
    chosen, true = SPACE.sample(CANDIDATES, 0), read_truth(truth)[0]["accuracies"][:, 0].tolist()
    assert value["steps"] == chosen
    assert metrics["candidate_truth"]["values"] == [[accuracy] * 2 for accuracy in true]
    rows = np.array(metrics["candidate_accuracy"]["values"])
    assert rows.shape == (CANDIDATES, 2)
    for network in range(2):
        scores = rows[:, network].tolist()
        assert metrics["spearman"]["values"][network] == spearman(scores, true)
        assert metrics["spearman_best"]["values"][network] == spearman_of_best(scores, true, 0.05, 5)
        ends = [metrics[f"spearman_{end}"]["values"][network] for end in ("low", "high")]
        assert tuple(ends) == spearman_interval(scores, true, 20, 0)
        firsts = [accuracy for score, accuracy in zip(scores, true, strict=True) if score == max(scores)]
        assert metrics["top1_accuracy"]["values"][network] == pytest.approx(np.mean(firsts))
        seconds = np.array(metrics["candidate_seconds"]["values"])[:, network]
        assert metrics["time_cost"]["values"][network] == pytest.approx(seconds.sum() / 60)
    assert metrics["storage"]["values"] == [read_json(out)["ipc"] * 10.0] * 2
    assert value["search"]["truth"]["sha256"] == read_truth(truth)[2]["content_sha256"]
    assert "measured here" in value["search"]["truth"]["told"]


@pytest.fixture
def five(tmp_path, monkeypatch):
    """An evaluation of five repetitions that agree with the truth a little each, and its numbers."""
    monkeypatch.chdir(tmp_path)
    maker, rng = Maker(catalogue.scale("quick")), np.random.RandomState(3)
    task = Search(candidates=40, truth_protocol="nas201_truth", resamples=50, best_least=4, draw=2)
    made = maker.synthetic("digits16", "random", "convnet", 50, 0)
    cell = maker.metrics(made, "nas_bench_201", "nas201", 5, task)
    true = rng.uniform(80, 95, 40)
    scores = true[:, None] + rng.uniform(-40, 0, (40, 5))
    by_network = [agreement(task, scores[:, network].tolist(), true.tolist()) for network in range(5)]
    given = {name: {0: [found[name] for found in by_network]} for name in by_network[0]}
    given |= {name: {0: [1.0] * 5} for name in ("time_cost", "storage")}
    given |= {name: {k: [1.0] * 5 for k in range(40)} for name in ("candidate_seconds",)}
    given |= {"candidate_accuracy": {k: scores[k].tolist() for k in range(40)}}
    given |= {"candidate_truth": {k: [float(true[k])] * 5 for k in range(40)}}
    facts = {"seconds": 1.0, "peak_memory_bytes": 1}
    write_json(Path(cell.path), metrics_of(cell, {0: [0.0] * 5}, given) | {"run": facts})
    return cell, scores, true, by_network


def test_mean_accuracies_are_ranked_once_and_each_repetition_by_itself(five):
    """As cpdm says and as DC-Bench's code does it: two readings, each with the interval of its own."""
    cell, scores, true, by_network = five
    run = Run("digits16", ((cell,),))
    means, truth = scores.mean(1), true.tolist()
    together, alone = measure(run, "spearman_of_means"), measure(run, "spearman")
    assert together.mean == pytest.approx(spearman(means, truth))
    assert alone.mean == pytest.approx(np.mean([found["spearman"] for found in by_network]))
    assert together.mean > alone.mean + 0.05  # noise of one repetition hides what their means show
    assert (together.std, together.n_sets, together.n_networks) == (None, 1, 5)
    assert measure(run, "top1_accuracy_of_means").mean == truth[int(means.argmax())]
    best = spearman_of_best(means.tolist(), truth, 0.05, 4)
    assert measure(run, "spearman_best_of_means").mean == pytest.approx(best)
    low, high = spearman_interval(means, truth, 50, 2)
    assert other_readings(run, "spearman_of_means", 2) == {
        "95 % interval": f"{low:.2f} to {high:.2f}",
        "Each repetition by itself": f"{alone.mean:.2f} ± {alone.std:.2f}",
    }
    assert low < together.mean < high and other_readings(run, "spearman", 2) == {}
    board = cell.task.board
    assert (board["rank_correlation"].metric, board["rank_correlation_each"].metric) == (
        *("spearman_of_means", "spearman"),
    )


def test_the_table_shows_the_papers_reading_and_beside_it_the_other(tmp_path, monkeypatch):
    made_up_metrics(tmp_path)
    monkeypatch.chdir(tmp_path)
    make_table(Plan("quick"), "cpdm/table7", Path("table7.csv"))
    text = Path("table7.md").read_text(encoding="utf-8")
    assert "By mean accuracies: rank correlation with the truth. One number of all repetitions" in text
    assert "| Method | Together | 95 % interval | Each repetition by itself |" in text
    rows = [row for row in rows_of(Path("table7.csv")) if row["measured"]]
    assert {row["metric"] for row in rows} == {"spearman", "top1_accuracy"}
    assert {row["measured_std"] for row in rows} == {""}
    notes = [row["note"] for row in rows if row["metric"] == "spearman"]
    assert all(
        "each repetition by itself: 0.51 ± 0.01" in note and "95 % interval: " in note for note in notes
    )
    spec = Plan.specs_by_path()["cpdm/table7"]
    assert spec.metrics == {"spearman": "spearman_of_means", "top1_accuracy": "top1_accuracy_of_means"}


def test_every_number_of_all_networks_together_is_one_of_each_network_too():
    assert {task.kind for task in get_args(AnyTask) if task.joint} == set(JOINT)
    for task in get_args(AnyTask):
        for name, metric in task.joint.items():
            assert name not in task.metrics and task.metrics[metric.alone].unit == metric.unit
            assert not task.is_curve(name) and not task.is_curve(metric.alone)
        for metric in task.numbers().values():
            assert set(metric.interval or ()) <= task.numbers().keys()


def timeless(path):
    """What does not depend on the clock."""
    value = read_json(path)
    value["metrics"] = {
        name: metric
        for name, metric in value["metrics"].items()
        if name not in ("time_cost", "candidate_seconds")
    }
    return {name: entry for name, entry in value.items() if name != "run"}


def test_parts_join_to_what_one_job_writes(made, truth, tmp_path):
    whole, joined = tmp_path / "whole.json", tmp_path / "joined.json"
    parts = [tmp_path / f"part{number}.json" for number in range(2)]
    assert run(*on_set(made, truth, whole, "--networks", 2))[0] == 0
    for number, part in enumerate(parts):
        assert run(*on_set(made, truth, part, "--networks", 2, "--part", number))[0] == 0
    assert run("join", "--parts", *parts, "--out", joined)[0] == 0
    assert timeless(joined) == timeless(whole)


def test_held_out_images_rank_and_train_nothing(made, truth, tmp_path):
    """On the whole training set: trained on the others, by hand."""
    out = tmp_path / "m.json"
    task = settings(truth_images=200, held_out=1200, trains_whole=True, draw=0)
    status, told = run(*searched(made, truth, out, "--method", "whole", "--networks", 1, task=task))
    assert status == 0, told
    metrics = metrics_in(read_metrics(out, "search"))
    everything = pixel_set(train := load(made.digits / "train.safetensors"), CPU)
    order = torch.randperm(len(train), generator=seeds.generator(0, "held-out"))
    chosen = SPACE.sample(CANDIDATES, 0)
    protocol = convert(type(catalogue.protocol("dc")), json.loads(BRIEF), "brief")
    held = order[:1200]
    alone = evaluate(
        everything.part(order[1200:].sort().values),
        replace(train, images=train.images[held], labels=train.labels[held]),
        protocol,
        arch=SPACE.name,
        options=OPTIONS | {"cell": chosen[1]},
        strategy="none",
        networks=[0],
        seed=0,
        checkpoint=Checkpoint(None, ""),
        device=CPU,
    )
    assert metrics["candidate_accuracy"]["values"][1] == alone
    assert metrics["storage"]["values"] == [float(len(train))]


def test_the_whole_training_set_may_rank_by_the_truth_itself(made, truth, tmp_path):
    out = tmp_path / "m.json"
    assert run(*searched(made, truth, out, "--method", "whole", "--networks", 2))[0] == 0
    metrics = metrics_in(read_metrics(out, "search"))
    true = read_truth(truth)[0]
    assert metrics["spearman"]["values"] == metrics["spearman_best"]["values"] == [1.0, 1.0]
    assert metrics["candidate_accuracy"]["values"] == metrics["candidate_truth"]["values"]
    assert metrics["time_cost"]["values"] == pytest.approx([float(true["seconds"].sum()) / 60] * 2)
    assert metrics["top1_accuracy"]["values"] == [float(true["accuracies"].max())] * 2


def test_a_search_that_was_stopped_goes_on_with_the_next_network(made, truth, tmp_path, monkeypatch):
    """Candidates that were measured are not trained again, and the metrics are those of an unbroken one."""
    task = convert(AnyTask, json.loads(settings(truth_images=200)), "task")
    test, train = (load(made.digits / f"{name}.safetensors") for name in ("test", "train"))
    protocol = convert(type(catalogue.protocol("dc")), json.loads(BRIEF), "brief")
    images = pixel_set(train, CPU).part(torch.arange(0, len(train), 7))
    header = {"ipc": 2, "data_sha256": train.data_sha256}
    judged = TaskSet(tmp_path / "set", header, {0: lambda: images})
    sets = TaskSets(judged, {}, lambda: pixel_set(train, CPU), {"truth": truth})
    built = []
    build = models.build
    monkeypatch.setattr(
        models, "build", lambda *args, **given: built.append(given["cell"]) or build(*args, **given)
    )

    def results(checkpoint):
        trainer = Trainer(
            test, protocol, SPACE.name, OPTIONS, "none", [0], 0, Search.metrics, CPU, checkpoint=checkpoint
        )
        return searching.search(task, sets, pixel_set(test, CPU), trainer)

    unbroken = results(Checkpoint(None, ""))
    assert built == SPACE.sample(CANDIDATES, 0)
    built.clear()
    monkeypatch.setenv(INTERVAL, "0")
    path = tmp_path / "m.json.resume"
    starts, resumed = until_done(lambda: results(Stopping(path, "k")))
    clocks = ("time_cost", "candidate_seconds")
    assert {name: values for name, values in resumed.items() if name not in clocks} == {
        name: values for name, values in unbroken.items() if name not in clocks
    }
    # The next network is built when the last one was saved
    assert starts == CANDIDATES and built == SPACE.sample(CANDIDATES, 0)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"candidates": 1}, "candidates: must be at least 2"),
        ({"best_share": 0.0}, "best_share: must lie above 0"),
        ({"resamples": 1}, "resamples: must be at least 10"),
        ({"held_out": -1}, "held_out: must be at least 0"),
        ({"trains_whole": "both"}, "trains_whole: true or false is needed"),
        ({"candidats": 3}, "unknown key 'candidats'; did you mean 'candidates'"),
        ({"truth_images": 0}, "truth_images: must be at least 1"),
    ],
)
def test_settings_that_are_none_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        convert(AnyTask, json.loads(settings(**changes)), "task")


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"candidates": 20_000},
            "candidates: 20,000 networks are asked for, and the space 'nas_bench_201' has",
        ),
        ({"draw": 1}, "holds true accuracies of another networks"),
        ({"truth_protocol": "dc"}, "holds true accuracies of another protocol, brief, than .* asks for, dc"),
        ({"truth_networks": 2}, "of another number of networks of each, 1, than .* asks for, 2"),
        ({"truth_images": 100}, "of another number of images, 200, than .* asks for, 100"),
        ({"held_out": 5000}, "held_out: 5000 training images are to be held out of"),
    ],
)
def test_what_does_not_fit_the_truth_or_the_data_is_named(made, truth, tmp_path, changes, said):
    given = {"truth_images": 200} | changes
    told = refused(*on_set(made, truth, tmp_path / "m.json", "--networks", 1, task=settings(**given)))
    assert re.search(said, told), told


def test_a_network_that_is_no_space_and_a_missing_truth_are_named(made, truth, tmp_path):
    other = [
        entry if entry != "nas_bench_201" else "convnet" for entry in on_set(made, truth, tmp_path / "m")
    ]
    other[other.index("--options") + 1] = "{}"
    assert "unknown space of networks 'convnet'" in refused(*other, "--networks", 1)
    lacking = [entry for entry in on_set(made, truth, tmp_path / "m") if entry not in ("--with",)]
    lacking.remove(f"truth={truth}")
    assert "task search needs 'truth', the true accuracies of the networks" in refused(
        *lacking, "--networks", 1
    )


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda tensors, header: tensors.update(candidates=tensors["candidates"][::-1].copy()),
            "no ascending",
        ),
        (lambda tensors, header: tensors.update(accuracies=tensors["accuracies"] + 100), "no percentage"),
        (lambda tensors, header: tensors.pop("seconds"), "seconds"),
        (lambda tensors, header: header.update(benchmark="x"), "does not say which benchmark"),
        (lambda tensors, header: header.pop("space"), "space"),
    ],
)
def test_files_of_true_accuracies_that_do_not_fit_are_refused(truth, tmp_path, change, said):
    tensors, header = read_artifact(truth)
    tensors, header = (
        dict(tensors),
        {name: value for name, value in header.items() if name != "content_sha256"},
    )
    change(tensors, header)
    write_tensors(tmp_path / "t.safetensors", tensors, header)
    with pytest.raises(UserError, match=said):
        read_truth(tmp_path / "t.safetensors")


@pytest.mark.parametrize("name", ["ddm/table7", "cpdm/table7"])
def test_the_tables_of_searches_at_the_quick_scale(name):
    plan = Plan("quick")
    cells, rows = plan.metrics_of(name), plan.tables[name]
    spec = Plan.specs_by_path()[name]
    assert isinstance(spec, TableSpec) and isinstance(spec.task, Search)
    assert {cell.task.candidates for cell in cells} == {12} and {cell.n_networks for cell in cells} == {1}
    assert len([cell for cell in cells if cell.synthetic.recipe.makes_set]) >= 2
    truths = {cell.parents["truth"].key for cell in cells}
    assert len(truths) == 1 and truths <= set(plan.parents)
    assert {row.metric for row in rows if row.runs} <= set(Search.numbers())
    assert all(row.runs or row.reason for row in rows)
    wanted = "spearman_best" if name == "ddm/table7" else "spearman_of_means"
    assert {row.metric for row in rows if row.runs and row.published["metric"] == "spearman"} == {wanted}


def test_the_papers_tables_ask_for_the_papers_numbers():
    plan = Plan("paper")
    cells = {name: plan.metrics_of(name) for name in ("ddm/table7", "cpdm/table7")}
    assert {(cell.task.candidates, cell.n_networks) for cell in cells["ddm/table7"]} == {(720, 1)}
    assert {(cell.task.candidates, cell.n_networks) for cell in cells["cpdm/table7"]} == {(100, 5)}
    assert {cell.protocol.epochs for cell in cells["ddm/table7"]} == {200}
    assert {cell.protocol.epochs for cell in cells["cpdm/table7"]} == {50}
    assert {cell.options for cell in cells["cpdm/table7"]} == {'{"cells":1}'}
    assert {cell.parents["truth"].options for cell in cells["cpdm/table7"]} == {"{}"}
    assert all(cell.task.held_out == 10_000 for cell in cells["cpdm/table7"])


def test_settings_of_the_task_and_the_truth_enter_the_key():
    maker = Maker(catalogue.scale("quick"))
    task = convert(AnyTask, json.loads(settings(truth_protocol="nas201_truth")), "task")
    synthetic = maker.synthetic("digits", "random", "convnet", 1, 0)

    def cell(**changes):
        return maker.metrics(synthetic, "nas_bench_201", "nas201", 1, replace(task, **changes))

    cells = [cell(), cell(draw=1), cell(candidates=5), cell(held_out=10), cell(truth_networks=2)]
    cells += [cell(options={"cells": 2}), cell(truth_images=10)]
    assert len({one.key for one in cells}) == len(cells)
    assert len({one.parents["truth"].key for one in cells}) == 5  # neither held out images nor options
    assert cells[5].options == '{"cells":2,"width":4}'
    with pytest.raises(UserError, match="20,000 networks are asked for"):
        cell(candidates=20_000)
    with pytest.raises(UserError, match="unknown space of networks 'convnet'"):
        maker.metrics(synthetic, "convnet", "nas201", 1, task)


def test_the_cost_is_that_of_all_networks():
    maker = Maker(catalogue.scale("quick"))
    task = convert(AnyTask, json.loads(settings(truth_protocol="nas201_truth")), "task")
    synthetic = maker.synthetic("digits", "random", "convnet", 1, 0)
    few, many = (
        maker.metrics(synthetic, "nas_bench_201", "nas201", 1, replace(task, candidates=n)) for n in (4, 12)
    )
    assert work_of(many).flops_training == pytest.approx(3 * work_of(few).flops_training)
    truths = [cell.parents["truth"].work() for cell in (few, many)]
    assert (
        truths[1].flops_training == pytest.approx(3 * truths[0].flops_training)
        and truths[0].flops_training > 0
    )
    assert maker.metrics(synthetic, "convnet", "dc").parents == {}
    whole = maker.synthetic("digits", "whole", "convnet", "full", 0)
    assert work_of(maker.metrics(whole, "nas_bench_201", "nas201", 1, task)).flops_training == 0
    trained = maker.metrics(whole, "nas_bench_201", "nas201", 1, replace(task, trains_whole=True))
    assert work_of(trained).flops_training > 0


def test_an_image_costs_in_a_space_what_it_does_in_the_mean():
    space = space_of("convnet_search_space")
    options = {"narrowing": 8}
    found = count(space.name, canonical(options), 1, 16, 10)
    single = [
        count(space.name, canonical(options | space.options(k)), 1, 16, 10) for k in space.sample(40, 0)
    ]
    assert found.forward == round(sum(one.forward for one in single) / 40)
    assert found.kept == max(one.kept for one in single) and found.ties_batch == 1 and found.batched == 1


def test_a_scale_changes_the_task_of_tables_alone():
    scale = catalogue.scale("quick")
    assert PARENTS["truth"].made_by
    for change, said in (
        ({"candidats": 3}, "tables: cpdm/table7: task: unknown key 'candidats'"),
        ({"candidates": 20_000}, "20,000 networks are asked for"),
    ):
        limits = replace(scale.tables["cpdm/table7"], task=change)
        plan = Plan("quick")
        plan.scale = replace(scale, tables=scale.tables | {"cpdm/table7": limits})
        with pytest.raises(UserError, match=said):
            _ = plan.tables
