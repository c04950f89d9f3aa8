"""What jobs cost before any of them starts: their number, compute time, memory and disk, from rates measured on this machine.

`work_of` counts what a job computes, exactly where that is a number of multiplications; `cost` divides it by measured rates.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from condense import models, recipes, runtime, seeds, specs
from condense.artifacts import read_json, write_json
from condense.augment import siamese
from condense.config import UserError, read, unknown
from condense.data.spec import DatasetSpec
from condense.engines import views
from condense.plan import BATCH_NORM_ARCHITECTURES, DataCell, MetricsCell, SyntheticCell, TeacherCell
from condense.tableplan import Plan, manifest
from condense.training.loop import number_of_epochs

STAGES = ("data", "teach", "synthesize", "gather", "evaluate", "tables/figures")
_FLOAT = 4  # bytes
_GRID = 100_000  # bytes, about: grid, history and provenance beside a set
_METRICS = 3_000  # bytes, about: one metrics file
_TEST_BATCH = 512  # images of a test pass
_DRAWS = 12  # augmentations that are timed together, always the same


@dataclass(frozen=True)
class Profile:
    """What one image costs in a network: multiply-adds count as 2 FLOPs; activations in numbers, not bytes."""

    embed: int  # FLOPs of a forward pass up to the last linear layer
    forward: int  # FLOPs of a forward pass
    layers: int
    parameters: int
    activations: int  # of all layers together, as training keeps them
    largest: int  # of one layer
    features: int


# CLIP's ViT-B/32 as the published architecture gives it: 12 blocks of width 768 on 50 tokens.
_CLIP = Profile(8_800_000_000, 8_800_000_000, 150, 88_000_000, 6_000_000, 154_000, 512)


@cache
def profile(arch: str, options: str, channels: int, size: int, classes: int) -> Profile:
    """The profile of an architecture, counted in a pass over one image without data. `options` is JSON.

    Raises UserError as `models.build` does.
    """
    with torch.device("meta"):
        network = models.build(arch, channels=channels, size=size, classes=classes, **json.loads(options)).eval()
        image = torch.empty(1, channels, size, size)
    outputs: list[int] = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output.numel()))
    with torch.no_grad():
        with FlopCounterMode(display=False) as counted:
            embedding = network.embed(image)
        embed = counted.get_total_flops()
        with FlopCounterMode(display=False) as counted:
            network.head(embedding)
    forward = embed + counted.get_total_flops()
    return Profile(embed, forward, len(outputs), models.count_parameters(network), sum(outputs), max(outputs), embedding.shape[1])


@dataclass(frozen=True)
class Work:
    """What one job does. `peak_bytes` is on top of what the imported libraries take."""

    flops_forward: float = 0.0  # without gradients
    flops_training: float = 0.0  # forward and backward
    calls_forward: float = 0.0  # of layers
    calls_training: float = 0.0  # of layers, forward and backward
    parameters_drawn: float = 0.0
    draws: float = 0.0  # batches that are augmented
    images: float = 0.0  # images that are augmented
    bytes_out: int = 0
    peak_bytes: int = 0
    light: bool = False  # a job without torch


def work_of(cell: DataCell | TeacherCell | SyntheticCell | MetricsCell, classes: int | None = None, on_gpu: bool = False) -> Work:
    """The work of the job that makes `cell`; of a synthetic set, that of the shard of so many `classes` (None: all)."""
    if isinstance(cell, DataCell):
        bytes_out = (cell.spec.train + cell.spec.test) * (_pixels(cell) + 8)
        return Work(bytes_out=bytes_out, peak_bytes=2 * bytes_out, light=True)
    if isinstance(cell, TeacherCell):
        network, count = _profile(cell.arch, cell.options, cell.data), cell.data.spec.train
        work = _trained(network, cell.protocol, cell.data, count, 1, count)
        return replace(work, bytes_out=network.parameters * _FLOAT + 8 * count)
    if isinstance(cell, MetricsCell):
        return _evaluation(cell)
    bytes_out = (classes or cell.data.spec.classes) * cell.ipc * (_pixels(cell.data) * _FLOAT + 8) * (1 + _snapshots(cell))
    chosen = _selected(cell) if cell.recipe.engine == "select" else _matched(cell, classes or cell.data.spec.classes, on_gpu)
    return replace(chosen, bytes_out=bytes_out)


def gather_work(cell: SyntheticCell) -> Work:
    """The work of joining the shards of `cell`."""
    bytes_out = cell.data.spec.classes * cell.ipc * (_pixels(cell.data) * _FLOAT + 8) * (1 + _snapshots(cell))
    return Work(bytes_out=bytes_out + _GRID, peak_bytes=3 * bytes_out, light=True)


def _pixels(data: DataCell) -> int:
    return data.spec.channels * data.spec.size**2


def _profile(arch: str, options: str, data: DataCell) -> Profile:
    return profile(arch, options, data.spec.channels, data.spec.size, data.spec.classes)


def _snapshots(cell: SyntheticCell) -> int:
    return cell.recipe.steps // cell.recipe.snapshots if cell.recipe.snapshots else 0


def _evaluation(cell: MetricsCell) -> Work:
    data, whole = cell.synthetic.data, cell.synthetic.recipe.engine == "whole"
    count = data.spec.train if whole else data.spec.classes * cell.synthetic.ipc
    sets = max(1, _snapshots(cell.synthetic)) if cell.task == "snapshots" else 1
    network = _profile(cell.eval_arch, cell.options, data)
    work = _trained(network, cell.protocol, data, count, sets * cell.n_networks, data.spec.test)
    return replace(work, bytes_out=_METRICS + 20 * sets * cell.n_networks)


def _trained(network: Profile, protocol: specs.Protocol, data: DataCell, count: int, networks: int, judged: int) -> Work:
    """`networks` networks trained on `count` images and tested on `judged`. A backward pass costs twice a forward one."""
    epochs, batches = number_of_epochs(protocol, count), math.ceil(count / protocol.batch)
    augmented = protocol.augment == "dataset" and data.spec.strategy != "none"
    held = (data.spec.train + data.spec.test) * _pixels(data) + count * _pixels(data) * _FLOAT
    training = min(protocol.batch, count) * network.activations + 4 * network.parameters
    testing = 3 * min(_TEST_BATCH, judged) * network.largest
    return Work(
        flops_forward=networks * judged * network.forward,
        flops_training=networks * epochs * count * 3 * network.forward,
        calls_forward=networks * math.ceil(judged / _TEST_BATCH) * network.layers,
        calls_training=networks * epochs * batches * network.layers,
        parameters_drawn=networks * network.parameters,
        draws=networks * epochs * batches if augmented else 0,
        images=networks * epochs * count if augmented else 0,
        peak_bytes=held + max(training, testing) * _FLOAT,
    )


def _selected(cell: SyntheticCell) -> Work:
    spec, held = cell.data.spec, 2 * cell.data.spec.train * _pixels(cell.data)
    if cell.recipe.selection not in ("herding", "k_center"):
        return Work(peak_bytes=held)
    network, calls = _profile(cell.teacher.arch, cell.teacher.options, cell.data), math.ceil(spec.train / 256)
    peak = 3 * 256 * network.largest + spec.train // spec.classes * (2 * network.features + 2 * _pixels(cell.data))
    return Work(flops_forward=spec.train * network.embed, calls_forward=calls * network.layers, peak_bytes=held + peak * _FLOAT)


def _matched(cell: SyntheticCell, classes: int, on_gpu: bool) -> Work:
    """The steps of the matching engine. The networks are frozen, so a backward pass to the images costs one forward pass."""
    recipe, spec = cell.recipe, cell.data.spec
    network, terms = _profile(cell.arch, cell.options, cell.data), {term.name for term in recipe.terms}
    real, synthetic = classes * min(recipe.batch_real, spec.train // spec.classes), classes * cell.ipc
    chunk = real if cell.arch in BATCH_NORM_ARCHITECTURES else min(real, views._CHUNK["cuda" if on_gpu else "cpu"])
    passes = _critic_passes(cell)
    critics = sum(critic.forward for critic, _ in passes) * synthetic
    embeds_real, embeds = bool(terms & {"mean", "energy_distance"}), bool(terms & {"mean", "energy_distance", "diversity"})
    pairs = (real / classes * cell.ipc * ("energy_distance" in terms) + cell.ipc**2) * classes if embeds and terms != {"mean"} else 0
    targets = sum(critic.forward for critic, _ in passes) * synthetic if "prediction_kl" in terms else 0
    kept = network.activations * embeds + sum(critic.activations for critic, _ in passes)
    peak = synthetic * kept + 3 * chunk * network.largest + (3 * real + 6 * synthetic) * _pixels(cell.data) + network.parameters
    return Work(
        flops_forward=recipe.steps * (real * network.embed * embeds_real + targets),
        # A distance takes a subtraction, a product and a sum a feature; its gradient twice a product and a sum.
        flops_training=recipe.steps * (2 * synthetic * network.embed * embeds + 2 * critics + 7 * pairs * network.features),
        calls_forward=recipe.steps * math.ceil(real / chunk) * network.layers * embeds_real,
        calls_training=recipe.steps * (network.layers * embeds + sum(critic.layers for critic, _ in passes)),
        parameters_drawn=recipe.steps * network.parameters,
        draws=recipe.steps * classes,
        images=recipe.steps * (real + synthetic) if recipe.augment.siamese != "none" else 0,
        peak_bytes=2 * spec.train * _pixels(cell.data) + peak * _FLOAT * (1 + (_snapshots(cell) > 0)),
    )


def _critic_passes(cell: SyntheticCell) -> list[tuple[Profile, str]]:
    """The critic's passes over the synthetic images in one step: one for each view of them that a term asks for."""
    seen = {term.sees for term in cell.recipe.terms if term.name in (*specs.TEACHER_TERMS, "clip_critic")}
    if not seen:
        return []
    critic = _profile(cell.teacher.arch, cell.teacher.options, cell.data) if cell.teacher else _CLIP
    return [(critic, sees) for sees in sorted(seen)]


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second, or takes; what jobs start with is in seconds and bytes, `light` without torch."""

    forward: float  # FLOP/s
    training: float  # FLOP/s
    call: float  # seconds a layer, whatever its size
    call_training: float
    parameter: float  # seconds to draw one
    draw: float  # seconds a batch that is augmented, whatever its size
    image: float  # seconds an augmented image
    start: float
    light_start: float
    memory: int
    light_memory: int


# Not measured here. 20 TFLOP/s is 30 % of the 67 TFLOP/s that NVIDIA states for fp32; training loops of small networks reach
# such shares (airbench94: 36 % of an A100's bf16 peak). A kernel launch is taken as 6 microseconds, drawing as on a CPU.
REFERENCE_NAME = "NVIDIA H200"
REFERENCE = Rates(20e12, 20e12, 12e-6, 36e-6, 6e-9, 5e-4, 2e-7, 10.0, 1.0, 1 << 30, 1 << 27)


def cost(work: Work, rates: Rates) -> float:
    """Seconds that a job takes at these rates."""
    seconds = work.flops_forward / rates.forward + work.flops_training / rates.training
    seconds += work.calls_forward * rates.call + work.calls_training * rates.call_training
    seconds += work.parameters_drawn * rates.parameter + work.draws * rates.draw + work.images * rates.image
    return seconds + (rates.light_start if work.light else rates.start)


def rates_for(data: DataCell, arch: str, options: str, threads: int, device: torch.device, cache_file: Path | None) -> tuple[Rates, str]:
    """Rates of this machine for images like those of `data`, measured with the network `arch`, and where they come from.

    They are kept in `cache_file` (None: nowhere) and measured again for another device, number of threads or torch, or if the
    file is damaged.
    """
    spec, device_name = data.spec, torch.cuda.get_device_name(device) if device.type == "cuda" else runtime._cpu_name()
    name = f"{spec.channels}x{spec.size}x{spec.size} {spec.strategy} {arch} {options}"
    facts = {"device": device_name, "threads": threads, "torch": str(torch.__version__)}
    kept, remark = _kept_rates(cache_file)
    found = kept.get(name)
    if found and {key: found.get(key) for key in facts} == facts:
        source = f"measured on {found.get('date')} on this {device_name} (delete {cache_file.name} to measure again)"
        return read(Rates, found["rates"], f"{cache_file}: {name}"), source
    measured = _measured(data, arch, options, device)
    if cache_file is not None:
        entry = {**facts, "date": datetime.now(UTC).date().isoformat(), "rates": asdict(measured)}
        write_json(cache_file, {"kind": "rates", "entries": {**kept, name: entry}})
    if found:
        remark = "; measured anew, since device, threads or torch changed"
    return measured, f"measured now on this {device_name}{remark}"


def _kept_rates(path: Path | None) -> tuple[dict[str, Any], str]:
    if path is None or not path.exists():
        return {}, ""
    try:
        entries = read_json(path)["entries"]
        for name, entry in entries.items():
            read(Rates, entry["rates"], name)
        return entries, ""
    except (UserError, KeyError, TypeError, AttributeError):
        return {}, f"; {path} was damaged"


def _measured(data: DataCell, arch: str, options: str, device: torch.device) -> Rates:
    """Some seconds of work: batches through the network, augmentation, and a process that imports what jobs import."""
    spec, counted = data.spec, _profile(arch, options, data)
    shape = (spec.channels, spec.size, spec.size)
    with torch.random.fork_rng(devices=[]):
        network = models.build(arch, channels=spec.channels, size=spec.size, classes=spec.classes, **json.loads(options)).to(device)
        tiny = models.build("convnet", channels=spec.channels, size=8, classes=2, width=8, depth=2).to(device)
    count = int(min(512 if device.type == "cuda" else 64, max(4, 1e10 // counted.forward)))
    images, one = torch.rand(count, *shape, device=device), torch.rand(1, *shape, device=device)
    threads, layers = torch.get_num_threads(), profile("convnet", '{"depth":2,"width":8}', spec.channels, 8, 2).layers
    torch.set_num_threads(1)  # what a call takes whatever its size; threads that wait for each other would only hide it
    smallest = torch.rand(1, spec.channels, 8, 8, device=device)
    call, call_trained = (_seconds(partial(run, tiny, smallest), device) / layers for run in (_forward, _training))
    draw = _seconds(partial(_augment, spec, one), device) / _DRAWS
    torch.set_num_threads(threads)
    passes = (_seconds(partial(run, network, images), device) for run in (_forward, _training))
    each, each_trained = (
        max(seconds - per_call * counted.layers, seconds / 2) / count
        for seconds, per_call in zip(passes, (call, call_trained), strict=True)
    )
    seconds, taken = _start()
    return Rates(
        forward=counted.forward / each,
        training=3 * counted.forward / each_trained,
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


def _augment(spec: DatasetSpec, images: torch.Tensor) -> None:
    for place in range(_DRAWS):
        generator = seeds.generator(0, "estimate", place)
        torch.randperm(spec.train // spec.classes, generator=generator)
        drawn = [siamese.draw(spec.strategy, spec.size, generator)]
        variable = images.clone().requires_grad_(True)
        siamese.apply_each_class(images[None], drawn)
        torch.autograd.grad(siamese.apply_each_class(variable[None], drawn).sum(), variable)


def _seconds(function: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest call of at least three in about a third of a second; the first is left out.

    The fastest, because other programs on the machine make some calls slower by chance, and a call of microseconds a hundredfold.
    """
    found: list[float] = []
    began = time.monotonic()
    while len(found) <= 3 or (time.monotonic() - began < 0.3):
        before = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - before)
    return min(found[1:])


