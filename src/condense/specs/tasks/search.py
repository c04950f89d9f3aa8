"""How well a set ranks the networks of a space, as a proxy for training them on the whole training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from condense.config import UserError
from condense.specs.common import MANY, at_least, check_name
from condense.specs.parent import Parent
from condense.specs.tasks.base import Task
from condense.specs.tasks.metrics import Metric, OnBoard
from condense.specs.truth import TruthNeed

# What one ranking of the networks gives: that of each repetition of their training by itself, and that by the
# mean accuracies of all repetitions
OF_RANKING = {
    "spearman": Metric(
        "rank correlation with the truth",
        least=-1.0,
        most=1.0,
        published=("spearman",),
        once=True,
        interval=("spearman_low", "spearman_high"),
    ),
    "spearman_low": Metric("lower end of its 95 % interval", least=-1.0, most=1.0, once=True),
    "spearman_high": Metric("upper end of its 95 % interval", least=-1.0, most=1.0, once=True),
    "spearman_best": Metric("rank correlation among the best", least=-1.0, most=1.0, once=True),
    "top1_accuracy": Metric(
        "true accuracy of the network ranked first",
        unit="%",
        least=0.0,
        most=100.0,
        published=("top1_accuracy",),
        once=True,
    ),
}
OF_MEANS = "_of_means"  # ends the names of what the ranking by mean accuracies gives


def _of_means(name: str, metric: Metric) -> Metric:
    """The metric of one ranking, where that is by the mean accuracies of all repetitions."""
    low, high = metric.interval or ("", "")
    interval = (low + OF_MEANS, high + OF_MEANS) if metric.interval else None
    title = f"by mean accuracies: {metric.title}"
    return replace(metric, title=title, published=(), interval=interval, alone=name)


@dataclass(frozen=True, kw_only=True)
class Search(Task):
    """Networks of the space that the architecture builds are trained on the set and ranked by their accuracy;
    the ranking is compared with that by their true accuracies, of the whole training set. Where each is
    trained several times, every repetition ranks, and so do the mean accuracies of all.

    `candidates` networks are drawn from the space by the seed `draw`; `options` are those of the architecture
    for the ranking alone, such as fewer cells. They are ranked by their accuracy on `held_out` training
    images, on which none is trained (a set was condensed from all of them), or with 0 on the test images. The
    best ones are a share (`best_share`) of those that are ranked first, but no fewer than `best_least`;
    `resamples` of the bootstrap give the interval of the correlation. `trains_whole`: the whole training set
    ranks by networks that are trained on it as on a set, not by the true accuracies themselves.
    The true accuracies are those of `truth_networks` networks of each candidate, trained by `truth_protocol`
    on the whole training set or on `truth_images` images of it, and tested on the test images; or, where
    the published benchmark of the space is here and has this dataset, those of the benchmark.
    """

    folder: ClassVar[str] = "search"
    title: ClassVar[str] = "how well the set ranks the networks of a space"
    metrics: ClassVar[Mapping[str, Metric]] = {
        **OF_RANKING,
        "time_cost": Metric(
            "time of training the networks",
            unit="min",
            better="lower",
            least=0.0,
            published=("time_cost",),
            once=True,
        ),
        "storage": Metric(
            "storage", unit="images", better="lower", least=0.0, published=("storage",), once=True
        ),
        "candidate_accuracy": Metric(
            "accuracy of each network of the space", unit="%", least=0.0, most=100.0
        ),
        "candidate_truth": Metric("its true accuracy", unit="%", least=0.0, most=100.0),
        "candidate_seconds": Metric("time of training it", unit="s", better="lower", least=0.0),
    }
    joint: ClassVar[Mapping[str, Metric]] = {
        f"{name}{OF_MEANS}": _of_means(name, metric) for name, metric in OF_RANKING.items()
    }
    numerics: ClassVar[int | None] = 1
    over_steps: ClassVar[bool] = True
    steps_are: ClassVar[Literal["steps", "classes", "grid", "networks"]] = "networks"
    answers: ClassVar[tuple[str, ...] | None] = ("nas",)

    candidates: int
    truth_protocol: str
    draw: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    held_out: int = 0
    best_share: float = 0.05
    best_least: int = 5
    resamples: int = 1000
    trains_whole: bool = False
    truth_networks: int = 1
    truth_images: int | None = None
    kind: Literal["search"] = "search"

    def __post_init__(self) -> None:
        check_name("truth_protocol", self.truth_protocol)
        at_least({"candidates": self.candidates, "best_least": self.best_least}, 2, MANY)
        at_least({"resamples": self.resamples}, 10, 1_000_000)
        at_least({"truth_networks": self.truth_networks, "truth_images": self.truth_images}, 1, MANY)
        at_least({"draw": self.draw, "held_out": self.held_out}, 0, MANY)
        if not 0 < self.best_share <= 1:
            raise UserError(f"best_share: must lie above 0, and be at most 1, found {self.best_share:g}")

    @property
    def board(self) -> Mapping[str, OnBoard]:
        # Many architectures are trained: the row is of their space, which 'network' names
        of_whom = "; many networks of the space in 'network', each trained by the protocol in 'judge'"
        found = {}
        for column, metric in (("rank_correlation", "spearman"), ("accuracy_found", "top1_accuracy")):
            together, alone = f"{metric}{OF_MEANS}", self.metrics[metric].label
            found[column] = OnBoard(together, self.joint[together].label + of_whom)
            found[f"{column}_each"] = OnBoard(metric, f"{alone}, mean over repetitions that rank{of_whom}")
        return found

    @property
    def network_options(self) -> dict[str, Any]:
        return self.options

    def parents(self) -> dict[str, Parent]:
        return {
            "truth": TruthNeed(
                self.truth_protocol, self.candidates, self.draw, self.truth_networks, self.truth_images
            )
        }

    def trainings(self, whole: bool) -> int:
        return 0 if whole and not self.trains_whole else self.candidates

    def images_tested(self, tests: int) -> int:
        return self.held_out or tests
