"""What leaves the repository: the package without a checkout, images, and the files that say what it is."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from condense.config import UserError, load_yaml
from condense.machine import checkout
from condense.plan import data_cell
from condense.plan.tables import Plan
from condense.specs import catalogue
from hang_helpers import HUNG

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_PACKAGE = ("pyproject.toml", "README.md", "LICENSE", "src", "params", "workflow")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder with the package installed from a wheel that was built from a copy of the checkout, which is
    gone afterwards."""
    pytest.importorskip("hatchling", reason="builds the wheel: extra 'build'")
    copy, site = tmp_path_factory.mktemp("copy") / "condense", tmp_path_factory.mktemp("site")
    copy.mkdir()
    for name in FOR_PACKAGE:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run([*pip, "--target", site, copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(copy)
    return site


def in_an_empty_folder(installed, tmp_path, *command, **environment):
    """What an interpreter says that finds the installed package and no checkout."""
    environment = {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", **environment}
    folder = tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    call = [sys.executable, *command]
    done = subprocess.run(
        call, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=HUNG
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_carries_recipes_kernels_licence_and_marker(installed):
    package = installed / "condense"
    for folder in ("params", "src/condense/kernels"):
        files = {
            path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.*") if path.suffix != ".pyc"
        }
        copies = package / folder.removeprefix("src/condense/")
        assert files and [name for name in files if not (copies / name).is_file()] == []
    assert (package / "py.typed").is_file() and (package / checkout.PROFILE).is_file()
    assert list(installed.glob("condense-*.dist-info/licenses/LICENSE"))
    assert not (package / "Snakefile").exists()


def test_it_knows_that_it_is_no_checkout(installed, tmp_path):
    code = "from condense.machine import checkout, runtime; from condense.specs import catalogue; "
    code += "print(checkout.checkout(), catalogue.params_folder(), runtime.code_version())"
    place, folder, version = in_an_empty_folder(installed, tmp_path, "-c", code).split()
    assert (
        place == "None"
        and Path(folder) == installed / "condense" / "params"
        and version == PROJECT["version"]
    )


def test_a_repository_around_it_is_not_taken_for_the_checkout(installed, tmp_path):
    around = tmp_path / "of a user"
    shutil.copytree(installed, around / "src")
    (around / ".git").mkdir()
    (around / "Snakefile").touch()
    code = (
        "from condense.machine import checkout, runtime; print(checkout.checkout(), runtime.code_version())"
    )
    assert in_an_empty_folder(around / "src", tmp_path, "-c", code).split() == ["None", PROJECT["version"]]


def test_it_lists_and_estimates_in_an_empty_folder(installed, tmp_path):
    assert "cpdm" in in_an_empty_folder(installed, tmp_path, "-m", "condense.command.cli", "list", "methods")
    assert "cpdm/table1" in in_an_empty_folder(
        installed, tmp_path, "-m", "condense.command.cli", "list", "tables"
    )
    code = "from condense.estimate.cluster import cluster; print(cluster().attempts)"
    assert int(in_an_empty_folder(installed, tmp_path, "-c", code)) >= 1
    before = {path for path in installed.rglob("*") if "__pycache__" not in path.parts}
    code = "from condense.estimate import _rates_file; print(_rates_file())"
    said = in_an_empty_folder(installed, tmp_path, "-c", code, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert said.strip() == str(tmp_path / "cache" / "condense" / "rates.json")
    assert {path for path in installed.rglob("*") if "__pycache__" not in path.parts} == before


@pytest.mark.slow
def test_it_condenses_in_an_empty_folder(installed, tmp_path):
    own = tmp_path / "own" / "methods"
    own.mkdir(parents=True)
    text = (ROOT / "params" / "methods" / "dm.yaml").read_text(encoding="utf-8")
    (own / "mine.yaml").write_text(
        re.sub(r"^name: dm$", "name: mine", text, flags=re.MULTILINE), encoding="utf-8"
    )
    settings = [
        "--method",
        "mine",
        "--ipc",
        "1",
        "--steps",
        "2",
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    command = ["-m", "condense.command.cli", "run", "digits", *settings, "--out", "tried"]
    said = in_an_empty_folder(installed, tmp_path, *command, CONDENSE_PARAMS=str(own.parent))
    assert (
        "synthetic.safetensors" in said
        and (tmp_path / "elsewhere" / "tried" / "synthetic.safetensors").is_file()
    )


def test_a_folder_of_ones_own_comes_before_the_recipes_of_the_project(tmp_path, monkeypatch, caplog):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "cpdm.yaml").write_text("name: cpdm\nengine: matching\nbroken: true\n")
    (tmp_path / "methods" / "mine.yaml").write_text("name: mine\nengine: matching\nbroken: true\n")
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))
    assert {"mine", "cpdm", "dm"} <= set(catalogue.names_in("methods")) and "digits" in catalogue.names_in(
        "datasets"
    )
    for name in ("cpdm", "mine"):
        with pytest.raises(
            UserError, match=f"^{re.escape(str(tmp_path))}.methods.{name}.yaml: unknown key 'broken'"
        ):
            catalogue.recipe(name)
    assert catalogue.recipe("dm").name == "dm"
    (told,) = [record.message for record in caplog.records if "is read in place of" in record.message]
    assert f"{tmp_path / 'methods' / 'cpdm.yaml'} is" in told and catalogue.OWN_PARAMS in told


def test_a_process_that_changes_its_folder_reads_the_settings_there(tmp_path, monkeypatch):
    folder, seen = catalogue.params_folder(), {}
    for name, steps in (("one", 3), ("other", 4)):
        for kind, file, key, value in (
            ("methods", "dm", "steps", steps),
            ("protocols", "dc", "epochs", steps),
            ("tables", "cpdm_figure3", "title", name),
            ("datasets", "digits", "title", name),
        ):
            settings = load_yaml(folder / kind / f"{file}.yaml") | {key: value}
            path = tmp_path / name / kind / f"{file}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path / name))
        seen[name] = (
            catalogue.recipe("dm").steps,
            catalogue.protocol("dc").epochs,
            Plan.specs_by_path()["cpdm/figure3"].title,
            data_cell("digits").spec.title,
        )
    assert seen == {"one": (3, 3, "one", "one"), "other": (4, 4, "other", "other")}


@pytest.mark.parametrize("text", ["nowhere", "."])
def test_a_folder_of_ones_own_without_recipes_is_named(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(catalogue.OWN_PARAMS, text)
    with pytest.raises(UserError, match=f"CONDENSE_PARAMS: '{text}' holds no folder named methods"):
        catalogue.names_in("methods")


def pinned():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lock, flags=re.MULTILINE)
    }


def test_the_lock_pins_what_the_package_asks_for():
    asked = [
        *PROJECT["dependencies"],
        *(entry for extra in PROJECT["optional-dependencies"].values() for entry in extra),
    ]
    for requirement in map(Requirement, asked):
        version = pinned().get(requirement.name.lower().replace("_", "-"))
        assert version and requirement.specifier.contains(version), (
            f"{requirement}: the lock has {version}; run `make lock`"
        )
    assert not Requirement(next(entry for entry in asked if entry.startswith("mlflow"))).specifier.contains(
        "3.18.0"
    )


def test_version_licence_and_name_are_the_same_wherever_they_stand():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= set(cited)
    assert cited["version"] == PROJECT["version"] and cited["license"] == PROJECT["license"]
    assert cited["authors"] == PROJECT["authors"]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (
        text.split("\n")[1].strip() == "Apache License"
        and "9. Accepting Warranty" in text
        and "END OF TERMS AND CONDITIONS" in text
    )
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changes and f"## {PROJECT['version']}" in changes


def test_images_hold_the_same_files_and_all_that_making_them_needs():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    in_docker = {line[1:] for line in lines if line.startswith("!")}
    recipe = (ROOT / "container" / "condense.def").read_text(encoding="utf-8")
    in_apptainer = set(re.findall(r"^    (\S+) /opt/condense/\1$", recipe, flags=re.MULTILINE))
    assert in_docker == in_apptainer | {"profiles"} and "ln -sfn workflow/profiles profiles" in recipe
    assert (
        all((ROOT / name).exists() for name in in_docker)
        and {"Makefile", "Snakefile", "requirements.lock", *FOR_PACKAGE} <= in_docker
    )


def test_images_are_made_by_commands_that_exist():
    docker = (ROOT / "container" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    steps = re.findall(r"^RUN (.*)$", docker, flags=re.MULTILINE)
    recipe = (ROOT / "container" / "condense.def").read_text(encoding="utf-8")
    steps += [re.search(r"^%post\n(.*?)^%", recipe, flags=re.MULTILINE | re.DOTALL)[1]]
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert len(steps) == 3
    for step in steps:
        assert subprocess.run(["sh", "-n", "-c", step]).returncode == 0
        assert set(re.findall(r"\bmake ([a-z-]+)$", step, flags=re.MULTILINE)) <= targets
    base = re.findall(r"^(?:FROM|From:) python:(\S+)$", docker + recipe, flags=re.MULTILINE)
    assert base == ["3.11-slim"] * 2 and fnmatch("3.11", base[0].removesuffix("-slim"))


def test_conda_takes_the_lock_and_says_how_the_package_gets_in():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    packages = yaml.safe_load(text)["dependencies"]
    command = "python -m pip install --no-deps --no-build-isolation -e ."
    assert {"pip": ["--requirement requirements.lock"]} in packages
    assert command in text and command in (ROOT / "docs" / "running.md").read_text(encoding="utf-8")


def test_what_runs_before_a_commit_is_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [entry["repo"] for entry in hooks] == ["local"]  # nothing is fetched
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == ["make --no-print-directory lint"]


def test_the_version_that_runs_is_the_one_of_the_project():
    assert metadata.version("condense") == PROJECT["version"]
