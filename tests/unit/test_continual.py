"""Continual learning: which classes come when, sets made from the classes of their step alone, the memory
that they are put together to, and networks trained on it."""

import json
import shlex
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from bad_input_helpers import BRIEF, NET, evaluation, recipe, refused, run
from report_helpers import RUN, metrics_of

from condense.config import UserError, read
from condense.data.dataset import load
from condense.data.picked import pick_classes
from condense.evaluate.continual import check_came_apart, of_classes
from condense.evaluate.protocols import evaluate
from condense.evaluate.trainer import TaskSet
from condense.files import artifacts, check_prepared
from condense.files.checkpoints import Checkpoint
from condense.plan import ClassesCell
from condense.plan.datasets import classes_of
from condense.plan.groups import groups
from condense.plan.maker import data_cell
from condense.plan.tables import Plan
from condense.report.measured import measure_cells
from condense.specs import Continual, Protocol, TableLimits
from condense.training.sets import tensor_set

pytestmark = pytest.mark.usefixtures("one_thread")
FIGURE = "cpdm/figure3"


def steps_of(classes, steps, order=0):
    return Continual(steps=steps, order=order).class_steps(classes)


@pytest.mark.parametrize(
    ("classes", "steps", "sizes"), [(10, 5, [2] * 5), (10, 4, [3, 3, 2, 2]), (7, 7, [1] * 7)]
)
def test_every_class_comes_once_in_steps_as_even_as_can_be(classes, steps, sizes):
    made = steps_of(classes, steps, order=3)
    assert [len(step) for step in made] == sizes and sorted(sum(made, ())) == list(range(classes))
    assert sum(made, ()) == tuple(np.random.RandomState(3).permutation(classes))


def test_more_steps_than_classes_are_refused_and_cut_to_two_classes_a_step_where_a_figure_asks():
    with pytest.raises(UserError, match="11 steps need a class each, and there are 10 classes"):
        steps_of(10, 11)
    with pytest.raises(UserError, match="steps: must be at least 2, found 1"):
        Continual(steps=1)
    assert Continual(steps=10).fitted(10).steps == 5 and Continual(steps=10).fitted(100).steps == 10


@pytest.fixture(scope="module")
def picked(digits, tmp_path_factory):
    """The classes 2, 5 and 9 of the digits."""
    folder = tmp_path_factory.mktemp("picked")
    status, told = run(*("classes", "--data", digits, "--choose", 2, 5, 9, "--name", "some", "--out", folder))
    assert status == 0, told
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_picked_classes_are_a_dataset_with_the_images_names_and_constants_of_the_whole(picked, digits, split):
    whole, some = load(digits / f"{split}.safetensors"), load(picked / f"{split}.safetensors")
    assert some.class_names == tuple(whole.class_names[label] for label in (2, 5, 9))
    assert (some.mean, some.std, some.dataset) == (whole.mean, whole.std, "some")
    for here, there in enumerate((2, 5, 9)):
        assert torch.equal(some.of_class(here), whole.of_class(there))
    known = check_prepared(picked)
    assert known.source["classes"] == [2, 5, 9] and known.source[split] == whole.data_sha256


def test_picked_classes_are_kept_and_the_same_bytes_again(picked, digits, tmp_path):
    pick_classes(digits, [2, 5, 9], "some", tmp_path)
    for name in ("train.safetensors", "test.safetensors", "dataset.json"):
        assert (tmp_path / name).read_bytes() == (picked / name).read_bytes()
    command = ("classes", "--data", digits, "--choose", 2, 5, 9, "--name", "some", "--out", picked, "--keep")
    assert "kept: " in run(*command)[1]


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ([5], "two or more"),
        ([5, 2], "ascending"),
        ([2, 2], "each once"),
        ([2, 12], "class 12 does not exist"),
    ],
)
def test_classes_that_cannot_be_picked_are_refused(digits, tmp_path, chosen, why):
    command = ("classes", "--data", digits, "--choose", *chosen, "--name", "some", "--out", tmp_path / "x")
    assert why in refused(*command) and not (tmp_path / "x" / "dataset.json").exists()


# --- sets of steps ---


