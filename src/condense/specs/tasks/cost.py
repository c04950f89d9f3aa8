"""What condensing costs: seconds an iteration and memory, measured where the recipe runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from condense.specs.common import at_least
from condense.specs.tasks.base import Metric, Task

if TYPE_CHECKING:
    from condense.specs.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class Cost(Task):
    """Seconds an iteration of a condensation takes and the memory it needs at its peak, measured by running
    the first iterations of a recipe on the machine at hand, in a process of their own.

    `warmup`: iterations before the measured ones, which do not count. `iterations`: of whose seconds the
    median is taken. The memory is that of the GPU, or on a CPU that of the process.
    """

    folder: ClassVar[str] = "cost"
    title: ClassVar[str] = "seconds an iteration of a condensation, and its peak memory"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "speed": Metric("seconds an iteration", unit="s/iter", better="lower", least=0.0),
        "peak_memory": Metric(
            "peak memory", unit="GB", better="lower", least=0.0, published=("peak_gpu_memory",)
        ),
    }
    numerics: ClassVar[int | None] = 1
    reads: ClassVar[Literal["synthetic", "snapshots", "recipe"]] = "recipe"
    answers: ClassVar[tuple[str, ...] | None] = ("efficiency",)
    trained_on: ClassVar[Literal["set", "real", "nothing"]] = "nothing"
    together: ClassVar[bool] = False

    warmup: int = 5
    iterations: int = 10
    kind: Literal["cost"] = "cost"

    def __post_init__(self) -> None:
        at_least({"warmup": self.warmup, "iterations": self.iterations}, 1, 100_000)

    def steps_run(self) -> int:
        return self.warmup + self.iterations

    def check_parents(self, names: Sequence[str], protocol: Protocol, option: str = "parents") -> None:
        """What is made beforehand is said by the recipe, which is asked when it is run."""
