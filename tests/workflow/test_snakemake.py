"""A real Snakemake on a copy of the project at a tiny scale: what is made, what is made again, and what is
left alone."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from project_helpers import PROJECT, TINY, copy_project, snakemake, write_scale

from condense.files.artifacts import read_json, read_tensors
from condense.machine import claims
from condense.plan.groups import groups
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together
from condense.report.measured import TABLE_COLUMNS

pytestmark = pytest.mark.workflow
TABLE = "results/tables/cpdm/table1.csv"


def planned(root, *more, scale="tiny"):
    """Rule -> number of jobs that a dry run of the table, and of what else is asked for, would start."""
    said = snakemake(root, TABLE, *more, "-n", "--config", f"scale={scale}")
    if "Nothing to be done" in said:
        return {}
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\n\n", said, re.DOTALL)[1]
    counts = {rule: int(count) for rule, count in (line.split() for line in table.splitlines())}
    assert counts.pop("total") == sum(counts.values())
    return counts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy of the project in which the table has been made, and what Snakemake said."""
    root = copy_project(tmp_path_factory.mktemp("project"))
    write_scale(root)
    return root, snakemake(root, TABLE, "--config", "scale=tiny")


@pytest.fixture
def project(made, tmp_path):
    """A copy of that copy, with the times of its files."""
    root = tmp_path / "project"
    shutil.copytree(made[0], root, symlinks=True)
    return root


def test_the_committed_link_leads_to_the_profile_that_is_loaded():
    assert os.readlink(PROJECT / "profiles") == "workflow/profiles"


