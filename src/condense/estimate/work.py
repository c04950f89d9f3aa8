"""What one job computes, reads and writes: exactly where that is a number of multiplications."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from condense import fitting, specs
from condense.estimate.counted import CLIP, Profile
from condense.estimate.profiles import profile
from condense.plan import BankCell, DataCell, MetricsCell, SyntheticCell, TeacherCell, has_batch_norm
from condense.specs import number_of_epochs

_FLOAT = 4  # bytes
_GRID = 100_000  # bytes, about: grid, history and provenance beside a set
_PIECES, _NAME = 30_000_000, 130  # bytes, about: of images and their histogram at once; of the name and label of an image
_METRICS = 3_000  # bytes, about: one metrics file
_TEST_BATCH = 512  # images of a test pass
_BOTH_TYPES = 1.25  # a convolution in bfloat16 keeps its input in that type beside the norm's in float32
CARD = 80e9  # bytes of the GPU that jobs are reckoned for


@dataclass(frozen=True)
class Work:
    """What one job does. `peak_bytes`, on a GPU those of the GPU, is on top of what the imported libraries take."""

    flops_forward: float = 0.0  # without gradients
    flops_training: float = 0.0  # forward and backward
    calls_forward: float = 0.0  # of layers
    calls_training: float = 0.0  # of layers, forward and backward
    parameters_drawn: float = 0.0
    draws: float = 0.0  # batches that are augmented
    images: float = 0.0  # images that are augmented
    bytes_out: int = 0
    peak_bytes: int = 0
    host_bytes: int = 0  # what a job on a GPU holds in the memory of the machine around it
    light: bool = False  # a job without torch


def work_of(
    cell: DataCell | TeacherCell | BankCell | SyntheticCell | MetricsCell, count: int | None = None, on_gpu: bool = False, real: bool = True
) -> Work:
    """The work of the job that makes `cell`; of a set a shard of so many classes, of metrics a part of so many networks (None: all).

    `real`: with the real side of every step, if `cell` is a set that is matched to one.
    """
    if isinstance(cell, DataCell):
        images = cell.spec.train + cell.spec.test
        bytes_out = images * (_pixels(cell) + 8)
        # Sources that are arrays are read whole; of encoded images only the names and labels are held.
        held = 2 * bytes_out if cell.spec.source.kind in ("torchvision", "sklearn_digits") else _PIECES + images * _NAME
        return Work(bytes_out=bytes_out, peak_bytes=held, light=True)
    if isinstance(cell, TeacherCell):
        network, images = profile_in(cell.arch, cell.options, cell.data), cell.data.spec.train
        work = _trained(network, cell.protocol, cell.data, images, 1, images, on_gpu=on_gpu)
        return replace(work, bytes_out=network.parameters * _FLOAT + 8 * images)
    if isinstance(cell, BankCell):
        return _bank(cell)
    if isinstance(cell, MetricsCell):
        return _evaluation(cell, count or cell.n_networks, on_gpu)
    classes = count or cell.data.spec.classes
    bytes_out = classes * cell.ipc * (_pixels(cell.data) * _FLOAT + 8) * (1 + _snapshots(cell))
    chosen = _selected(cell) if cell.recipe.engine == "select" else _matched(cell, classes, on_gpu, real)
    # The machine holds a set twice while it is written: as tensors, and as the bytes of the file.
    return replace(chosen, bytes_out=bytes_out, host_bytes=chosen.host_bytes + 2 * bytes_out)


def group_work(cells: Sequence[SyntheticCell], count: int, on_gpu: bool = False) -> Work:
    """The work of the job that condenses so many classes of sets which share the real side: that once, and the rest of each."""
    if len(cells) == 1:
        return work_of(cells[0], count, on_gpu)
    alone, own = ([work_of(cell, count, on_gpu, real) for cell in cells] for real in (True, False))
    names = [field.name for field in fields(Work) if field.name not in ("peak_bytes", "light")]
    shared = {name: max(getattr(one, name) - getattr(rest, name) for one, rest in zip(alone, own, strict=True)) for name in names}
    summed = {name: shared[name] + sum(getattr(rest, name) for rest in own) for name in names}
    # One set after the other goes through a step; of those that wait stay the images, their momentum and their snapshots.
    waiting = [3 * count * cell.ipc * _pixels(cell.data) * _FLOAT + rest.bytes_out for cell, rest in zip(cells, own, strict=True)]
    peak = max(one.peak_bytes - held for one, held in zip(alone, waiting, strict=True)) + sum(waiting)
    return Work(**summed, peak_bytes=peak)


def gather_work(cell: SyntheticCell) -> Work:
    """The work of joining the shards of `cell`."""
    bytes_out = cell.data.spec.classes * cell.ipc * (_pixels(cell.data) * _FLOAT + 8) * (1 + _snapshots(cell))
    return Work(bytes_out=bytes_out + _GRID, peak_bytes=3 * bytes_out, light=True)


def join_work(cell: MetricsCell) -> Work:
    """The work of joining the parts of an evaluation."""
    return Work(bytes_out=_metrics_bytes(cell), light=True)


def _metrics_bytes(cell: MetricsCell) -> int:
    return _METRICS + 20 * _sets(cell) * cell.n_networks


def _sets(cell: MetricsCell) -> int:
    """How many sets are trained on: one, or every snapshot of it."""
    return max(1, _snapshots(cell.synthetic)) if cell.task == "snapshots" else 1


def _pixels(data: DataCell) -> int:
    return data.spec.channels * data.spec.size**2


def profile_in(arch: str, options: str, data: DataCell) -> Profile:
    return profile(arch, options, data.spec.channels, data.spec.size, data.spec.classes)


def _snapshots(cell: SyntheticCell) -> int:
    return cell.recipe.steps // cell.recipe.snapshots if cell.recipe.snapshots else 0


def networks_together(cell: MetricsCell, networks: int) -> int:
    """How many of the networks of an evaluation a GPU of `CARD` bytes trains at once."""
    network = profile_in(cell.eval_arch, cell.options, cell.synthetic.data)
    if not network.batched or cell.drift or not fitting.can_train_together(cell.protocol):
        return 1
    batch = min(cell.protocol.batch, _images(cell))
    return min(networks, fitting.networks_at_once(network.parameters, network.activations, batch, CARD))


def _images(cell: MetricsCell) -> int:
    """How many images the networks of an evaluation are trained on."""
    data, whole = cell.synthetic.data, cell.synthetic.recipe.engine == "whole"
    return data.spec.train if whole else data.spec.classes * cell.synthetic.ipc


def _evaluation(cell: MetricsCell, networks: int, on_gpu: bool) -> Work:
    data, whole = cell.synthetic.data, cell.synthetic.recipe.engine == "whole"
    count, together = _images(cell), networks_together(cell, networks) if on_gpu else 1
    network = profile_in(cell.eval_arch, cell.options, data)
    work = _trained(network, cell.protocol, data, count, _sets(cell) * networks, data.spec.test, together, on_gpu)
    if cell.drift:  # both images of a pair go through the network, the one only as far as its style is taken: at most twice the work
        work = replace(work, flops_training=2 * work.flops_training, images=2 * work.images)
    # All snapshots are read at once, and one of them normalised; the whole set stays in 8 bits.
    host = 0 if whole else len(cell.sets) * (1 + _sets(cell)) * count * _pixels(data) * _FLOAT
    return replace(work, bytes_out=_metrics_bytes(cell), host_bytes=work.host_bytes + host)


def _trained(
    network: Profile,
    protocol: specs.Protocol,
    data: DataCell,
    count: int,
    networks: int,
    judged: int,
    together: int = 1,
    on_gpu: bool = False,
) -> Work:
    """`networks` networks trained on `count` images, so many `together`, and tested on `judged`.

    A backward pass costs twice a forward one. Layers in bfloat16 keep what goes in in both types.
    """
    epochs, batches = number_of_epochs(protocol, count), math.ceil(count / protocol.batch)
    augmented = protocol.operations_of(data.spec.strategy) != "none"
    held = (data.spec.train + data.spec.test) * _pixels(data) + count * _pixels(data) * _FLOAT
    kept = network.kept * (_BOTH_TYPES if on_gpu and protocol.precision == "mixed" else 1)
    training = together * (min(protocol.batch, count) * (kept + 3 * network.largest) + fitting.COPIES * network.parameters)
    testing = 3 * min(_TEST_BATCH, judged) * network.largest
    return Work(
        flops_forward=networks * judged * network.forward,
        flops_training=networks * epochs * count * 3 * network.forward,
        calls_forward=networks * math.ceil(judged / _TEST_BATCH) * network.layers,
        calls_training=networks * epochs * batches * network.layers,
        parameters_drawn=networks * network.parameters,
        draws=networks * epochs * batches if augmented else 0,
        images=networks * epochs * count if augmented else 0,
        peak_bytes=held + math.ceil(max(training, testing)) * _FLOAT,
        host_bytes=(data.spec.train + data.spec.test) * _pixels(data),
    )


def _bank(cell: BankCell) -> Work:
    network, spec = profile_in(cell.arch, cell.options, cell.data), cell.data.spec
    if cell.protocol:
        work = _trained(network, cell.protocol, cell.data, spec.train, cell.networks.count, 0)
        return replace(work, bytes_out=cell.networks.count * network.parameters * _FLOAT)
    work = _queue(network, cell.networks, cell.data, cell.steps)
    return replace(work, bytes_out=min(cell.max_mb * 10**6, cell.steps * network.parameters * _FLOAT))


def _queue(network: Profile, networks: specs.QueueNetworks, data: DataCell, steps: int) -> Work:
    """The trainings of a queue for `steps` steps; no more than this, since networks that are never sampled are not trained."""
    trained = 1 if networks.trained == "sampled" else networks.trained
    updates, batch = steps * trained * networks.train_steps, min(networks.batch, data.spec.train)
    return Work(
        flops_training=updates * batch * 3 * network.forward,
        calls_training=updates * network.layers,
        parameters_drawn=steps / networks.push_every * network.parameters,
        peak_bytes=(batch * network.kept + 2 * networks.largest * network.parameters) * _FLOAT,
        host_bytes=data.spec.train * _pixels(data),
    )


def _selected(cell: SyntheticCell) -> Work:
    spec, held = cell.data.spec, 2 * cell.data.spec.train * _pixels(cell.data)
    if cell.recipe.selection not in ("herding", "k_center", "minimum_covering"):
        return Work(peak_bytes=held, host_bytes=held)
    network, calls = profile_in(cell.teacher.arch, cell.teacher.options, cell.data), math.ceil(spec.train / 256)
    peak = 3 * 256 * network.largest + spec.train // spec.classes * (2 * network.features + 2 * _pixels(cell.data))
    return Work(
        flops_forward=spec.train * network.embed,
        calls_forward=calls * network.layers,
        peak_bytes=held + peak * _FLOAT,
        host_bytes=held,
    )


# Terms that see the synthetic images alone ('barycentre' the real ones once, which does not count among the steps).
_OF_SYNTHETIC = (
    "diversity cross_entropy intra_class_diversity cosine_diversity intra_class_contrast inter_class_margin barycentre".split()
    + list(specs.PAIR_TERMS)
)


def _matched(cell: SyntheticCell, classes: int, on_gpu: bool, with_real: bool) -> Work:
    """The steps of the matching engine. The networks are frozen, so a backward pass to the images costs one forward pass."""
    recipe, spec = cell.recipe, cell.data.spec
    network, terms = profile_in(cell.arch, cell.options, cell.data), {term.name for term in recipe.terms}
    real, stored = classes * min(recipe.batch_real, spec.train // spec.classes), classes * cell.ipc
    synthetic = stored * (recipe.decode.factor**2 if recipe.decode else 1)
    turns = len({term.turn for term in recipe.terms}) + bool(terms & set(specs.PAIR_TERMS))  # which take a pass of their own
    chunk = (
        real if has_batch_norm(cell.arch, cell.options) else min(real, max(1, fitting.CHUNK["cuda" if on_gpu else "cpu"] // spec.size**2))
    )
    passes = _critic_passes(cell)
    critics = sum(critic.forward for critic, _ in passes) * synthetic
    embeds = bool(terms - {*specs.TEACHER_TERMS, "clip_critic"})
    embeds_real = bool(terms - {*specs.TEACHER_TERMS, "clip_critic", *_OF_SYNTHETIC})
    every = synthetic / classes
    paired = bool(terms & {"energy_distance", "kernel_mmd", "characteristic_energy", "covariance", "representative"})
    pairs = (real / classes * every * paired + every**2) * classes if paired or terms & {"diversity", "intra_class_diversity"} else 0
    waves = sum(2 * (real + 3 * synthetic) * term.frequencies for term in recipe.terms if hasattr(term, "frequencies"))
    targets = sum(critic.forward for critic, _ in passes) * synthetic if "prediction_kl" in terms else 0
    kept = network.kept * embeds + sum(critic.kept for critic, _ in passes)
    peak = synthetic * kept + 3 * chunk * network.largest + (3 * real + 6 * synthetic) * _pixels(cell.data) + network.parameters
    steps, real_steps = recipe.steps, recipe.steps * with_real
    augments, embeds_real = recipe.augment.siamese != "none", embeds_real * real_steps
    own = Work(
        flops_forward=embeds_real * real * network.embed + steps * targets,
        # A distance takes a subtraction, a product and a sum a feature; its gradient twice a product and a sum.
        flops_training=steps * (2 * turns * synthetic * network.embed * embeds + 2 * critics + (7 * pairs + waves) * network.features),
        calls_forward=embeds_real * math.ceil(real / chunk) * network.layers,
        calls_training=steps * (network.layers * embeds + sum(critic.layers for critic, _ in passes)),
        parameters_drawn=real_steps * network.parameters,
        draws=real_steps * classes,
        images=(real_steps * real + steps * synthetic) * augments,
        peak_bytes=2 * spec.train * _pixels(cell.data) + peak * _FLOAT * (1 + (_snapshots(cell) > 0)),
        host_bytes=2 * spec.train * _pixels(cell.data) * with_real,
    )
    trains = isinstance(recipe.networks, specs.QueueNetworks) and cell.bank is None and with_real
    return _both(own, _queue(network, recipe.networks, cell.data, recipe.steps)) if trains else own


def _both(one: Work, other: Work) -> Work:
    """The work of a job that does one thing and the other by turns."""
    names = [field.name for field in fields(Work) if field.name != "light"]
    return Work(**{name: getattr(one, name) + getattr(other, name) for name in names}, light=one.light and other.light)


def _critic_passes(cell: SyntheticCell) -> list[tuple[Profile, str]]:
    """The critic's passes over the synthetic images in one step: one for each view of them that a term asks for."""
    seen = {term.sees for term in cell.recipe.terms if term.name in (*specs.TEACHER_TERMS, "clip_critic")}
    if not seen:
        return []
    critic = profile_in(cell.teacher.arch, cell.teacher.options, cell.data) if cell.teacher else CLIP
    return [(critic, sees) for sees in sorted(seen)]
