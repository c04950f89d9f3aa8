"""Settings by dataset and images a class, in recipes, scales and cells: each holds where it says, and nothing
that never would is taken."""

import json

import numpy as np
import pytest
import yaml

from condense import plan
from condense.command.values import judge_of_set, settings_of
from condense.config import UserError, load_yaml
from condense.data.prepare import prepare
from condense.data.spec import load_spec
from condense.files.artifacts import write_tensors
from condense.plan.maker import Maker
from condense.plan.tables import Plan
from condense.specs import Protocol, Scale, catalogue, number_of_epochs


def _steps(changes: dict, ipc: int, cell: dict | None = None, dataset: str = "digits") -> int:
    scale = Scale("trial", "a trial", 1, 1, {}, recipes={"dm": changes})
    return Maker(scale).recipe("dm", plan.data_cell(dataset), ipc, cell or {}).steps


def test_those_of_a_scale_lie_over_its_other_settings():
    changes = {"steps": 7, "overrides": {"any": {"ipc>1": {"steps": 5}, "ipc>=50": {"steps": 3}}}}
    assert [_steps(changes, ipc) for ipc in (1, 10, 50)] == [7, 5, 3]


def test_those_of_the_dataset_lie_over_those_of_any():
    changes = {"overrides": {"digits": {"all": {"steps": 5}}, "any": {"all": {"steps": 3}}}}
    assert _steps(changes, 1) == 5
    assert _steps(changes, 1, dataset="cifar10") == 3


def test_another_name_of_the_same_settings_drops_none_of_them_without_a_word():
    step = {"name": "sgd", "lr": 0.01, "momentum": 0.5, "weight_decay": 0.0}
    said = {"class_turns": False, "plateau": None}
    for missing, text in (("class_turns", "was true"), ("plateau", 'was {"factor": 0.5')):
        given = {key: value for key, value in said.items() if key != missing}
        with pytest.raises(UserError, match=f"x: optimizer: {missing}: {text}.*write it, or `{missing}: "):
            catalogue.laid_over(catalogue.recipe("ncfm"), {"optimizer": step | given}, "x")
    changed = catalogue.laid_over(catalogue.recipe("ncfm"), {"optimizer": step | said}, "x").optimizer
    assert (changed.name, changed.class_turns, changed.plateau) == ("sgd", False, None)


def test_those_of_the_original_hold_for_its_copies_under_their_own():
    original, copy = {"cifar10": {"all": {"steps": 5}}}, {"cifar10_jpeg": {"all": {"steps": 4}}}
    assert _steps({"overrides": original}, 1, dataset="cifar10_jpeg") == 5
    assert _steps({"overrides": copy | original}, 1, dataset="cifar10_jpeg") == 4
    assert _steps({"steps": 7, "overrides": copy}, 1, dataset="cifar10") == 7
    assert catalogue.lineage("tinyimagenet_jpeg") == ("tinyimagenet", "tinyimagenet_jpeg")
    assert catalogue.lineage("images of my own") == ("images of my own",)
    scale = Scale("trial", "a trial", 1, 1, {}, architectures={"convnet/cifar10": {"depth": 2}})
    assert Maker(scale).options("convnet", "cifar10_jpeg") == '{"depth":2}'
    plan = Plan("quick")
    plan.scale = Scale(
        "trial", "a trial", 1, 4, {}, networks_per_job={"convnet/tinyimagenet": 2, "convnet": 4}
    )
    for dataset, parts in (("tinyimagenet_jpeg", ["0-1", "2-3"]), ("cifar10_jpeg", ["0-3"])):
        made = Maker(plan.scale).synthetic(dataset, "random", "convnet", 1, 0)
        assert plan.parts(Maker(plan.scale).metrics(made, "convnet", "dc")) == parts


def test_every_copy_of_a_dataset_has_the_settings_of_its_original():
    """As many recipes have settings for one of its names alone."""
    for name in catalogue.names_in("datasets"):
        original = name.removesuffix("_jpeg").removesuffix("_fastai")
        assert original in catalogue.lineage(name)


