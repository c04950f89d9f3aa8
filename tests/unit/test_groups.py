"""Which sets are condensed in one job: all of them once, only those that may share, and the same ones while
they are being made."""

from dataclasses import replace
from pathlib import Path

import pytest

from condense.files.store import kept_path
from condense.plan.groups import groups
from condense.plan.tables import Plan


def planned(scale, number):
    plan = Plan(scale)
    plan.scale = replace(plan.scale, sets_per_job=number)
    return plan


@pytest.mark.parametrize(("scale", "number"), [("quick", 1), ("quick", 4), ("paper", 3), ("paper", 1000)])
def test_every_shard_is_in_one_group_with_those_that_it_may_share_with(scale, number):
    plan = planned(scale, number)
    found = groups(plan)
    outputs = [output for group in found for output in group.outputs]
    assert sorted(outputs) == sorted(
        cell.shard_path(shard) for cell in plan.synthetic.values() for shard in plan.shards(cell)
    )
    assert len({group.name for group in found}) == len(found)
    for group in found:
        first, *others = group.cells
        assert len(group.cells) <= number and all(group.shard in plan.shards(cell) for cell in group.cells)
        assert not others or first.recipe.stream is not None
        for cell in others:
            assert cell.recipe.stream == first.recipe.stream
            assert (cell.data, cell.arch, cell.options, cell.seed) == (
                first.data,
                first.arch,
                first.options,
                first.seed,
            )
        teachers = {
            cell.parents["teacher"].key: cell.parents["teacher"]
            for cell in group.cells
            if "teacher" in cell.parents
        }
        assert len(teachers) <= 1 and [
            parent for name, parent in group.parents.items() if name == "teacher"
        ] == list(teachers.values())


def test_sets_without_a_teacher_join_those_with_one():
    plan = planned("quick", 100)
    found = [group for group in groups(plan) if {cell.recipe.name for cell in group.cells} >= {"dm", "cpdm"}]
    assert len(found) == plan.scale.n_sets, "one for each seed"
    assert all(
        "teacher" in group.parents and any("teacher" not in cell.parents for cell in group.cells)
        for group in found
    )


def test_groups_are_those_of_any_order_of_the_plan():
    plan, other = planned("quick", 4), planned("quick", 4)
    other.synthetic = dict(reversed(plan.synthetic.items()))
    assert {group.name: group.outputs for group in groups(other)} == {
        group.name: group.outputs for group in groups(plan)
    }


def touch(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()


def test_what_is_made_or_kept_is_left_out_and_changes_no_other_group(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = groups(planned("quick", 4))
    group = next(group for group in before if len(group.cells) == 4 and str(group.shard) == "classes0-9")
    assert group.left() == group
    for path in (group.cells[1].path, kept_path(group.cells[2].path)):
        touch(path)
        after = groups(planned("quick", 4))
        assert after == before
        elsewhere = [one for one in after if one.name != group.name]
        assert [one.left() for one in elsewhere] == elsewhere
    monkeypatch.setenv("CONDENSE_KEPT", "off")
    assert group.left().cells == (group.cells[0], *group.cells[2:]), (
        "what is kept is made as well when it is not to be taken"
    )
    monkeypatch.delenv("CONDENSE_KEPT")
    left = group.left()
    assert left.name == group.name and left.cells == group.cells[::3] and left.outputs == group.outputs[::3]
    touch(group.cells[0].path)
    touch(group.cells[3].path)
    assert group.left() is None
