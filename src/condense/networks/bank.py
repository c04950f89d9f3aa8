"""Banks on disk of the networks that a queue samples at every step, shared by jobs.

The networks of a queue are trained on real images only, so one bank serves every class, ipc and method. All
its sampled states may take tens of gigabytes; a bank keeps those that fit into the size it is given, and what
lies between is trained again from them. Banks of finished networks: `networks.finished`.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.config import UserError
from condense.data.dataset import Images
from condense.files.artifacts import damaged, write_tensors
from condense.files.checkpoints import Checkpoint
from condense.machine.progress import Progress
from condense.networks.making import Making
from condense.networks.origin import opened, origin
from condense.networks.parts import Parts, PartWriter, State, size_of, states_a_part
from condense.networks.queue import QueueStream, Trained, queue_stream
from condense.networks.schedule import Kept, Turn, kept_states, schedule
from condense.specs import QueueNetworks

_log = logging.getLogger(__name__)


def spacing_within(plan: Sequence[Turn], trained: Trained, max_bytes: int) -> int:
    """The smallest of 1, 2, 4, ... trainings between kept states with which these take at most `max_bytes`.

    The last of them keeps none. The schedule and the accuracies, a few bytes a step, come on top.
    """
    bare, whole = size_of(trained.state(velocity=False)), size_of(trained.state())
    spacing = 1
    while sum(whole if kept.velocity else bare for kept in kept_states(plan, spacing)) > max_bytes:
        spacing *= 2
    return spacing


def make_queue_bank(making: Making, settings: QueueNetworks, steps: int, max_bytes: int) -> None:
    """Trains the queue for `steps` steps and writes its bank, of about `max_bytes` at most, from the last
    checkpoint if there is one. Raises UserError if the loss of a network is no number."""
    data, arch, seed = making.data, making.arch, making.seed
    drawn: dict[str, Any] = {"arch": arch, "options": making.options, "seed": seed, "device": making.device}
    plan, stream = schedule(settings, seed, steps), queue_stream(settings, data, **drawn)
    blank = Trained(stream.template, settings)
    spacing, each = spacing_within(plan, blank, max_bytes), states_a_part(blank.state())
    header = origin(data, arch, making.options, seed) | {
        "networks": asdict(settings),
        "steps": steps,
        "spacing": spacing,
        "states_a_part": each,
    }
    checkpoint, writer = making.checkpoint(header), PartWriter(making.path, making.key, each)
    states = kept_states(plan, spacing)
    first = _resume(checkpoint, stream, writer, plan, states)
    making.path.unlink(missing_ok=True)  # its parts are about to be replaced
    done = {(turn.sampled, turn.age) for turn in plan[:first]}
    kept = {state: entry.velocity for entry in states if (state := (entry.number, entry.age)) not in done}
    bar = Progress(f"queue of {arch} on {data.dataset}", steps, start=first)
    for step in range(first, steps):
        sampled = stream.at(step)
        state = (sampled.number, sampled.age)
        if state in kept:
            writer.add(_name(*state), stream.held[sampled.number].state(kept.pop(state)))
        bar.update(step + 1, {"accuracy": sampled.accuracy})
        if checkpoint.due() and step + 1 < steps:
            _save(checkpoint, stream, writer, step + 1)
    bar.close()
    writer.flush()
    making.before_writing()
    tensors = _plan_tensors(plan) | {"right": _counts(stream)["right"]}
    parts = {"kind": "bank", "key": making.key, "parts": writer.checksums}
    write_tensors(making.path, tensors, header | parts)
    checkpoint.remove()


def _name(number: int, age: int) -> str:
    return f"{number}-{age}"


def _plan_tensors(plan: Sequence[Turn]) -> dict[str, np.ndarray]:
    """`sampled` (steps,); `trained` (steps, most in a step), filled up with -1; `trainings` (networks,)
    before each is last sampled."""
    most = max(len(turn.trained) for turn in plan)
    trained = [[*turn.trained, *[-1] * (most - len(turn.trained))] for turn in plan]
    trainings = np.zeros(max(turn.sampled for turn in plan) + 1, np.int32)
    for turn in plan:
        trainings[turn.sampled] = turn.age
    sampled = np.array([turn.sampled for turn in plan], np.int32)
    return {
        "sampled": sampled,
        "trained": np.array(trained, np.int32).reshape(len(plan), most),
        "trainings": trainings,
    }


def _counts(stream: QueueStream) -> dict[str, np.ndarray]:
    """`right`: images classified rightly in every training, network by network; `trainings` (networks,) of
    each."""
    lists = [stream.right.get(number, []) for number in range(max(stream.right, default=-1) + 1)]
    right = [count for counts in lists for count in counts]
    return {
        "right": np.array(right, np.int32),
        "trainings": np.array([len(counts) for counts in lists], np.int32),
    }


def _counts_read(tensors: Mapping[str, np.ndarray]) -> dict[int, list[int]]:
    parts = (
        np.split(tensors["right"], np.cumsum(tensors["trainings"])[:-1]) if len(tensors["trainings"]) else []
    )
    return {number: counts.tolist() for number, counts in enumerate(parts)}


def _save(checkpoint: Checkpoint, stream: QueueStream, writer: PartWriter, step: int) -> None:
    tensors = {
        f"held.{number}.{name}": value
        for number, trained in stream.held.items()
        for name, value in trained.state().items()
    }
    tensors |= {f"pending.{name}": value for name, value in writer.pending.items()}
    ages = {str(number): trained.age for number, trained in stream.held.items()}
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()} | _counts(stream)
    checkpoint.save(arrays, {"step": step, "ages": ages, "kept": writer.added, "parts": writer.checksums})


@dataclass(frozen=True)
class Queued:
    """Where a checkpoint of a queue is: the ages of the networks held, how many states were added, and the
    checksums of whole parts."""

    step: int
    ages: dict[str, int]
    kept: int
    parts: list[str]


def _resume(
    checkpoint: Checkpoint,
    stream: QueueStream,
    writer: PartWriter,
    plan: Sequence[Turn],
    kept: Sequence[Kept],
) -> int:
    """Takes up the last checkpoint, if there is one; returns the step of `plan` to go on with.

    The schedule says what the bank has kept and holds at that step. Raises UserError if the checkpoint is
    damaged or says otherwise.
    """
    loaded = checkpoint.load(Queued)
    if loaded is None:
        return 0
    tensors, state = {name: torch.from_numpy(value) for name, value in loaded[0].items()}, loaded[1]
    checkpoint.check(0 < state.step < len(plan), f"step {state.step} is none of {len(plan)}")
    past = plan[: state.step]
    ages = {turn.sampled: turn.age for turn in past}
    held = {str(number): age for number, age in ages.items() if number >= past[-1].queue.start}
    added = [entry for entry in kept if entry.age <= ages.get(entry.number, -1)]
    pending = added[len(added) - len(added) % writer.each :]
    fits = state.ages == held and state.kept == len(added) and len(state.parts) == len(added) // writer.each
    checkpoint.check(fits, f"it does not hold what the queue has at step {state.step}")
    like = Trained(stream.template, stream.settings)
    wanted = {f"held.{number}.{name}": value for number in held for name, value in like.state().items()}
    wanted |= {
        f"pending.{_name(entry.number, entry.age)}.{n}": v
        for entry in pending
        for n, v in like.state(entry.velocity).items()
    }
    checkpoint.check_shapes(tensors, wanted)
    trainings = [
        ages.get(number, 0) for number in range(max((n for n, age in ages.items() if age), default=-1) + 1)
    ]
    checkpoint.check_shapes(
        tensors,
        {"trainings": np.zeros(len(trainings), np.int32), "right": np.zeros(sum(trainings), np.int32)},
    )
    most = stream.settings.train_steps * min(stream.settings.batch, len(stream.images))
    counted = tensors["trainings"].tolist() == trainings and all(
        count <= most for count in tensors["right"].tolist()
    )
    checkpoint.check(counted, "it does not count what each training classified rightly")
    Parts(writer.bank, state.parts, {})  # raises where a part is not there
    for number, age in state.ages.items():
        stream.hold(int(number), age, _below(tensors, f"held.{number}."))
    stream.right = _counts_read(loaded[0])
    writer.resume(
        state.kept, state.parts, {name[8:]: tensors[name] for name in wanted if name.startswith("pending.")}
    )
    _log.info("resumed from step %d", state.step)
    return state.step


def _below(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


class _KeptStates:
    """The kept states of a queue, by network and age."""

    def __init__(self, kept: Sequence[Kept], parts: Parts, each: int):
        self.parts, self.each = parts, each
        self.index = {(entry.number, entry.age): index for index, entry in enumerate(kept)}
        self.ages: dict[int, list[int]] = {}
        for entry in kept:
            self.ages.setdefault(entry.number, []).append(entry.age)

    def nearest(self, number: int, age: int) -> int | None:
        ages = self.ages.get(number, [])
        count = bisect_right(ages, age)
        return ages[count - 1] if count else None

    def state(self, number: int, age: int) -> State:
        return self.parts.state(self.index[number, age] // self.each, _name(number, age))


def open_queue_bank(
    path: Path,
    data: Images,
    settings: QueueNetworks,
    *,
    arch: str,
    options: Mapping[str, Any],
    seed: int,
    device: torch.device,
) -> QueueStream:
    """The networks of a bank, at every step those of a queue that is trained as it goes.

    Raises UserError if the bank is damaged or was made for other images, networks, settings or another seed.
    """
    tensors, header = opened(path, origin(data, arch, options, seed) | {"networks": settings})
    plan = schedule(settings, seed, len(tensors["sampled"]))
    if len(plan) != header.steps:
        raise damaged(path, f"its schedule is of {len(plan)} steps instead of {header.steps}")
    wanted = _plan_tensors(plan)
    if any(name not in tensors or not np.array_equal(tensors[name], value) for name, value in wanted.items()):
        raise UserError(
            f"{path}: was made by a version that draws the steps of a queue otherwise; delete it and make it "
            "anew"
        )
    kept = kept_states(plan, header.spacing or 1)
    if len(header.parts) != -(-len(kept) // header.states_a_part):
        raise damaged(path, f"it has {len(header.parts)} parts for {len(kept)} states")
    stream = queue_stream(settings, data, arch=arch, options=options, seed=seed, device=device)
    parts = Parts(path, header.parts, Trained(stream.template, settings).state())
    stream.store, stream.plan, stream.right = (
        _KeptStates(kept, parts, header.states_a_part),
        plan,
        _counts_read(tensors),
    )
    return stream