@pytest.fixture(scope="module")
def steps(digits, tmp_path_factory):
    """Sets of the steps 7 3 1 | 0 2 4 5 6 8 9 of the digits, two images a class, with their classes, and both
    put together."""
    folder = tmp_path_factory.mktemp("steps")
    for name, chosen in {"one": (1, 3, 7), "two": (0, 2, 4, 5, 6, 8, 9)}.items():
        pick_classes(digits, chosen, name, folder / name)
        train, shard = folder / name / "train.safetensors", folder / f"{name}.shard.safetensors"
        shared = ("--data", train, "--recipe", recipe(couples=["classes"]), "--ipc", 2, *NET)
        for command in (
            ("synthesize", *shared, "--key", name, "--out", shard),
            ("gather", "--shards", shard, "--data", train, "--key", name, "--out", set_of(folder, name)),
        ):
            status, told = run(*command)
            assert status == 0, told
    status, told = run(*assembling(folder, digits, folder / "both" / "synthetic.safetensors"))
    assert status == 0, told
    return folder


def set_of(folder, name):
    return folder / f"set-{name}" / "synthetic.safetensors"


def assembling(folder, digits, out, sets=("one", "two"), of=("one", "two"), key="both"):
    command = ["assemble", "--sets", *(set_of(folder, name) for name in sets)]
    command += ["--of", *(folder / name for name in of)]
    return [*command, "--data", digits / "train.safetensors", "--key", key, "--out", out]


def test_a_memory_holds_the_sets_of_its_steps_under_the_numbers_of_all_classes(steps, digits):
    tensors, header = artifacts.read_tensors(steps / "both" / "synthetic.safetensors", "synthetic")
    assert tensors["labels"].tolist() == [label for label in range(10) for _ in range(2)]
    for name, chosen in {"one": (1, 3, 7), "two": (0, 2, 4, 5, 6, 8, 9)}.items():
        images = artifacts.read_tensors(set_of(steps, name), "synthetic")[0]["images"]
        for place, label in enumerate(chosen):
            assert np.array_equal(
                tensors["images"][2 * label : 2 * label + 2], images[2 * place : 2 * place + 2]
            )
    assert header["class_steps"] == [[1, 3, 7], [0, 2, 4, 5, 6, 8, 9]] and header["key"] == "both"
    whole = load(digits / "train.safetensors")
    assert header["data_sha256"] == whole.data_sha256 and header["class_names"] == list(whole.class_names)
    facts = [artifacts.read_json(set_of(steps, name).with_name("run.json")) for name in ("one", "two")]
    joint = artifacts.read_json(steps / "both" / "run.json")
    assert joint["seconds"] == pytest.approx(sum(fact["seconds"] for fact in facts), abs=2e-3)
    assert (steps / "both" / "grid.png").stat().st_size > 1000


def test_a_step_lacks_the_classes_of_later_ones_whatever_the_networks_have_seen(steps):
    """The set of a step is made from a file that holds its classes and no others."""
    assert load(steps / "one" / "train.safetensors").class_names == ("1", "3", "7")
    assert artifacts.read_header(set_of(steps, "one"))["class_names"] == ["1", "3", "7"]


def test_a_memory_of_sets_in_half_precision_is_in_half_precision(steps, digits, tmp_path):
    for name in ("one", "two"):
        train, shard = steps / name / "train.safetensors", steps / f"{name}.shard.safetensors"
        gathered = ("gather", "--shards", shard, "--data", train, "--key", name, "--stored", "float16")
        assert run(*gathered, "--out", set_of(tmp_path, name))[0] == 0
    command = list(assembling(steps, digits, tmp_path / "both" / "synthetic.safetensors"))
    command[2:4] = [set_of(tmp_path, name) for name in ("one", "two")]
    status, told = run(*command)
    assert status == 0, told
    tensors, header = artifacts.read_tensors(tmp_path / "both" / "synthetic.safetensors", "synthetic")
    assert header["stored"] == "float16" and tensors["images"].dtype == np.float16
    exact, _ = artifacts.read_tensors(steps / "both" / "synthetic.safetensors", "synthetic")
    assert np.array_equal(tensors["images"], exact["images"].astype(np.float16))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sets": ["one"], "of": ["one"]}, "hold the classes [1, 3, 7] instead of each of 10 once"),
        ({"sets": ["one", "one"], "of": ["one", "one"]}, "instead of each of 10 once"),
        ({"of": ["two", "one"]}, "was made from other images than those in"),
        ({"of": ["one"]}, "one folder for each of the 2 sets is needed, found 1"),
    ],
)
def test_sets_that_make_no_memory_are_refused(steps, digits, tmp_path, changes, why):
    out = tmp_path / "synthetic.safetensors"
    assert why in refused(*assembling(steps, digits, out, **changes)) and not out.exists()


def test_classes_of_another_dataset_are_no_part(steps, picked, tmp_path):
    command = assembling(steps, picked, tmp_path / "synthetic.safetensors")
    assert "holds no classes of the images in" in refused(*command)


