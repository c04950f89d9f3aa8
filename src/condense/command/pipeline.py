"""`condense run`, end to end: estimate, prepare, make parents, condense, compare with random selection."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from condense import jobs
from condense.command.minutes import fitted, recipe_steps
from condense.command.outcome import summary, told_of_another, told_of_choice
from condense.command.prune import sweep
from condense.command.requests import CHOSEN, Request, Work, check_numbers, data_of, plan_request, suited
from condense.command.younger import told_of_younger_code
from condense.config import UserError
from condense.files import check_prepared, read_metrics, read_request
from condense.files.artifacts import write_json
from condense.machine import runtime
from condense.machine.drafts import draft_of, remove_dead_below
from condense.machine.terminal import tell
from condense.plan import MetricsCell, ParentCell, SyntheticCell
from condense.specs import catalogue


def run_images(request: Request) -> None:
    """Does everything a request asks for, going on where an interrupted run stopped, and prints what came out
    and where."""
    from condense.data.classes import brief
    from condense.estimate import estimate_cells
    from condense.tracking import follower, stores

    store = stores.named_store(request.mlflow)
    if store:
        stores.check(store)  # now, and not after all the work
    check_numbers(request)
    data, asked = data_of(request), request.method
    request = suited(request, data.spec)
    request = fitted(request, data)
    work = plan_request(request, data)
    on_gpu = runtime.gpu_usable(request.device)
    bind(request.out, work, request)
    spec = work.data.spec
    shape = f"{spec.size} x {spec.size} x {spec.channels}"
    names = f" ({brief(spec.class_names)})" if spec.class_names else ""
    print(
        f"{spec.title}: {spec.train} training and {spec.test} test images, {spec.classes} classes{names}, "
        f"{shape}"
    )
    if spec.note:
        print(spec.note)
    if request.method != asked:
        print(told_of_another(asked, request))
    estimate = estimate_cells(
        work.parents,
        work.sets,
        work.metrics,
        threads=request.threads,
        gpu=on_gpu,
        made=partial(_is_made, request.out, work),
    )
    print(estimate.text(), flush=True)
    if request.minutes is not None:
        print(told_of_choice(request, work, recipe_steps(request, data)), flush=True)
    with follower.following(store, request.out):
        results = _made(request, work)
        sweep(request.out)
        print(summary(request, work, results), flush=True)


def _made(request: Request, work: Work) -> list[dict]:
    """Makes whatever is not there yet; returns the metrics."""
    machine = jobs.Machine(request.device, request.threads)
    _prepare(request.out, work)
    make_sets(request.out, work, machine)
    return [
        _evaluated(_set_folder(request.out, work, cell.synthetic), request.out, cell, machine)
        for cell in work.metrics
    ]


def make_sets(out: Path, work: Work, machine: jobs.Machine) -> None:
    """Makes the sets of `work`, and what they need beforehand, of the images prepared in `out`, where they
    are not there yet."""
    parents: dict[str, Path] = {}
    for parent in work.parents:
        parents[parent.key] = _parent(out, work, parent, parents, machine)
    for cell in work.sets:
        _synthetic(_set_folder(out, work, cell), out, cell, parents, machine)


def bind(out: Path, work: Work, request: Request) -> None:
    """Ties the folder to the request: the same one is resumed, another one refused."""
    path = out / "request.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    if out.is_symlink() and not out.exists():
        raise UserError(
            f"--out {out}: is a link to {os.readlink(out)}, which is not there; make that folder, or name "
            "another one"
        )
    if not path.exists():
        # Who was killed while writing the request left no more than a draft of it.
        if out.exists() and any(draft_of(entry.name) != path.name for entry in out.iterdir()):
            raise UserError(f"--out {out}: is not empty and holds no run of ours; name a new folder")
        settings = _settings(request, work)
        write_json(path, {"kind": "request", "key": work.key, "images": str(request.images), **settings})
        return
    try:
        earlier = read_request(path)
    except UserError:
        raise UserError(
            f"{path}: damaged, so that nobody can tell which run the folder holds; name a new folder with "
            "--out"
        ) from None
    if earlier.key != work.key:
        told = _differing(earlier, _settings(request, work) | {"images": str(request.images)})
        raise UserError(f"--out {out}: holds another run ({told}); name a new folder")
    remove_dead_below(out)


def _settings(request: Request, work: Work) -> dict[str, Any]:
    """What the folder says of its run beside the images."""
    named = {name: getattr(request, name) for name in ("method", "ipc", "scale", "seed")}
    chosen = {name: value for name in CHOSEN if (value := getattr(request, name)) is not None}
    return named | {"arch": work.sets[0].arch} | chosen


def _differing(earlier: Any, asked: dict[str, Any]) -> str:
    """What of an earlier request is not as it is asked for now, as its options."""
    told = []
    for name in dict.fromkeys([*asked, *CHOSEN]):
        there, option = getattr(earlier, name), f"--{name.replace('_', '-')}".replace("--images", "IMAGES")
        if there != asked.get(name):
            told.append(f"{option} {there}" if there is not None else f"without {option}")
    return ", ".join(told) or "of other images, or with other settings of its method or scale"


def _is_made(out: Path, work: Work, cell: Any) -> bool:
    """Whether the file that a cell stands for is in the folder."""
    if isinstance(cell, ParentCell):
        return (out / work.folder_of(cell) / Path(cell.path).name).exists()
    if isinstance(cell, MetricsCell):
        return (_set_folder(out, work, cell.synthetic) / "metrics.json").exists()
    if isinstance(cell, SyntheticCell):
        return (_set_folder(out, work, cell) / "synthetic.safetensors").exists()
    return jobs.is_prepared(out / "data")


def _set_folder(out: Path, work: Work, cell: SyntheticCell) -> Path:
    return out if cell == work.sets[0] else out / catalogue.BASELINE


def _prepare(out: Path, work: Work) -> None:
    from condense.data.prepare import prepare

    if jobs.is_prepared(out / "data"):
        check_prepared(out / "data")
    else:
        prepare(work.data.spec, out / "data")


def _parent(out: Path, work: Work, cell: ParentCell, earlier: dict[str, Path], machine: jobs.Machine) -> Path:
    path = out / work.folder_of(cell) / Path(cell.path).name
    if not jobs.is_whole(path, cell.file, cell.key):
        made_from = {name: earlier[parent.key] for name, parent in cell.parents.items()}
        jobs.make_parent(path, cell, out / "data" / "train.safetensors", machine, made_from)
    return path


def _synthetic(
    folder: Path, out: Path, cell: SyntheticCell, parents: dict[str, Path], machine: jobs.Machine
) -> None:
    path, data, shard = (
        folder / "synthetic.safetensors",
        out / "data" / "train.safetensors",
        folder / "shard" / "all.safetensors",
    )
    if jobs.is_whole(path, "synthetic", cell.key):
        if told := told_of_younger_code(path, cell.arch, getattr(cell.recipe, "terms", ())):
            tell(told)
        shutil.rmtree(shard.parent, ignore_errors=True)
        return
    job = jobs.ShardJob(
        cell.recipe,
        data,
        arch=cell.arch,
        options=json.loads(cell.options),
        ipc=cell.images_a_class,
        seed=cell.seed,
        key=cell.key,
        parents={name: parents[parent.key] for name, parent in cell.parents.items()},
    )
    if not (shard.exists() and jobs.run_facts_path(shard).exists()):
        jobs.condense_shard(shard, job, machine)
    jobs.gather(path, [shard], data, cell.stored)
    shutil.rmtree(shard.parent)  # with the drafts that a killed run may have left


def _evaluated(folder: Path, out: Path, cell: MetricsCell, machine: jobs.Machine) -> dict:
    path, synthetic = folder / "metrics.json", cell.synthetic
    if not jobs.is_whole(path, "metrics", cell.key):
        job = jobs.EvaluationJob(
            task=cell.task,
            synthetic=folder / "synthetic.safetensors",
            data=out / "data",
            method=synthetic.recipe.name,
            arch=cell.eval_arch,
            options=json.loads(cell.options),
            protocol=cell.protocol,
            strategy=synthetic.data.spec.strategy,
            n_networks=cell.n_networks,
            seed=synthetic.seed,
            key=cell.key,
        )
        jobs.evaluate_set(path, job, machine)
    elif told := told_of_younger_code(path, cell.eval_arch):
        tell(told)
    return read_metrics(path, cell.task.folder, cell.key)
