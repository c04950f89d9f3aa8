"""What the profile for SLURM says: how fast jobs are sent, and how often one is sent again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from condense.config import UserError, load_yaml
from condense.machine.checkout import PROFILE, project_file
from condense.specs import catalogue

_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Cluster:
    """Jobs that are sent in a minute at most, and attempts at each."""

    per_minute: float
    attempts: int


@cache
def cluster() -> Cluster:
    """What the profile of this checkout says. Raises UserError if it does not say it, or not in this form."""
    beside = catalogue.params_folder().parent / PROFILE
    path = beside if beside.is_file() else project_file(PROFILE)
    profile = load_yaml(path)
    rate, retries = str(profile.get("max-jobs-per-timespan")), profile.get("retries")
    match = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)([smh])", rate)
    if not match:
        raise UserError(
            f"{path}: max-jobs-per-timespan: jobs and a time such as 60/1m are needed, found '{rate}'"
        )
    if not isinstance(retries, int) or retries < 0:
        raise UserError(f"{path}: retries: a number of attempts after the first is needed, found '{retries}'")
    return Cluster(60 * int(match[1]) / (int(match[2]) * _SECONDS[match[3]]), retries + 1)