def test_the_first_run_makes_the_table_with_the_profile_of_this_machine(made):
    root, said = made
    assert "profiles/default" in said.splitlines()[0]
    assert re.search(r"total +12\n", said) and "12 of 12 steps (100%) done" in said
    for suffix in (".csv", ".md", ".tex", ".json"):
        assert (root / TABLE).with_suffix(suffix).stat().st_size > 0
    with open(root / TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == TABLE_COLUMNS
    found = {row["method"]: row for row in rows if row["dataset"] == "digits"}
    assert set(found) == {"random", "dm", "cpdm"}
    assert all(
        0 <= float(row["measured"]) <= 100 and row["scale"] == "tiny" and not row["published"]
        for row in found.values()
    )
    assert list(root.glob("results/shards/**/*.safetensors")) == []
    assert len(list(root.glob("results/synthetic/**/grid.png"))) == 3
    assert list(root.rglob("*.part")) == list(root.rglob("*.resume*")) == []


def test_a_second_run_has_nothing_to_do(made):
    assert planned(made[0]) == {}


def test_files_are_accepted_without_snakemakes_records_and_without_what_they_were_made_from(project):
    """As after a pull of kept metrics: the keys say what they are."""
    shutil.rmtree(project / ".snakemake")
    for folder in ("data", "teachers", "synthetic"):
        shutil.rmtree(project / "results" / folder)
    assert (
        planned(
            project, *(str(path.relative_to(project)) for path in project.glob("results/metrics/**/*.json"))
        )
        == {}
    )


def test_a_missing_metrics_file_is_remade_with_what_depends_on_it(project):
    path = next(project.glob("results/metrics/condense/digits/dm/**/*.json"))
    path.unlink()
    assert planned(project, str(path.relative_to(project))) == {"evaluate": 1, "table": 1}


def test_a_deleted_set_is_made_anew_when_everything_is_asked_for(made, project):
    for path in project.glob("results/synthetic/**/synthetic.safetensors"):
        path.unlink()
    assert planned(project) == {}  # which its metrics do without
    assert planned(project, "all")["gather"] == 3


def test_another_scale_planned_between_leaves_nothing_to_do(project):
    write_scale(project, name="other", title="another test")
    assert planned(project, scale="other") == {"table": 1}, (
        "its cells are the same, but the table says whose numbers it shows"
    )
    assert planned(project) == {}
    snakemake(project, TABLE, "--config", "scale=other")
    assert planned(project) == {"table": 1}


def test_a_page_is_made_again_for_another_scale_and_after_it_could_not_be_made(project):
    """Its inputs may all be older: those of a scale that was finished before, or of the run that failed."""
    pages = {"report": "results/report.html", "leaderboard": "results/leaderboard.html"}
    summary = "results/summary/accuracy.json"
    write_scale(project, name="second", tables={"idm/table1": {"judges": []}})
    tiny = ("--config", "scale=tiny")
    snakemake(project, *pages.values(), summary, *tiny)
    snakemake(project, *pages.values(), summary, "--config", "scale=second")
    again = {"report": 1, "leaderboard": 1, "summary": 1}
    assert planned(project, *pages.values(), summary) == again
    snakemake(project, *pages.values(), summary, *tiny)
    assert planned(project, *pages.values(), summary) == {}

    page, image_set = (
        project / pages["report"],
        next(project.glob("results/synthetic/**/synthetic.safetensors")),
    )
    before, made_at, whole = page.read_bytes(), page.stat().st_mtime_ns, image_set.read_bytes()
    image_set.write_bytes(whole[:-1] + b"?")
    damaged_at = image_set.stat().st_mtime_ns
    assert "damaged" in snakemake(project, pages["report"], *tiny, fails=True)
    assert page.read_bytes() == before and page.stat().st_mtime_ns == made_at
    image_set.write_bytes(whole)
    os.utime(image_set, ns=(damaged_at, damaged_at))
    assert planned(project, pages["report"]) == {"report": 1}


def test_a_changed_setting_asks_for_its_cells_and_no_others(project):
    write_scale(project, recipes={**TINY["recipes"], "dm": {"steps": 4}})
    assert planned(project) == {"synthesize": 1, "gather": 1, "evaluate": 1, "table": 1}
    write_scale(project, protocols={"dc": {"epochs": 1}, "critic": {"epochs": 2}})
    assert planned(project) == {"teach": 1, "synthesize": 1, "gather": 1, "evaluate": 1, "table": 1}


def test_an_evaluation_in_parts_is_that_of_one_job(project, monkeypatch):
    monkeypatch.chdir(project)
    write_scale(project, name="parted", n_networks=3)
    target = next(
        path for path, cell in Plan("parted").metrics.items() if cell.synthetic.recipe.name == "random"
    )

    def made():
        snakemake(project, target, "--config", "scale=parted")
        value = read_json(project / target)
        return value.pop("run"), value

    run, whole = made()
    write_scale(project, name="parted", n_networks=3, networks_per_job={"convnet": 2})
    assert planned(project, scale="parted") == {"evaluate_part": 4, "join": 2, "table": 1}, (
        "what one job made is not made again"
    )
    (project / target).unlink()
    assert planned(project, scale="parted") == {"evaluate_part": 6, "join": 3, "table": 1}
    run_of_parts, joined = made()
    assert joined == whole and "jobs" not in run and run_of_parts["jobs"] == 2
    assert not (project / "results" / "parts").exists()


def test_sets_of_one_job_are_those_of_their_own_jobs(project, monkeypatch):
    monkeypatch.chdir(project)
    write_scale(project, name="together", sets_per_job=3)
    plan = Plan("together")
    paths = {cell.recipe.name: Path(cell.path) for cell in plan.synthetic.values()}
    alone = {name: read_tensors(path)[0]["images"] for name, path in paths.items()}
    table = re.sub(r"\btiny\b", "together", (project / TABLE).read_text(encoding="utf-8"))
    assert planned(project, scale="together") == {"table": 1}, "what is made stays"
    for folder in ("metrics", "synthetic"):
        shutil.rmtree(project / "results" / folder)
    (group,) = [group for group in groups(plan) if len(group.cells) > 1]
    assert [cell.recipe.name for cell in group.cells] == ["cpdm", "dm"]
    assert planned(project, scale="together") == {"synthesize": 2, "gather": 3, "evaluate": 3, "table": 1}
    snakemake(project, TABLE, "--config", "scale=together")
    for name, images in alone.items():
        np.testing.assert_allclose(read_tensors(paths[name])[0]["images"], images, atol=1e-5)
    assert (project / TABLE).read_text(encoding="utf-8") == table
    assert not (project / "results" / "shards").exists()
    shutil.rmtree(paths["dm"].parent)
    said = snakemake(
        project, str(paths["dm"]), "-n", "--config", "scale=together", "--workflow-profile", "none"
    )
    assert group.path in said and re.search(r"gather +1\n", said), (
        "the group is the same, whatever is made of it"
    )


def test_sets_made_beside_those_asked_for_are_not_made_again(project, monkeypatch):
    monkeypatch.chdir(project)
    write_scale(project, name="together", sets_per_job=3)
    paths = {cell.recipe.name: cell.path for cell in Plan("together").synthetic.values()}
    for folder in ("metrics", "synthetic", "tables"):
        shutil.rmtree(project / "results" / folder)
    snakemake(project, paths["dm"], "--config", "scale=together")
    (waiting,) = project.glob("results/shards/**/*.safetensors")
    assert waiting.relative_to(project / "results").parts[2] == "cpdm"
    # Made anew from shards that went with it, while the index of the group still tells of them
    Path(paths["dm"]).unlink()
    snakemake(project, paths["dm"], "--config", "scale=together")
    assert Path(paths["dm"]).exists() and waiting.exists()
    said = snakemake(project, paths["cpdm"], "--config", "scale=together")
    assert "synthesize" not in said and Path(paths["cpdm"]).exists()
    assert not list(project.glob("results/shards/**/*.safetensors"))


def test_what_is_set_for_the_rule_of_one_set_holds_for_jobs_of_several(project):
    shutil.rmtree(project / "results")
    write_scale(project, sets_per_job=3)
    given = [
        "--set-resources",
        "synthesize:mem_mb=1234",
        "synthesize:gpu_model=a100",
        "--set-threads",
        "synthesize=2",
    ]
    said = snakemake(project, TABLE, "-n", *given, "--config", "scale=tiny", "--workflow-profile", "none")
    found = re.findall(r"rule synthesize:(.*?resources: [^\n]*)", said, re.DOTALL)
    assert len(found) == 2, "a group of two sets, and a selection"
    assert all(
        "mem_mb=1234" in text and "gpu_model=a100" in text and "threads: 2" in text for text in found
    ), found


def test_a_raised_revision_asks_for_its_method_and_a_comment_for_nothing(project):
    recipe = project / "params" / "methods" / "cpdm.yaml"
    recipe.write_text(f"# a comment\n{recipe.read_text()}")
    assert planned(project) == {}
    recipe.write_text(f"{recipe.read_text()}\nrevision: 2\n")
    assert planned(project) == {"synthesize": 1, "gather": 1, "evaluate": 1, "table": 1}


def test_changed_published_numbers_remake_the_table(project):
    path = project / "params" / "published" / "results.csv"
    text = path.read_text(encoding="utf-8")
    assert "cpdm,1,cifar10,1,random,,convnet,condense,test_accuracy,,14.4," in text
    path.write_text(text.replace("test_accuracy,,14.4,", "test_accuracy,,14.5,", 1), encoding="utf-8")
    assert planned(project) == {"table": 1}


def test_an_unknown_scale_is_answered_with_the_nearest(project):
    said = snakemake(project, TABLE, "-n", "--config", "scale=tinny", fails=True)
    assert "unknown scale 'tinny'; did you mean 'tiny'?" in said and "Traceback" not in said


def test_the_papers_scale_is_planned(project):
    """How long it takes, `tests/benchmarks/planning.py` measures."""
    said = snakemake(project, "-n", "--config", "scale=paper")
    assert int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1]) > 3000