def test_a_chain_makes_what_its_commands_make_and_goes_on_where_it_was(steps, digits, tmp_path):
    train, shard = tmp_path / "one" / "train.safetensors", tmp_path / "shard.safetensors"
    asked = ("--recipe", recipe(couples=["classes"]), "--ipc", 2, *NET, "--key", "one", "--out", shard)
    commands = [
        ("classes", "--data", digits, "--choose", 1, 3, 7, "--name", "one", "--out", tmp_path / "one"),
        ("synthesize", "--data", train, *asked),
        ("gather", "--shards", shard, "--data", train, "--key", "one", "--out", set_of(tmp_path, "one")),
    ]
    words = [shlex.join(map(str, (*command, "--keep"))) for command in commands]
    broken = [words[0], words[2]]
    assert run("chain", *broken)[0] == 2 and (tmp_path / "one" / "dataset.json").exists()
    status, told = run("chain", *words)
    assert status == 0 and "kept: " in told
    assert artifacts.read_header(set_of(tmp_path, "one")) == artifacts.read_header(set_of(steps, "one"))
    assert "only commands that begin with `classes`" in refused("chain", "list methods")


# --- networks trained on a memory ---


def brief(**changes):
    return json.dumps(json.loads(BRIEF) | {"epochs": 3, "precision": "fp32", "augment": "none", **changes})


def of_memory(made, steps, digits, out, task, *more):
    return evaluation(
        made, digits, out, "--task", json.dumps(task), "--protocol", brief(), "--networks", 2, *more
    )


def test_networks_are_those_of_a_plain_loop_over_the_memory(made, digits, tmp_path):
    """DM makes each class from its own images: one set serves all orders."""
    tensors, header = artifacts.read_tensors(made.synthetic, "synthetic")
    task = {"kind": "continual", "steps": 3, "order": 2}
    status, told = run(*of_memory(made.synthetic, None, digits, tmp_path / "a.json", task))
    assert status == 0, told
    found = artifacts.read_json(tmp_path / "a.json")
    test, images = load(digits / "test.safetensors"), torch.from_numpy(tensors["images"])
    labels, seen = torch.from_numpy(tensors["labels"]), []
    protocol = read(Protocol, json.loads(brief()), "test")
    for number, step in enumerate(steps_of(10, 3, order=2)):
        seen += step
        chosen = torch.isin(labels, torch.tensor(seen))
        trained_on = tensor_set(test.normalise(images[chosen]), labels[chosen])
        tested = of_test(test, seen)
        wanted = evaluate(
            trained_on,
            tested,
            protocol,
            **{"arch": "convnet", "options": {"depth": 1, "width": 4}, "strategy": "none", "seed": 2000},
            **{"networks": range(2), "checkpoint": Checkpoint(None, ""), "device": torch.device("cpu")},
        )
        assert found["accuracies"][number] == pytest.approx(wanted, abs=1e-9), step
    assert found["steps"] == [4, 7, 10] and found["task"] == "continual"
    assert found["continual"] == {"steps": 3, "order": 2}


def of_test(test, seen):
    """The test images of the classes seen, which networks of all classes are tested on."""
    kept = torch.isin(test.labels, torch.tensor(seen))
    return replace(test, images=test.images[kept], labels=test.labels[kept])


def test_images_of_some_classes_are_in_the_order_of_the_set_with_their_labels():
    images, labels = torch.arange(12.0).reshape(6, 2, 1, 1), torch.tensor([0, 0, 1, 1, 2, 2])
    some = of_classes(tensor_set(images, labels), (2, 0))
    assert some.labels.tolist() == [0, 0, 2, 2] and len(some) == 4
    assert torch.equal(some.fetch(torch.tensor([3, 0])), images[[5, 0]])


def test_a_memory_of_other_steps_and_sets_that_saw_later_classes_are_refused(steps, made, digits, tmp_path):
    out = tmp_path / "a.json"
    both = steps / "both" / "synthetic.safetensors"
    told = refused(*of_memory(both, steps, digits, out, {"kind": "continual", "steps": 2}))
    assert "was put together of other steps than those asked for: its classes came as [[1, 3, 7]" in told
    command = list(of_memory(made.synthetic, steps, digits, out, {"kind": "continual", "steps": 11}))
    assert "11 steps need a class each" in refused(*command)


