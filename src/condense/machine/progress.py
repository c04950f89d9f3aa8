"""Progress of long work: a bar where there is a terminal, now and then a line where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping


class Progress:
    """Counts `total` steps of `unit`. `update` may be called at every step; it writes rarely and never waits
    for a device."""

    def __init__(self, title: str, total: int, unit: str = "step", start: int = 0, every: float = 15.0):
        self.title, self.total, self.unit, self.every = title, total, unit, every
        self.first, self.began, self.last = start, time.monotonic(), time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, initial=start, desc=title, unit=unit, mininterval=0.2, dynamic_ncols=True
            )

    def update(self, done: int, values: Mapping[str, float] | None = None) -> None:
        """`done` steps are finished; `values` are shown beside them."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in (values or {}).items())
        if self.bar is not None:
            if shown:
                self.bar.set_postfix_str(shown, refresh=False)
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.last >= self.every or done == self.total:
            self.last = time.monotonic()
            rate = (done - self.first) / max(self.last - self.began, 1e-9)
            left = (self.total - done) / rate if rate else 0.0
            line = (
                f"{self.title}: {self.unit} {done}/{self.total}, {rate:.3g} {self.unit}s/s, {left:.0f} s left"
            )
            print(line + (f", {shown}" if shown else ""), file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