@pytest.mark.parametrize(
    ("like", "told"), [("cifar11", "unknown dataset 'cifar11'"), ("twin", "leads back to itself")]
)
def test_a_dataset_is_like_one_that_is_there_and_another(like, told, tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    text = catalogue.file_of("datasets", "digits").read_text(encoding="utf-8")
    twin = text.replace("name: digits\n", "name: twin\n") + f"like: {like}\n"
    (tmp_path / "datasets" / "twin.yaml").write_text(twin, encoding="utf-8")
    monkeypatch.setenv(catalogue.OWN_PARAMS, str(tmp_path))
    with pytest.raises(UserError, match=told):
        catalogue.lineage("twin")


def test_a_cell_lies_over_the_scale():
    scale = {"overrides": {"any": {"ipc>1": {"steps": 5}}}}
    assert _steps(scale, 10, {"steps": 2}) == 2
    assert _steps(scale, 10, {"overrides": {"any": {"ipc>1": {"steps": 4}}}}) == 4


def test_the_recipe_keeps_its_own_where_a_scale_has_some():
    scale = Scale(
        "trial", "a trial", 1, 1, {}, recipes={"dsa": {"overrides": {"any": {"ipc>1": {"steps": 5}}}}}
    )
    recipe = Maker(scale).recipe("dsa", plan.data_cell("digits"), 10, {})
    assert (recipe.steps, recipe.loop.outer) == (5, 10)
    plain = Scale("trial", "a trial", 1, 1, {}, recipes={"dsa": {"steps": 5}})
    same = Maker(plain).recipe("dsa", plan.data_cell("digits"), 10, {})
    assert recipe.computed_part() == same.computed_part()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"cifar11": {"all": {"steps": 5}}}, "unknown dataset 'cifar11'"),
        ({"any": {"ipc=>5": {"steps": 5}}}, "'ipc=>5' is not a condition"),
        ({"any": {"all": {"step": 5}}}, "'step'"),
        ({"any": {"ipc>=1000": {"steps": -5}}}, "steps"),
        ({"any": {"all": {"overrides": {}}}}, "overrides itself"),
        ({"any": {"all": 5}}, "any: all: a mapping is needed"),
        ({"any": 5}, "overrides: any"),
        (5, "overrides"),
    ],
)
def test_what_would_never_hold_is_refused(overrides, told, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=told):
        _steps({"overrides": overrides}, 1)
    (tmp_path / "methods").mkdir()
    settings = {**load_yaml(catalogue.file_of("methods", "dm")), "name": "odd", "overrides": overrides}
    (tmp_path / "methods" / "odd.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("CONDENSE_PARAMS", str(tmp_path))
    with pytest.raises(UserError, match=told):
        catalogue.recipe("odd")


def test_a_change_for_an_engine_says_which_method_it_does_not_fit():
    scale = Scale("trial", "a trial", 1, 1, {}, recipes={"matching": {"terms": [{"name": "mean"}]}})
    with pytest.raises(UserError, match="recipes: matching, of cpdm: teacher: nothing in this recipe uses"):
        Maker(scale).recipe("cpdm", plan.data_cell("digits"), 1, {})


def test_a_protocol_that_no_file_has_is_told_with_the_method_that_names_it():
    scale = Scale("trial", "a trial", 1, 1, {}, recipes={"cpdm": {"teacher": {"protocol": "crtic"}}})
    with pytest.raises(UserError, match="^cpdm: unknown protocol 'crtic'; did you mean 'critic'"):
        Maker(scale).synthetic("digits", "cpdm", "convnet", 1, 0)


def _judge(name: str, dataset: str, ipc: int, arch: str, **scale):
    maker = Maker(Scale("trial", "a trial", 1, 1, {}, **scale))
    return maker.metrics(maker.synthetic(dataset, "rded", arch, ipc, 0), arch, name).protocol


@pytest.mark.parametrize(
    ("name", "dataset", "arch", "batches"),
    [  # at 1, 10 and 50 images a class, as RDED's code sets them
        ("rded", "cifar10", "resnet18_bn", (10, 50, 100)),
        ("rded", "cifar10_jpeg", "resnet18_bn", (10, 50, 100)),
        ("rded", "cifar100", "resnet18_bn", (20, 100, 200)),
        ("rded", "tinyimagenet", "resnet18_bn", (100, 100, 100)),
        ("rded_imagenet", "imagenet10", "tv_resnet18", (10, 50, 100)),
        ("rded_imagenet", "imagenet_subset100", "tv_resnet18", (20, 100, 200)),
        ("rded_imagenet1k", "imagenet1k_224", "tv_resnet18", (20, 100, 200)),
    ],
)
def test_a_protocol_has_the_batch_of_the_set_that_it_judges(name, dataset, arch, batches):
    judges = [_judge(name, dataset, ipc, arch) for ipc in (1, 10, 50)]
    assert tuple(judge.batch for judge in judges) == batches
    for judge in judges:
        assert "overrides" not in judge.computed_part() and "of_arch" not in judge.computed_part()
        (observer,) = judge.labels.observers
        assert observer.arch in ("resnet18_bn", "tv_resnet18"), "of the network that made the set"


def test_a_protocol_has_the_rate_of_the_network_that_it_trains():
    rates = [_judge("rded", "cifar10", 10, arch).optimizer.lr for arch in ("resnet101_bn", "mobilenet_v2")]
    assert rates == [0.001, 0.0025]
    change = {
        "rded": {
            "batch": 7,
            "overrides": {"any": {"ipc==1": {"batch": 3}}},
            "of_arch": {"mlp": {"epochs": 9}},
        }
    }
    judges = [
        _judge("rded", "cifar10", ipc, arch, protocols=change) for ipc, arch in ((1, "mlp"), (10, "vit"))
    ]
    assert [(judge.batch, judge.epochs) for judge in judges] == [(3, 9), (7, 300)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"overrides": {"cifr10": {"all": {"batch": 3}}}}, "overrides: unknown dataset 'cifr10'"),
        ({"overrides": {"any": {"ipc=1": {"batch": 3}}}}, "'ipc=1' is not a condition"),
        ({"overrides": {"any": {"all": {"bach": 3}}}}, "unknown key 'bach'"),
        ({"overrides": {"any": {"all": {"of_arch": {}}}}}, "any: all: cannot have of_arch itself"),
        ({"of_arch": {"resnet19": {"batch": 3}}}, "of_arch: unknown architecture 'resnet19'"),
        ({"of_arch": {"mlp": {"bach": 3}}}, "of_arch: mlp: unknown key 'bach'"),
        ({"of_arch": {"mlp": {"overrides": {}}}}, "of_arch: mlp: cannot have overrides itself"),
    ],
)
def test_changes_of_a_protocol_that_would_never_hold_are_refused(change, told):
    with pytest.raises(UserError, match=told):
        _judge("dc", "digits", 1, "convnet", protocols={"dc": change})


