"""The leaderboard: its rows are the numbers of the evaluations, the file holds them, and the page sorts and
filters them without a network."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as parquet
import pytest
from bad_input_helpers import refused, run
from report_helpers import made_up_metrics

from condense.config import UserError, convert
from condense.files import artifacts
from condense.plan import Maker
from condense.plan.beside import place_of
from condense.plan.tables import Plan
from condense.report import (
    board_cost,
    board_page,
    board_tasks,
    leaderboard,
    names,
    provenance,
    taxonomy,
    timeline,
)
from condense.report.measured import measure_cells
from condense.report.seconds import seconds_of
from condense.specs import AnyLoss, catalogue
from condense.specs.tasks import Continual, Search
from hang_helpers import HUNG

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def scale(tmp_path_factory):
    """Scale quick with made-up metrics of everything, in a folder that is worked in."""
    folder, before = tmp_path_factory.mktemp("board"), Path.cwd()
    made_up_metrics(folder)
    os.chdir(folder)
    yield Plan("quick")
    os.chdir(before)


@pytest.fixture(scope="module")
def rows(scale):
    return leaderboard.rows(scale)


def row_of(rows, **wanted):
    (found,) = [row for row in rows if wanted.items() <= row.items()]
    return found


def test_there_is_a_row_for_each_method_and_judge_with_the_number_of_its_evaluations(scale, rows):
    assert sum(row["accuracy"] is not None for row in rows) == len(scale.comparable.by_place)
    for cells in scale.comparable.by_place.values():
        first = cells[0].synthetic
        row = row_of(
            rows,
            method=first.recipe.name,
            arch=first.arch,
            ipc=str(first.ipc),
            judge=cells[0].protocol.name,
            eval_arch=cells[0].eval_arch,
            dataset=first.data.name,
        )
        number = measure_cells(cells)
        assert (row["accuracy"], row["accuracy_std"]) == (number.mean, number.std)
        assert (row["n_sets"], row["n_networks"]) == (number.n_sets, number.n_networks)


def test_gain_over_random_and_transfer_are_of_the_same_judge_and_set(scale, rows, monkeypatch):
    """With made-up numbers that differ by method and network."""
    known = {place: index for index, place in enumerate(scale.comparable.by_place)}

    def number(cells, metric="accuracy"):
        value = 10.0 + known.get(place_of(cells[0]), 0)
        return type("Number", (), {"mean": value, "std": 0.0, "spread": None, "n_sets": 1, "n_networks": 1})()

    monkeypatch.setattr(leaderboard, "measure_cells", number)
    found = leaderboard.rows(scale)
    convnet = {"judge": "dc", "eval_arch": "convnet", "ipc": "10", "dataset": "digits16"}
    dm, random = (
        row_of(found, method="dm", arch="convnet", **convnet),
        row_of(found, method="random", **convnet),
    )
    assert dm["over_random"] == pytest.approx(dm["accuracy"] - random["accuracy"])
    assert random["over_random"] is None
    others = [
        row["accuracy"]
        for row in found
        if row["method"] == "dm"
        and row["arch"] == "convnet"
        and row["ipc"] == "10"
        and row["judge"] == "dc"
        and row["eval_arch"] != "convnet"
    ]
    assert len(others) == dm["transfer_of"] > 1
    assert dm["transfer"] == pytest.approx(sum(others) / len(others))


def test_tasks_bring_columns_of_their_own(rows):
    dm = row_of(rows, method="dm", arch="convnet", judge="dc", eval_arch="convnet", ipc="10")
    assert dm["continual_5"] == pytest.approx(71.0)  # the last step of the made-up ones
    assert row_of(rows, method="ncfm", judge="dc", eval_arch="convnet", ipc="10").get("continual_5") is None


def test_what_a_task_measured_stands_on_the_row_of_its_judge_alone(rows):
    dm = [row for row in rows if row["method"] == "dm" and row["ipc"] == "10" and row["accuracy"] is not None]
    assert len({row["judge"] for row in dm}) > 1 and len({row["eval_arch"] for row in dm}) > 1
    found = [(row["judge"], row["eval_arch"]) for row in dm if row.get("continual_5") is not None]
    assert found == [("dc", "convnet")]


def test_numbers_of_two_judges_and_of_two_tasks_are_not_pooled():
    maker, task = Maker(catalogue.scale("quick")), Continual(steps=5)
    made = maker.synthetic("digits16", "dm", "convnet", 10, 0)
    cells = [maker.metrics(made, "convnet", "dc", 2, task.variant(order)) for order in (0, 1)]
    cells += [
        maker.metrics(made, arch, judge, 2, task) for arch, judge in (("mlp", "dc"), ("convnet", "ncfm"))
    ]
    cells += [maker.metrics(made, "convnet", "dc", 1, task)]  # of fewer networks
    comparable = SimpleNamespace(changed=lambda cell: {})
    found = board_tasks.by_row(
        SimpleNamespace(metrics={cell.path: cell for cell in cells}, comparable=comparable)
    )
    assert {stands.place: columns for stands, columns in found.items()} == {
        place_of(cells[0]): {"continual_5": ("accuracy", tuple(cells[:2]))},
        place_of(cells[2]): {"continual_5": ("accuracy", (cells[2],))},
        place_of(cells[3]): {"continual_5": ("accuracy", (cells[3],))},
    }
    few, many = (
        maker.metrics(
            made, "nas_bench_201", "nas201", 1, Search(candidates=count, truth_protocol="nas201_truth")
        )
        for count in (4, 6)
    )
    searches = SimpleNamespace(metrics={cell.path: cell for cell in (few, many)}, comparable=comparable)
    (columns,) = board_tasks.by_row(searches).values()
    assert columns["rank_correlation (candidates 4)"] == ("spearman_of_means", (few,))
    assert columns["rank_correlation_each (candidates 6)"] == ("spearman", (many,))
    assert columns.keys() == board_tasks.meanings(searches).keys()


def test_a_set_that_other_tasks_measured_alone_has_a_row_of_its_own(scale, rows):
    alone = [row for row in rows if row["accuracy"] is None]
    assert alone == rows[-len(alone) :] and {row["judge"] for row in alone} == {"nas201", "convnet_search"}
    row = row_of(rows, method="k_means", ipc="50", judge="nas201")
    assert row["eval_arch"] == "nas_bench_201" and row["rank_correlation"] is not None
    assert all(
        row[name] is None for name in ("accuracy", "accuracy_std", "over_random", "n_networks", "changed")
    )
    # Of a table that changes the method: never on the row of the unchanged one
    assert row_of(rows, method="dm", judge="convnet_search")["changed"] == "steps 50"
    assert "steps 50" in leaderboard.text(rows) and "continual_5 71.00" in leaderboard.text(rows)


@pytest.mark.parametrize("name", ["quick", "cifar10", "paper"])
def test_no_number_of_a_task_is_left_out(name):
    scale = Plan(name)
    asked = {(place_of(cell), column) for cell in scale.metrics.values() for column in cell.task.board}
    assert asked == {
        (stands.place, name) for stands, row in board_tasks.by_row(scale).items() for name in row
    }
    if name == "paper":
        assert ("cifar100", 20) in {
            (cells[0].synthetic.data.name, stands.place.ipc)
            for stands, row in board_tasks.by_row(scale).items()
            for _, cells in row.values()
        }


def test_bytes_are_those_in_the_file_of_the_set(made):
    tensors, _ = artifacts.read_tensors(made.synthetic, "synthetic")
    found = board_cost._bytes_in(made.synthetic)
    assert found == {"image_bytes": tensors["images"].nbytes, "label_bytes": tensors["labels"].nbytes}


def test_seconds_of_sets_that_were_made_at_once_are_told_as_a_part_of_their_job(scale, tmp_path, monkeypatch):
    made_up_metrics(tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = {"arch": "convnet", "judge": "dc", "eval_arch": "convnet", "ipc": "10"}
    facts = {"seconds": 7.382, "peak_memory_bytes": 9_000_000, "device": "cpu"}
    for method, more in (("dm", {"shared_by": 10}), ("dsa", {}), ("dc", {"after": 2})):
        for cell in scale.synthetic.values():
            if cell.recipe.name == method:
                artifacts.write_json(Path(cell.folder) / "run.json", facts | more)
    found = leaderboard.rows(scale)
    dm, dsa, dc = (row_of(found, method=method, **asked) for method in ("dm", "dsa", "dc"))
    assert [row["seconds"] for row in (dm, dsa, dc)] == [7.382] * 3
    assert [row["shared_by"] for row in (dm, dsa, dc)] == [10, None, None]
    assert [row["memory_bytes"] for row in (dm, dsa, dc)] == [None, 9_000_000, None]

    board, page = tmp_path / "board.parquet", tmp_path / "page.html"
    leaderboard.write(found, board)
    board_page.make_page(scale, board, page)
    text = page.read_text(encoding="utf-8")
    assert '<td data-v="7.382">7.4 (a tenth of a job)</td>' in text and '<td data-v="7.382">7.4</td>' in text
    entries = [entry for group in taxonomy.taxonomy(found)[0].values() for entry in group]
    told = {entry.method: (entry.seconds, entry.memory) for entry in entries}
    assert told["DM"] == ("7.4 (a tenth of a job)", "") and told["DSA"] == ("7.4", "9")

    sets = provenance.sets(scale)
    assert {(row["seconds"], row["memory"]) for row in sets if row["method"] == "DC"} == {("7.4", "–")}
    assert ("7.4 (a tenth of a job)", "–") in {(row["seconds"], row["memory"]) for row in sets}
    assert "each counts with an equal part" in provenance.cost(scale, "cpdm/table1")
    curve = SimpleNamespace(
        cells=[cell for cell in scale.metrics.values() if cell.synthetic.recipe.name == "dm"]
    )
    assert seconds_of(curve) == (pytest.approx(7.382), 10)


def test_a_part_of_a_job_is_told_in_words():
    told = {number: names.part_of_job(number) for number in (None, 1, 2, 10, 24)}
    assert list(told.values()) == ["", "", " (half of a job)", " (a tenth of a job)", " (1/24 of a job)"]


def test_a_single_value_has_no_deviation_wherever_it_is_shown(rows):
    """As of scales with one network an evaluation and one set."""
    single = [row | {"accuracy_std": None} for row in rows]
    entries = [entry for group in taxonomy.taxonomy(single)[0].values() for entry in group]
    assert any(entry.accuracy for entry in entries)
    assert not any("±" in entry.accuracy for entry in entries)
    assert "±" not in leaderboard.text(single) and "±" in leaderboard.text(rows)


def test_beside_soft_labels_stands_what_the_same_sets_give_with_hard_ones(scale, rows):
    cells = next(
        cells
        for place, cells in scale.comparable.by_place.items()
        if (place.method, place.arch, place.ipc) == ("dm", "convnet", 10)
        and (cells[0].protocol.name, cells[0].eval_arch) == ("dc", "convnet")
    )
    soft = tuple(
        replace(cell, protocol=replace(cell.protocol, loss=convert(AnyLoss, {"name": "soft"}, "loss")))
        for cell in cells
    )
    assert leaderboard.hard_labels(scale, cells) is None
    assert leaderboard.hard_labels(scale, soft) == pytest.approx(measure_cells(cells).mean)
    assert {row["labels"] for row in rows if row["judge"] == "dc"} == {"hard"}
    assert {row["labels"] for row in rows if row["judge"] == "edc_cifar10"} == {"observers"}
    beside = {row["judge"]: row["hard_labels"] is not None for row in rows}
    assert beside["edc_cifar10"] and not any(has for name, has in beside.items() if name != "edc_cifar10")


def test_labels_that_observers_give_are_counted_as_if_they_were_stored():
    plan = Maker(catalogue.scale("quick"))
    for method, held in (("random", 1), ("idm", 4)):
        made = plan.synthetic("digits", method, "convnet", 10, 0)
        cells = [plan.metrics(made, "convnet", protocol, 1) for protocol in ("dc", "rded")]
        epochs = cells[1].protocol.epochs
        assert [board_cost.label_bytes(cell) for cell in cells] == [0, epochs * 100 * held * 10 * 2]


def test_the_file_holds_the_rows_and_others_are_refused(rows, scale, tmp_path):
    path = tmp_path / "board.parquet"
    leaderboard.write(rows, path)
    read = leaderboard.read(path)
    assert [row["accuracy"] for row in read] == [row["accuracy"] for row in rows]
    assert read[0].keys() == {*leaderboard.columns(rows)} and parquet.read_table(path).num_rows == len(rows)
    with pytest.raises(UserError, match="must end in .parquet"):
        leaderboard.write(rows, tmp_path / "board.csv")
    (tmp_path / "other.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is no leaderboard"):
        leaderboard.read(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="is no leaderboard"):
        leaderboard.read(tmp_path / "missing.parquet")


def test_the_command_shows_writes_and_makes_the_page_of_the_file(scale, rows, tmp_path):
    assert "--page: is made from the file of --write" in refused("leaderboard", "--page", tmp_path / "p.html")
    assert run("leaderboard")[0] == 0
    path, page = tmp_path / "board.parquet", tmp_path / "page.html"
    assert run("leaderboard", "--write", path, "--page", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    board = text[text.index('id="board"') :].partition("</table>")[0]
    assert board.count("<tr>") == len(rows) + 1
    assert "learned by the protocol in" in text and "of another task than the accuracy" not in text
    # Nothing is fetched: no address but those of names inside the pictures
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert "board.parquet" in text and "<option>digits16</option>" in text


def test_what_the_papers_print_stands_beside_what_was_measured_on_their_data_or_a_copy(scale, monkeypatch):
    assert board_page.compared(scale) == []  # digits are no copy of CIFAR-10
    monkeypatch.setattr(board_page, "measure", lambda run, metric: type("Number", (), {"mean": 50.0})())
    pairs = board_page.compared(Plan("cifar10"))
    assert pairs and all(pair.copied and pair.measured == 50.0 for pair in pairs)
    paper = board_page.compared(Plan("laptop"))
    assert paper and not all(pair.copied for pair in paper)
    assert b"<svg" in board_page._scatter(pairs)


def test_jobs_are_read_with_their_begin_and_hours_are_added_up(tmp_path):
    for name, ended, seconds, worked in (
        ("evaluate/a/x.tsv", 10_000, 60, 55.0),
        ("evaluate/y.tsv", 10_050, 60, 50.0),
        ("data/z.tsv", 500, 10, "-"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tcpu_time\n{seconds}\t{worked}\n")
        os.utime(path, (ended, ended))
    ran = timeline.jobs(tmp_path)
    assert [(job.stage, job.began, job.ended) for job in ran] == [
        *(("data", 490, 500), ("evaluate", 9940, 10_000), ("evaluate", 9990, 10_050)),
    ]
    assert timeline.hours(ran) == [("data", 1, 10 / 3600, 10 / 3600), ("evaluate", 2, 105 / 3600, 120 / 3600)]
    assert [len(jobs) for jobs in timeline.stretches(ran)] == [1, 2]
    assert b"<svg" in timeline.drawn(ran) and timeline.drawn([]) is None


def test_every_name_on_the_board_is_known(rows):
    assert {row["method"] for row in rows} <= set(catalogue.names_in("methods"))
    assert {row["judge"] for row in rows} <= set(catalogue.names_in("protocols"))


def test_the_taxonomy_has_every_line_of_the_paper_and_every_method_here_once(rows):
    found, about = taxonomy.taxonomy(rows)
    lines = [entry for entries in found.values() for entry in entries]
    assert about == "handwritten digits of 16 x 16 pixels, 10 images a class, judged by dc with ConvNet"
    built = {catalogue.recipe(name).name for name in catalogue.names_in("methods")} - {"whole"}
    shown = [entry.method for entry in lines if entry.method]
    assert sorted(shown) == sorted(names.method(name) for name in built)
    printed = taxonomy.published()
    assert len(lines) == len(printed) + len(built - {row["method"] for row in printed})
    dm = next(entry for entry in lines if entry.method == "DM")
    row = row_of(rows, method="dm", arch="convnet", judge="dc", eval_arch="convnet", ipc="10")
    assert dm.accuracy == f"{row['accuracy']:.1f} ± {row['accuracy_std']:.1f}" and not dm.needs
    assert all(bool(entry.needs) != bool(entry.accuracy) for entry in lines)


def test_what_the_taxonomy_says_of_a_built_method_is_what_its_recipe_says():
    for line in taxonomy.published():
        assert tuple(line) == taxonomy.COLUMNS and bool(line["method"]) != bool(line["needs"])
        assert line["discrepancy"] in taxonomy.TITLES
        if line["method"]:
            assert catalogue.recipe(line["method"]).discrepancy == line["discrepancy"], line["method"]


CLICKS = """
const heads = [...document.querySelectorAll("#board thead button")];
const place = (name) => heads.findIndex((head) => head.textContent === name);
const shown = () => [...document.querySelectorAll("#board tbody tr")].filter((row) => !row.hidden);
const texts = (name) => shown().map((row) => row.cells[place(name)].textContent);
const click = (name) => heads[place(name)].click();
const found = {};
click("accuracy"); found.falling = texts("accuracy");
click("accuracy"); found.rising = texts("accuracy");
click("over random"); found.gains = texts("over random");
const ipc = document.querySelectorAll("#filters select")[1];
ipc.value = "10"; ipc.dispatchEvent(new Event("change")); found.ipc = texts("ipc");
const find = document.getElementById("find");
find.value = "m3d convnet"; find.dispatchEvent(new Event("input")); found.methods = texts("method");
found.count = document.getElementById("count").textContent;
document.body.innerHTML = "<pre>" + JSON.stringify(found) + "</pre>";
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_the_page_sorts_and_filters_in_a_browser(rows, tmp_path):
    board, page = tmp_path / "board.parquet", tmp_path / "page.html"
    leaderboard.write(rows, board)
    board_page.make_page(Plan("quick"), board, page)
    text = page.read_text(encoding="utf-8").replace("</body>", f"<script>{CLICKS}</script></body>")
    page.write_text(text, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    environment = os.environ | {"HOME": str(tmp_path)}
    said = subprocess.run(command, capture_output=True, text=True, timeout=HUNG, env=environment).stdout
    found = json.loads(re.search("<pre>(.*)</pre>", said)[1])
    wanted = sorted(row["accuracy"] for row in rows if row["accuracy"] is not None)
    alone = ["–"] * (len(rows) - len(wanted))  # below, whichever way
    for way, numbers in (("rising", wanted), ("falling", wanted[::-1])):
        assert [float(text) for text in found[way][: len(wanted)]] == pytest.approx(numbers, abs=0.051)
        assert found[way][len(wanted) :] == alone
    gains = [float(text) for text in found["gains"] if text != "–"]
    assert gains == sorted(gains, reverse=True) and found["gains"][len(gains) :] == ["–"] * (
        len(rows) - len(gains)
    )
    assert set(found["ipc"]) == {"10"} and len(found["ipc"]) == sum(row["ipc"] == "10" for row in rows)
    assert set(found["methods"]) == {"M3D", "M3D + CPDM"}
    assert found["count"] == f"{len(found['methods'])} of {len(rows)} rows"


def test_of_an_unfinished_scale_what_is_made_is_shown_and_the_rest_counted(
    scale, rows, tmp_path, monkeypatch
):
    made_up_metrics(tmp_path)
    monkeypatch.chdir(tmp_path)
    board, page = tmp_path / "board.parquet", tmp_path / "page.html"
    random = next(cells for place, cells in scale.comparable.by_place.items() if place.method == "random")
    for cell in random:
        Path(cell.path).unlink()
    status, told = run("leaderboard", "--write", board, "--page", page)
    assert status == 0 and f"{len(random)} of {len(scale.metrics)} evaluations" in told
    assert 0 < len(leaderboard.read(board)) <= len(rows)
    assert f"{len(random)} of its evaluations are not made yet" in page.read_text(encoding="utf-8")
    shutil.rmtree(tmp_path / "results")
    assert "no evaluation of the scale 'quick' is made yet" in refused("leaderboard")
