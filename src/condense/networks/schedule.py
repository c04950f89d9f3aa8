"""What a queue of networks does at every step: drawn by the seed and the step alone, before any network is
trained.

Source: IDM (Zhao et al. 2023), as its authors' code does it; see `specs.QueueNetworks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from condense.machine.seeds import stream
from condense.specs import QueueNetworks


@dataclass(frozen=True)
class Turn:
    """One step of the queue. Networks are numbered as they are made, so those in the queue are always
    consecutive.

    `queue`: the networks held after this step's push. `sampled` is the one for matching; it has been trained
    `age` times, `counted` of them since the running accuracies last started anew. `trained` are those that
    are trained after the matching.
    """

    queue: range
    sampled: int
    age: int
    counted: int
    trained: tuple[int, ...]


def turns(settings: QueueNetworks, seed: int) -> Iterator[Turn]:
    """The steps of the queue, without end."""
    queue, step = range(settings.start), 0
    ages: dict[int, int] = {}
    before: dict[int, int] = {}
    while True:
        if settings.accuracy_over and step % settings.accuracy_over == 0:
            before = dict(ages)
        if step % settings.push_every == 0:
            ages.pop(queue.start, None) if len(queue) == settings.largest else None
            queue = range(queue.start + (len(queue) == settings.largest), queue.stop + 1)
        sampled = queue[stream(seed, "queue", "sampled", step) % len(queue)]
        trained = (
            (sampled,) if settings.trained == "sampled" else _distinct(queue, settings.trained, seed, step)
        )
        age = ages.get(sampled, 0)
        yield Turn(queue, sampled, age, age - before.get(sampled, 0), trained)
        for number in trained:
            ages[number] = ages.get(number, 0) + 1
        step += 1


def _distinct(queue: range, count: int, seed: int, step: int) -> tuple[int, ...]:
    left = list(queue)
    chosen = []
    for index in range(min(count, len(left))):
        chosen.append(left.pop(stream(seed, "queue", "trained", step, index) % len(left)))
    return tuple(chosen)


def schedule(settings: QueueNetworks, seed: int, steps: int) -> list[Turn]:
    """The first `steps` steps of the queue."""
    return list(islice(turns(settings, seed), steps))


@dataclass(frozen=True)
class Kept:
    """A state that a bank keeps: of network `number` after `age` trainings; with its momentum if trainings
    are replayed from it."""

    number: int
    age: int
    velocity: bool


def kept_states(plan: Sequence[Turn], spacing: int) -> list[Kept]:
    """Which states a bank keeps, in the order in which they are first sampled.

    Only sampled states are kept, and of a network only those at least `spacing` trainings after the one kept
    before, or after its first draw. So no sampled state is more than `spacing` - 1 trainings away from a
    known one; with `spacing` 1 all are kept.
    """
    ages: dict[int, list[int]] = {}
    for turn in plan:
        met = ages.setdefault(turn.sampled, [])
        if not met or met[-1] != turn.age:
            met.append(turn.age)
    kept: dict[tuple[int, int], bool] = {}
    for number, met in ages.items():
        base = 0
        previous: tuple[int, int] | None = None
        for age in met:
            if age - base >= spacing:
                base = age
                kept[number, age] = False
            elif previous is not None and previous in kept:
                kept[previous] = True  # what follows it is not kept, and so replayed
            previous = (number, age)
    order = dict.fromkeys((turn.sampled, turn.age) for turn in plan)
    return [Kept(*state, kept[state]) for state in order if state in kept]
