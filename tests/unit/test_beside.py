"""Random and selected images beside measured accuracies: of the same judge alone, or empty with a reason."""

from pathlib import Path

import pytest
from report_helpers import made_up, metrics_of, rows_of

from condense.files import artifacts
from condense.plan import manifests
from condense.plan.beside import Comparable, place_of
from condense.plan.rows import Run
from condense.plan.tables import Plan
from condense.report import fair, html, tables


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with made-up metrics of scale quick, and their numbers by path: these tell method, judge, ipc,
    seed and network apart."""
    folder, plan = tmp_path_factory.mktemp("beside"), Plan("quick")
    judges = sorted({cell.judge for cell in plan.metrics.values()})
    methods = sorted({cell.synthetic.recipe.name for cell in plan.metrics.values()})
    numbers = {}
    for path, cell in plan.metrics.items():
        base = 0.5 * methods.index(cell.synthetic.recipe.name) + 2.0 * judges.index(cell.judge)
        base += 10.0 * (cell.synthetic.ipc == 10) + 3.0 * cell.synthetic.seed
        numbers[path] = [base + network for network in range(cell.n_networks)]
        given = {0: numbers[path]}
        if cell.task.over_steps:
            given = {
                step: [value + more for value in numbers[path]] for step, more in ((0, 0), (40, 5), (80, 2))
            }
        by_metric = {name: made_up(name, metric, given) for name, metric in cell.task.metrics.items()}
        artifacts.write_json(folder / path, metrics_of(cell, given, by_metric) | {"run": {}})
    return folder, numbers


@pytest.fixture
def scale(results, tmp_path, monkeypatch):
    """The plan of scale quick, where its metrics lie."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "metrics").symlink_to(results[0] / "results" / "metrics")
    monkeypatch.chdir(tmp_path)
    plan = Plan("quick")
    plan.made_up = results[1]
    return plan


def mean_of(scale, method, ipc, protocol="dc", arch="convnet"):
    networks = scale.scale.n_networks
    values = [
        value
        for path, cell in scale.metrics.items()
        for value in scale.made_up[path]
        if (cell.synthetic.recipe.name, cell.synthetic.ipc) == (method, ipc)
        and (cell.eval_arch, cell.protocol.name, cell.n_networks) == (arch, protocol, networks)
        and cell.task.comparable
        and scale.comparable.is_unchanged(cell)
    ]
    return sum(values) / len(values)


def test_a_table_holds_random_herding_and_the_gain_of_the_same_judge(scale):
    tables.make_table(scale, "cpdm/table1", Path("t.csv"))
    rows = [row for row in rows_of("t.csv") if row["measured"] and row["ipc"] != "full"]
    assert {row["method"] for row in rows} >= {"random", "herding", "dm", "cpdm"}
    judges = ["dc_plain" if "dc_plain" in row["note"] else "dc" for row in rows]
    assert set(judges) == {"dc", "dc_plain"}
    for row, judge in zip(rows, judges, strict=True):
        random, herding = (
            f"{mean_of(scale, name, int(row['ipc']), judge):.1f}" for name in ("random", "herding")
        )
        assert (row["random"], row["herding"]) == (random, herding), row["method"]
        gain = "" if row["method"] == "random" else f"{float(row['measured']) - float(random):+.1f}"
        assert row["over_random"] == gain
    whole = [row for row in rows_of("t.csv") if row["measured"] and row["ipc"] == "full"]
    assert whole and not any(row["random"] or row["herding"] or row["over_random"] for row in whole)


def test_where_a_baseline_was_not_judged_so_the_cell_is_empty_and_says_why(scale):
    tables.make_table(scale, "ddm/table4", Path("t.csv"))
    rows = [row for row in rows_of("t.csv") if row["measured"] and row["ipc"] == "10"]
    judged_by = {row["eval_arch"] for row in rows}
    assert {"convnet", "alexnet", "resnet18"} <= judged_by
    for row in rows:
        if row["eval_arch"] == "alexnet":
            assert not row["random"] and not row["herding"] and not row["over_random"]
            assert "random was not judged by dc with alexnet, ipc 10" in row["note"]
        if row["eval_arch"] == "resnet18":
            assert row["random"] and row["over_random"] and not row["herding"]
            assert "herding was not judged by dc with resnet18, ipc 10" in row["note"]
    text = Path("t.md").read_text(encoding="utf-8")
    assert "Empty: herding was not judged by dc with resnet18, ipc 10 (DSA, DM, DDM)." in text


