"""Published accuracies of networks: the benchmark's file read as plain data, tables, what is refused, and the
true accuracies that are made of them."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from bad_input_helpers import BRIEF, refused, run

from condense.command.cli import main
from condense.config import UserError
from condense.files import metrics_in, read_metrics, read_truth
from condense.files.artifacts import canonical, file_sha256
from condense.outside.benchmarks import FORM, import_benchmark, read_benchmark
from condense.plan import Maker, data_cell
from condense.specs import TruthNeed, catalogue
from condense.specs.spaces import space_of
from condense.specs.spaces.nas201 import SIZE, genotype

pytestmark = pytest.mark.usefixtures("one_thread")
SPACE = space_of("nas_bench_201")
NET = (
    "--arch",
    "nas_bench_201",
    "--options",
    '{"cells": 1, "width": 4}',
    "--device",
    "cpu",
    "--threads",
    "1",
)


def training(accuracy, dataset="cifar10", seed=777):
    return {
        (dataset, seed): {
            "name": "infer.tiny",
            "net_state_dict": None,
            "arch_config": {"channel": 16, "num_cells": 5, "arch_str": "", "class_num": 10},
            "train_acc1es": {0: 20.0, 199: 99.9},
            "eval_names": ["ori-test"],
            "eval_acc1es": {"ori-test@0": 12.0, "ori-test@199": accuracy},
            "seed": seed,
            "epochs": 200,
        }
    }


def published(cells, tmp_path, change=lambda held: None):
    """A file in the form of the benchmark's, of these cells with their trainings."""
    infos = {
        number: {
            "full": {"arch_index": number, "arch_str": genotype(cell), "all_results": dict(results)},
            "less": {"arch_index": number, "arch_str": genotype(cell), "all_results": training(1.0)},
        }
        for number, (cell, results) in enumerate(cells.items())
    }
    held = {"meta_archs": [genotype(cell) for cell in cells], "arch2infos": infos, "evaluated_indexes": []}
    change(held)
    path = tmp_path / "NAS-Bench-201.pth"
    torch.save(held, path)
    return path


CELLS = {
    7: training(90.0) | training(91.0, seed=888) | training(70.0, "cifar100"),
    SIZE - 1: training(10.0, "cifar10-valid") | training(80.5),
}


def test_the_file_of_the_benchmark_becomes_a_table(tmp_path):
    """Test accuracies after 200 epochs, of all seeds their mean; not those of the short trainings, nor of
    validation."""
    path = published(CELLS, tmp_path)
    for ending in ("parquet", "csv"):
        out = tmp_path / f"n.{ending}"
        assert run("nas201", "import", path, "--out", out)[0] == 0
        known = read_benchmark(out)
        assert known.accuracies == {
            "cifar10": {genotype(7): 90.5, genotype(SIZE - 1): 80.5},
            "cifar100": {genotype(7): 70.0},
        }
        assert import_benchmark(out).accuracies == known.accuracies
    with pytest.raises(UserError, match="has no accuracy of .* on cifar100"):
        known.accuracy(genotype(SIZE - 1), "cifar100")
    with pytest.raises(UserError, match="has no column 'imagenet1k'"):
        known.accuracy(genotype(7), "imagenet1k")


class Code:
    def __reduce__(self):
        return (print, ("run",))


def drop(held):
    del held["arch2infos"]


def code(held):
    held["arch2infos"][0]["full"]["all_results"]["x"] = Code()


def text(held):
    held["arch2infos"][0]["full"]["all_results"] = training("90")


def other_cell(held):
    held["arch2infos"][0]["full"]["arch_str"] = "|conv~0|"


@pytest.mark.parametrize(
    "change, said",
    [
        (code, "names '.*print', which is code and not data; it is not run"),
        (drop, "holds no results of networks under 'arch2infos'"),
        (text, "has no plain percentage under 'eval_acc1es', 'ori-test@199'"),
        (other_cell, "cell: unknown operation 'conv'|is no cell"),
        (lambda held: held.update(arch2infos={0: {"full": {}}}), "holds no 'arch_str' and 'all_results'"),
    ],
)
def test_files_that_need_more_or_are_none_are_refused_with_the_form_that_is_taken(
    change, said, tmp_path, capsys
):
    path = published(CELLS, tmp_path, change)
    with pytest.raises(UserError, match=said) as error:
        import_benchmark(path)
    assert "run" not in capsys.readouterr().out.split()
    if change is not other_cell:
        assert FORM in str(error.value)
    assert str(path) in refused("nas201", "import", path, "--out", tmp_path / "n.parquet")
    assert not (tmp_path / "n.parquet").exists()


