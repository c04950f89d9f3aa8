"""The `condense` command: one verb for each rule of the workflow, and the user's verbs. Parses, calls, prints."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

from condense import recipes, specs
from condense.artifacts import canonical
from condense.config import UserError, load_yaml, read


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        canonical(value)  # raises for NaN and infinity, which Python reads but JSON does not know
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{text[:80]}' is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"'{text[:80]}': a JSON object is needed")
    return value


def _options(text: str) -> dict[str, Any]:
    """The options of an architecture; the shape of the images and the number of classes come from the data."""
    options = _json(text)
    for name in ("name", "channels", "size", "classes"):
        if name in options:
            raise UserError(f"--options: '{name}' is no option of an architecture: it follows from the data and --arch")
    return options


def _settings(kind: type, text: str, what: str) -> Any:
    """A recipe or protocol given as JSON, as a YAML file, or by name."""
    if text.lstrip().startswith("{"):
        return read(kind, _json(text), f"--{what}")
    if text.endswith((".yaml", ".yml")):
        return read(kind, load_yaml(Path(text)), text)
    return {"recipe": recipes.recipe, "protocol": recipes.protocol}[what](text)


def _machine(args: argparse.Namespace) -> Any:
    from condense import runtime
    from condense.jobs import Machine

    runtime.keep_freed_memory()
    return Machine(args.device, args.threads)


def data(args: argparse.Namespace) -> None:
    """Verb of rule `data`."""
    from condense.data.prepare import prepare
    from condense.plan import data_cell

    prepare(data_cell(args.dataset).spec, args.out)


def teach(args: argparse.Namespace) -> None:
    """Verb of rule `teach`."""
    from condense.jobs import pretrain_teacher

    protocol = _settings(specs.Protocol, args.protocol, "protocol")
    settings = {"arch": args.arch, "options": _options(args.options), "strategy": args.strategy, "seed": args.seed, "key": args.key}
    pretrain_teacher(args.out, args.data, protocol, **settings, machine=_machine(args))


def synthesize(args: argparse.Namespace) -> None:
    """Verb of rule `synthesize`."""
    from condense.jobs import ShardJob, condense_shard
    from condense.plan import BATCH_NORM_ARCHITECTURES

    recipe = _settings(specs.Recipe, args.recipe, "recipe")
    settings = {"arch": args.arch, "options": _options(args.options), "ipc": args.ipc, "seed": args.seed, "key": args.key}
    chunked = args.arch not in BATCH_NORM_ARCHITECTURES
    job = ShardJob(recipe, args.data, **settings, classes=_classes(args.classes), teacher=args.teacher, chunked=chunked)
    condense_shard(args.out, job, _machine(args))


def _classes(text: str | None) -> range | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if last < first:
        raise UserError(f"--classes: a class or a range such as 0-4 is needed, found '{text[:80]}'")
    return range(first, last + 1)


def gather(args: argparse.Namespace) -> None:
    """Verb of rule `gather`."""
    from condense import jobs

    jobs.gather(args.out, args.shards, args.data)


def evaluate(args: argparse.Namespace) -> None:
    """Verb of rules `evaluate` and `evaluate_whole`."""
    from condense.jobs import EvaluationJob, evaluate_set

    protocol = _settings(specs.Protocol, args.protocol, "protocol")
    settings = {"arch": args.arch, "options": _options(args.options), "strategy": args.strategy, "seed": args.seed, "key": args.key}
    what = {"task": args.task, "synthetic": args.synthetic, "data": args.data, "method": args.method}
    job = EvaluationJob(**what, protocol=protocol, n_networks=args.networks, **settings)
    evaluate_set(args.out, job, _machine(args))


def table(args: argparse.Namespace) -> None:
    """Verb of rule `table`."""
    from condense.report.tables import make_table
    from condense.tableplan import Plan

    make_table(Plan(args.scale), args.name, args.out)


def figure(args: argparse.Namespace) -> None:
    """Verb of rule `figure`."""
    from condense.report.figures import make_figure
    from condense.tableplan import Plan

    make_figure(Plan(args.scale), args.name, args.out)


def report(args: argparse.Namespace) -> None:
    """Verb of rule `report`."""
    from condense.report.html import make_report
    from condense.tableplan import Plan

    make_report(Plan(args.scale), args.out)


def track(args: argparse.Namespace) -> None:
    """Verb of rule `track`."""
    from condense.artifacts import write_json
    from condense.tracking import ingest

    found = ingest(args.results, args.store, args.artifacts)
    write_json(args.out, sorted(found.digests))
    print(f"{len(found.added)} runs added, {len(found.replaced)} replaced, {len(found.unchanged)} unchanged")


def summary(args: argparse.Namespace) -> None:
    """Verb of rule `summary`."""
    from condense.report.summary import make_summary

    make_summary(args.tables, args.out)


def take(args: argparse.Namespace) -> None:
    """Takes results from kept/ (see `dvc pull`) that a scale asks for, or one of them."""
    from condense import store
    from condense.tableplan import Plan

    if args.path:
        store.restore(args.path)
    else:
        print(f"{len(store.restore_all(Plan(args.scale).keepable()))} results taken from kept/")


def keep(args: argparse.Namespace) -> None:
    """Copies finished results into kept/, which DVC tracks, and removes from there what no scale asks for."""
    from condense import store
    from condense.tableplan import Plan

    scales = {name: Plan(name) for name in recipes.names_in("scales")}
    done = store.keep(scales[args.scale].keepable(few=args.scale != "quick"))
    removed = store.drop_others([path for name, scale in scales.items() for path in scale.keepable(few=name != "quick")])
    print(f"{len(done.added)} added, {len(done.unchanged)} kept already, {len(done.absent)} not finished, {len(removed)} files removed")
    print(f"kept/ holds {done.size / 1e6:.1f} MB")


def run(args: argparse.Namespace) -> None:
    """A user's own images, end to end."""
    from condense import runtime
    from condense.pipeline import Request, run_images

    runtime.keep_freed_memory()
    run_images(Request(**{name: getattr(args, name) for name in Request.__dataclass_fields__}))


