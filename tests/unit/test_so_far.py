"""The report of a scale that is not finished, and the page of what CIFAR-10 has so far."""

import os
import shutil
from pathlib import Path

import pytest
from report_helpers import RUN, made_up_metrics, metrics_of, rows_of

from condense.command.cli import main
from condense.config import UserError
from condense.files import artifacts, store
from condense.plan import data_cell
from condense.plan.so_far import NOT_YET, evaluated, so_far
from condense.plan.tables import Plan
from condense.report.beside_published import beside_published
from condense.report.records import records

PROJECT = Path(__file__).parents[2]
MINE = "cpdm/table1"


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """The quick scale, all of it evaluated, in a folder of its own."""
    made_up_metrics(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Plan("quick")


def of_method(scale, name, method, judge="dc"):
    """The evaluations of a method in a table."""
    cells = [cell for cell in scale.metrics_of(name) if cell.synthetic.recipe.name == method]
    return [cell for cell in cells if cell.protocol.name == judge]


def test_what_is_not_made_stands_empty_with_the_reason(quick):
    gone = of_method(quick, MINE, "dm")
    for cell in gone:
        os.remove(cell.path)
    made = so_far(quick)
    assert not set(made.metrics) & {cell.path for cell in gone} and set(made.metrics) < set(quick.metrics)
    rows = [row for row in made.tables[MINE] if row.published["method"] == "dm"]
    reasons = {row.published["ipc"]: row.reason for row in rows if row.published["dataset"] == "cifar10"}
    assert reasons == {"1": NOT_YET, "10": NOT_YET, "50": "not run at quick"}
    assert not any(row.runs for row in rows)
    others = [row for row in made.tables[MINE] if row.published["method"] == "cpdm"]
    assert others == [row for row in quick.tables[MINE] if row.published["method"] == "cpdm"]


def test_a_cell_counts_the_sets_that_are_judged_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = Plan("paper")
    row = scale.tables["cpdm/table5"][0]
    cells = row.runs[0].cells
    seeds = sorted({cell.synthetic.seed for cell in cells})
    for cell in cells:
        if cell.synthetic.seed != seeds[1]:
            Path(cell.path).parent.mkdir(parents=True, exist_ok=True)
            Path(cell.path).touch()
    kept = [entry for entry in so_far(scale).tables["cpdm/table5"] if entry.published == row.published]
    assert len(seeds) > 1
    assert [cell.synthetic.seed for cell in kept[0].runs[0].cells] == [seeds[0], *seeds[2:]]


def test_nothing_made_says_what_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"scale 'quick': no evaluation is made yet; .*scale=quick"):
        so_far(Plan("quick"))


def test_the_command_writes_page_tables_and_the_list(quick, capsys):
    for cell in quick.metrics.values():
        if cell.synthetic.recipe.name not in ("dm", "random"):
            os.remove(cell.path)
    assert main(["report", "--so-far"]) == 0
    told, page = capsys.readouterr().err, Path("results/so-far/report.html").read_text()
    made = so_far(quick)
    assert f"{len(made.metrics)} of {len(quick.metrics)} evaluations are made" in told
    assert "Not finished." in page and f"{len(made.metrics)} of {len(quick.metrics)}" in page
    measured = [row for row in rows_of(f"results/so-far/tables/{MINE}.csv") if row["measured"]]
    assert {row["method"] for row in measured} == {"dm", "random"}
    assert "| DM | dc, ConvNet | **61.0 ± 0.8** |" in Path("results/so-far/measured.md").read_text()


def test_evaluations_are_counted_whether_they_are_shown_or_not(quick, capsys):
    gone = of_method(quick, MINE, "dm")  # beside which figures show what is measured of the same sets
    for cell in gone:
        os.remove(cell.path)
    count = len(quick.metrics) - len(gone)
    assert main(["report", "--so-far"]) == 0
    assert f"{count} of {len(quick.metrics)} evaluations are made" in capsys.readouterr().err
    assert len(so_far(quick).metrics) < count


def test_what_an_earlier_report_showed_and_this_one_does_not_is_removed(quick):
    assert main(["report", "--so-far"]) == 0
    table = Path(f"results/so-far/tables/{MINE}.csv")
    own = table.with_name("own.csv")
    own.touch()
    assert table.exists()
    for cell in quick.metrics_of(MINE):
        Path(cell.path).unlink(missing_ok=True)
    assert main(["report", "--so-far"]) == 0
    assert own.exists() and not table.exists() and not table.with_suffix(".md").exists()


