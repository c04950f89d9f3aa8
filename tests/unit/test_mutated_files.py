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


@pytest.fixture(scope="module")
def place(made, digits, tmp_path_factory):
    """A file of every kind in a folder of its own, to be changed, and the verbs that read it."""
    folder = tmp_path_factory.mktemp("mutated")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("CONDENSE_KERNELS", "off")
    shutil.copytree(digits, folder / "data")
    train, out = ("--data", folder / "data" / "train.safetensors"), folder / "out"
    teacher, shard, set_ = (
        folder / "teacher.safetensors",
        folder / "shard.safetensors",
        folder / "set" / "synthetic.safetensors",
    )
    set_.parent.mkdir()
    shutil.copy(made.teacher, teacher), shutil.copy(made.shard, shard)
    shutil.copy(made.shard.with_name("shard.run.json"), folder)
    two = (*evaluation(set_, folder / "data", folder / "metrics.json"), "--networks", 2)
    parts = [folder / f"part{number}.json" for number in (0, 1)]
    queue, trained, index = (
        folder / "queue.safetensors",
        folder / "trained.safetensors",
        folder / "classes0-9.json",
    )
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
    request = {
        "kind": "request",
        "key": "k",
        "images": "digits",
        "method": "dm",
        "ipc": 1,
        "scale": "laptop",
        "seed": 0,
        "arch": "convnet",
    }
    write_json(set_.with_name("request.json"), request)
    cell = SimpleNamespace(path=str(folder / "metrics.json"), task=specs.DEFAULT_TASK, key="by-hand")
    condensed = synthesis(folder / "data", out / "x.safetensors")
    by_queue, by_trained = ((*condensed, "--recipe", recipe(networks=kind)) for kind in (QUEUE, TRAINED))

    def inspected(path):
        return [("inspect", path), ("inspect", "--digest", path)]

    def record(source):
        total, build = source.read()
        return total, build()

    cases = {
        set_: [
            *inspected(set_),
            evaluation(set_, folder / "data", out / "m.json"),
            ("export", set_, "--to", "npz", "--out", out / "s.npz"),
            (*gather, "--keep", "--out", set_),
            (*grouped[:-2], set_, "--keep", "--index", out / "i.json"),
            lambda: record(set_source(set_, "n", {})),
        ],
        shard: [
            *inspected(shard),
            (*gather, "--out", out / "s.safetensors"),
            (*grouped, "--index", out / "i.json"),
        ],
        folder / "shard.run.json": [
            *inspected(folder / "shard.run.json"),
            (*gather, "--out", out / "s.safetensors"),
        ],
        teacher: [
            *inspected(teacher),
            ("teach", *train, "--protocol", BRIEF, *NET, "--keep", "--out", teacher),
        ],
        train[1]: [
            *inspected(train[1]),
            synthesis(folder / "data", out / "x"),
            lambda: keeping.keeps_data(folder / "data"),
        ],
        folder / "data" / "dataset.json": [
            *inspected(folder / "data" / "dataset.json"),
            lambda: keeping.keeps_data(folder / "data"),
        ],
        folder / "metrics.json": [
            *inspected(folder / "metrics.json"),
            (*two, "--keep"),
            lambda: measured.measure_cells((cell,)),
            lambda: record(metrics_source(folder / "metrics.json", "n", "g", {}, folder)),
        ],
        parts[0]: [*inspected(parts[0]), ("join", "--parts", *parts, "--out", out / "m.json")],
        index: [
            *inspected(index),
            (*gather, "--index", index, "--out", out / "s.safetensors"),
            lambda: prune._shards_left(index, folder / "results"),
        ],
        set_.with_name("run.json"): [
            *inspected(set_.with_name("run.json")),
            lambda: record(set_source(set_, "n", {})),
        ],
        set_.with_name("history.jsonl"): [
            lambda: record(set_source(set_, "n", {})),
            (*gather, "--keep", "--out", set_),
        ],
        set_.with_name("request.json"): [
            *inspected(set_.with_name("request.json")),
            lambda: list(sources(folder / "set", None, None)),
        ],
        queue: [
            *inspected(queue),
            (*by_queue, "--with", f"bank={queue}"),
            (*of_queue, "--keep", "--out", queue),
        ],
        trained: [
            *inspected(trained),
            (*by_trained, "--with", f"bank={trained}"),
            (*of_trained, "--keep", "--out", trained),
        ],
        folder / "queue.safetensors.parts" / "00000.safetensors": [(*by_queue, "--with", f"bank={queue}")],
        folder / "trained.safetensors.parts" / "00000.safetensors": [
            (*by_trained, "--with", f"bank={trained}")
        ],
    }
    resumed = {}
    plateau = recipe(
        couples=["classes"], optimizer={"lr": 1.0, "plateau": {"factor": 0.5, "patience": 1}}, steps=4
    )
    averaged = recipe(snapshots=2, averaging=1, optimizer={"lr": 0.01, "name": "adamw"}, steps=4)
    for name, argv, saves in (
        ("x.safetensors.resume", (*condensed, "--recipe", plateau), 2),
        ("y.safetensors.resume", (*condensed, "--recipe", averaged, "--out", out / "y.safetensors"), 3),
        (
            "t.safetensors.resume",
            ("teach", *train, "--protocol", TWO_EPOCHS, *NET, "--out", out / "t.safetensors"),
            1,
        ),
        ("q.safetensors.resume", (*of_queue, "--out", out / "q.safetensors"), 4),
        ("b.safetensors.resume", (*of_trained, "--out", out / "b.safetensors"), 2),
        ("m.json.resume.0", (*evaluation(set_, folder / "data", out / "m.json"), "--networks", 2), 1),
    ):
        out.mkdir(exist_ok=True)
        resumed[name] = stopped(monkeypatch, argv, saves)[name]
        shutil.rmtree(out)
        cases[out / name] = [argv]
    yield SimpleNamespace(folder=folder, out=out, cases=cases, resumed=resumed)
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