@pytest.mark.parametrize(
    ("method", "apart"), [("dm", True), ("random", True), ("dsa", False), ("cpdm", False), ("idm", False)]
)
def test_what_the_recipe_of_a_set_says_of_its_classes(method, apart, digits, tmp_path):
    header = {"recipe": json.loads(Plan("quick").maker.synthetic("digits", method, "convnet", 1, 0).settings)}
    header |= {"arch": "none" if method == "random" else "convnet", "options": {"depth": 1, "width": 4}}
    judged = TaskSet(tmp_path / "x", header, {})
    check = partial(check_came_apart, judged, steps_of(10, 5), load(digits / "test.safetensors"))
    if apart:
        check()
        judged.header["options"] = {"depth": 1, "width": 4, "norm": "batch"}
    if method != "random":
        with pytest.raises(UserError, match="may have been made with classes of a later step"):
            check()


# --- the plan ---


@pytest.fixture(scope="module")
def quick():
    return Plan("quick")


def curve_of(plan, method):
    return next(curve for curve in plan.figures[FIGURE].curves if curve.method == method)


def test_sets_without_parents_are_shared_by_all_orders_and_others_made_for_each(quick):
    for method in ("random", "dm"):
        assert len({cell.synthetic.key for cell in curve_of(quick, method).cells}) == 1
        assert all(not cell.synthetic.joins for cell in curve_of(quick, method).cells)
    for method in ("dsa", "cpdm"):
        first, second = curve_of(quick, method).cells
        assert first.synthetic.key != second.synthetic.key
        for cell in (first, second):
            parts, asked = cell.synthetic.joins, cell.task.class_steps(10)
            assert [part.data.chosen for part in parts] == [tuple(sorted(step)) for step in asked]
            assert all(parent.data is part.data for part in parts for parent in part.parents.values())
            assert all(part.recipe.computed_part() == cell.synthetic.recipe.computed_part() for part in parts)
    assert len({cell.key for method in ("random", "dm") for cell in curve_of(quick, method).cells}) == 4


def test_parts_are_condensed_and_the_whole_is_put_together(quick):
    memories = [cell for cell in quick.synthetic.values() if cell.joins]
    parts = {part.key for cell in memories for part in cell.joins}
    condensed = {cell.key for group in groups(quick) for cell in group.cells}
    assert len(memories) == 4 and parts <= condensed and not condensed & {cell.key for cell in memories}
    assert all(cell.data.key in quick.data for group in groups(quick) for cell in group.cells)
    kept = quick.keepable()
    assert all(cell.path in kept for cell in memories)
    assert not any(quick.synthetic[key].path in kept for key in parts)
    assert not any(isinstance(cell, ClassesCell) and cell.train in kept for cell in quick.data.values())


def test_the_same_classes_are_one_dataset_whatever_asks_for_them():
    whole = data_cell("digits16")
    one, same, other = classes_of(whole, (1, 4)), classes_of(whole, (1, 4)), classes_of(whole, (1, 5))
    assert (one.key, one.name) == (same.key, same.name) and one.key != other.key and one.name != other.name
    assert one.spec.classes == 2 and one.spec.train >= 2 * whole.spec.smallest_class
    assert one.settings_of == "digits16"


def test_more_variants_than_a_task_has_are_refused(quick):
    with pytest.raises(UserError, match="6 are asked for, and the task 'continual' has 5"):
        quick.variants(TableLimits(n_variants=6), Continual(steps=5), data_cell("digits16"))
    assert [
        task.order for task in quick.variants(TableLimits(), Continual(steps=5), data_cell("digits16"))
    ] == [*range(5)]


def test_rows_of_the_text_are_filled_by_the_task_of_their_setting():
    plan = Plan("paper")
    rows = {
        (row.published["paper"], row.published["method"], row.published["setting"].split(";")[0]): row
        for row in plan.tables["ours/table5"]
    }
    assert {row.published["ipc"] for row in rows.values()} == {"20"}
    for (_, method, steps), row in rows.items():
        (run_,) = row.runs
        assert {f"steps={cell.task.steps}" for cell in run_.cells} == {steps}
        assert sorted({cell.task.order for cell in run_.cells}) == [0, 1, 2, 3, 4]
        if method == "idm":
            assert all(cell.synthetic.recipe.decode is None for cell in run_.cells)
    assert ("ddm", "herding", "steps=5") in rows and ("idm", "dm", "steps=10") in rows


def test_a_row_shows_the_last_step_over_all_orders(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = curve_of(quick, "dm").cells
    for number, cell in enumerate(cells):
        by_step = {2: [99.0], 10: [50.0 + 10 * number]}
        artifacts.write_json(tmp_path / cell.path, metrics_of(cell, by_step) | {"run": RUN})
    found = measure_cells(cells)
    assert (found.mean, found.std, found.n_sets, found.n_networks) == (55.0, 5.0, 1, 2)