def inspect(args: argparse.Namespace) -> None:
    """What a file of ours says of itself, after its check."""
    from condense.show import describe, digest_of

    print(digest_of(args.file) if args.digest else describe(args.file))


def export(args: argparse.Namespace) -> None:
    """A synthetic set in a format that other programs read."""
    from condense.show import export_set

    print(export_set(args.file, args.to, args.out))


def names(args: argparse.Namespace) -> None:
    """What there is."""
    from condense.show import listing

    print(listing(args.what))


def estimate(args: argparse.Namespace) -> None:
    """What a scale or one of its targets costs, before anything starts."""
    from condense import runtime
    from condense.estimate import estimate_text

    runtime.keep_freed_memory()
    print(estimate_text(args.target, args.scale))


def prune(args: argparse.Namespace) -> None:
    """Removes files under keys that no scale asks for any more."""
    from condense.prune import prune_results

    print(prune_results(args.results, dry=args.dry_run))


def _machine_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    verb.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def _cell_options(verb: argparse.ArgumentParser, out: str) -> None:
    verb.add_argument("--arch", required=True, help="architecture; see `condense list architectures`")
    verb.add_argument("--options", default="{}", help="the architecture's options, as JSON")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--key", default="by-hand", help="what the checkpoint and the artifact are bound to")
    verb.add_argument("--out", type=Path, required=True, help=out)
    _machine_options(verb)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(prog="condense", description="Dataset condensation: reproducible, tracked.")
    verbs = main_parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _user_verbs(verbs)
    _stage_verbs(verbs)
    _report_verbs(verbs)
    return main_parser


def _add(verbs: Any, name: str, function: Any) -> argparse.ArgumentParser:
    text = function.__doc__.splitlines()[0]
    verb = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(function=function)
    return verb


