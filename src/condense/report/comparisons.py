"""Figures that compare synthetic images with real ones: neighbours in feature space, and texture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from condense.plan.rows import Curve, FigurePlan, KindOfCurve, SetCurve
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.curves import CsvRow, title_of
from condense.report.lettering import for_figures
from condense.report.samples import of_a_class

_PANEL = (6.4, 4.4)  # inches


def consistency(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Share of the nearest real images that have the class of a synthetic one, against how many of them are
    looked at."""
    datasets = _by_dataset(figure.curves_of(SetCurve))
    picture, axes = plt.subplots(
        1, len(datasets), figsize=(_PANEL[0] * len(datasets), _PANEL[1]), squeeze=False
    )
    drawn = []
    for axis, (dataset, curves) in zip(axes[0], datasets.items(), strict=True):
        for curve, ratios in zip(curves, _ratios(curves, figure.spec.neighbours), strict=True):
            axis.plot(
                list(ratios),
                list(ratios.values()),
                label=names.method(curve.method),
                **style.look(curve.method),
            )
            subject = {"dataset": dataset, "method": curve.method, "ipc": str(curve.ipc)}
            drawn += [
                subject | {"neighbours": str(k), "ratio": f"{ratio:.4f}", "scale": scale.scale.name}
                for k, ratio in ratios.items()
            ]
        axis.set_title(f"{title_of(scale, figure.spec, dataset)}, {_ipcs(curves)}")
        axis.set_xscale("log")
        axis.set_xticks(figure.spec.neighbours, [str(k) for k in figure.spec.neighbours])
        axis.minorticks_off()
        axis.set_xlabel("nearest real images k")
        axis.set_ylabel("consistency ratio")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    arch = names.architecture(figure.curves_of(SetCurve)[0].parents["teacher"].arch)
    meaning = (
        "Share of the k nearest real training images that have a synthetic image's class, mean over the "
        "synthetic images."
    )
    return (
        picture,
        drawn,
        [
            f"{meaning} Distances between features of a {arch} trained on the real set, which the paper does "
            "not name."
        ],
    )


def _ratios(curves: list[SetCurve], neighbours: list[int]) -> list[dict[int, float]]:
    """For each curve, all of one dataset, the ratio by the number of neighbours, as far as there are so many
    real images."""
    import torch

    from condense.data import dataset
    from condense.evaluate.consistency import consistency_ratio
    from condense.evaluate.synthetic import load_synthetic
    from condense.networks.pretrain import load_teacher

    real = dataset.load(curves[0].synthetic.data.train)
    network, _ = load_teacher(Path(curves[0].parents["teacher"].path), real, torch.device("cpu"))
    ks, by_curve = [k for k in neighbours if k <= len(real)], []
    with torch.inference_mode():
        features = torch.cat([network.embed(real.normalise(batch)) for batch in real.images.split(128)])
        for curve in curves:
            made = load_synthetic(curve.synthetic.path)
            embedded = torch.cat([network.embed(batch) for batch in made.images.split(128)])
            ratios = consistency_ratio(features, real.labels, embedded, made.labels, ks)
            by_curve.append(dict(zip(ks, ratios.tolist(), strict=True)))
    return by_curve


def texture(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Dissimilarity and entropy of grey-level co-occurrence: the real images of a class beside the synthetic
    ones of each method."""
    datasets = _by_dataset(figure.curves_of(SetCurve))
    places = [
        (dataset, curves, label) for dataset, curves in datasets.items() for label in figure.spec.classes
    ]
    picture, axes = plt.subplots(
        len(places), 2, figsize=(1.5 * _PANEL[0], _PANEL[1] * len(places)), squeeze=False
    )
    drawn = []
    for line, (dataset, curves, label) in zip(axes, places, strict=True):
        samples, name = _textures(curves, label)
        for axis, measure in zip(line, ("dissimilarity", "entropy"), strict=True):
            for at, (method, values) in enumerate(samples.items()):
                mean, error = values[measure].mean(), values[measure].std() / len(values[measure]) ** 0.5
                look = style.look(method) if method else {"color": style.INK, "marker": "o"}
                axis.errorbar(at, mean, 2 * error, markersize=8, capsize=4, **look)
                axis.annotate(
                    f"{mean:.3g}",
                    (at, mean),
                    xytext=(8, 3),
                    textcoords="offset points",
                    va="bottom",
                    fontsize=10,
                )
                subject = {
                    "dataset": dataset,
                    "method": method,
                    "ipc": str(curves[0].ipc) if method else "",
                    "class": str(label),
                }
                numbers = {
                    "mean": f"{mean:.4f}",
                    "standard_error": f"{error:.4f}",
                    "images": str(len(values[measure])),
                }
                drawn.append(subject | {"measure": measure} | numbers | {"scale": scale.scale.name})
            axis.axhline(samples[""][measure].mean(), color=style.INK, linestyle="--", linewidth=1, zorder=0)
            axis.set_xticks(
                range(len(samples)), [names.method(method) if method else "real" for method in samples]
            )
            axis.set_xlim(-0.5, len(samples) - 0.3)
            axis.grid(axis="x", visible=False)
            axis.set_ylabel(
                {"dissimilarity": "dissimilarity (grey levels of 256)", "entropy": "entropy (nats)"}[measure]
            )
        title = title_of(scale, figure.spec, dataset).replace("\n", ", ")
        line[0].set_title(f"{title}\nclass '{name}', {_ipcs(curves)}")
    picture.subplots_adjust(wspace=0.3, hspace=0.45)
    how = (
        "Grey-level co-occurrence of neighbours in windows of 3 x 3 and of 5 x 5 pixels, averaged; the axes "
        "do not start at 0."
    )
    return (
        picture,
        drawn,
        [f"{how} Bars: twice the standard error of the mean over the images. Dashed: real images."],
    )


def _textures(curves: list[SetCurve], label: int) -> tuple[dict[str, dict[str, np.ndarray]], str]:
    """By method, '' being the real images: both measures of every image of a class. And the name of the
    class."""
    from condense.data import dataset
    from condense.evaluate.synthetic import load_synthetic
    from condense.evaluate.texture import grey_levels
    from condense.evaluate.texture import texture as measured

    real = dataset.load(curves[0].synthetic.data.train)
    pixels = {"": real.denormalise(of_a_class(real, label))}
    for curve in curves:
        made = load_synthetic(curve.synthetic.path)
        pixels[curve.method] = made.pixels[made.labels == label]
    textures = {method: measured(grey_levels(images.numpy())) for method, images in pixels.items()}
    return {
        method: dict(zip(("dissimilarity", "entropy"), values, strict=True))
        for method, values in textures.items()
    }, _named(real, label)


def _named(real: Any, label: int) -> str:
    return for_figures(real.class_names[real.classes.index(label)], label)


def _by_dataset(curves: list[KindOfCurve]) -> dict[str, list[KindOfCurve]]:
    grouped: dict[str, list[KindOfCurve]] = {}
    for curve in curves:
        grouped.setdefault(curve.dataset, []).append(curve)
    return grouped


def _ipcs(curves: Sequence[Curve]) -> str:
    return f"{', '.join(str(ipc) for ipc in dict.fromkeys(curve.ipc for curve in curves))} images per class"
