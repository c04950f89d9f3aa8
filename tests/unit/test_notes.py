"""The notes on reproduction: every switch that they name works and changes the result, and every method is in
them."""

import re
from pathlib import Path

import pytest
import yaml

from condense import plan
from condense.specs import catalogue

ROOT = Path(__file__).parents[2]
NOTES = (ROOT / "docs" / "reproduction-notes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", NOTES, re.DOTALL)
ENTRIES = [
    (name, change) for block in BLOCKS for entry in yaml.safe_load(block) for name, change in entry.items()
]
SWITCHES = [entry for entry in ENTRIES if entry[0] != "protocols"]
PROTOCOLS = [change for name, change in ENTRIES if name == "protocols"]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_a_switch_changes_what_is_computed(switch):
    method, change = switch
    base = catalogue.recipe(method)
    strategy = plan.data_cell("cifar10").spec.strategy
    for ipc in (1, 10, 100):
        keys = [
            catalogue.resolve(base, "cifar10", strategy, ipc, layers).computed_part()
            for layers in ([], [("notes", change)])
        ]
        if keys[0] != keys[1]:  # recipes differ over the ipc: one of these has to feel the change
            return
    pytest.fail("nothing changes")


@pytest.mark.parametrize("change", PROTOCOLS, ids=str)
def test_a_change_of_a_protocol_changes_it(change):
    for name, value in change.items():
        assert plan.changed_protocol(name, ("notes", value)) != catalogue.protocol(name)


def test_there_are_switches_and_every_method_is_told_of():
    assert len(SWITCHES) > 30 and len(PROTOCOLS) >= 3
    headings = " ".join(line for line in NOTES.splitlines() if line.startswith("## "))
    ablations = {"dm_classifier", "dm_kl", "dm_clip", "ed_kl", "ed_clip", "diversity", "diversity_classifier"}
    told = set(re.findall(r"`([a-z0-9_]+)`", headings)) | ablations
    assert not [name for name in catalogue.names_in("methods") if name not in told]


@pytest.mark.parametrize("path", ["README.md", "docs/architecture.md"])
def test_the_notes_are_linked(path):
    assert "reproduction-notes.md" in (ROOT / path).read_text(encoding="utf-8")