HOLD = """
import sys, time
from pathlib import Path
from condense.machine import claims
from condense.files.artifacts import read_json, read_tensors
from condense.plan.groups import groups
with claims.claim(["gpu-a", "gpu-b"], Path(sys.argv[1]), poll=0.05) as place:
    print(place, flush=True)
    time.sleep(900)
"""


def holder(folder):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_processes_hold_different_devices_and_the_third_waits_until_one_is_killed(tmp_path):
    first = holder(tmp_path)
    assert first.stdout.readline() == "0\n"
    second = holder(tmp_path)
    assert second.stdout.readline() == "1\n"
    third = holder(tmp_path)
    try:
        assert "every device is taken (gpu-a, gpu-b); waiting" in third.stderr.readline()
        assert third.poll() is None
        second.kill()
        assert third.stdout.readline() == "1\n"
        with claims.claim(["gpu-c"], tmp_path) as place:
            assert place == 0
    finally:
        for process in (first, second, third):
            process.kill()
            process.communicate()
    with claims.claim(["gpu-a", "gpu-b"], tmp_path) as place:
        assert place == 0


def test_a_claim_ends_with_its_block_also_on_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), claims.claim(["a"], tmp_path):
        raise ZeroDivisionError
    with claims.claim(["a", "b"], tmp_path) as place, claims.claim(["a", "b"], tmp_path) as other:
        assert (place, other) == (0, 1)


def test_locks_can_be_shared_by_the_users_of_a_machine(tmp_path):
    """Whoever comes first makes folder and file; others have to be able to lock the file and to add their
    own."""
    before = os.umask(0o022)
    try:
        with claims.claim(["a"], tmp_path / "locks"):
            assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777
            assert (tmp_path / "locks" / "a.lock").stat().st_mode & 0o444 == 0o444
        (tmp_path / "locks" / "a.lock").chmod(0o444)
        with claims.claim(["a"], tmp_path / "locks") as place:
            assert place == 0
    finally:
        os.umask(before)


def test_evaluations_of_one_job_are_those_of_their_own_jobs(project, monkeypatch):
    monkeypatch.chdir(project)
    write_scale(project, name="several", evaluations_per_job=2)
    paths = [project / path for path in Plan("several").metrics]
    alone = [read_json(path) | {"run": None} for path in paths]
    assert planned(project, scale="several") == {"table": 1}, "what is made stays"
    shutil.rmtree(project / "results" / "metrics")
    assert planned(project, scale="several") == {"evaluate_together": 1, "evaluate": 3, "table": 1}
    said = snakemake(project, TABLE, "--config", "scale=several")
    assert [read_json(path) | {"run": None} for path in paths] == alone
    assert "kept:" not in said
    assert not list(project.glob("results/together/*"))
    (group,) = evaluations_together(Plan("several"))
    path = group.cells[0].path
    (project / path).unlink()
    assert planned(project, path, scale="several") == {"evaluate_together": 1, "evaluate": 1, "table": 1}


def test_a_set_that_no_network_can_be_trained_on_holds_up_its_own_evaluation_alone(project, monkeypatch):
    monkeypatch.chdir(project)
    write_scale(project, name="spoilt", evaluations_per_job=3)
    shutil.rmtree(project / "results" / "metrics")
    (group,) = evaluations_together(Plan("spoilt"))
    spoilt = project / group.cells[0].synthetic.path
    spoilt.write_bytes(b"no set")
    snakemake(project, TABLE, "--keep-going", "--config", "scale=spoilt", fails=True)
    assert [(project / cell.path).exists() for cell in group.cells] == [False, True, True]
