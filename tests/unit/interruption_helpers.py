"""Work that is interrupted after every save, and begun again until it is done."""

from condense.files.checkpoints import Checkpoint


class Stopping(Checkpoint):
    """Interrupts after every checkpoint that is written, as Ctrl-C does."""

    def write(self, tensors, state):
        super().write(tensors, state)
        raise KeyboardInterrupt

    def part(self, name):
        return Stopping(self.path.with_name(f"{self.path.name}.{name}"), f"{self.key}-{name}")


def until_done(work, interrupted=True):
    """Calls `work` again after every interruption, of which there has to be one if it is `interrupted`; how
    often it was called, and what it gave at last."""
    for calls in range(1, 100):
        try:
            found = work()
        except KeyboardInterrupt:
            continue
        assert calls > 1 or not interrupted, "nothing interrupted it"
        return calls, found
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
