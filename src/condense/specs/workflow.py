"""What `snakemake --config KEY=VALUE` may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from condense.config import UserError, read
from condense.specs.common import at_least

OFF = "off"
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class WorkflowSettings:
    """The configuration of one run of the workflow."""

    scale: str = "quick"
    mlflow: str | bool = "sqlite:///mlflow.db"  # where runs are tracked; false: nowhere
    device: Literal["auto", "cpu", "cuda"] = "auto"  # 'cpu': also of jobs that ask for a GPU
    anew: bool = False  # jobs make what is there already once more, where Snakemake is told to run them
    # minutes: the longest that a job may ask for, as the partition of a cluster has it
    max_runtime: int | None = None
    max_mem_mb: int | None = None  # the most memory that a job may ask for

    def __post_init__(self) -> None:
        at_least({"max_runtime": self.max_runtime, "max_mem_mb": self.max_mem_mb}, 1)
        if self.mlflow is True or self.mlflow == "":
            raise UserError(
                "mlflow: the address of a store is needed, such as sqlite:///mlflow.db or http://HOST:PORT, "
                "or 'off'"
            )
        if set(str(self.mlflow)) & set('$`"\\\n'):  # the executor of a cluster hands settings to a shell
            raise UserError(f"mlflow: an address has no $, quotes or backslashes, found {self.mlflow!r}")

    @property
    def store(self) -> str:
        """The MLflow store; 'off' for none."""
        return self.mlflow if isinstance(self.mlflow, str) else OFF

    def device_of(self, gpus: int) -> str:
        """The '--device' of a job that asks for so many GPUs."""
        return "cuda" if gpus and self.device == "auto" else self.device

    def gpus(self, wanted: int) -> int:
        """The GPUs that a job asks for, where its rule wants so many."""
        return 0 if self.device == "cpu" else wanted


def workflow_settings(config: Mapping[str, Any]) -> WorkflowSettings:
    """The settings of `snakemake --config`, which hands over words such as 'true' as text. Raises UserError
    for one that is wrong."""
    values = dict(config)
    for name in ("anew", "mlflow"):
        if isinstance(values.get(name), str):
            values[name] = _TRUTHS.get(values[name].lower(), values[name])
    return read(WorkflowSettings, values, "--config")
