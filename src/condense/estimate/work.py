"""What one job computes, reads and writes: exactly where that is a number of multiplications."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

from condense.machine import fitting
from condense.plan import DataCell, MetricsCell, ParentCell, SyntheticCell
from condense.plan.parent import with_their_own
from condense.plan.ranges import Share
from condense.specs import number_of_epochs
from condense.specs.costs.work import FLOAT, Shard, Work, both, pixels_of

_GRID = 100_000  # bytes, about: grid, history and provenance beside a set
# Bytes, about: of images and their histogram at once; of the name and label of an image
_PIECES, _NAME = 30_000_000, 130
_METRICS = 3_000  # bytes, about: one metrics file
CARD = 80e9  # bytes of the GPU that jobs are reckoned for


def work_of(
    cell: DataCell | ParentCell | SyntheticCell | MetricsCell,
    count: int | Share | None = None,
    on_gpu: bool = False,
    real: bool = True,
) -> Work:
    """The work of the job that makes `cell`; of a set a share or so many classes, of metrics so many networks
    (None: all).

    `real`: with the real side of every step, if `cell` is a set that is matched to one.
    """
    if isinstance(cell, DataCell):
        images = cell.spec.train + cell.spec.test
        bytes_out = images * (_pixels(cell) + 8)
        # Sources that are arrays are read whole; of encoded images only the names and labels are held.
        held = 2 * bytes_out if cell.spec.source.is_arrays else _PIECES + images * _NAME
        return Work(bytes_out=bytes_out, peak_bytes=held, light=True)
    if isinstance(cell, ParentCell):
        return cell.work(on_gpu)
    if isinstance(cell, MetricsCell) and cell.reads_recipe:
        return _recipe_work(cell, on_gpu)
    if isinstance(cell, MetricsCell):
        return _evaluation(cell, networks_in(cell, count), on_gpu)
    work, bytes_out = cell.recipe.work(_shard(cell, count, on_gpu, real)), _set_bytes(cell, count)
    # The machine holds a set twice while it is written: as tensors, and as the bytes of the file.
    return replace(work, bytes_out=bytes_out, host_bytes=work.host_bytes + 2 * bytes_out)


def networks_in(cell: MetricsCell, count: int | Share | None) -> int:
    """How many networks a job of an evaluation trains (None: all). Raises TypeError for a share, which only a
    set has."""
    if isinstance(count, Share):
        raise TypeError(f"{count}: an evaluation is split by its networks")
    return count or cell.n_networks


def _shard(cell: SyntheticCell, share: Share | int | None, on_gpu: bool, shared: bool) -> Shard:
    """What the recipe of a set is asked about."""
    network = None if cell.arch == "none" else cell.data.profile(cell.arch, cell.options)
    parents = {
        name: cell.data.profile(parent.arch, parent.options)
        for name, parent in cell.parents.items()
        if parent.arch != "none"
    }
    return Shard(cell.data.spec, *cell.size_of(share), network, parents, on_gpu, shared)


def _set_bytes(cell: SyntheticCell, share: Share | int | None = None) -> int:
    """Of a set or a share of it, with its snapshots, at most: gathered these take half."""
    return (
        math.prod(cell.size_of(share))
        * (_pixels(cell.data) * FLOAT + 8)
        * (1 + cell.recipe.number_of_snapshots)
    )


def group_work(cells: Sequence[SyntheticCell], share: Share | int | None, on_gpu: bool = False) -> Work:
    """The work of the job that condenses a share (None: all) of sets with one real side: that once, and the
    rest of each."""
    if len(cells) == 1:
        return work_of(cells[0], share, on_gpu)
    alone, rests = ([work_of(cell, share, on_gpu, real) for cell in cells] for real in (True, False))
    names = [field.name for field in fields(Work) if field.name not in ("peak_bytes", "light")]
    shared = {
        name: max(
            getattr(whole, name) - getattr(rest, name) for whole, rest in zip(alone, rests, strict=True)
        )
        for name in names
    }
    summed = {name: shared[name] + sum(getattr(rest, name) for rest in rests) for name in names}
    # One set after the other goes through a step; of those that wait stay the images, their momentum and
    # their snapshots.
    held = [3 * math.prod(cell.size_of(share)) * _pixels(cell.data) * FLOAT for cell in cells]
    waiting = [bytes_held + rest.bytes_out for bytes_held, rest in zip(held, rests, strict=True)]
    peak = max(whole.peak_bytes - held for whole, held in zip(alone, waiting, strict=True)) + sum(waiting)
    return Work(**summed, peak_bytes=peak)


def steps_work(cell: SyntheticCell, on_gpu: bool = False) -> Work:
    """The work of the job that makes, one after another, the sets that `cell` is put together of, with what
    they are made from, and puts them together."""
    parents = with_their_own(parent for part in cell.joins for parent in part.parents.values())
    works = [parent.work(on_gpu) for parent in parents]
    works += [work_of(part, None, on_gpu) for part in cell.joins]
    return replace(_one_after_another(works), bytes_out=2 * _set_bytes(cell))


def gather_work(cell: SyntheticCell) -> Work:
    """The work of joining the shards of `cell`."""
    bytes_out = _set_bytes(cell)
    return Work(bytes_out=bytes_out + _GRID, peak_bytes=3 * bytes_out, light=True)


def join_work(cell: MetricsCell) -> Work:
    """The work of joining the parts of an evaluation."""
    return Work(bytes_out=_metrics_bytes(cell), light=True)


def together_work(cells: Sequence[MetricsCell], on_gpu: bool = False) -> Work:
    """The work of a job that makes several evaluations, one after another; the metrics are counted where
    their own jobs find them."""
    return _one_after_another([work_of(cell, on_gpu=on_gpu) for cell in cells])


def _one_after_another(works: Sequence[Work]) -> Work:
    """The work of one job with that of several: the memory is that of the largest."""
    held = ("peak_bytes", "host_bytes")
    names = [field.name for field in fields(Work) if field.name not in (*held, "bytes_out", "light")]
    summed = {name: sum(getattr(work, name) for work in works) for name in names}
    return Work(**summed, **{name: max(getattr(work, name) for work in works) for name in held})


def _metrics_bytes(cell: MetricsCell) -> int:
    whole = not cell.synthetic.recipe.makes_set
    values = max(1, math.ceil(_sets(cell)) * cell.task.trainings(whole)) * cell.n_networks
    return _METRICS + 20 * values * len(cell.task.metrics)


def _sets(cell: MetricsCell) -> float:
    """How many times its images are trained on: once, or for every snapshot, or in growing parts."""
    return cell.task.sets_in(cell.synthetic.recipe.number_of_snapshots)


def _pixels(data: DataCell) -> int:
    return pixels_of(data.spec)


def networks_together(cell: MetricsCell, networks: int) -> int:
    """How many of the networks of an evaluation a GPU of `CARD` bytes trains at once."""
    network = cell.synthetic.data.profile(cell.eval_arch, cell.options)
    if not network.batched or not cell.task.together or not cell.protocol.trains_together:
        return 1
    batch = min(cell.protocol.batch, _images(cell))
    return min(
        networks,
        fitting.networks_at_once(
            network.parameters, network.activations, batch, CARD, cell.protocol.copies_held
        ),
    )


def _recipe_work(cell: MetricsCell, on_gpu: bool) -> Work:
    """Of running the steps of a recipe that a task measures, out of all of a set."""
    work = work_of(cell.synthetic, None, on_gpu)
    share = cell.task.steps_run() / cell.synthetic.recipe.number_of_steps
    held = ("peak_bytes", "host_bytes", "bytes_out", "light")
    names = [field.name for field in fields(Work) if field.name not in held]
    done = {name: share * getattr(work, name) for name in names}
    return replace(work, **done, bytes_out=_METRICS)


def _images(cell: MetricsCell) -> int:
    """How many images the networks of an evaluation are trained on."""
    real = not cell.synthetic.recipe.makes_set or cell.task.trained_on == "real"
    return cell.synthetic.data.spec.train if real else cell.synthetic.images_trained


def _evaluation(cell: MetricsCell, networks: int, on_gpu: bool) -> Work:
    data, whole = cell.synthetic.data, not cell.synthetic.recipe.makes_set
    count, together = _images(cell), networks_together(cell, networks) if on_gpu else 1
    network, judged = data.profile(cell.eval_arch, cell.options), cell.synthetic.images_trained
    # Networks trained on real images serve all sets
    sets = 1 if cell.task.trained_on == "real" else _sets(cell)
    times = sets * cell.task.trainings(whole)
    trained, runs = math.ceil(networks * times), math.ceil(math.ceil(networks / together) * times)
    tested = cell.task.images_tested(data.spec.test)
    work = cell.protocol.training_work(network, data.spec, count, trained, tested, together, on_gpu, runs)
    if cell.task.trained_on == "nothing":
        work = Work(
            parameters_drawn=work.parameters_drawn, peak_bytes=work.peak_bytes, host_bytes=work.host_bytes
        )
    passes, tests = cell.task.passes, cell.task.test_passes
    work = replace(
        work,
        flops_training=passes * work.flops_training,
        images=passes * work.images,
        flops_forward=tests * work.flops_forward,
        calls_forward=tests * work.calls_forward,
    )
    work = both(work, _observing(cell, trained, on_gpu))
    work = both(work, cell.task.measuring_work(network, data.spec, judged, networks, math.ceil(_sets(cell))))
    # All snapshots are read at once, and one of them decoded; the whole set stays in 8 bits.
    held = judged + math.ceil(_sets(cell)) * (judged // cell.synthetic.recipe.images_a_stored)
    host = 0 if whole else len(cell.all_sets) * held * _pixels(data) * FLOAT
    if cell.protocol.stores_labels:
        host += cell.protocol.label_bytes(count, data.spec.classes)
    return replace(work, bytes_out=_metrics_bytes(cell), host_bytes=work.host_bytes + host)


def _observing(cell: MetricsCell, networks: int, on_gpu: bool) -> Work:
    """Of the observers that label every batch of so many networks of an evaluation, one network after the
    other; of a task that trains nothing, or of labels that are stored, none."""
    parents = [cell.parents[name] for name in cell.protocol.observers if name in cell.parents]
    profiles = [cell.synthetic.data.profile(parent.arch, parent.options) for parent in parents]
    count = _images(cell)
    epochs = networks * number_of_epochs(cell.protocol, count)
    return cell.protocol.observing_work(profiles, count, epochs, on_gpu)