def test_the_folder_of_the_workflow_is_left_alone(quick, capsys):
    assert main(["report", "--so-far", "--out", "results/page.html"]) == 2
    assert "results/so-far/page.html" in capsys.readouterr().err
    assert not Path("results/page.html").exists()


@pytest.fixture
def jpeg(tmp_path, monkeypatch):
    """Metrics of random images and of herding at ten images a class of CIFAR-10 (JPEG), by both judges."""
    monkeypatch.chdir(tmp_path)
    scale = Plan("cifar10")
    numbers = {("random", "dc"): 31.0, ("random", "dc_plain"): 26.5, ("herding", "dc"): 36.0}
    for path, cell in scale.metrics.items():
        mean = numbers.get((cell.synthetic.recipe.name, cell.protocol.name))
        if mean is not None and cell.synthetic.ipc == 10 and cell.task.folder == "followed":
            steps = dict.fromkeys(range(cell.task.test_passes), [mean, mean + 1])
            values = {
                name: steps if cell.task.is_curve(name) else {0: [mean, mean + 1]}
                for name in cell.task.metrics
            }
            artifacts.write_json(Path(path), metrics_of(cell, steps, values) | {"run": RUN})
    return so_far(scale)


def test_on_a_copy_the_published_number_stands_beside_what_its_judge_measured(jpeg):
    shown = {
        (record.values["method"], record.judge): record
        for record in records(jpeg, "cpdm/table1")
        if record.values["ipc"] == "10" and record.shown_on == "cifar10_jpeg"
    }
    random, by_table = shown["random", "dc_plain"], shown["random", ""]
    assert (random.values["published"], random.values["delta"]) == ("26.0", "+1.0")
    assert (by_table.values["measured"], by_table.values["published"]) == ("31.5", "")
    # Herding's own judge has not judged it: its number stands alone, and the difference nowhere
    assert (shown["herding", ""].values["measured"], shown["herding", ""].values["delta"]) == ("36.5", "")
    unjudged = shown["herding", "dc_plain"]
    assert (unjudged.values["published"], unjudged.values["measured"]) == ("31.6", "")
    assert "not judged by dc_plain" in unjudged.reason
    assert shown["mtt", ""].values["published"] == "65.3"  # not measured, in the same block


def test_one_line_holds_the_numbers_of_all_tables(jpeg):
    lines = beside_published(jpeg, "3 of 219").splitlines()
    random = "| Random | dc_plain, ConvNet | **27.0 ± 0.5** | 27.0 ± 0.5 of 20 |"
    assert f"{random}  | 26.0 ± 1.2 (cpdm, Table 1; ddm, Table 1; idm, Table 1) | +1.0 |" in lines
    assert "| Herding | dc, ConvNet | **36.5 ± 0.5** | 36.5 ± 0.5 of 20 | +5.0 |  |  |" in lines
    assert any(line.startswith("Every image re-encoded as JPEG") for line in lines)


def test_a_copy_names_a_dataset_and_changes_no_key():
    spec = data_cell("cifar10_jpeg").spec
    assert spec.copies == "cifar10" and "copies" not in spec.identity()


def test_the_page_of_cifar10_is_that_of_what_is_kept(tmp_path, monkeypatch):
    for folder in ("kept", "dvcstore"):
        (tmp_path / folder).symlink_to(PROJECT / folder)
    monkeypatch.chdir(tmp_path)
    scale = Plan("cifar10")
    if not store.restore_all(scale.metrics):
        pytest.skip("no evaluation of CIFAR-10 is kept here")
    page, known = beside_published(so_far(scale), evaluated(scale)), PROJECT / "docs" / "cifar10.md"
    shutil.rmtree(tmp_path / "results")
    assert page == known.read_text(encoding="utf-8"), (
        "after `make keep SCALE=cifar10`: `condense report --so-far --scale cifar10`, then "
        "`cp results/so-far/measured.md docs/cifar10.md`"
    )


def test_a_copy_of_no_dataset_is_refused(tmp_path, monkeypatch):
    text = (PROJECT / "params" / "datasets" / "cifar10_jpeg.yaml").read_text(encoding="utf-8")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "cifar10_jpeg.yaml").write_text(
        text.replace("copies: cifar10", "copies: cifar01"), encoding="utf-8"
    )
    monkeypatch.setenv("CONDENSE_PARAMS", str(tmp_path))
    with pytest.raises(UserError, match=r"cifar10_jpeg.yaml: copies.*unknown dataset 'cifar01'"):
        Plan("cifar10")
