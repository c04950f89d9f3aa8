"""A figure of learning rates: how schedules of the judge fall over the epochs."""

from __future__ import annotations

from typing import Any

from condense.plan.rows import FigurePlan
from condense.plan.tables import Plan
from condense.report.curves import CsvRow
from condense.specs.schedules import AnySchedule, CosineSchedule, SlowedSchedule

EPOCHS = 300
SCHEDULES: dict[str, AnySchedule] = {
    "cosine": CosineSchedule("cosine"),
    "smoothed, zeta 2": CosineSchedule("cosine", stretch=2.0),
    "SSRS, zeta 2": SlowedSchedule("ssrs"),
}


def rates_by_epoch(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """What the rate is multiplied by in each of 300 epochs."""
    from condense.training.schedules import SCHEDULES as COURSES

    picture, axis = plt.subplots(figsize=(7.4, 4.6))
    drawn: list[CsvRow] = []
    for name, schedule in SCHEDULES.items():
        factors = COURSES[schedule.kind](schedule, EPOCHS, EPOCHS).factors
        axis.plot(range(EPOCHS), factors, label=name)
        drawn += [
            {"schedule": name, "epoch": str(epoch), "factor": f"{factor:.6f}"}
            for epoch, factor in enumerate(factors)
        ]
    axis.set_xlabel("epoch")
    axis.set_ylabel("factor of the rate")
    axis.set_ylim(0, 1.02)
    axis.legend()
    return picture, drawn, ["SSRS falls by about six at 5/6 of the epochs, as its equation (33) has it."]
