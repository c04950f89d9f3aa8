"""What the estimate says of a whole scale: the dearest parts, what leaving them out saves, the disk, and jobs
beyond the limits."""

import re
from dataclasses import replace

import pytest
import yaml

from condense import estimate
from condense.estimate.advice import Shares, advice, over_limits
from condense.estimate.asked import on_cores
from condense.estimate.measured import Pace
from condense.estimate.rates import REFERENCE_CPU, REFERENCE_CPU_NAME
from condense.estimate.schedule import graph
from condense.plan import Maker
from condense.plan.tables import Plan
from condense.specs import Resources, TableLimits


@pytest.fixture(autouse=True)
def without_clip(monkeypatch):
    monkeypatch.delenv("CONDENSE_CLIP", raising=False)


def plan_of(scale, **changes):
    found = Plan(scale)
    found.scale = replace(found.scale, **changes)
    found.maker = Maker(found.scale)
    return found


def hours(plan):
    nodes = graph(plan, [*plan.tables, *plan.figures], None, Pace(plan.maker))
    return sum(node.seconds for node in nodes if node.stage != "tables/figures") / 3600, Shares(plan, nodes)


ALONE = {"sets_per_job": 1, "evaluations_per_job": 1}


def test_leaving_out_what_is_named_saves_what_is_said():
    """Sets and evaluations alone in their jobs, so that leaving some out groups no others of the rest."""
    whole, shares = hours(plan_of("quick", **ALONE))
    (first, *_, only), (second, *_, both) = shares.dearest("target")[:2]
    limits = Plan("quick").scale.tables
    for names, saved in (([first], only), ([first, second], both)):
        left = {name: TableLimits(run=False) for name in names}
        assert whole - hours(plan_of("quick", **ALONE, tables=limits | left))[0] == pytest.approx(
            saved, rel=0.02, abs=1e-3
        )
    method, alone, saved, _ = shares.dearest("method")[0]
    others = sorted({wish.method for wish in shares.wishes} - {method})
    assert whole - hours(plan_of("quick", **ALONE, methods=others))[0] == pytest.approx(
        saved, rel=0.02, abs=1e-3
    )
    assert 0 < saved <= alone


def test_the_disk_of_a_small_scale_is_told_in_a_unit_that_suits_it():
    told = [line for line in advice(Plan("quick")) if line.startswith("disk")]
    sizes = re.findall(r"(\d[\d.,]*) (GB|MB|kB)", told[0])
    assert len(sizes) > 2 and all(float(size.replace(",", "")) > 0 for size, _ in sizes)


def test_parts_are_in_the_hours_of_the_whole_where_the_rates_are_those_of_this_machine(monkeypatch):
    """And not in those of another processor, which are other numbers for the same jobs."""
    rates = on_cores(REFERENCE_CPU, 8)
    monkeypatch.setattr(estimate, "rates_for", lambda *args: (rates, "planted"))
    told = estimate.estimate_text(None, "quick")
    # The scale has several datasets, and the parts are in the hours of the one with the most jobs
    assert re.search(
        r"\((minutes|hours) on (1 core|2 cores) of this machine by the rates of [\w ,()]+, of ", told
    )
    assert REFERENCE_CPU_NAME not in told
    here, there = (
        float(found[2].replace(",", "")) / {"minutes": 60, "hours": 1}[found[1]]
        for text in (told, "\n".join(advice(Plan("quick"))))
        if (found := re.search(r"\((minutes|hours) on .* of ([\d,.]+) in all", text))
    )
    assert here < there


def test_the_settings_that_are_printed_are_read():
    plan = Plan("quick")
    lines = [line for line in advice(plan) if "to save" in line]
    assert len(lines) == 2 and all("params/scales/quick.yaml" in line for line in lines)
    for line in lines:
        setting = yaml.safe_load(line.split(".yaml: ", 1)[1])
        if "tables" in setting:
            assert set(setting["tables"]) <= {*plan.tables, *plan.figures} and all(
                not value["run"] for value in setting["tables"].values()
            )
        else:
            left = plan_of("quick", methods=setting["methods"])
            assert 0 < len(left.synthetic) < len(plan.synthetic)


def test_banks_of_queues_are_named_where_they_take_the_disk():
    lines = "\n".join(advice(Plan("quick")))
    assert "bank_mb" not in lines and "disk of the whole scale" in lines
    plan = plan_of("quick", bank_mb=4000)
    assert any(cell.file == "bank" for cell in plan.parents.values()) and any(
        "bank_mb: 1000 saves" in line for line in advice(plan)
    )


def test_jobs_beyond_the_limits_are_named_with_the_way_out():
    assert over_limits(Plan("quick")) == ["no job is estimated to need more than the scale lets it ask for"]
    few = Resources(threads=1, mem_mb=10, runtime=1)
    text = "\n".join(
        over_limits(plan_of("quick", n_networks=3000, resources={"evaluate": few, "teach": few}))
    )
    assert (
        "of stage evaluate are estimated to need more time than runtime: 1 (minutes): lower networks_per_job"
        in text
    )
    assert (
        "more memory than mem_mb: 10" in text
        and "of stage teach" in text
        and "raise resources: teach" in text
    )


def test_where_gpus_are_absent_the_times_are_those_of_the_reference_and_of_this_cpu_in_words():
    stage = estimate.Stage("evaluate", 2, 0, 3e9, 2e9, 7200.0, 3600.0, 10**9, 10)
    text = estimate.Estimate((stage,), 1, True, False, "known").text()
    assert "2.0 h" in text and "60.0 min" in text and "years" in text and "on ten of them 12.0 min" in text
