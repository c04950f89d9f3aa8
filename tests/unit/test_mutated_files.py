"""Files of every kind changed by chance, with their checksums right: each verb that reads one does its work
or names it in a sentence."""

import random
import shutil
from types import SimpleNamespace

import pytest
from bad_input_helpers import BRIEF, NET, evaluation, recipe, run, synthesis
from mutation_helpers import change_tensors, change_text

from condense import specs
from condense.command import prune
from condense.config import UserError
from condense.files.artifacts import (
    canonical,
    read_header,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from condense.files.checkpoints import Checkpoint
from condense.jobs import keeping
from condense.report import measured
from condense.tracking.sources import metrics_source, set_source, sources

EACH = 9  # changes of a file; every verb that reads it is run after each
QUEUE = {
    "kind": "queue",
    "start": 2,
    "push_every": 2,
    "largest": 3,
    "trained": 1,
    "train_steps": 1,
    "batch": 16,
    "accuracy_over": 4,
}
TRAINED = {"kind": "trained", "protocol": "critic", "count": 2}
TWO_EPOCHS = BRIEF.replace('"epochs":1', '"epochs":2')


def stopped(monkeypatch, argv, saves):
    """Runs a command that is interrupted after so many checkpoints; their files, by name."""
    write, written = Checkpoint.write, []

    def stopping(self, tensors, state):
        write(self, tensors, state)
        written.append(self.path)
        if len(written) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
        patched.setattr(Checkpoint, "write", stopping)
        assert run(*argv)[0] == 130
    return {path.name: path.read_bytes() for path in written if path.exists()}


def made_files(made, digits, folder):
    """A file of every kind in `folder`, and the calls that made them or read several."""
    shutil.copytree(digits, folder / "data")
    train, out = ("--data", folder / "data" / "train.safetensors"), folder / "out"
    names = ("teacher", "shard", "queue", "trained")
    teacher, shard, queue, trained = (folder / f"{name}.safetensors" for name in names)
    set_, index = folder / "set" / "synthetic.safetensors", folder / "classes0-9.json"
    set_.parent.mkdir()
    shutil.copy(made.teacher, teacher), shutil.copy(made.shard, shard)
    shutil.copy(made.shard.with_name("shard.run.json"), folder)
    two = (*evaluation(set_, folder / "data", folder / "metrics.json"), "--networks", 2)
    parts = [folder / f"part{number}.json" for number in (0, 1)]
    of_queue = ("bank", *train, "--networks", canonical(QUEUE), "--steps", 6, *NET)
    of_trained = ("bank", *train, "--networks", canonical(TRAINED), "--protocol", TWO_EPOCHS, *NET)
    grouped = (*synthesis(folder / "data", shard), "--whole", folder / "nowhere.safetensors", "--keep")
    gather = ("gather", "--shards", shard, *train)
    for argv in (
        (*gather, "--out", set_),
        two,
        *((*two, "--part", number, "--out", path) for number, path in enumerate(parts)),
        (*of_queue, "--out", queue),
        (*of_trained, "--out", trained),
        (*grouped, "--index", index),
    ):
        status, told = run(*argv)
        assert status == 0, told
    request = {"kind": "request", "key": "k", "images": "digits", "method": "dm", "ipc": 1}
    request |= {"scale": "laptop", "seed": 0, "arch": "convnet"}
    write_json(set_.with_name("request.json"), request)
    condensed = synthesis(folder / "data", out / "x.safetensors")
    return SimpleNamespace(
        folder=folder,
        out=out,
        train=train,
        teacher=teacher,
        shard=shard,
        queue=queue,
        trained=trained,
        set_=set_,
        index=index,
        parts=parts,
        two=two,
        of_queue=of_queue,
        of_trained=of_trained,
        grouped=grouped,
        gather=gather,
        condensed=condensed,
    )


def inspected(path):
    return [("inspect", path), ("inspect", "--digest", path)]


def record(source):
    total, build = source.read()
    return total, build()


def readers(files):
    """Path -> the calls and functions that read it."""
    about = {"path": str(files.folder / "metrics.json"), "task": specs.DEFAULT_TASK, "task_settings": "{}"}
    cell = SimpleNamespace(**about, key="by-hand")
    by_queue, by_trained = (
        (*files.condensed, "--recipe", recipe(networks=kind)) for kind in (QUEUE, TRAINED)
    )
    return {
        files.set_: [
            *inspected(files.set_),
            evaluation(files.set_, files.folder / "data", files.out / "m.json"),
            ("export", files.set_, "--to", "npz", "--out", files.out / "s.npz"),
            (*files.gather, "--keep", "--out", files.set_),
            (*files.grouped[:-2], files.set_, "--keep", "--index", files.out / "i.json"),
            lambda: record(set_source(files.set_, "n", {})),
        ],
        files.shard: [
            *inspected(files.shard),
            (*files.gather, "--out", files.out / "s.safetensors"),
            (*files.grouped, "--index", files.out / "i.json"),
        ],
        files.folder / "shard.run.json": [
            *inspected(files.folder / "shard.run.json"),
            (*files.gather, "--out", files.out / "s.safetensors"),
        ],
        files.teacher: [
            *inspected(files.teacher),
            ("teach", *files.train, "--protocol", BRIEF, *NET, "--keep", "--out", files.teacher),
        ],
        files.train[1]: [
            *inspected(files.train[1]),
            synthesis(files.folder / "data", files.out / "x"),
            lambda: keeping.keeps_data(files.folder / "data"),
        ],
        files.folder / "data" / "dataset.json": [
            *inspected(files.folder / "data" / "dataset.json"),
            lambda: keeping.keeps_data(files.folder / "data"),
        ],
        files.folder / "metrics.json": [
            *inspected(files.folder / "metrics.json"),
            (*files.two, "--keep"),
            lambda: measured.measure_cells((cell,)),
            lambda: record(metrics_source(files.folder / "metrics.json", "n", "g", {}, files.folder)),
        ],
        files.parts[0]: [
            *inspected(files.parts[0]),
            ("join", "--parts", *files.parts, "--out", files.out / "m.json"),
        ],
        files.index: [
            *inspected(files.index),
            (*files.gather, "--index", files.index, "--out", files.out / "s.safetensors"),
            lambda: prune._shards_left(files.index, files.folder / "results"),
        ],
        files.set_.with_name("run.json"): [
            *inspected(files.set_.with_name("run.json")),
            lambda: record(set_source(files.set_, "n", {})),
        ],
        files.set_.with_name("history.jsonl"): [
            lambda: record(set_source(files.set_, "n", {})),
            (*files.gather, "--keep", "--out", files.set_),
        ],
        files.set_.with_name("request.json"): [
            *inspected(files.set_.with_name("request.json")),
            lambda: list(sources(files.folder / "set", None, None)),
        ],
        files.queue: [
            *inspected(files.queue),
            (*by_queue, "--with", f"bank={files.queue}"),
            (*files.of_queue, "--keep", "--out", files.queue),
        ],
        files.trained: [
            *inspected(files.trained),
            (*by_trained, "--with", f"bank={files.trained}"),
            (*files.of_trained, "--keep", "--out", files.trained),
        ],
        files.folder / "queue.safetensors.parts" / "00000.safetensors": [
            (*by_queue, "--with", f"bank={files.queue}")
        ],
        files.folder / "trained.safetensors.parts" / "00000.safetensors": [
            (*by_trained, "--with", f"bank={files.trained}")
        ],
    }


def unfinished(files):
    """Name of a checkpoint, the call that leaves it, and after how many writes it is stopped."""
    data, out = files.folder / "data", files.out
    plateau = recipe(
        couples=["classes"], optimizer={"lr": 1.0, "plateau": {"factor": 0.5, "patience": 1}}, steps=4
    )
    averaged = recipe(snapshots=2, averaging=1, optimizer={"lr": 0.01, "name": "adamw"}, steps=4)
    teaching = ("teach", *files.train, "--protocol", TWO_EPOCHS, *NET, "--out", out / "t.safetensors")
    return (
        ("x.safetensors.resume", (*files.condensed, "--recipe", plateau), 2),
        ("y.safetensors.resume", (*files.condensed, "--recipe", averaged, "--out", out / "y.safetensors"), 3),
        ("t.safetensors.resume", teaching, 1),
        ("q.safetensors.resume", (*files.of_queue, "--out", out / "q.safetensors"), 4),
        ("b.safetensors.resume", (*files.of_trained, "--out", out / "b.safetensors"), 2),
        ("m.json.resume.0", (*evaluation(files.set_, data, out / "m.json"), "--networks", 2), 1),
    )


@pytest.fixture(scope="module")
def place(made, digits, tmp_path_factory):
    """A file of every kind in a folder of its own, to be changed, and the verbs that read it."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("CONDENSE_KERNELS", "off")
    files = made_files(made, digits, tmp_path_factory.mktemp("mutated"))
    cases, resumed, out = readers(files), {}, files.out
    for name, argv, saves in unfinished(files):
        out.mkdir(exist_ok=True)
        resumed[name] = stopped(monkeypatch, argv, saves)[name]
        shutil.rmtree(out)
        cases[out / name] = [argv]
    yield SimpleNamespace(folder=files.folder, out=out, cases=cases, resumed=resumed)
    monkeypatch.undo()


def change(path, draw):
    """Changes a file; where it is a part of a bank, the bank lists its new checksum."""
    if path.suffix in (".json", ".jsonl"):
        return change_text(path, draw)
    how = change_tensors(path, draw)
    if path.parent.name.endswith(".parts"):
        bank = path.parent.with_suffix("")
        arrays, note = read_tensors(bank)
        write_tensors(
            bank, arrays, note | {"parts": [read_header(path)["content_sha256"], *note["parts"][1:]]}
        )
    return how


def outcome(verb, path):
    """'done' or 'refused' by a sentence that names the file, or what else happened."""
    try:
        if not isinstance(verb, tuple):
            verb()
            return "done"
        status, told = run(*verb)
    except UserError as error:
        status, told = 2, f"condense: {error}"
    except Exception as error:
        return f"broke: {error!r}"
    sentences = [line for line in told.splitlines() if line.startswith("condense: ")]
    if status == 0:
        return "done"
    return (
        "refused"
        if status == 2 and len(sentences) == 1 and path.name in sentences[0]
        else f"{status}: {told[-300:]}"
    )


def searched(place, path, seed, times=EACH):
    """What became of every verb that reads a file after each of some changes, as (change, verb, outcome)."""
    original = {
        file: file.read_bytes() for file in (path, *place.folder.glob("*.safetensors")) if file.exists()
    }
    shutil.rmtree(place.out, ignore_errors=True)
    draw, found = random.Random(f"{seed} {path.name}"), []
    for _ in range(times):
        if path.parent == place.out:
            place.out.mkdir(exist_ok=True)
            path.write_bytes(place.resumed[path.name])
        how = change(path, draw)
        changed = path.read_bytes()
        for verb in place.cases[path]:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(changed)
            found.append((how, verb[0] if isinstance(verb, tuple) else "a reader", outcome(verb, path)))
            shutil.rmtree(place.out, ignore_errors=True)
        for file, data in original.items():
            file.write_bytes(data)
    return found


def test_every_verb_does_its_work_or_names_the_changed_file(place):
    found = [(path.name, *one) for path in place.cases for one in searched(place, path, 5)]
    wrong = [one for one in found if one[-1] not in ("done", "refused")]
    assert not wrong, wrong[:20]
    assert len(found) > 400 and sum(one[-1] == "refused" for one in found) > len(found) / 2


def test_the_search_finds_a_file_that_is_read_unchecked(place, monkeypatch):
    """An index whose entries are taken as they stand breaks the verbs that use it."""
    index = next(path for path in place.cases if path.name == "classes0-9.json")
    monkeypatch.setattr(prune, "read_index", lambda path: SimpleNamespace(**read_json(path)))
    assert any(one[-1].startswith("broke") for one in searched(place, index, 5, 30))
