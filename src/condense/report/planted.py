"""A figure of what matching statistics can find, on points whose law is known: with those of all points, and
with those of each part beside them."""

from __future__ import annotations

from typing import Any

from condense.plan.rows import FigurePlan
from condense.plan.tables import Plan
from condense.report import style
from condense.report.curves import CsvRow

CENTRES = ((-3.0, -2.0), (3.0, -2.0), (0.0, 3.0))  # of the parts of the mixture
SPREAD = 0.7  # their standard deviation
REAL, DISTILLED = 300, 12  # points of each part
STEPS, RATE = 400, 0.05
FORMS = {"form (1)": 0.0, "form (2)": 1.0, "both, alpha 0.5": 0.5}  # the share of the statistics of the parts


def mixture_by_forms(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Points of a mixture of three Gaussians, and as few that were moved, from one place, until their means
    and variances are those of all points, of each part, or both."""
    real, found = _moved()
    picture, axes = plt.subplots(1, len(FORMS), figsize=(4.2 * len(FORMS), 3.6), sharex=True, sharey=True)
    drawn: list[CsvRow] = [
        {"form": "real", "part": str(part), "x": f"{x:.4f}", "y": f"{y:.4f}"}
        for part, points in enumerate(real)
        for x, y in points
    ]
    colors = ["#0072b2", "#d55e00", "#009e73"]
    for axis, (form, parts) in zip(axes, found.items(), strict=True):
        for part, color in enumerate(colors):
            axis.scatter(*zip(*real[part], strict=True), s=6, color=color, alpha=0.18, linewidth=0)
            axis.scatter(
                *zip(*parts[part], strict=True), s=46, color=color, marker="X", edgecolor=style.INK, zorder=3
            )
            drawn += [
                {"form": form, "part": str(part), "x": f"{x:.4f}", "y": f"{y:.4f}"} for x, y in parts[part]
            ]
        axis.set_title(form)
        axis.set_aspect("equal")
    notes = [
        f"Dots: {REAL} points of each of three parts. Crosses: {DISTILLED} points of each, moved for "
        f"{STEPS} steps along the gradient of the gap that the engine 'statistics' matches in a layer. Form "
        "(1) leaves open which part a point comes to."
    ]
    return picture, drawn, notes


def _moved() -> tuple[list[list[list[float]]], dict[str, list[list[list[float]]]]]:
    """The real points, part by part, and by the names of the forms those that were moved."""
    import torch

    from condense.discrepancy.statistics import channel_moments, moment_gap

    drawn = torch.Generator().manual_seed(0)
    centres = torch.tensor(CENTRES)
    real = centres[:, None] + SPREAD * torch.randn(len(CENTRES), REAL, 2, generator=drawn)
    start = 0.5 * torch.randn(len(CENTRES), DISTILLED, 2, generator=drawn)

    def moments(points: Any) -> Any:  # as of a layer: images of one place, whose channels are the axes
        return channel_moments(points.reshape(-1, 2, 1, 1))

    wanted, of_parts = moments(real), [moments(part) for part in real]
    found = {}
    for form, share in FORMS.items():
        points = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([points], lr=RATE)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            gaps = [moment_gap(moments(part), of) for part, of in zip(points, of_parts, strict=True)]
            loss = (1 - share) * moment_gap(moments(points), wanted) + share * torch.stack(gaps).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[form] = points.detach().tolist()
    return real.tolist(), found