@pytest.mark.parametrize(
    "name, held, said",
    [
        ("n.csv", "architecture,cifar10\n{0},101\n", "row 1: cifar10: a percentage is needed, found '101'"),
        ("n.csv", "architecture,cifar10\n{0},abc\n", "row 1: cifar10: a percentage is needed, found 'abc'"),
        (
            "n.csv",
            "architecture,cifar10\n1,5\n2,abc\n",
            "row 2: cifar10: a percentage is needed, found 'abc'",
        ),
        ("n.csv", "architecture,cifar10\n{0},1\n{0},2\n", "more than once"),
        ("n.csv", "architecture,cifar10\n|none~0|,1\n", "row 1: cell: '.none~0.' is no cell"),
        ("n.csv", "architecture,cifar10\n-3,1\n", "row 1: cell: '-3' is no cell"),
        ("n.csv", "architecture,cifar10\n,1\n", "row 1: cell: '' is no cell"),
        ("n.csv", "arch,cifar10\n{0},1\n", "has no column 'architecture', only arch, cifar10"),
        ("n.csv", "architecture,mnist\n{0},1\n", "has no column of accuracies"),
        ("n.csv", "architecture,cifar10,cifar10\n{0},1,2\n", "has more than one column 'cifar10'"),
        ("n.csv", "architecture,cifar10,cifar100\n", "has no accuracies on cifar10 or cifar100"),
        ("n.csv", "architecture,cifar10\n{0},nan\n", "has no accuracies on cifar10 or cifar100"),
        ("n.csv", "architecture,cifar10\n{0},0.91\n", "cifar10: no accuracy is above 1, .* in percent"),
        ("n.csv", "", "cannot be read as a table"),
        ("n.parquet", "no parquet", "cannot be read as a table"),
        ("n.txt", "x", "cannot be read as a file of torch.save"),
    ],
)
def test_tables_that_are_none_are_refused(name, held, said, tmp_path):
    path, out = tmp_path / name, tmp_path / "out.parquet"
    path.write_text(held.format(genotype(0)), encoding="utf-8")
    out.write_text("as it was", encoding="utf-8")
    assert re.search(said, refused("nas201", "import", path, "--out", out))
    assert out.read_text(encoding="utf-8") == "as it was"


NAN = float("nan")
HALF = {7: training(90.0) | training(NAN, seed=888), 8: training(NAN), 9: {}}


@pytest.mark.parametrize("ending", ["csv", "parquet", "text.parquet", "pth"])
def test_networks_without_an_accuracy_are_left_out_and_counted(ending, tmp_path, capsys):
    """Nothing and NaN say the same in every form; of several trainings those with an accuracy count."""
    path = tmp_path / f"n.{ending.removeprefix('text.')}"
    columns = {"architecture": ["7", "8", "9"], "cifar10": [90.0, NAN, None], "cifar100": [NAN, NAN, NAN]}
    if ending == "csv":
        path.write_text("architecture,cifar10,cifar100\n7,90,\n8,nan,\n9,,NaN\n", encoding="utf-8")
    elif ending == "parquet":
        pa.parquet.write_table(pa.table(columns), path)
    elif ending == "text.parquet":
        pa.parquet.write_table(pa.table(columns | {"cifar10": ["90", "nan", ""]}), path)
    else:
        path = published(HALF, tmp_path)
    for source, out in ((path, tmp_path / "a.csv"), (tmp_path / "a.csv", tmp_path / "b.parquet")):
        assert main(["nas201", "import", str(source), "--out", str(out)]) == 0
        told = "accuracies of 1 on cifar10, of 15,625 networks; without one: 2 of 3 on cifar10, 3 of 3 on"
        assert told in capsys.readouterr().out
        assert read_benchmark(out).accuracies == {"cifar10": {genotype(7): 90.0}}


def test_an_architecture_may_stand_twice_in_the_file_with_the_same_accuracies_alone(tmp_path):
    def twice(accuracy):
        def change(held):
            held["arch2infos"][5] = {"full": {"arch_str": genotype(7), "all_results": training(accuracy)}}

        return change

    cells = {7: training(90.0), 8: training(80.0)}
    same = import_benchmark(published(cells, tmp_path, twice(90.0)))
    assert same.accuracies == {"cifar10": {genotype(7): 90.0, genotype(8): 80.0}}
    with pytest.raises(UserError, match="has the architecture .* more than once, with other accuracies"):
        import_benchmark(published(cells, tmp_path, twice(91.0)))
    with pytest.raises(UserError, match="cifar10: no accuracy is above 1"):
        import_benchmark(published({7: training(0.9)}, tmp_path))


def test_other_endings_and_absent_files_are_named(tmp_path):
    path = published(CELLS, tmp_path)
    assert "the ending must be one of .csv, .parquet" in refused(
        "nas201", "import", path, "--out", tmp_path / "n.x"
    )
    assert "no such file" in refused("nas201", "import", tmp_path / "none.pth")
    assert f"{tmp_path}: is a folder" in refused("nas201", "import", tmp_path)


