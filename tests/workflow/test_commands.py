"""Whatever command Snakemake is given: what is finished stays or is made again, and what goes wrong is
said."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from project_helpers import PROJECT, copy_project, snakemake, write_scale

from condense.files.artifacts import file_sha256, read_json
from condense.plan.tables import Plan

sys.path.insert(0, str(PROJECT / "workflow"))

pytestmark = pytest.mark.workflow
TABLE = "results/tables/cpdm/table1.csv"
TINY = ("--config", "scale=tiny")
# One without our triggers: Snakemake looks at everything
OTHER_PROFILE = ("--workflow-profile", "none", "--retries", "0")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = copy_project(tmp_path_factory.mktemp("project"))
    write_scale(root)
    snakemake(root, TABLE, *TINY, *OTHER_PROFILE)
    return root


@pytest.fixture
def project(made, tmp_path):
    root = tmp_path / "project"
    shutil.copytree(made, root, symlinks=True)
    return root


def finished(root):
    """Digests of what is finished; of metrics all but what they cost."""
    digests = {path: file_sha256(path) for path in root.glob("results/**/*.safetensors")}
    for path in root.glob("results/metrics/**/*.json"):
        digests[path] = {name: value for name, value in read_json(path).items() if name != "run"}
    return {str(path.relative_to(root)): digest for path, digest in digests.items()}


FORCED = [
    ("--force",),
    ("-R", "gather", "evaluate", "teach", "--"),
    ("-F",),
    ("--forceall", *OTHER_PROFILE),
]


@pytest.mark.parametrize("forced", FORCED, ids=" ".join)
def test_forced_jobs_leave_finished_results_as_they_are_and_say_so(project, forced):
    before = finished(project)
    options, end = [word for word in forced if word != "--"], ["--"] if "--" in forced else []
    said = snakemake(project, *TINY, *options, *end, TABLE)
    assert finished(project) == before and "What was finished stays" not in said
    asked = 0 if forced == ("--force",) else 7
    kept = re.findall(
        r"kept: (\S+) \(it is whole; to make it anew delete it, or give Snakemake --config anew=true\)", said
    )
    assert len(kept) >= asked and all((project / path).exists() for path in kept), said


def test_anew_makes_forced_jobs_do_their_work_again(project):
    before, dates = (
        finished(project),
        {path: path.stat().st_mtime_ns for path in project.glob("results/synthetic/**/*.safetensors")},
    )
    said = snakemake(
        project, "-R", "synthesize", "gather", "--config", "scale=tiny", "anew=true", "--", TABLE
    )
    assert "kept:" not in said and finished(project) == before
    assert all(path.stat().st_mtime_ns > date for path, date in dates.items())


def test_a_profile_without_our_triggers_has_nothing_to_do_a_second_time(made):
    assert "Nothing to be done" in snakemake(made, TABLE, *TINY, *OTHER_PROFILE, "-n")
    lines = snakemake(made, TABLE, *TINY, *OTHER_PROFILE, "--summary").splitlines()
    rows = [line.split("\t") for line in lines if line.startswith("results/")]
    assert rows and all(row[-1] == "no update" for row in rows), (
        "an index of a group is missing, and nobody needs it"
    )


@pytest.mark.parametrize("profile", [(), OTHER_PROFILE], ids=["ours", "another"])
def test_data_that_is_prepared_again_for_one_result_leaves_the_others_alone(project, monkeypatch, profile):
    monkeypatch.chdir(project)
    metrics = {cell.synthetic.recipe.name: path for path, cell in Plan("tiny").metrics.items()}
    shutil.rmtree(project / "results" / "data")
    before = finished(project)
    Path(metrics["dm"]).unlink()
    said = snakemake(project, *metrics.values(), *TINY, *profile)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    assert counts == {"data": "1", "evaluate": "1", "total": "2"}
    assert finished(project).items() >= before.items()


def test_a_forced_job_hides_nothing_that_is_missing_behind_it(project, monkeypatch):
    """The set between a forced teacher and missing metrics is finished."""
    monkeypatch.chdir(project)
    path = next(path for path, cell in Plan("tiny").metrics.items() if cell.synthetic.recipe.name == "cpdm")
    Path(path).unlink()
    snakemake(project, *TINY, "--forcerun", "teach", "--", path, TABLE)
    assert Path(path).exists()


def test_reading_the_workflow_writes_nothing(project):
    shutil.rmtree(project / "results")
    shutil.rmtree(project / ".snakemake")
    before = sorted(path for path in project.rglob("*") if "__pycache__" not in path.parts)
    snakemake(project, *TINY, "-n")
    assert sorted(path for path in project.rglob("*") if "__pycache__" not in path.parts) == before


def test_a_folder_that_cannot_hold_the_notes_of_a_run_is_named_with_the_way_out(project):
    shutil.rmtree(project / ".snakemake")
    (project / ".snakemake").write_text("", encoding="utf-8")
    said = snakemake(project, *TINY, fails=True)
    assert (
        ".snakemake: cannot be written" in said and "--directory FOLDER" in said and "Traceback" not in said
    )


SETTINGS = [
    ("scal=laptop", "unknown key 'scal'; did you mean 'scale'?"),
    ("SCALE=laptop", "unknown key 'SCALE'"),
    ("scale=", "scale: a text is needed"),
    ("scale=[quick]", "scale: a text is needed"),
    ("device=gpu", "device: unknown value 'gpu'"),
    ("anew=perhaps", "anew: true or false is needed"),
    ("max_runtime=0", "max_runtime: must be at least 1"),
]


@pytest.mark.parametrize(("setting", "sentence"), SETTINGS)
def test_a_wrong_setting_is_answered(made, setting, sentence):
    said = snakemake(made, "-n", "--config", setting, fails=True)
    assert sentence in said and "Traceback" not in said


def test_what_failed_is_said_with_its_reason_and_its_log(project):
    write_scale(project, name="far", datasets={"cifar10": ["fashion_mnist"]})
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    said = snakemake(
        project, TABLE, "--config", "scale=far", fails=True, CONDENSE_DATA=str(project / "nothing"), **nowhere
    )
    log = re.search(r"FAILED: data, which makes (\S+)\n  log: (\S+)\n    condense: (.*)", said)
    assert log and (project / log[2]).exists() and "get it by other means" in log[3]
    assert "CalledProcessError" not in said and "no backup found" not in said


def test_without_a_gpu_the_head_says_so_before_the_first_job(project):
    write_scale(
        project,
        name="gpus",
        methods=["random"],
        resources={"evaluate": {"gpu": 1, "threads": 1, "mem_mb": 1000, "runtime": 9}},
    )
    shutil.rmtree(project / "results" / "metrics")
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("there is a GPU here")
    said = snakemake(project, TABLE, "--config", "scale=gpus", fails=True)
    assert "--config device=cpu" in said and "FAILED" not in said
    snakemake(project, TABLE, "--config", "scale=gpus", "device=cpu")


def test_all_that_is_relied_upon_of_snakemake_is_there():
    import interventions
    import snakemake.api  # noqa: F401  first, since its modules import each other

    needs = [name for change in interventions.CHANGES for name in change.needs]
    assert needs and [name for name in needs if not interventions._exists(name)] == []
    assert not interventions._exists("snakemake.dag:DAG.no_such_thing") and not interventions._exists(
        "no_such_module:x"
    )


def test_a_change_that_has_no_place_is_left_out_and_said(capsys, monkeypatch):
    import interventions
    import snakemake.api  # noqa: F401  first, since its modules import each other

    made = []
    lost = interventions.Change(
        "x", "it is slower", ("snakemake.dag:DAG.gone",), lambda *_: made.append("lost")
    )
    fits = interventions.Change("y", "nothing", ("snakemake.dag:DAG",), lambda *_: made.append("fits"))
    monkeypatch.setattr(interventions, "CHANGES", (lost, fits))
    interventions.make_changes(None, interventions.Head(bool, print))
    assert made == ["fits"] and "has no snakemake.dag:DAG.gone: it is slower" in capsys.readouterr().err


def test_the_rules_can_be_a_module_of_another_workflow(made, tmp_path):
    module = f'module condense:\n    snakefile: "{made}/Snakefile"\n    config: config\n\n'
    module += "use rule * from condense as condense_*\n"
    (tmp_path / "Snakefile").write_text(module, encoding="utf-8")
    shutil.copytree(made / "params", tmp_path / "params")
    write_scale(tmp_path, methods=["random"])
    said = snakemake(tmp_path, TABLE, "--config", "scale=tiny")
    assert "5 of 5 steps (100%) done" in said and (tmp_path / TABLE).exists()


def test_values_enter_the_shell_lines_of_the_rules_only_when_quoted():
    """What the text of a setting says may not run: names of scales and datasets, paths, options."""
    # Numbers, and what is quoted when it is made.
    plain = {"threads", "params.options", "params.keep", "wildcards.key", "wildcards.ekey", "wildcards.part"}
    plain |= {"params.unless_made"}
    for path in sorted((PROJECT / "workflow" / "rules").glob("*.smk")):
        for shell in re.findall(r'shell:\n((?: +".*"\n)+)', path.read_text(encoding="utf-8")):
            for name, quoted in re.findall(r"\{([\w.]+)(:q)?\}", shell):
                assert quoted or name in plain, f"{path.name}: {{{name}}}"
