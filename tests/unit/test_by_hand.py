"""Commands called by hand: what they leave to the data, the recipe or the set, and what has to agree."""

import json

import pytest
from bad_input_helpers import BRIEF, NET, evaluation, recipe, refused, run

from condense.files.artifacts import read_header, read_json
from condense.plan import data_cell
from condense.specs import catalogue

pytestmark = pytest.mark.usefixtures("one_thread")


def done(*argv):
    status, told = run(*argv)
    assert status == 0, told
    return told


def synthesis(made, out, text, *more, ipc=1):
    train = ("--data", made.digits / "train.safetensors")
    return ("synthesize", *train, "--recipe", text, "--ipc", ipc, "--out", out, *more)


def test_a_recipe_by_name_is_resolved_for_the_images_and_their_number(made, tmp_path):
    path = tmp_path / "short.yaml"
    text = (catalogue.params_folder() / "methods" / "dsa.yaml").read_text()
    text = text.replace("steps: 1000", "steps: 1\nbatch_network: 4").replace(
        "outer: 10, inner: 50", "outer: 2"
    )
    path.write_text(text.replace("name: dsa", "name: short"))
    done(*synthesis(made, tmp_path / "a.safetensors", path, *NET, ipc=2))
    stored = read_header(tmp_path / "a.safetensors")["recipe"]
    assert stored["loop"] == {"outer": 2, "inner": 1}
    assert "flip" not in stored["augment"]["siamese"]  # a digit that is mirrored is none
    more = ("--classes", "0-4")
    assert "leave --classes out" in refused(
        *synthesis(made, tmp_path / "b.safetensors", path, *NET, *more, ipc=2)
    )


def test_networks_train_under_the_augmentation_of_the_dataset(made, tmp_path):
    augmented = json.dumps({**json.loads(BRIEF), "augment": "dataset"})
    words = list(evaluation(made.synthetic, made.digits, tmp_path / "own.json"))
    words[words.index("--protocol") + 1] = augmented
    done(*words)
    words[words.index("--out") + 1] = tmp_path / "given.json"
    done(*words, "--strategy", "color_crop_cutout_scale_rotate")
    own, given = (read_json(tmp_path / f"{name}.json") for name in ("own", "given"))
    assert own["strategy"] == data_cell("digits").spec.strategy
    assert given["strategy"] == "color_crop_cutout_scale_rotate"


def test_an_augmentation_that_the_protocol_does_not_take_is_told_of(made, tmp_path):
    words = [*evaluation(made.synthetic, made.digits, tmp_path / "m.json"), "--strategy"]
    words[words.index("--protocol") + 1] = json.dumps({**json.loads(BRIEF), "augment": "none"})
    assert "--strategy flip: changes nothing" in done(*words, "flip")
    assert "changes nothing" not in done(*words, data_cell("digits").spec.strategy)


def test_a_set_is_evaluated_as_what_it_is(made, tmp_path):
    words = evaluation(made.synthetic, made.digits, tmp_path / "m.json")
    assert "leave --method out" in refused(*words, "--method", "idm")
    done(*words)
    assert read_json(tmp_path / "m.json")["method"] == read_header(made.synthetic)["method"]
    whole = ("evaluate", "--data", made.digits, "--protocol", BRIEF, "--networks", 1, *NET)
    assert "--method: is needed" in refused(*whole, "--out", tmp_path / "whole.json")


def test_shards_of_two_runs_are_not_joined(made, tmp_path):
    shards = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    done(*synthesis(made, shards[0], recipe(), *NET, "--classes", "0-4"))
    done(*synthesis(made, shards[1], recipe(), *NET, "--classes", "5-9", "--seed", 7))
    gathering = (
        "gather",
        "--data",
        made.digits / "train.safetensors",
        "--out",
        tmp_path / "s" / "s.safetensors",
    )
    assert "they differ in their seed" in refused(*gathering, "--shards", *shards)


def test_a_selection_says_which_network_chose_its_images(made, tmp_path):
    out = tmp_path / "a.safetensors"
    teacher = ("--with", f"teacher={made.teacher}")
    told = done(*synthesis(made, out, "herding", *teacher, "--arch", "mlp"))
    header, classifier = read_header(out), read_header(made.teacher)
    assert "herding: --arch mlp is not used: the images are chosen by a convnet" in told
    assert "was trained by the protocol 'brief', where the recipe names 'selection'" in told
    assert (header["arch"], header["options"]) == (classifier["arch"], classifier["options"])
    assert header["parents"]["teacher"]["key"] == classifier["key"]
    told = done(*synthesis(made, tmp_path / "b.safetensors", "forgetting", *teacher, "--arch", "mlp"))
    assert "is a convnet, where the recipe names resnet18_bn; the set says which file it was" in told


def test_trained_networks_come_from_the_protocol_that_they_name(made, tmp_path):
    networks = {"kind": "trained", "protocol": "critic", "count": 2, "epochs": 1}
    settings = {"networks": networks, "protocol": {**json.loads(BRIEF), "name": "other"}, "strategy": "none"}
    train = ("--data", made.digits / "train.safetensors")
    words = ("parent", "trained_bank", *train, "--out", tmp_path / "bank.safetensors", *NET, "--settings")
    assert "they are trained by the protocol 'critic'" in refused(*words, json.dumps(settings))
    settings["protocol"] |= {"name": "critic", "epochs": 1000}
    assert "epoch 2/2" in done(*words, json.dumps(settings))  # one epoch of each of two networks
