"""How methods, datasets and architectures are called in tables, figures and the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from condense import plan
from condense.data.spec import DatasetSpec
from condense.plan.published import method_names, method_of
from condense.specs import catalogue

PAPERS = {
    "cpdm": "Diverse Condensed Data Generation via Class Preserving Distribution Matching",
    "discrepancy": "A Discrepancy-Based Perspective on Dataset Condensation",
    "edc": "Elucidating the Design Space of Dataset Condensation",
    "ddm": "Decomposed Distribution Matching in Dataset Condensation",
    "idm": "Improved Distribution Matching for Dataset Condensation",
    "ours": "Comparisons of this project",
}
DATASETS = {  # those without a file in params/datasets, or whose title there needs its context
    "digits": "handwritten digits",
    "digits16": "handwritten digits of 16 x 16 pixels",
    "imagenet1k": "ImageNet-1K",
    "imagenet_subset100": "ImageNet subset of 100 classes",
    "imagenet10": "ImageNet-10",
    "imagewoof": "ImageWoof",
    "imagenette": "ImageNette",
    "celeba": "CelebA",
    "modelnet10": "ModelNet10",
}
ARCHITECTURES = {
    "convnet": "ConvNet",
    "mlp": "MLP",
    "lenet": "LeNet",
    "alexnet": "AlexNet",
    "vit": "ViT",
    "mobilenet_v2": "MobileNet-V2",
    "shufflenet_v2": "ShuffleNet-V2",
    "shufflenet_v2_x0_5": "ShuffleNet-V2",
    "efficientnet_b0": "EfficientNet-B0",
    "densenet121": "DenseNet-121",
    "deit_tiny": "DeiT-Tiny",
    "swin_tiny": "Swin-Tiny",
    "convnext_tiny": "ConvNeXt-Tiny",
    "wrn_16_2": "WRN-16-2",
    "convnet_search_space": "720 ConvNets",
    "nas_bench_201": "NAS-Bench-201",
    "none": "none",
    "": "not stated",
}

_PARTS = {
    number: f"a {word}"
    for number, word in enumerate(
        ("third", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), start=3
    )
} | {2: "half"}


def method(name: str) -> str:
    """What a method is called: by its recipe, else in `params/published/names.csv`, else its name in
    capitals."""
    label = (
        catalogue.recipe(name).label
        if name in catalogue.names_in("methods")
        else method_names().get(name, "")
    )
    return label or name.replace("_", " ").upper()


def method_of_row(row: Mapping[str, str]) -> str:
    """What the method of a published row is called: where the paper's name stands for another method of ours
    (`params/published/aliases.csv`), as the paper calls it, else as that method."""
    ours = method_of(row)
    if ours == row["method"]:
        return method(ours)
    return method_names().get(row["method"], "") or method(ours)


def dataset(name: str) -> str:
    """The title of a dataset in running text."""
    if name not in DATASETS and name in catalogue.names_in("datasets"):
        return _spec(name).title
    return DATASETS.get(name, name)


def copied(dataset: str) -> str:
    """The dataset whose images this one has in another coding; '' if it is no copy."""
    return (_spec(dataset).copies or "") if dataset in catalogue.names_in("datasets") else ""


def note(dataset: str) -> str:
    """What its YAML says of a dataset."""
    return _spec(dataset).note if dataset in catalogue.names_in("datasets") else ""


def _spec(dataset: str) -> DatasetSpec:
    return plan.data_cell(dataset).spec


def architecture(name: str) -> str:
    """'resnet18' -> 'ResNet-18', 'mean(mlp,vit)' -> 'mean of MLP, ViT'."""
    mean = re.fullmatch(r"mean\((.+)\)", name)
    if mean:
        return "mean of " + ", ".join(architecture(arch) for arch in mean[1].split(","))
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    family = re.fullmatch(r"(convnetd|resnet|vgg)(\d+)(.*)", name)
    if family:
        return (
            {"convnetd": "ConvNet-D", "resnet": "ResNet-", "vgg": "VGG-"}[family[1]]
            + family[2]
            + family[3].replace("_", " ").upper()
        )
    return name


def ipc(value: str) -> str:
    """'10' -> 'ipc 10', 'full' -> 'whole set', 'all' -> 'any ipc'."""
    return {"full": "whole set", "all": "any ipc"}.get(value, f"ipc {value}")


def part_of_job(shared_by: int | None) -> str:
    """Of seconds that several sets share equally, how large a part they are: 10 -> ' (a tenth of a job)'; ''
    where a set had its jobs for itself."""
    if not shared_by or shared_by == 1:
        return ""
    return f" ({_PARTS.get(shared_by, f'1/{shared_by}')} of a job)"


def heading(name: str, title: str) -> str:
    """'cpdm/table1' and its title -> 'CPDM, Table 1: ...'."""
    paper, _, label = name.partition("/")
    kind = "Table" if label.startswith("table") else "Figure"
    return f"{paper.upper()}, {kind} {label.removeprefix(kind.lower())}: {title}"


def in_order(tables_or_figures: Iterable[str]) -> list[str]:
    """Names such as 'cpdm/table14' by paper, kind and number: table 4 comes before table 14."""
    return sorted(
        tables_or_figures,
        key=lambda name: [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)],
    )


def with_spread(mean: float, spread: float | None) -> str:
    """An accuracy with its standard deviation; None: a single value, which has none."""
    return f"{mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}")