def test_two_columns_of_one_name_are_named_in_parquet_too(tmp_path):
    path = tmp_path / "n.parquet"
    twice = ["architecture", "cifar10", "cifar10"]
    pa.parquet.write_table(pa.table([["7"], [90.0], [91.0]], names=twice), path)
    assert "has more than one column 'cifar10'" in refused("nas201", "import", path)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A published table of all networks on CIFAR-10, brought along."""
    names = [genotype(number) for number in range(SIZE)]
    accuracies = [number / SIZE * 100 for number in range(SIZE)]
    path = tmp_path / "nas201.parquet"
    pa.parquet.write_table(pa.table({"architecture": names, "cifar10": accuracies}), path)
    monkeypatch.setenv(SPACE.variable, str(path))
    return path


def test_published_accuracies_are_taken_where_they_are_here(table, monkeypatch, caplog):
    """For its own datasets alone; the key is of the table, whatever would have been trained."""
    maker, need = Maker(catalogue.scale("quick")), TruthNeed("nas201_truth", 5)
    cell = need.cell(maker, data_cell("cifar10"), SPACE.name, 0, 0)
    assert (
        cell.table == file_sha256(table) and cell.made_by == "published" and not cell.pace and not cell.epochs
    )
    assert "published ones of nas_bench_201" in cell.note and not cell.work().flops_training
    assert TruthNeed("dc", 5, networks=3).cell(maker, data_cell("cifar10"), SPACE.name, 0, 0).key == cell.key
    assert need.cell(maker, data_cell("digits"), SPACE.name, 0, 0).table == "" and not caplog.text
    lacking = need.cell(maker, data_cell("cifar100"), SPACE.name, 0, 0)
    assert lacking.table == "" and "measured here" in lacking.note
    assert f"{table} has no accuracies on cifar100: there true accuracies are measured" in caplog.text
    monkeypatch.delenv(SPACE.variable)
    other = need.cell(maker, data_cell("cifar10"), SPACE.name, 0, 0)
    assert other.table == "" and other.key != cell.key and "measured here" in other.note
    monkeypatch.setenv(SPACE.variable, "/nowhere.parquet")
    with pytest.raises(UserError, match=f"environment variable {SPACE.variable}: there is no file /nowhere"):
        need.cell(maker, data_cell("cifar10"), SPACE.name, 0, 0)
    monkeypatch.setenv(SPACE.variable, str(table.parent))
    with pytest.raises(UserError, match=f"{table.parent} is a folder"):
        need.cell(maker, data_cell("cifar10"), SPACE.name, 0, 0)
    table.write_text("no parquet", encoding="utf-8")
    monkeypatch.setenv(SPACE.variable, str(table))
    with pytest.raises(UserError, match="cannot be read as a table"):
        need.cell(maker, data_cell("cifar10"), SPACE.name, 0, 0)


def truth_of(made, out, table, **changes):
    settings = {"candidates": 3, "draw": 0, "networks": 1, "images": None, "table": table, "strategy": "none"}
    asked = canonical(settings | {"protocol": json.loads(BRIEF)} | changes)
    train = made.digits / "train.safetensors"
    return ("parent", "truth", "--settings", asked, "--data", train, *NET, "--key", "k", "--out", out)


def test_a_search_against_published_accuracies(made, table, tmp_path):
    """As if the benchmark were of the digits: their column is renamed."""
    known = pa.parquet.read_table(table)
    pa.parquet.write_table(known.append_column("digits", known.column("cifar10")), table)
    import condense.outside.benchmarks as benchmarks

    out = tmp_path / "truth.safetensors"
    patched = benchmarks.NAS201.published
    object.__setattr__(benchmarks.NAS201, "published", (*patched, "digits"))
    try:
        status, told = run(*truth_of(made, out, file_sha256(table)))
    finally:
        object.__setattr__(benchmarks.NAS201, "published", patched)
    assert status == 0, told
    tensors, header, _ = read_truth(out)
    chosen = SPACE.sample(3, 0)
    assert tensors["accuracies"][:, 0].tolist() == [number / SIZE * 100 for number in chosen]
    assert header.benchmark == SPACE.name and "seconds" not in tensors
    task = {"kind": "search", "candidates": 3, "truth_protocol": "brief", "resamples": 10}
    images = ("--data", made.digits, "--with", f"truth={out}", "--networks", 1)
    judged = ("--protocol", BRIEF, "--strategy", "none", "--out", tmp_path / "m.json", *NET)
    on_set = ("evaluate", "--synthetic", made.synthetic, "--task", canonical(task), *images, *judged)
    assert run(*on_set)[0] == 0
    metrics = metrics_in(read_metrics(tmp_path / "m.json", "search"))
    assert (
        np.array(metrics["candidate_truth"]["values"])[:, 0].tolist() == tensors["accuracies"][:, 0].tolist()
    )
    whole = ("evaluate", "--method", "whole", "--task", canonical(task), *images, *judged)
    assert "published accuracies do not say how long networks were trained" in refused(*whole)


def test_a_table_that_is_another_one_is_named(made, table, tmp_path, monkeypatch):
    assert "has no column 'digits'" in refused(*truth_of(made, tmp_path / "t", file_sha256(table)))
    assert "is another one" in refused(*truth_of(made, tmp_path / "t", "0" * 64))
    monkeypatch.delenv(SPACE.variable)
    assert "none is named" in refused(*truth_of(made, tmp_path / "t", "0" * 64))
