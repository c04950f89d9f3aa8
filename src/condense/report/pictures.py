"""Figures of images: the synthetic sets themselves, and where they lie among the real images for a trained
network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from condense import files
from condense.files import artifacts
from condense.plan.rows import Curve, FigurePlan, SetCurve
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.curves import CsvRow, title_of
from condense.report.grids import MOST_CLASSES, to_bytes
from condense.report.lettering import for_figures
from condense.report.samples import first_of_each_class, of_a_class
from condense.specs import FigureSpec

_MOST_REAL_SHOWN = 25
_MOST_ACROSS = 25  # synthetic images in one line; more are continued below
_REAL_ACROSS = 5
_WIDTH = 8.5  # inches

# By class: real, synthetic, class name
Features = tuple[dict[int, np.ndarray], dict[int, np.ndarray], dict[int, str]]


def images(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """For every class, of many the first, some real images and, to their right, all synthetic ones."""
    curves = figure.curves_of(SetCurve)
    mosaics = [_mosaic(curve) for curve in curves]
    heights = [mosaic.shape[0] / mosaic.shape[1] * _WIDTH for mosaic, _, _ in mosaics]
    total = sum(heights) + 0.5 * len(mosaics)
    picture, axes = plt.subplots(
        len(mosaics), 1, figsize=(_WIDTH, total), squeeze=False, height_ratios=heights
    )
    picture.subplots_adjust(left=0, right=1, bottom=0, top=1 - 0.5 / total, hspace=0.5 * len(mosaics) / total)
    for axis, curve, (mosaic, centres, classes) in zip(axes[:, 0], curves, mosaics, strict=True):
        axis.imshow(mosaic, interpolation="nearest")
        axis.set_yticks(centres, classes)
        axis.set_xticks([])
        axis.grid(False)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
        heading = (
            f"{names.method(curve.method)}, {curve.ipc} images per class: "
            f"{title_of(scale, figure.spec, curve.dataset)}"
        )
        axis.set_title(heading.replace("\n", ", "), fontsize=11)
    cut = any(
        len(artifacts.read_header(Path(c.synthetic.path), "synthetic")["classes"]) > MOST_CLASSES
        for c in curves
    )
    notes = [f"The first {MOST_CLASSES} classes."] if cut else []
    drawn = [
        {"dataset": c.dataset, "method": c.method, "ipc": str(c.ipc), "file": c.synthetic.path}
        for c in curves
    ]
    return (
        picture,
        drawn,
        [
            "Left: real training images. Right: synthetic images, clipped to the range that can be shown.",
            *notes,
        ],
    )


def _mosaic(curve: SetCurve) -> tuple[np.ndarray, list[float], list[str]]:
    """The picture (H, W, 3) uint8, the middle of each class's rows in pixels, and the class names."""
    tensors, header = files.read_set(Path(curve.synthetic.path))
    real, real_labels = first_of_each_class(Path(curve.synthetic.data.train), _MOST_REAL_SHOWN)
    shown = to_bytes(tensors["images"])
    size = shown.shape[1]
    pitch, gap = size + max(1, size // 16), size // 2
    across = min(_MOST_ACROSS, max(int((tensors["labels"] == label).sum()) for label in header["classes"]))
    rows: list[np.ndarray] = []
    centres, titles = [], []
    for index, label in enumerate(header["classes"][:MOST_CLASSES]):
        mine = shown[tensors["labels"] == label]
        lines = -(-len(mine) // across)
        block = np.full((lines * pitch + gap // 2, (_REAL_ACROSS + across) * pitch + gap, 3), 255, np.uint8)
        for number, image in enumerate(to_bytes(real[real_labels == label][: _REAL_ACROSS * lines])):
            _paste(block, image, number // _REAL_ACROSS * pitch, number % _REAL_ACROSS * pitch)
        for number, image in enumerate(mine):
            _paste(block, image, number // across * pitch, (_REAL_ACROSS + number % across) * pitch + gap)
        centres.append(sum(len(row) for row in rows) + lines * pitch / 2)
        rows.append(block)
        titles.append(for_figures(header["class_names"][index], index))
    return np.concatenate(rows), centres, titles


def _paste(block: np.ndarray, image: np.ndarray, y: int, x: int) -> None:
    block[y : y + image.shape[0], x : x + image.shape[1]] = image


def embedding_map(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """t-SNE of features: one row for each class, one column for each curve; the columns of a dataset share
    one map a row."""
    curves, classes = figure.curves_of(SetCurve), figure.spec.classes
    features = [_features(curve, figure.spec) for curve in curves]
    picture, axes = plt.subplots(
        len(classes), len(curves), figsize=(max(5.4, 3.6 * len(curves)), 3.3 * len(classes)), squeeze=False
    )
    drawn = []
    for line, label in enumerate(classes):
        for dataset in dict.fromkeys(curve.dataset for curve in curves):
            columns = [column for column, curve in enumerate(curves) if curve.dataset == dataset]
            real, synthetic = _shared_map([features[column] for column in columns], label)
            drawn += [_point(curves[columns[0]], label, "real", at) for at in real]
            for column, points in zip(columns, synthetic, strict=True):
                _scatter(axes[line, column], real, points)
                drawn += [_point(curves[column], label, "synthetic", at) for at in points]
        axes[line, 0].set_ylabel(f"class '{features[0][2][label]}'")
    for axis, curve in zip(axes[0], curves, strict=True):
        axis.set_title(f"{names.method(curve.method)}, ipc {curve.ipc}")
    picture.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 0.0), ncols=2
    )
    titles = dict.fromkeys(
        title_of(scale, figure.spec, curve.dataset).replace("\n", ", ") for curve in curves
    )
    picture.suptitle("; ".join(titles), x=0.02, ha="left", fontsize=12)
    picture.tight_layout(rect=(0, 0.05, 1, 0.98))
    arch = names.architecture(curves[0].parents["teacher"].arch)
    quantity = {"embedding": "features", "style": "channel means and variances behind the first stage"}[
        figure.spec.features
    ]
    share = "; the methods of a row share one map" if len(curves) > 1 else ""
    return picture, drawn, [f"t-SNE of the {quantity} of a {arch} trained on the real set{share}."]


def _shared_map(features: list[Features], label: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Points of the real images and of each curve's synthetic ones, placed together so that columns can be
    compared."""
    groups = [features[0][0][label], *[synthetic[label] for _, synthetic, _ in features]]
    points = np.split(_tsne(np.concatenate(groups)), np.cumsum([len(group) for group in groups])[:-1])
    return points[0], points[1:]


def _scatter(axis: Any, real: np.ndarray, synthetic: np.ndarray) -> None:
    axis.scatter(*real.T, s=9, color=style.REAL, alpha=0.45, linewidths=0, label="real")
    axis.scatter(
        *synthetic.T, s=22, color=style.SYNTHETIC, edgecolors="white", linewidths=0.5, label="synthetic"
    )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)


def _point(curve: Curve, label: int, kind: str, at: np.ndarray) -> CsvRow:
    method = curve.method if kind == "synthetic" else ""
    subject = {"dataset": curve.dataset, "method": method, "ipc": str(curve.ipc), "class": str(label)}
    return subject | {"kind": kind, "x": f"{at[0]:.3f}", "y": f"{at[1]:.3f}"}


def _features(curve: SetCurve, spec: FigureSpec) -> Features:
    """Teacher features (n, d) of real and of synthetic images, and the class names, by class."""
    import torch

    from condense.data import dataset
    from condense.evaluate.synthetic import load_synthetic
    from condense.networks.pretrain import load_teacher

    made = load_synthetic(curve.synthetic.path)
    prepared = dataset.load(curve.synthetic.data.train)
    network, _ = load_teacher(Path(curve.parents["teacher"].path), prepared, torch.device("cpu"))
    real, synthetic = {}, {}
    for label in spec.classes:
        real[label] = _embed(network, of_a_class(prepared, label), spec.features)
        synthetic[label] = _embed(network, made.images[made.labels == label], spec.features)
    names = zip(prepared.classes, prepared.class_names, strict=True)
    return real, synthetic, {label: for_figures(name, label) for label, name in names}


def _embed(network: Any, images: Any, features: str) -> np.ndarray:
    """Features (n, d): the embedding, or the style of the maps behind the first stage, as ddm's Figure 1a
    shows it."""
    import torch

    from condense.discrepancy.style import moments

    def features_of(batch: Any) -> Any:
        return network.embed(batch) if features == "embedding" else moments(network.feature_maps(batch)[0])

    with torch.no_grad():
        return np.concatenate([features_of(batch).numpy() for batch in images.split(128)])


def _tsne(features: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, 2), from the same start every time."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(2.0, (len(features) - 1) / 4))
    return TSNE(2, perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(
        features.astype(np.float64)
    )
