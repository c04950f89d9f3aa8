"""Sets of continual learning by a real Snakemake: each step from its own classes, in jobs of their own or in
one."""

from pathlib import Path

import pytest
from project_helpers import copy_project, snakemake, write_scale

from condense.files.artifacts import read_header, read_json, read_tensors
from condense.plan.tables import Plan

pytestmark = pytest.mark.workflow
FIGURE = "results/figures/cpdm/figure3.png"
SCALE = {
    "tables": {"cpdm/figure3": {"ipc": [1], "n_variants": 1, "datasets": {"cifar100": ["digits"]}}},
    "methods": ["dm", "cpdm"],
}


def project(root, alone):
    """A project whose figure has two steps, all sets of which one job makes, or jobs of their own."""
    root = copy_project(root)
    table = root / "params" / "tables" / "cpdm_figure3.yaml"
    table.write_text(table.read_text(encoding="utf-8").replace("steps: 5", "steps: 2"), encoding="utf-8")
    write_scale(root, **SCALE, steps_in_one_job=alone)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By whether one job makes all steps: the project, and what Snakemake said."""
    folder = tmp_path_factory.mktemp("steps")
    roots = {alone: project(folder / f"alone-{alone}", alone) for alone in (True, False)}
    return {alone: (root, snakemake(root, FIGURE, "--config", "scale=tiny")) for alone, root in roots.items()}


@pytest.fixture
def memory(made, monkeypatch):
    """The cell of the memory of CPDM."""
    monkeypatch.chdir(made[True][0])
    monkeypatch.setenv("CONDENSE_PARAMS", str(made[True][0] / "params"))
    (cell,) = [cell for cell in Plan("tiny").synthetic.values() if cell.joins]
    return cell


def test_one_job_for_all_steps_makes_what_jobs_of_their_own_make(made, memory):
    one, several = (read_tensors(made[alone][0] / memory.path, "synthetic") for alone in (True, False))
    assert (one[0]["images"] == several[0]["images"]).all() and one[1] == several[1]
    assert [sorted(step) for step in one[1]["class_steps"]] == [
        list(part.data.chosen) for part in memory.joins
    ]
    for path in sorted((made[True][0] / "results" / "metrics").rglob("*.json")):
        own, other = read_json(path), read_json(made[False][0] / path.relative_to(made[True][0]))
        assert own["accuracies"] == other["accuracies"] and own["steps"] == [5, 10]


def test_the_sets_and_parents_of_a_step_are_of_its_classes_alone(made, memory):
    root = made[False][0]
    for part in memory.joins:
        names = [str(label) for label in part.data.chosen]
        assert read_header(root / part.path)["class_names"] == names
        (teacher,) = part.parents.values()
        wanted = read_header(root / part.data.train)["data_sha256"]
        assert read_header(root / teacher.path)["data_sha256"] == wanted


def test_a_second_run_has_nothing_to_do_also_without_the_sets_of_the_steps(made, memory):
    root = made[False][0]
    for part in memory.joins:
        (root / part.path).unlink()
    assert "Nothing to be done" in snakemake(root, FIGURE, "-n", "--config", "scale=tiny")
    assert Path(root / FIGURE).stat().st_size > 10_000