def test_another_protocol_architecture_ipc_or_recipe_is_never_a_baseline(scale):
    cells = list(scale.metrics.values())
    method = next(
        cell for cell in cells if place_of(cell)[1:] == ("dm", "convnet", 10) and cell.task.comparable
    )
    found = scale.comparable.baselines(Run("digits16", ((method,),)))["random"].run.groups[0]
    assert {cell.judge for cell in found} == {method.judge} and {cell.synthetic.ipc for cell in found} == {10}
    others = [cell for cell in cells if cell.synthetic.recipe.name == "random" and cell not in found]
    alone = Comparable(scale.maker, [*(cell for cell in others if cell.judge != method.judge), method])
    baseline = alone.baselines(Run("digits16", ((method,),)))["random"]
    assert baseline.run is None and baseline.reason == "random was not judged by dc with convnet, ipc 10"
    changed = [cell for cell in cells if not scale.comparable.is_unchanged(cell)]
    assert changed and not {cell.path for cell in changed} & {
        cell.path for cells in scale.comparable.by_place.values() for cell in cells
    }


def test_a_judge_is_told_apart_by_all_that_trains_networks_and_by_nothing_else():
    plan = Plan("quick")
    first = plan.maker.synthetic("digits16", "random", "convnet", 10, 0)
    judge = plan.maker.metrics(first, "convnet", "dc").judge
    assert plan.maker.metrics(first, "convnet", "dc", 7).judge == judge
    assert (
        plan.maker.metrics(plan.maker.synthetic("digits16", "dm", "convnet", 1, 1), "convnet", "dc").judge
        == judge
    )
    assert plan.maker.metrics(first, "convnet", "dc_plain").judge != judge
    assert plan.maker.metrics(first, "mlp", "dc").judge != judge
    longer = Plan("laptop").maker
    assert (
        longer.metrics(longer.synthetic("digits16", "random", "convnet", 10, 0), "convnet", "dc").judge
        != judge
    )


def test_baselines_of_other_tables_are_among_what_a_table_is_made_from(scale):
    beside = {cell.path for cell in scale.beside("ddm/table6")}
    own = {cell.path for cell in scale.metrics_of("ddm/table6")}
    assert beside - own and beside | own == set(manifests.report_files(scale, "ddm/table6"))
    assert manifests.manifest(scale, "ddm/table6")["inputs"] == [
        *(cell.path for cell in scale.metrics_of("ddm/table6")),
        *(cell.path for cell in scale.beside("ddm/table6") if cell.path not in own),
    ]


def test_as_many_sets_and_networks_stand_beside_where_there_are(scale):
    """Table 6 of cpdm judges one set by two networks; its own row of random stands beside the others."""
    tables.make_table(scale, "cpdm/table6", Path("t.csv"))
    rows = [row for row in rows_of("t.csv") if row["measured"] and row["eval_arch"] == "convnet"]
    (own,) = (row["measured"] for row in rows if row["method"] == "random")
    assert {row["n_networks"] for row in rows} == {"2"} and {row["random"] for row in rows} == {own}


def test_each_judge_of_the_scale_has_one_comparison_and_the_page_shows_it(scale, monkeypatch):
    made = fair.comparisons(scale)
    judges = {place.judge for place in scale.comparable.by_place if place.ipc != "full"}
    assert len(made) == len(judges) and made[0].methods == max(entry.methods for entry in made)
    first = made[0].block
    assert first.title == "handwritten digits of 16 x 16 pixels: ConvNet trained by the protocol dc"
    assert f"whole training set: {mean_of(scale, 'whole', 'full'):.1f}" in first.caption
    heads = ["Accuracy (last)", "Random", "Herding", "Over random"]
    assert first.columns[:4] == heads and [heading for heading, _ in first.groups[:2]] == ["ipc 1", "ipc 3"]
    for (heading, lines), ipc in zip(first.groups[:2], (1, 3), strict=True):
        line = next(line for line in lines if line.label == "DM")
        mean, random = mean_of(scale, "dm", ipc), mean_of(scale, "random", ipc)
        assert line.cells[0][0].measured.startswith(f"{mean:.1f} ±"), heading
        assert line.cells[3][0].published == f"{mean - random:+.1f}"
        means = [float(line.cells[0][0].measured.split()[0]) for line in lines]
        assert means == sorted(means, reverse=True)
    # Figure 2 of cpdm draws three snapshots; the best has the highest mean
    head = "Best of 3 snapshots"
    at = first.columns.index(head)
    kept = next(line for heading, lines in first.groups for line in lines if line.cells[at][0].published)
    drawn = [cells for place, cells in scale.comparable.over_steps.items() if place.judge == cells[0].judge]
    assert kept.cells[at][0].published.split()[0] in {
        f"{sum(values) / len(values):.1f}"
        for cells in drawn
        for values in [[value + 5 for cell in cells for value in scale.made_up[cell.path]]]
    }
    scale.figures = {}
    monkeypatch.setattr(html, "_grids", lambda plan: ([], []))
    html.make_report(scale, Path("results/report.html"))
    text = Path("results/report.html").read_text(encoding="utf-8")
    assert 'id="fair"' in text and 'href="#fair"' in text and "over random -" in text
