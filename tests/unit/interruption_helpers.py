"""Work that is interrupted after every save, and begun again until it is done."""

from condense.checkpoints import Checkpoint


class Stopping(Checkpoint):
    """Interrupts after every save, as Ctrl-C does."""

    def save(self, tensors, state):
        super().save(tensors, state)
        raise KeyboardInterrupt

    def part(self, name):
        return Stopping(self.path.with_name(f"{self.path.name}.{name}"), f"{self.key}-{name}")


def until_done(work):
    """Calls `work` again after every interruption; how often it was called, and what it gave at last."""
    for calls in range(1, 100):
        try:
            return calls, work()
        except KeyboardInterrupt:
            continue
    raise AssertionError("it never ends")
