"""Networks that are drawn and not trained, one after another: what is measured of each."""

from __future__ import annotations

from collections.abc import Callable

from condense import models
from condense.evaluate.protocols import check_measured, resumed
from condense.evaluate.trainer import Results, Trainer
from condense.machine import seeds
from condense.machine.progress import Progress
from condense.models import Network

# A network's number and the network, as it is drawn -> what is measured of it, by metric
MeasureOne = Callable[[int, Network], dict[str, float]]


def measured_untrained(trainer: Trainer, measure: MeasureOne, what: str) -> Results:
    """What `measure` gives of each of the trainer's networks, which are drawn as those that it trains are,
    going on from the checkpoint of the last ones; `what` is shown beside the progress."""
    checkpoint, networks, network = trainer.checkpoint, trainer.networks, trainer.built()
    values, done = resumed(checkpoint, trainer.metrics, len(networks))
    bar = Progress(f"{what} of {len(networks)} x {trainer.arch}", len(networks), "network", start=done)
    for number in networks[done:]:
        models.reinitialise(network, seeds.stream(trainer.seed, "evaluation", number))
        measured = {name: [value] for name, value in measure(number, network).items()}
        check_measured(measured, trainer.metrics, 1)
        for name in trainer.metrics:
            values[name] += measured[name]
        done += 1
        bar.update(done, {name: entries[-1] for name, entries in values.items()})
        if checkpoint.due() and done < len(networks):
            checkpoint.save({}, {"values": values})
    bar.close()
    return {name: {0: values[name]} for name in trainer.metrics}
