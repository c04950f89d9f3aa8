"""Work that is interrupted after every save, and begun again until it is done."""

from condense.files.checkpoints import Checkpoint


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


def stopped_after(monkeypatch, every):
    """From here on every so many checkpoints interrupt the work once they are written; gives the list of the
    steps they were of."""
    write, written = Checkpoint.write, []

    def stopping(self, tensors, state):
        write(self, tensors, state)
        written.append(state["done"])
        if len(written) % every == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", stopping)
    return written
