"""What this machine does in a second, measured in a few seconds and kept."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from condense import models
from condense.augment import siamese
from condense.config import UserError, read
from condense.estimate.rates import Rates
from condense.files.artifacts import read_json, write_json
from condense.machine import runtime, seeds
from condense.machine.terminal import tell
from condense.plan import DataCell
from condense.plan.profiles import profile
from condense.specs.costs.work import Sizes

# Of the images that are timed; larger ones would fill a memory, and their rates differ little
_LARGEST_SIDE = 256
_DRAWS = 12  # augmentations that are timed together, always the same
_WAY = 3  # of measuring; another number, and kept rates are measured anew


def rates_for(
    data: DataCell, arch: str, options: str, threads: int, device: torch.device, cache_file: Path | None
) -> tuple[Rates, str]:
    """Rates of this machine for images like those of `data`, measured with the network `arch`, and where they
    come from.

    They are kept in `cache_file` (None: nowhere) and measured again for another device, number of threads or
    torch, after this module measures otherwise, or if the file is damaged.
    """
    spec, device_name = (
        data.spec,
        torch.cuda.get_device_name(device) if device.type == "cuda" else runtime.cpu_name(),
    )
    name = f"{spec.channels}x{spec.size}x{spec.size} {spec.strategy} {arch} {options}"
    facts = {"device": device_name, "threads": threads, "torch": str(torch.__version__), "way": _WAY}
    kept, remark = _kept_rates(cache_file)
    known = kept.get(name)
    if cache_file is not None and known and {key: known.get(key) for key in facts} == facts:
        source = (
            f"measured on {known.get('date')} on this {device_name} (delete {cache_file.name} to measure "
            "again)"
        )
        return read(Rates, known["rates"], f"{cache_file}: {name}"), source
    tell(f"measuring how fast {arch} is on images like those of {data.name} here: some seconds, once")
    measured = _measured(data, arch, options, device)
    if cache_file is not None:
        entry = {**facts, "date": datetime.now(UTC).date().isoformat(), "rates": asdict(measured)}
        write_json(cache_file, {"kind": "rates", "entries": {**kept, name: entry}})
    if known:
        remark = "; measured anew, since device, threads or torch changed"
    return measured, f"measured now on this {device_name}{remark}"


def _kept_rates(path: Path | None) -> tuple[dict[str, Any], str]:
    if path is None or not path.exists():
        return {}, ""
    try:
        entries = read_json(path)["entries"]
        # Whole ones that were measured in another way are left out; what is damaged is told below
        entries = {
            name: entry
            for name, entry in entries.items()
            if "device" not in entry or entry.get("way") == _WAY
        }
        for name, entry in entries.items():
            read(Rates, entry["rates"], name)
        return entries, ""
    except (UserError, KeyError, TypeError, AttributeError):
        return {}, f"; {path} was damaged"


def _measured(data: DataCell, arch: str, options: str, device: torch.device) -> Rates:
    """Some seconds of work: batches through the network, augmentation, and a process that imports what jobs
    import."""
    if data.spec.size > _LARGEST_SIDE:
        scaled = None if data.spec.resize is None else _LARGEST_SIDE
        data = DataCell(replace(data.spec, size=_LARGEST_SIDE, resize=scaled))
    spec, counted = data.spec, data.profile(arch, options)
    shape = (spec.channels, spec.size, spec.size)
    with torch.random.fork_rng(devices=[]):
        network = models.build(
            arch, channels=spec.channels, size=spec.size, classes=spec.classes, **json.loads(options)
        ).to(device)
        tiny = models.build("convnet", channels=spec.channels, size=8, classes=2, width=8, depth=2).to(device)
    # As many as a step of matching has, or training in a batch: few images stay in the cache of a CPU, and a
    # pass of these takes a quarter less
    count = int(min(512 if device.type == "cuda" else 256, max(4, 3e10 // counted.forward)))
    images, single = torch.rand(count, *shape, device=device), torch.rand(1, *shape, device=device)
    threads, layers = (
        torch.get_num_threads(),
        profile("convnet", '{"depth":2,"width":8}', spec.channels, 8, 2).layers,
    )
    # What a call takes whatever its size; threads that wait for each other would only hide it
    torch.set_num_threads(1)
    smallest = torch.rand(1, spec.channels, 8, 8, device=device)
    call, call_trained = (
        _seconds(partial(run, tiny, smallest), device) / layers for run in (_forward, _training)
    )
    draw = _seconds(partial(_augment, spec, single), device) / _DRAWS
    torch.set_num_threads(threads)
    passes = (
        _seconds(partial(run, network, images), device, sustained=True)
        for run in (_forward, _training, _moving)
    )
    each, each_trained, each_moved = (
        max(seconds - per_call * counted.layers, seconds / 2) / count
        for seconds, per_call in zip(passes, (call, call_trained, call_trained), strict=True)
    )
    seconds, taken = _start()
    return Rates(
        forward=counted.forward / each,
        training=3 * counted.forward / each_trained,
        moving=2 * counted.forward / each_moved,
        call=call,
        call_training=call_trained,
        parameter=_seconds(partial(models.reinitialise, network, 0), device) / counted.parameters,
        draw=draw,
        # `_augment` goes over its images twice, as over real and as over synthetic ones.
        image=max(_seconds(partial(_augment, spec, images), device) / _DRAWS - draw, 0.0) / (2 * count),
        start=seconds[1],
        light_start=seconds[0],
        memory=taken[1],
        light_memory=taken[0],
    )


def _forward(network: torch.nn.Module, images: torch.Tensor) -> None:
    with torch.inference_mode():
        network(images)


def _training(network: torch.nn.Module, images: torch.Tensor) -> None:
    torch.autograd.grad(network(images).square().sum(), list(network.parameters()))


def _moving(network: torch.nn.Module, images: torch.Tensor) -> None:
    network.requires_grad_(False)
    moved = images.clone().requires_grad_(True)
    torch.autograd.grad(network(moved).square().sum(), moved)


def _augment(spec: Sizes, images: torch.Tensor) -> None:
    for number in range(_DRAWS):
        generator = seeds.generator(0, "estimate", number)
        torch.randperm(spec.train // spec.classes, generator=generator)
        drawn = [siamese.draw(spec.strategy, spec.size, generator)]
        variable = images.clone().requires_grad_(True)
        siamese.apply_each_class(images[None], drawn)
        torch.autograd.grad(siamese.apply_each_class(variable[None], drawn).sum(), variable)


def _seconds(function: Callable[[], None], device: torch.device, *, sustained: bool = False) -> float:
    """Seconds of a call, of at least three in about a third of a second; the first is left out.

    The fastest, because other programs on the machine make some calls slower by chance, and a call of
    microseconds a hundredfold. `sustained`: of calls in about two seconds the one that a quarter is faster
    than, for long work, which cannot keep the pace of the fastest (a processor's clock, memory).
    """
    times: list[float] = []
    began = time.monotonic()
    while len(times) <= 3 or (time.monotonic() - began < (2.0 if sustained else 0.3)):
        before = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - before)
    return sorted(times[1:])[(len(times) - 1) // 4 if sustained else 0]


# Prints the seconds and the bytes taken so far: of the processor, whose seconds other programs do not
# stretch, and of /proc, whose high-water mark starts anew with the program, while that of getrusage is
# inherited from the process that starts it.
_START = """
import re, resource, time
from pathlib import Path
def show():
    status, used = Path("/proc/self/status"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kilobytes = int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1]) if status.exists() else used
    print(time.process_time(), 1024 * kilobytes)
import condense.jobs, PIL.Image
show()
import condense.engines.matching, condense.evaluate.protocols, condense.networks.pretrain
show()
"""


@cache
def _start() -> tuple[tuple[float, float], tuple[int, int]]:
    """What it takes to start a job, in seconds, and what its libraries take, in bytes: of a job without
    torch, and with it."""
    done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True)
    (light, light_bytes), (heavy, heavy_bytes) = (line.split() for line in done.stdout.splitlines())
    return (float(light), float(heavy)), (int(light_bytes), int(heavy_bytes))
