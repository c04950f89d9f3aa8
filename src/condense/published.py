"""The numbers that the papers print, and other names of theirs for our methods. Floor 0."""

from __future__ import annotations

import csv
import re
from functools import cache

from condense import recipes


@cache
def published_rows() -> list[dict[str, str]]:
    """The rows of `params/published/results.csv`."""
    with open(recipes.params_folder() / "published" / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def aliases() -> dict[tuple[str, str, str], str]:
    """(paper, table, method as the paper calls it) -> our method."""
    with open(recipes.params_folder() / "published" / "aliases.csv", encoding="utf-8", newline="") as file:
        return {(row["paper"], row["table"], row["name"]): row["alias_of"] for row in csv.DictReader(file)}


def method_of(row: dict[str, str]) -> str:
    """Our name of the method of a published row."""
    return aliases().get((row["paper"], row["table"], row["method"]), row["method"])


def architectures(eval_arch: str) -> list[str]:
    """The architectures that a published row was judged by: 'mean(mlp,vit)' -> ['mlp', 'vit'], '' -> ['convnet']."""
    mean = re.fullmatch(r"mean\((.+)\)", eval_arch)
    return mean[1].split(",") if mean else [eval_arch or "convnet"]