# Prints the seconds and the bytes taken so far: of the processor, whose seconds other programs do not stretch, and of /proc, whose
# high-water mark starts anew with the program, while that of getrusage is inherited from the process that starts it.
_START = """
import re, resource, time
from pathlib import Path
def show():
    status, used = Path("/proc/self/status"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kilobytes = int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1]) if status.exists() else used
    print(time.process_time(), 1024 * kilobytes)
import condense.jobs, PIL.Image
show()
import condense.engines.matching, condense.evaluate.protocols, condense.teachers.pretrain
show()
"""


@cache
def _start() -> tuple[tuple[float, float], tuple[int, int]]:
    """What it takes to start a job, in seconds, and what its libraries take, in bytes: of a job without torch, and with it."""
    done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True)
    seconds, taken = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    return tuple(map(float, seconds)), tuple(map(int, taken))


@dataclass(frozen=True)
class Stage:
    """The jobs of one stage: how many, how many of them are made already, and what the others cost in seconds and bytes."""

    name: str
    jobs: int
    done: int
    seconds: float = 0.0
    longest: float = 0.0
    reference_seconds: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """What is to be done and what it costs. `asked_gpu`: the jobs ask for a GPU; `on_gpu`: the rates are those of one."""

    stages: tuple[Stage, ...]
    threads: int
    asked_gpu: bool
    on_gpu: bool
    source: str  # of the rates

    @property
    def seconds(self) -> float:
        """Of all jobs that are to be done, one after the other."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """Of the largest job; on a GPU that of the GPU."""
        return max(stage.memory_bytes for stage in self.stages)

    @property
    def disk_bytes(self) -> int:
        return sum(stage.disk_bytes for stage in self.stages)

    def text(self) -> str:
        """A table of the stages, the totals, and what the numbers rest on."""
        lines = [f"{'stage':<16}{'jobs':>6}{'done':>6}{'to do':>7}{'time':>12}{'longest job':>13}{'memory':>10}{'disk':>10}"]
        for stage in self.stages:
            if stage.jobs:
                left = stage.jobs - stage.done
                shown = [_duration(stage.seconds), _duration(stage.longest), _bytes(stage.memory_bytes), _bytes(stage.disk_bytes)]
                shown = shown if left else ["-"] * 4
                counts = f"{stage.jobs:>6}{stage.done:>6}{left:>7}"
                lines.append(f"{stage.name:<16}{counts}{shown[0]:>12}{shown[1]:>13}{shown[2]:>10}{shown[3]:>10}")
        jobs, done = sum(stage.jobs for stage in self.stages), sum(stage.done for stage in self.stages)
        lines.append(f"in all {jobs} jobs: {done} done, {jobs - done} to do")
        lines += self._compute()
        where = "GPU memory" if self.on_gpu else "memory"
        lines.append(f"largest {where} of one job {_bytes(self.memory_bytes)}; disk for results {_bytes(self.disk_bytes)}")
        lines.append(f"rates: {self.source}; downloading and preparing data are not counted")
        return "\n".join(lines)

    def _compute(self) -> list[str]:
        if self.on_gpu:
            return [f"compute: {self.seconds / 3600:.2f} GPU-hours"]
        cores = len(os.sched_getaffinity(0))
        together = max(1, cores // self.threads)
        used = f"{self.seconds * self.threads / 3600:.2f} core-hours"
        lines = [f"compute: {used}, about {_duration(self.seconds / together)} on the {cores} cores of this machine if it is idle"]
        if not self.asked_gpu:
            return lines
        reference = sum(stage.reference_seconds for stage in self.stages) / 3600
        assumed = f"not measured here: fp32 at {REFERENCE.forward / 1e12:.0f} TFLOP/s assumed"
        return [
            "a GPU is asked for and this machine has none: the times are for this CPU's measured rate",
            *lines,
            f"on one {REFERENCE_NAME} ({assumed}): about {reference:.1f} GPU-hours",
        ]


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


@dataclass(frozen=True)
class _Job:
    stage: str
    cell: Any  # the cell whose data decides the rates; None for what only reads results
    work: Work
    done: bool = False


def estimate_cells(
    teachers: Iterable[TeacherCell],
    synthetic: Iterable[SyntheticCell],
    metrics: Iterable[MetricsCell],
    *,
    threads: int | None,
    gpu: bool,
) -> Estimate:
    """What it costs to make these cells and their data, none of which counts as done; every set in one shard.

    `threads` CPU threads a job (None: all cores). `gpu`: on a GPU if there is one, else on this CPU, and also for `REFERENCE`.
    Measures the rates of this machine if they are not known yet, which takes seconds.
    """
    cells = [*teachers, *synthetic, *metrics]
    datasets = {data.key: data for data in map(_data_of, cells)}
    on_gpu = gpu and torch.cuda.is_available()
    jobs = [_Job("data", data, work_of(data)) for data in datasets.values()]
    jobs += [_Job("teach", cell, work_of(cell)) for cell in cells if isinstance(cell, TeacherCell)]
    for cell in cells:
        if isinstance(cell, SyntheticCell):
            jobs += [_Job("synthesize", cell, work_of(cell, on_gpu=on_gpu)), _Job("gather", cell, gather_work(cell))]
    jobs += [_Job("evaluate", cell, work_of(cell)) for cell in cells if isinstance(cell, MetricsCell)]
    return _estimate(jobs, threads, gpu)


def _data_of(cell: Any) -> DataCell:
    if isinstance(cell, DataCell):
        return cell
    return cell.synthetic.data if isinstance(cell, MetricsCell) else cell.data


def _network_of(cell: Any) -> tuple[str, str]:
    return (cell.eval_arch if isinstance(cell, MetricsCell) else cell.arch), cell.options


def _estimate(jobs: Sequence[_Job], threads: int | None, gpu: bool) -> Estimate:
    on_gpu = gpu and torch.cuda.is_available()
    threads = runtime.set_threads(min(threads or 1 << 10, len(os.sched_getaffinity(0))))
    rates, source = _all_rates(jobs, threads, on_gpu)
    stages = []
    for name in STAGES:
        own = [job for job in jobs if job.stage == name]
        left = [job for job in own if not job.done]
        # Jobs that only read results start as others do, whatever data they are about.
        taken = [(job.work, rates[_data_of(job.cell).key] if job.cell else next(iter(rates.values()))) for job in left]
        seconds = [cost(work, rate) for work, rate in taken]
        peaks = [work.peak_bytes + (0 if on_gpu else rate.light_memory if work.light else rate.memory) for work, rate in taken]
        totals = {"seconds": sum(seconds), "longest": max(seconds, default=0.0), "memory_bytes": max(peaks, default=0)}
        totals["reference_seconds"] = sum(cost(work, REFERENCE) for work, _ in taken)
        totals["disk_bytes"] = sum(work.bytes_out for work, _ in taken)
        stages.append(Stage(name, len(own), len(own) - len(left), **totals))
    return Estimate(tuple(stages), threads, gpu, on_gpu, source)


def _all_rates(jobs: Sequence[_Job], threads: int, on_gpu: bool) -> tuple[dict[str, Rates], str]:
    """Rates by data key, for the data of all jobs that are to be done, measured with the network that most of its jobs use."""
    left = [job for job in jobs if not job.done]
    networks: dict[str, Counter[tuple[str, str]]] = {}
    for job in [job for job in left if job.cell] or (jobs if left else []):
        if job.cell:
            found = networks.setdefault(_data_of(job.cell).key, Counter({("mlp", "{}"): 0}))
            if not isinstance(job.cell, DataCell) and _network_of(job.cell)[0] != "none":
                found[_network_of(job.cell)] += 1
    datasets = {_data_of(job.cell).key: _data_of(job.cell) for job in jobs if job.cell}
    rates, sources = {}, Counter()
    with runtime.device("cuda" if on_gpu else "cpu") as device:
        for key, found in networks.items():
            arch, options = found.most_common(1)[0][0]
            rates[key], source = rates_for(datasets[key], arch, options, threads, device, _rates_file())
            sources[source] += 1
    return rates, "; ".join(sources) or "none needed"


def _rates_file() -> Path | None:
    """Where rates are kept: among the results of the checkout; None where that may not be written."""
    checkout = recipes.params_folder().absolute().parent
    folder = checkout / "results" / "benchmarks"
    place = next(place for place in (folder, folder.parent, checkout) if place.exists())
    return folder / "rates.json" if os.access(place, os.W_OK) else None


def estimate_text(target: str | None, scale: str) -> str:
    """What `target` costs at `scale`: a table or figure by name or file, the metrics file of one cell, or None for everything.

    A job counts as done if its output exists, or if all that it is for exists. Raises UserError for an unknown target.
    """
    plan = Plan(scale)
    names, metrics = _named(plan, target)
    resources = [plan.scale.resources.get(stage, specs.Resources()) for stage in ("teach", "synthesize", "evaluate")]
    gpu = torch.cuda.is_available() or any(entry.gpu for entry in resources)
    jobs = list(_jobs(plan, names, metrics, whole=target is None, on_gpu=torch.cuda.is_available()))
    estimate = _estimate(jobs, max(entry.threads for entry in resources), gpu)
    return f"scale {scale} ({plan.scale.title}): {target or 'everything'}\n{estimate.text()}"


def _named(plan: Plan, target: str | None) -> tuple[list[str], list[MetricsCell]]:
    """The tables and figures, and the metrics, that `target` asks for."""
    if target is None:
        return [*plan.tables, *plan.figures], list(plan.metrics.values())
    path = target.removeprefix("./")
    if path in plan.metrics:
        return [], [plan.metrics[path]]
    name = path.removeprefix("results/tables/").removeprefix("results/figures/")
    name = name.rsplit(".", 1)[0]
    if name in plan.specs_by_path() and name not in [*plan.tables, *plan.figures]:
        others = ", ".join(recipes.names_in("scales"))
        raise UserError(f"{name}: is not made at scale {plan.scale.name}; choose another with --scale ({others})")
    if name not in plan.specs_by_path():
        raise unknown("target", target, plan.specs_by_path(), f"scale {plan.scale.name}")
    return [name], plan.metrics_of(name)


def _jobs(plan: Plan, names: list[str], metrics: list[MetricsCell], whole: bool, on_gpu: bool) -> Iterator[_Job]:
    """The jobs behind tables, figures and metrics, from the last to the first: what is made needs none of its own inputs."""
    curves = [curve for name in names if name in plan.figures for curve in plan.figures[name].curves]
    undrawn = [name for name in names if not _is_drawn(plan, name)]
    drawn = [curve for name in undrawn if name in plan.figures for curve in plan.figures[name].curves]
    for name in names:
        yield _Job("tables/figures", None, Work(light=True), name not in undrawn)
    if whole:
        yield _Job("tables/figures", None, Work(light=True), Path("results/report.html").exists() and not undrawn)
    unmeasured = [cell for cell in metrics if not Path(cell.path).exists()]
    for cell in metrics:
        yield _Job("evaluate", cell, work_of(cell), cell not in unmeasured)

    def distinct(cells: Iterable[Any]) -> dict[str, Any]:
        return {cell.key: cell for cell in cells if cell}

    sets = distinct(cell.synthetic for cell in [*metrics, *curves] if cell.synthetic and cell.synthetic.recipe.engine != "whole")
    wanted = sets if whole else distinct(cell.synthetic for cell in [*unmeasured, *drawn])
    missing = {key: cell for key, cell in sets.items() if key in wanted and not Path(cell.path).exists()}
    needing: list[Any] = [*missing.values(), *(cell.synthetic for cell in unmeasured), *(curve.synthetic for curve in drawn)]
    pretrain: list[TeacherCell] = [curve.teacher for curve in drawn]
    for key, cell in sets.items():
        yield _Job("gather", cell, gather_work(cell), key not in missing)
        for shard in plan.shards(cell):
            first, last = map(int, shard.split("-"))
            done = key not in missing or Path(cell.shard_path(shard)).exists()
            pretrain += [] if done else [cell.teacher]
            yield _Job("synthesize", cell, work_of(cell, last - first + 1, on_gpu), done)
    untaught = {key: cell for key, cell in distinct(pretrain).items() if not Path(cell.path).exists()}
    for key, cell in distinct([*(cell.teacher for cell in sets.values()), *(curve.teacher for curve in curves)]).items():
        yield _Job("teach", cell, work_of(cell), key not in untaught)
    used = distinct(_data_of(cell) for cell in [*needing, *untaught.values()] if cell)
    for key, cell in distinct(_data_of(cell) for cell in [*sets.values(), *metrics]).items():
        yield _Job("data", cell, work_of(cell), key not in used or Path(cell.train).exists() and Path(cell.test).exists())


def _is_drawn(plan: Plan, name: str) -> bool:
    """Whether the table or figure in `results` was made from what this scale asks for."""
    folder, ending = ("tables", "csv") if name in plan.tables else ("figures", "png")
    note = Path("results") / folder / f"{name}.json"
    return note.exists() and note.with_suffix(f".{ending}").exists() and read_json(note) == manifest(plan, name)
