"""Senseless commands: status 2 and one message that says what is wrong, where, and what would be right;
nothing is written."""

import re

import pytest
from bad_input_helpers import BRIEF, NET, evaluation, recipe, refused, synthesis

from condense.command.arguments import parser
from condense.command.cli import VERBS
from condense.specs import ENGINES


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--arch", "convnett"), ["'convnett'", "did you mean 'convnet'?"]),
        (("--arch", "convnetd6", "--options", "{}"), ["convnetd6", "8 x 8", "enlarge"]),
        (("--options", '{"widht": 4}'), ["'widht'", "did you mean 'width'?"]),
        (("--options", '{"width": 1.5}'), ["width"]),
        (("--options", '{"width": NaN}'), ["JSON"]),
        (("--options", '{"width": -1}'), ["width"]),
        (("--options", '{"width": 1000000000000}'), ["memory"]),
        (("--options", '{"channels": 3}'), ["--options", "channels"]),
        (("--options", "[1]"), ["JSON object"]),
        (("--options", "depth=3"), ["not JSON"]),
        (("--options", '{"a":' * 20000), ["not JSON"]),
        (("--recipe", "dmm"), ["'dmm'", "did you mean 'dm'?"]),
        (("--recipe", "whole"), ["whole"]),
        (("--recipe", "cpdm"), ["--with teacher="]),
        (("--recipe", "{"), ["not JSON"]),
        (("--recipe", "{}"), ["--recipe", f"'engine' is missing: one of {', '.join(ENGINES)}"]),
        (("--recipe", '{"engine": "matching"}'), ["--recipe", "'name'"]),
        (("--recipe", '{"engine": "selekt"}'), ["--recipe", "'selekt'", "did you mean 'select'?"]),
        (
            ("--recipe", '{"engine": "whole", "name": "a", "title": "b"}'),
            ["'source'", "a mapping with the keys paper, [equation], [note]"],
        ),
        (("--recipe", recipe(stpes=3)), ["'stpes'", "did you mean 'steps'?"]),
        (("--recipe", recipe(steps=0)), ["steps"]),
        (("--recipe", recipe(steps=10**400)), ["steps", "too large"]),
        (("--recipe", recipe(terms=[{"name": "means"}])), ["'means'", "did you mean 'mean'?"]),
        (("--recipe", recipe(optimizer={"lr": 10**400})), ["lr"]),
        (("--recipe", recipe(optimizer={"lr": 1e30})), ["step 1", "lr"]),
        (("--recipe", recipe(augment={"siamese": "color_flop"})), ["'flop'", "did you mean 'flip'?"]),
        (("--recipe", recipe(evaluation={"a": eval("[" * 60 + "]" * 60)})), ["evaluation", "deep"]),
        (("--recipe", "no/such.yaml"), ["no/such.yaml", "no such file"]),
        (("--ipc", "0"), ["ipc 0"]),
        (("--ipc", "-3"), ["ipc -3"]),
        (("--ipc", "100000"), ["ipc 100000", "139"]),
        (("--classes", "x"), ["--classes", "'x'"]),
        (("--classes", "4-2"), ["--classes", "'4-2'"]),
        (("--classes", "-1"), ["--classes"]),
        (("--classes", "²"), ["--classes"]),
        (("--classes", "10"), ["class 10"]),
        (("--classes", "0-999999999"), ["class 10"]),
        (("--data", "no/train.safetensors"), ["no/train.safetensors", "no such file"]),
        (("--data", "."), ["train.safetensors", "no such file"]),
        (
            ("--recipe", "cpdm", "--with", "teacher=no/teacher.safetensors"),
            ["no/teacher.safetensors", "no such file"],
        ),
        (
            ("--recipe", "cpdm", "--with", "critic=no/teacher.safetensors"),
            ["--with", "'critic'", "known: teacher"],
        ),
        (("--with", "teacher=no/teacher.safetensors"), ["--with", "'teacher'", "known: none"]),
        (("--with", "teacher"), ["--with", "NAME=FILE"]),
        (("--device", "gpu"), ["--device", "'gpu'"]),
        (("--device", "cuda:x"), ["--device"]),
        (("--device", ""), ["an argument is empty"]),
        (("--threads", "0"), ["--threads", "0"]),
        (("--threads", "-2"), ["--threads"]),
        (("--threads", "many"), ["--threads", "many"]),
        (("--seed", "one"), ["--seed"]),
        (("--out", "."), ["."]),
        (("--out", "/"), ["/"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_synthesize(more, parts, digits, tmp_path):
    out = tmp_path / "shard.safetensors"
    message = refused(*synthesis(digits, out, *more))
    for part in parts:
        assert part in message, message
    assert list(tmp_path.iterdir()) == []


def test_what_is_needed_beforehand_is_given_once(digits, tmp_path):
    words = synthesis(digits, tmp_path / "shard.safetensors", "--with", "bank=a")
    assert "--with: 'bank' is given twice" in refused(*words, "--with", "bank=b")


@pytest.mark.parametrize("selection", ["random", "herding"])
@pytest.mark.parametrize("ipc", [0, -1, 1000])
def test_selections_of_a_senseless_size(selection, ipc, made, tmp_path):
    more = ("--with", f"teacher={made.teacher}") if selection == "herding" else ()
    out = tmp_path / "shard.safetensors"
    assert str(ipc) in refused(*synthesis(made.digits, out, "--recipe", selection, "--ipc", ipc, *more))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (("data", "--dataset", "digit", "--out", "OUT"), ["'digit'", "did you mean 'digits'?"]),
        (("data", "--dataset", "cifar10_jpeg", "--out", "OUT"), ["cifar10_jpeg"]),
        (("data", "--dataset", "digits", "--out", "FILE"), ["FILE"]),
        (("data", "--dataset", "digits", "--out", "FILE/below"), ["FILE/below"]),
        (
            ("teach", "--data", "DATA/train.safetensors", "--protocol", "critik", *NET, "--out", "OUT"),
            ["did you mean 'critic'?"],
        ),
        (
            (
                "teach",
                "--data",
                "DATA/train.safetensors",
                "--protocol",
                BRIEF,
                "--strategy",
                "colour",
                *NET,
                "--out",
                "OUT",
            ),
            ["colour"],
        ),
        (("teach", "--data", "FILE", "--protocol", BRIEF, *NET, "--out", "OUT"), ["FILE", "damaged"]),
        (
            ("gather", "--shards", "FILE", "--data", "DATA/train.safetensors", "--out", "OUT"),
            ["FILE", "damaged"],
        ),
        (
            (
                "gather",
                "--shards",
                "DATA/train.safetensors",
                "--data",
                "DATA/train.safetensors",
                "--out",
                "OUT",
            ),
            ["'shard'"],
        ),
        (evaluation("none", "DATA", "OUT"), ["none: no such file"]),
        (evaluation("DATA/train.safetensors", "DATA", "OUT"), ["'synthetic'"]),
        (evaluation("DATA", "DATA", "OUT"), ["DATA"]),
        (evaluation("DATA/train.safetensors", "nowhere", "OUT"), ["nowhere"]),
        (evaluation("none", "DATA", "OUT", "--networks", "0"), ["--networks"]),
        (evaluation("none", "DATA", "OUT", "--part", "1-0"), ["--part", "'1-0'"]),
        (evaluation("none", "DATA", "OUT", "--part", "0-1"), ["--part: network 1 is not among the 1"]),
        (
            evaluation("none", "DATA", "OUT", "--netwroks=2"),
            ["condense evaluate: error: unknown option 'netwroks'; did you mean 'networks'?"],
        ),
        (evaluation("none", "DATA", "OUT", "--epochs", "3"), ["unknown option 'epochs' (known: arch, data,"]),
        (("evaluate", "--netwroks", "3"), ["unknown option 'netwroks'; did you mean 'networks'?"]),
        (
            ("run", "digits", "--metod=dm"),
            ["condense run: error: unknown option 'metod'; did you mean 'method'?"],
        ),
        (("--lgo", "x", "list", "methods"), ["condense: error: unknown option 'lgo'; did you mean 'log'?"]),
        (evaluation("none", "DATA", "OUT", "further"), ["unrecognized arguments: further"]),
        (("join", "--parts", "none", "--out", "OUT"), ["none: no such file"]),
        (("join", "--parts", "FILE", "--out", "OUT"), ["FILE", "damaged"]),
        (evaluation("none", "DATA", "OUT", "--protocol", "cd"), ["'cd'"]),
        (evaluation("none", "DATA", "FILE/below.json"), ["FILE/below.json"]),
        (("evaluate", "--task", "snapshots", *evaluation("x", "DATA", "OUT")[3:]), ["--synthetic"]),
        (
            ("table", "--name", "cpdm/table1", "--scale", "quik", "--out", "OUT.csv"),
            ["'quik'", "did you mean 'quick'?"],
        ),
        (("table", "--name", "cpdm/tabel1", "--scale", "quick", "--out", "OUT.csv"), ["cpdm/tabel1"]),
        (("figure", "--name", "cpdm/figur1", "--scale", "quick", "--out", "OUT.png"), ["cpdm/figur1"]),
        (("synthesise",), ["synthesise", "synthesize"]),
        (("teach",), ["--data"]),
        (("estimate", "cpdm/tabel1"), ["cpdm/tabel1"]),
        (("estimate", "--scale", "papre"), ["did you mean 'paper'?"]),
        (("list", "recipes"), ["recipes", "methods"]),
        (("inspect", "FILE"), ["FILE", "damaged"]),
        (("inspect", "DATA", "--digest"), ["DATA"]),
        (("inspect", "none"), ["none: no such file"]),
        (("export", "FILE", "--to", "npz", "--out", "OUT"), ["FILE", "damaged"]),
        (("export", "DATA/train.safetensors", "--to", "npz", "--out", "OUT"), ["'synthetic'"]),
        ((), ["VERB"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:50] if isinstance(value, tuple) else None,
)
def test_other_verbs(argv, parts, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_DATA", str(tmp_path / "no-data"))
    file = tmp_path / "file"
    file.write_text("no file of ours, however long it may be")
    known = {"OUT": tmp_path / "out.safetensors", "FILE": file, "DATA": digits}

    def filled(text):
        for name, path in known.items():
            text = str(text).replace(name, str(path)) if str(text).startswith(name) else str(text)
        return text

    message = refused(*map(filled, argv))
    for part in parts:
        assert filled(part) in message, message
    assert list(tmp_path.iterdir()) == [file]


def test_a_prepared_dataset_is_named_by_its_folder_or_by_a_split_in_it(tmp_path):
    files = {"synthesize": "train.safetensors", "evaluate": ""}
    more = {
        "synthesize": ("--recipe", "dm", "--ipc", "1", "--arch", "convnet", "--out", "x"),
        "evaluate": (
            "--method",
            "dm",
            "--protocol",
            "dc",
            "--networks",
            "1",
            "--arch",
            "convnet",
            "--out",
            "x",
        ),
    }
    (tmp_path / "train.safetensors").touch()
    for verb, file in files.items():
        for given in (tmp_path, tmp_path / "train.safetensors"):
            assert parser(VERBS).parse_args([verb, "--data", str(given), *more[verb]]).data == tmp_path / file


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_is_a_whole_sentence(name, capsys):
    with pytest.raises(SystemExit):
        parser(VERBS).parse_args([name, "--help"])
    told = capsys.readouterr().out.split("\n\n")[1]
    assert re.fullmatch(r"[A-Z][^.]*(?:\.\w+[^.]*)*\.", " ".join(told.split())), told
