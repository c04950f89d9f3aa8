"""Settings that no run could mean: refused when they are read, in a sentence that names the file and the
key."""

import random
import re
import shutil

import pytest
import yaml
from bad_input_helpers import NET, refused, run

from condense import plan
from condense.config import UserError
from condense.estimate import estimate_text
from condense.plan.tables import Plan
from condense.specs import Protocol, catalogue

PARAMS = catalogue.params_folder().resolve()
CLIMBING = "x/../../../pwned"
A_FILE = {"name": "a.tar", "url": "https://a.org/a.tar", "md5": "0" * 32}
EXTREMES = [1e308, -1e308, 1e12, -1, -1.0, 0.5, 10**18, -(10**18), float("nan"), float("inf")]


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A copy of all settings that may be changed; nothing is taken from caches."""
    folder = tmp_path / "params"
    shutil.copytree(PARAMS, folder)
    monkeypatch.setattr(catalogue, "params_folder", lambda: folder)
    forget()
    yield folder
    forget()


def forget():
    cached = (
        catalogue.recipe,
        catalogue.protocol,
        catalogue.scale,
        catalogue.table,
        plan.data_cell,
        Plan.specs_by_path,
        Plan._stems,
    )
    for function in cached:
        function.cache_clear()


def change(params, file, *way_and_value):
    """Writes a value into a file of settings, at the place that the keys say."""
    *way, last, value = way_and_value
    values = yaml.safe_load((params / file).read_text())
    holder = values
    for key in way:
        holder = holder.setdefault(key, {}) if isinstance(holder, dict) else holder[key]
    holder[last] = value
    (params / file).write_text(yaml.safe_dump(values, sort_keys=False))
    forget()


def used(scale="quick"):
    """Reads all that a scale asks for."""
    made = Plan(scale)
    return made.metrics, made.parents


def message(*files):
    with pytest.raises(UserError) as caught:
        used()
    assert any(str(file) in str(caught.value) for file in files), caught.value
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "way", "value", "said"),
    [
        ("methods/dm.yaml", ["name"], CLIMBING, "name: a name of"),
        (
            "methods/dm.yaml",
            ["overrides"],
            {"any": {"all": {"name": CLIMBING}}},
            "name: cannot be changed here",
        ),
        (
            "methods/dm.yaml",
            ["overrides"],
            {"digits": {"all": {"engine": "whole"}}},
            "engine: cannot be changed here",
        ),
        ("methods/dm.yaml", ["evaluation"], {"name": CLIMBING}, "name: cannot be changed here"),
        ("methods/dm.yaml", ["optimizer", "lr"], 1e308, "lr: must be at most"),
        ("methods/dm.yaml", ["terms", 0, "weight"], -1.0, "weight: must not be negative"),
        ("methods/dm.yaml", ["terms", 0, "weight"], 1e30, "weight: must be at most"),
        ("methods/dm.yaml", ["steps"], 0, "steps: must be at least 1"),
        ("methods/dm.yaml", ["steps"], 10**12, "steps: must be at most"),
        ("methods/dm_trained.yaml", ["networks", "protocol"], CLIMBING, "protocol: a name of"),
        ("methods/herding.yaml", ["teacher", "arch"], CLIMBING, "teacher: arch: a name of"),
        ("protocols/dc.yaml", ["epochs"], 10**12, "epochs: must be at most"),
        ("protocols/dc.yaml", ["schedule", "factor"], 1e308, "factor: must lie in"),
        ("protocols/dc.yaml", ["optimizer", "lr"], float("nan"), "a finite number"),
        (
            "scales/quick.yaml",
            ["protocols", "dc", "name"],
            CLIMBING,
            "protocols: dc: name: cannot be changed here",
        ),
        (
            "scales/quick.yaml",
            ["recipes", "matching", "name"],
            CLIMBING,
            ": name: cannot be changed here; a recipe or protocol of another name needs a file",
        ),
        (
            "scales/quick.yaml",
            ["recipes", "dm", "engine"],
            "whole",
            "recipes: dm: engine: cannot be changed here",
        ),
        (
            "scales/quick.yaml",
            ["recipes", "dm", "optimizer"],
            {"lr": 1e308},
            "recipes: dm: optimizer: lr",
        ),
        (
            "scales/quick.yaml",
            ["recipes", "dm", "terms"],
            {"gram": {"weight": 1.0}},
            "recipes: dm: unknown entry 'gram'",
        ),
        ("scales/quick.yaml", ["whole", "name"], "all", "whole: name: cannot be changed here"),
        ("scales/quick.yaml", ["n_networks"], 10**9, "n_networks: must be at most"),
        ("scales/quick.yaml", ["n_sets"], 10**9, "n_sets: must be at most"),
        ("scales/quick.yaml", ["ipc"], [1, 10**12], "ipc: must be at most"),
        ("scales/quick.yaml", ["architectures", CLIMBING], {}, "architectures: a name of"),
        ("scales/quick.yaml", ["architectures", "convnet", "width"], 10**9, "width: must lie between"),
        ("scales/quick.yaml", ["architectures", "convnet", "classes"], 3, "'classes' is no option"),
        ("scales/quick.yaml", ["resources", "teach", "threads"], 10**9, "threads: must be at most"),
        ("scales/quick.yaml", ["name"], CLIMBING, "name: a name of"),
        ("tables/cpdm_table1.yaml", ["paper"], CLIMBING, "paper: a name of"),
        ("tables/cpdm_table1.yaml", ["table"], "../1", "table: a name of"),
        ("tables/cpdm_table1.yaml", ["protocol"], CLIMBING, "protocol: a name of"),
        ("tables/cpdm_table1.yaml", ["protocol"], "dd", "unknown protocol 'dd'"),
        ("tables/cpdm_figure1.yaml", ["eval_arch"], CLIMBING, "eval_arch: a name of"),
        ("tables/cpdm_figure1.yaml", ["methods"], [], "at least one of each"),
        ("tables/cpdm_figure1.yaml", ["changes"], {"name": "else"}, "name: cannot be changed here"),
        ("tables/cpdm_figure1.yaml", ["changes"], {"steps": -1}, "steps: must be at least 1"),
        ("tables/cpdm_table2.yaml", ["paper"], "ddm", "ddm/table2, as"),
        ("datasets/digits.yaml", ["strategy"], "$(touch EVIL)none", "strategy: unknown operation"),
        ("datasets/digits.yaml", ["name"], CLIMBING, "name: 'x/"),
        ("datasets/digits.yaml", ["std"], [1e-30], "std: give both"),
        ("datasets/digits.yaml", ["classes"], 10**12, "classes: at most"),
        ("datasets/digits.yaml", ["size"], 10**7, "size: a positive number, at most"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_its_file(params, file, way, value, said):
    change(params, file, *way, value)
    if file.startswith("datasets"):
        with pytest.raises(UserError) as caught:
            plan.data_cell("digits")
        assert str(params / file) in str(caught.value) and said in str(caught.value)
        return
    assert said in message(params / file)


@pytest.mark.parametrize(
    ("change_of_source", "said"),
    [
        ({"kind": "parquet", "train": "../../etc/train.parquet"}, "train: a path without '..'"),
        ({"kind": "image_folder", "train": "a", "test": "a/../../c"}, "test: a path without '..'"),
        ({"kind": "image_folder", "train": "a", "classes": ["../b"] * 2}, "classes: the name of a folder"),
        ({"kind": "parquet", "train": "a", "fingerprint": "x"}, "fingerprint: 64 digits"),
        *[
            (
                {
                    "kind": "archive",
                    "format": "class_folders",
                    "files": [{"name": "a.tar", "url": "https://a.org/a.tar", "md5": "0" * 32} | entry],
                },
                said,
            )
            for entry, said in (
                ({"name": ".."}, "the file name '..'"),
                ({"name": ""}, "the file name ''"),
                ({"name": "a/b"}, "without folders"),
                ({"name": "$(true)"}, "must consist of"),
                ({"url": "file:///etc/passwd"}, "http:// or https://"),
                ({"url": "https://a.org/\nb"}, "http:// or https://"),
                ({"md5": "../x"}, "md5: 32 digits"),
                ({"sha256": "f" * 63}, "sha256: 64 digits"),
            )
        ],
    ],
)
def test_where_a_dataset_comes_from_leads_nowhere_else(params, change_of_source, said):
    change(params, "datasets/digits.yaml", "source", change_of_source)
    if "test" in change_of_source:
        change(params, "datasets/digits.yaml", "holdout", None)
    with pytest.raises(UserError) as caught:
        plan.data_cell("digits")
    assert str(params / "datasets/digits.yaml") in str(caught.value) and said in str(caught.value)


def numbers(value, way=()):
    """The address of every number in nested settings."""
    for key, entry in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        if isinstance(entry, (int, float)) and not isinstance(entry, bool):
            yield (*way, key)
        yield from numbers(entry, (*way, key))


def test_any_number_of_a_scale_in_any_size(params):
    """What is asked for can be counted in seconds, or is refused by name."""
    file = params / "scales/quick.yaml"
    original = file.read_text()
    ways = list(numbers(yaml.safe_load(original)))
    counts = {"read": 0, "refused": 0}

    draw = random.Random(5)
    for _ in range(14):
        way = draw.choice(ways)
        change(params, "scales/quick.yaml", *way, draw.choice(EXTREMES))
        try:
            used()
            counts["read"] += 1
        except UserError as error:
            assert str(file) in str(error), error
            counts["refused"] += 1
        file.write_text(original)
    assert counts["refused"] > 5


def test_a_table_of_which_nothing_runs_is_estimated_in_a_sentence(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change(params, "scales/quick.yaml", "datasets", {"cifar100": ["digits"]})
    told = estimate_text("cpdm/figure1", "quick")
    assert "nothing of it runs at this scale: " in told and "no dataset stands in for 'cifar10'" in told
    assert str(params / "scales/quick.yaml") in told
    assert run("estimate", "cpdm/table2", "--scale", "quick") == (0, "")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--options", '{"width": 4, "width": 8}', "--options: .*'width' stands in it twice"),
        ("--options", '{"width": NaN}', "--options: .* is not JSON"),
        ("--options", '{"width": 1%s}' % ("0" * 40), "--options: width: the number is too large"),
        ("--options", "[]", "--options: .*a JSON object"),
        ("--protocol", '{"name": "../x"}', "--protocol: the key"),
        ("--protocol", '{"name": 1e400}', "--protocol: .*not JSON"),
    ],
)
def test_json_on_the_command_line_is_named_by_its_option(option, value, said, made, tmp_path):
    given = dict(zip(NET[::2], NET[1::2], strict=True)) | {"--protocol": "dc", option: value}
    words = [word for pair in given.items() for word in pair]
    told = refused("teach", "--data", made.dataset, *words, "--out", tmp_path / "teacher.safetensors")
    assert re.search(said, told), told
    assert not list(tmp_path.iterdir())


def test_the_project_s_own_settings_lie_within_the_bounds():
    for scale in catalogue.names_in("scales"):
        assert used(scale)[0]
    for name in catalogue.names_in("datasets"):
        plan.data_cell(name)
    for name in catalogue.names_in("protocols"):
        assert isinstance(catalogue.protocol(name), Protocol)