def test_networks_are_trained_beforehand_by_a_protocol_that_depends_on_no_set():
    maker = Maker(
        Scale("trial", "a trial", 1, 1, {}, protocols={"critic": {"of_arch": {"mlp": {"batch": 3}}}})
    )
    with pytest.raises(
        UserError, match="protocol critic: of_arch: these are changes for sets that are judged"
    ):
        maker.synthetic("digits", "cpdm", "convnet", 1, 0)
    with pytest.raises(UserError, match="protocol rded: overrides: these are changes"):
        number_of_epochs(catalogue.protocol("rded"), 10)


def test_a_protocol_given_by_hand_judges_a_set_as_the_workflow_does(tmp_path):
    folder, path = tmp_path / "data", tmp_path / "synthetic.safetensors"
    prepare(load_spec(catalogue.file_of("datasets", "digits")), folder)
    rded = catalogue.protocol("rded")
    assert judge_of_set(rded, folder, "mobilenet_v2", None, 1) == _judge("rded", "digits", 1, "mobilenet_v2")
    assert judge_of_set(rded, folder, "mobilenet_v2", None).batch == 100, "of the whole training set"
    about = {"kind": "synthetic", "ipc": 10}
    write_tensors(path, {"labels": np.repeat(np.arange(10), 10)}, about)
    assert judge_of_set(rded, folder, "mlp", path) == _judge("rded", "digits", 10, "mlp")
    mine = load_yaml(catalogue.file_of("protocols", "dc")) | {
        "name": "mine",
        "of_arch": {"mpl": {"batch": 3}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine), encoding="utf-8")
    with pytest.raises(UserError, match="mine.yaml: of_arch: unknown architecture 'mpl'; did you mean 'mlp'"):
        settings_of(Protocol, str(tmp_path / "mine.yaml"), "protocol")
    mine["of_arch"], mine["overrides"] = {}, {"cifr10": {"all": {"batch": 3}}}
    with pytest.raises(UserError, match="--protocol: overrides: unknown dataset 'cifr10'; did you mean"):
        settings_of(Protocol, json.dumps(mine), "protocol")
    plain = catalogue.protocol("dc")
    assert judge_of_set(plain, tmp_path, "mlp", path) is plain