def _user_verbs(verbs: Any) -> None:
    verb = _add(verbs, "run", run)
    verb.add_argument("images", type=Path, help="a folder of class folders, or a parquet file with images and labels")
    verb.add_argument("--out", type=Path, required=True, help="folder for the set, its grid and its metrics")
    verb.add_argument("--method", default="cpdm", help="see `condense list methods` (default: cpdm)")
    verb.add_argument("--ipc", type=int, default=10, help="images per class (default: 10)")
    verb.add_argument("--scale", default="laptop", help="whose steps and epochs to use (default: laptop)")
    verb.add_argument("--arch", help="architecture (default: the ConvNet whose depth suits the image size)")
    verb.add_argument("--steps", type=int, help="condensation steps instead of the scale's")
    verb.add_argument("--resize", type=int, help="bring all images to this many pixels a side")
    verb.add_argument("--test", type=Path, help="test images of the same form (default: 20 %% of the images are held out first)")
    verb.add_argument("--seed", type=int, default=0)
    _machine_options(verb)
    verb = _add(verbs, "inspect", inspect)
    verb.add_argument("file", type=Path)
    verb.add_argument("--digest", action="store_true", help="print only the checksum of what is compared between runs")
    verb = _add(verbs, "export", export)
    verb.add_argument("file", type=Path, help="a synthetic set")
    verb.add_argument("--to", required=True, choices=("png", "npz", "parquet"))
    verb.add_argument("--out", type=Path, help="file, or folder for png (default: beside the set)")
    verb = _add(verbs, "list", names)
    verb.add_argument("what", choices=("methods", "datasets", "protocols", "tables", "architectures", "scales"))
    verb = _add(verbs, "estimate", estimate)
    verb.add_argument("target", nargs="?", help="a table or figure, as cpdm/table1 or as its file (default: everything)")
    verb.add_argument("--scale", default="quick")
    verb = _add(verbs, "prune", prune)
    verb.add_argument("--results", type=Path, default=Path("results"))
    verb.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _stage_verbs(verbs: Any) -> None:
    verb = _add(verbs, "data", data)
    verb.add_argument("--dataset", required=True)
    verb.add_argument("--out", type=Path, required=True, help="folder for train.safetensors and test.safetensors")
    verb = _add(verbs, "teach", teach)
    verb.add_argument("--data", type=Path, required=True, help="prepared training images")
    verb.add_argument("--protocol", required=True, help="name, YAML file or JSON")
    verb.add_argument("--strategy", default="none", help="augmentation of the dataset")
    _cell_options(verb, "file for the teacher")
    verb = _add(verbs, "synthesize", synthesize)
    verb.add_argument("--data", type=Path, required=True, help="prepared training images")
    verb.add_argument("--recipe", required=True, help="resolved recipe: name, YAML file or JSON")
    verb.add_argument("--ipc", type=int, required=True)
    verb.add_argument("--classes", help="a class or a range such as 0-4 (default: all)")
    verb.add_argument("--teacher", type=Path, help="the pretrained classifier, for recipes that use one")
    _cell_options(verb, "file for the shard")
    verb = _add(verbs, "gather", gather)
    verb.add_argument("--shards", type=Path, nargs="+", required=True)
    verb.add_argument("--data", type=Path, required=True, help="prepared training images, shown beside the synthetic ones")
    verb.add_argument("--out", type=Path, required=True, help="file for the synthetic set")
    verb = _add(verbs, "evaluate", evaluate)
    verb.add_argument("--synthetic", type=Path, help="the set to train on (default: the whole training set)")
    verb.add_argument("--task", choices=("condense", "snapshots"), default="condense")
    verb.add_argument("--data", type=Path, required=True, help="folder of the prepared dataset")
    verb.add_argument("--method", required=True)
    verb.add_argument("--protocol", required=True, help="name, YAML file or JSON")
    verb.add_argument("--strategy", default="none", help="augmentation of the dataset")
    verb.add_argument("--networks", type=int, required=True)
    _cell_options(verb, "file for the metrics")


def _report_verbs(verbs: Any) -> None:
    for name, function in (("table", table), ("figure", figure), ("report", report)):
        verb = _add(verbs, name, function)
        if name != "report":
            verb.add_argument("--name", required=True, help=f"as cpdm/{name}1")
        verb.add_argument("--scale", default="quick")
        verb.add_argument("--out", type=Path, required=True)
    verb = _add(verbs, "summary", summary)
    verb.add_argument("--tables", type=Path, nargs="+", required=True)
    verb.add_argument("--out", type=Path, required=True)
    verb = _add(verbs, "take", take)
    verb.add_argument("path", nargs="?", help="one result (default: all that the scale asks for)")
    verb.add_argument("--scale", default="quick")
    verb = _add(verbs, "keep", keep)
    verb.add_argument("--scale", default="quick")
    verb = _add(verbs, "track", track)
    verb.add_argument("--results", type=Path, default=Path("results"))
    verb.add_argument("--store", default="sqlite:///mlflow.db", help="MLflow tracking store")
    verb.add_argument("--artifacts", type=Path, default=Path("mlartifacts"))
    verb.add_argument("--out", type=Path, required=True, help="stamp: what has been ingested")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv`; returns the exit status: 0 done, 2 the user's fault, 130 interrupted."""
    from condense.checkpoints import graceful_stop

    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        with graceful_stop():
            args.function(args)
    except UserError as error:
        print(f"condense: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("condense: interrupted; run the same command again to go on from the last checkpoint", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print("condense: the disk is full; nothing was damaged: free some space and run the same command again", file=sys.stderr)
        elif error.filename is not None:
            print(f"condense: {error.filename}: {error.strerror}", file=sys.stderr)
        else:
            raise
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        print("condense: out of memory: choose a smaller network, fewer classes a job (--classes) or a smaller ipc", file=sys.stderr)
        return 2
    return 0


def _out_of_memory(error: Exception) -> bool:
    # By name and by words: torch must not be imported for verbs that do without, and on the CPU it raises no type of its own.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in ("can't allocate memory", "not enough memory", "Storage size calculation"))


if __name__ == "__main__":
    sys.exit(main())
