"""What the README and the documents show works, and one screen of the README leads a newcomer to all of
it."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
import torch
import yaml

from condense import jobs, models, specs
from condense.command.arguments import parser
from condense.command.cli import VERBS
from condense.config import convert, read
from condense.data.spec import DatasetSpec
from condense.discrepancy.samples import checked
from condense.engines import terms
from condense.engines.orders import Order, Outcome, Site
from condense.files.checkpoints import Checkpoint
from condense.specs import catalogue
from condense.specs.costs.work import Shard, Work

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DETAILS = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands():
    lines = [
        line.split("#")[0].strip()
        for text in [README, *DETAILS]
        for block in blocks("sh", text)
        for line in block.splitlines()
    ]
    return [line.removeprefix(".venv/bin/") for line in lines if line]


def test_the_training_example_runs_on_a_set(digits, tmp_path, monkeypatch):
    recipe = catalogue.recipe("random")
    job = jobs.ShardJob(recipe, digits / "train.safetensors", arch="none", options={}, ipc=5, seed=0, key="k")
    jobs.condense_shard(tmp_path / "shard.safetensors", job, jobs.Machine("cpu", 1))
    jobs.gather(
        tmp_path / "condensed" / "synthetic.safetensors",
        [tmp_path / "shard.safetensors"],
        digits / "train.safetensors",
    )
    monkeypatch.chdir(tmp_path)
    example = blocks("python")[0]
    scope: dict = {}
    exec(example, scope)  # noqa: S102
    assert (
        len(scope["data"]) == 50
        and scope["images"].shape[1:] == (1, 8, 8)
        and scope["model"][1].weight.grad is not None
    )


def test_the_term_of_the_readme_is_one():
    _, term, options, *_ = blocks("python")
    scope = {"torch": torch, "Tensor": torch.Tensor, "checked": checked}
    exec(term, scope)  # noqa: S102
    real, synthetic = torch.tensor([[[1.0], [5.0], [9.0], [0.0]]]), torch.tensor([[[2.0], [3.0], [7.0]]])
    quantile, mask = scope["quantile_discrepancy"], torch.tensor([[True, True, True, False]])
    # 3 and 5 against 3
    assert quantile(real, synthetic).tolist() == [0.0] and quantile(real, synthetic, mask).tolist() == [4.0]
    assert quantile(real, synthetic, mask, 1.0).tolist() == [4.0]  # 9 against 7
    scope = {"__name__": __name__}  # no module of the terms, whose classes a test lists
    exec(options, scope)  # noqa: S102
    assert read(scope["Quantile"], {"name": "quantile", "level": 0.9}, "README").level == 0.9


def test_the_engine_of_the_readme_is_one(train):
    *_, settings, function = blocks("python")
    scope = {
        "dataclass": dataclass,
        "ClassVar": ClassVar,
        "Literal": Literal,
        "Recipe": specs.Recipe,
        "Shard": Shard,
        "Work": Work,
    }
    scope |= {
        "__name__": "condense.specs.recipe",
        "torch": torch,
        "Site": Site,
        "Order": Order,
        "Outcome": Outcome,
        "Sequence": Sequence,
    }
    exec(settings, scope)  # noqa: S102
    exec(function, scope)  # noqa: S102
    recipe = scope["MeanRecipe"](
        name="a", title="b", source=specs.Source("ours"), engine="mean", brightness=2.0
    )
    order = Order(recipe, 3, {}, Checkpoint(None, ""))
    (outcome,) = scope["mean_images"](Site(train, (4, 7), "none", {}, 0, torch.device("cpu")), [order])
    assert outcome.images.shape == (2, 3, 1, 8, 8)
    torch.testing.assert_close(outcome.images[1, 2], 2 * train.of_class(7).mean(0))


def test_the_entries_that_the_readme_adds_to_registries_are_of_their_kind():
    def entry(name):
        (line,) = re.findall(rf'`("{name}": .*?)`', README)
        return "{" + line + "}"

    scope = vars(terms) | {"quantile_discrepancy": lambda real, synthetic, mask, level: level}
    (term,) = eval(entry("quantile"), dict(scope)).values()  # noqa: S307
    views = SimpleNamespace(real_embedding=None, synthetic_embedding=None, mask=None)
    assert isinstance(term, terms.Objective) and term.value(views, SimpleNamespace(level=0.9)) == 0.9
    (options,) = eval(entry("convnetw48"), dict(vars(models))).values()  # noqa: S307
    assert type(options) is type(models.CONVNETS["convnet"]) and options.width == 48


def test_the_dataset_the_method_and_the_protocol_of_the_readme_are_read():
    dataset, method, protocol = blocks("yaml")
    assert read(specs.Protocol, yaml.safe_load(protocol), "README").loss.temperature == 20.0
    assert read(DatasetSpec, yaml.safe_load(dataset), "README").source.kind == "image_folder"
    recipe = convert(specs.AnyRecipe, yaml.safe_load(method), "README")
    assert catalogue.resolve(recipe, "cifar10", "color_crop", 10, []).terms[1].weight == 10.0


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("condense ")])
def test_commands_of_the_readme_are_understood(command):
    parser(VERBS).parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_make_targets_of_the_readme_exist(command):
    assert re.search(
        rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )


def test_every_method_is_in_the_readme():
    table = README[README.index("## Methods") :]
    assert [name for name in catalogue.names_in("methods") if f"`{name}`" not in table] == []


def anchors(text):
    """The names by which headings are linked, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_newcomer_needs_one_screen_whose_links_lead_somewhere():
    screen = README[: README.index("\n## ")]
    assert screen.count("\n") <= 48 and {"make tables", "condense run"} <= set(
        re.findall("make tables|condense run", screen)
    )
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]*)#?([^)]*)\)", screen)
    assert {file for file, _ in links} >= {
        f"docs/{name}.md" for name in ("data", "running", "cluster", "settings", "architecture")
    }
    for file, anchor in links:
        text = (ROOT / (file or "README.md")).read_text(encoding="utf-8")
        assert not anchor or anchor in anchors(text), f"{file}#{anchor}"


def test_files_that_texts_name_are_there():
    for text in ("CONTRIBUTING.md", "docs/architecture.md", "docs/running.md"):
        named = re.findall(r"`([a-z_/]+\.py)`", (ROOT / text).read_text(encoding="utf-8"))
        absent = [
            name
            for name in named
            if not any((ROOT / folder / name).is_file() for folder in ("", "src/condense"))
        ]
        assert absent == [], f"{text}: no such files"


def test_pictures_of_the_readme_are_there():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)


def test_files_written_for_the_lock_name_no_index():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock and not re.search(r"^--|file:|/simple|\+cpu", lock, flags=re.MULTILINE)
