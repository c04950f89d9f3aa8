"""Bad settings: every reader of YAML answers with one message that names the file and what is wrong in it,
and never else.

The mutations are drawn by hypothesis from the project's own settings.
"""

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from bad_input_helpers import fixed
from hypothesis import given
from hypothesis import strategies as st

from condense.config import UserError, load_yaml
from condense.data.spec import load_spec
from condense.files.artifacts import canonical
from condense.plan import Maker
from condense.specs import catalogue

PARAMS = catalogue.params_folder().resolve()
FILES = sorted(path.relative_to(PARAMS).as_posix() for path in PARAMS.glob("*/*.yaml"))

junk = st.one_of(
    st.sampled_from(
        [None, True, False, -1, 0, 10**30, -(10**30), 1e308, float("nan"), float("inf"), -float("inf")]
    ),
    st.sampled_from(["", "x", "1e-3", "convnet", "\n"]),
    st.sampled_from(
        [
            [],
            {},
            [[]],
            [None],
            {"a": 1},
            {1: 2},
            {"": {}},
            {"name": "x"},
            [{"name": "mean"}, {"name": "mean"}],
            b"\xff\x00",
        ]
    ),
    st.dates(),
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.recursive(
        st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
)
fragments = st.sampled_from(
    [
        *(
            "\t",
            "\x00",
            "\x07",
            "{",
            "}",
            "[",
            "- ",
            ": ",
            "'",
            '"',
            "|",
            "? ",
            "%TAG",
            "---\n",
            "...\n",
            "\ufeff",
        ),
        *(
            "&a ",
            "*a",
            "&a [*a]",
            "<<: {x: 1}",
            "name: again\n",
            "\nname: again\nname: again\n",
            "[" * 2000,
            "{a: " * 2000,
        ),
        *(
            "!!python/object/apply:os.system ['true']",
            "!!python/name:os.system",
            "!!python/tuple [1]",
            "!own 1",
            "!!set {a}",
        ),
        *("!!bool maybe", "!!int ''", "!!float ''", "!!timestamp x", "!!binary %", "!!omap [a: 1]"),
        *(
            "0x" + "f" * 5000,
            "9" * 5000,
            "1:" + "59:" * 200 + "1.0",
            "2020-01-01",
            "2020-99-99",
            ".nan",
            "-.inf",
        ),
    ]
)
strangers = st.sampled_from(
    [
        b"",
        b"- a\n- b\n",
        b"3",
        b"null",
        b"a",
        b"{}",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xfe",
        b"# nothing\n",
        b"a: &a [*a]",
    ]
)


def places(value, path=()):
    """The address of every entry in nested mappings and lists."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


def changed(draw, values):
    """`values` with one entry renamed, removed, added or replaced."""
    *way, last = draw(st.sampled_from(list(places(values))))
    holder = values
    for key in way:
        holder = holder[key]
    kind = draw(st.sampled_from(["rename", "remove", "add", "replace", "replace"]))
    if kind == "rename" and isinstance(holder, dict):
        holder[draw(st.sampled_from([f"{last}s", f"{last}"[1:], 1, None, True, f"{last}".upper()]))] = (
            holder.pop(last)
        )
    elif kind == "remove":
        del holder[last]
    elif kind == "add" and isinstance(holder, dict):
        holder[draw(st.text(max_size=8))] = deepcopy(draw(junk))
    else:
        holder[last] = deepcopy(draw(junk))
    return values


@st.composite
def spoilt(draw, text):
    """The bytes of a YAML file that went wrong: its values, its letters, or all of it."""
    kind = draw(
        st.sampled_from(["values", "values", "values", "letters", "letters", "cut", "bytes", "other"])
    )
    if kind == "values":
        values = yaml.safe_load(text)
        for _ in range(draw(st.integers(1, 2))):
            values = changed(draw, values) if values else values
        return yaml.safe_dump(values, allow_unicode=True).encode()
    place = draw(st.integers(0, len(text)))
    if kind == "letters":
        return (text[:place] + draw(fragments) + text[place:]).encode()
    if kind == "cut":
        return text[:place].encode()
    if kind == "bytes":
        return text[:place].encode() + draw(st.binary(max_size=20)) + text[place:].encode()
    return draw(strangers)


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """A copy of all settings, in which single files are spoilt."""
    folder = tmp_path_factory.mktemp("params") / "params"
    shutil.copytree(PARAMS, folder)
    return folder


def read_settings(relative, folder):
    """What the program makes of the file: it is read, and used as the plan uses it. The file is not taken
    from the cache."""
    kind, name = Path(relative).parent.name, Path(relative).stem
    if kind == "datasets":
        spec = load_spec(folder / relative)
        canonical(spec.identity())
        return spec
    reader = {
        "methods": catalogue.recipe,
        "protocols": catalogue.protocol,
        "scales": catalogue.scale,
        "tables": catalogue.table,
    }[kind]
    value = reader.__wrapped__(name)
    if kind == "methods":
        resolved = catalogue.resolve(
            value, "cifar10", "color_crop", 300, [("cell", {"steps": 3} if value.condenses else {})]
        )
        canonical(resolved.computed_part())
    if kind == "scales":
        for arch in value.architectures:
            Maker(value).options(*arch.partition("/")[::2])
    return value


@pytest.mark.parametrize("kind", ["datasets", "methods", "protocols", "scales", "tables"])
def test_spoilt_settings_are_refused_by_name_or_read(kind, params, monkeypatch):
    monkeypatch.setattr(catalogue, "params_folder", lambda: params)
    files = [name for name in FILES if name.startswith(kind)]
    counts = {"refused": 0, "read": 0}

    @fixed
    @given(st.data())
    def check(data):
        name = data.draw(st.sampled_from(files))
        original = (PARAMS / name).read_bytes()
        (params / name).write_bytes(data.draw(spoilt(original.decode())))
        try:
            read_settings(name, params)
            counts["read"] += 1
        except UserError as error:
            message = str(error)
            assert Path(name).stem in message and len(message) < 1500, message
            assert str(params / name) in message or f"recipe {Path(name).stem}" in message, message
            counts["refused"] += 1
        finally:
            (params / name).write_bytes(original)

    check()
    assert counts["refused"] > 30  # else the mutations are too kind


@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_key_is_answered_with_the_right_one(name, params, monkeypatch):
    monkeypatch.setattr(catalogue, "params_folder", lambda: params)
    original = (PARAMS / name).read_text()
    values = yaml.safe_load(original)
    assert read_settings(name, params)
    for key in values:
        if name.startswith("tables") and key == "kind":
            continue  # by it one tells whose keys the others are
        wrong = f"{key}{key[-1]}"
        (params / name).write_text(
            yaml.safe_dump({(wrong if entry == key else entry): value for entry, value in values.items()})
        )
        with pytest.raises(UserError) as caught:
            read_settings(name, params)
        (params / name).write_text(original)
        for part in (str(params / name), f"unknown key '{wrong}'", f"did you mean '{key}'?"):
            assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\na: 2\n", "'a' stands here twice"),
        ("a:\n\tb: 1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [touch evil]\n", "not valid YAML"),
        ("a: &a [*a]\n", "aliases"),
        ("a: 0x" + "f" * 5000, "too large"),
        ("[" * 100000, "not valid YAML"),
        ("a: !!bool maybe", "not valid YAML"),
        ("", "a mapping"),
        ("- a", "a mapping"),
    ],
)
def test_no_yaml_of_ours(text, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="settings.yaml") as caught:
        load_yaml(path)
    assert part in str(caught.value) and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"n_networks": 0}, "n_networks"),
        ({"classes_per_job": 0}, "classes_per_job"),
        ({"sets_per_job": 0}, "sets_per_job: must be at least 1, found 0"),
        ({"ipc": [1, -10]}, "ipc"),
        ({"classes_per_job_of": {"dn": 5}}, "'dn'"),
        ({"networks_per_job": {"resnet152": 0}}, "networks_per_job: resnet152"),
        ({"recipes": {"cpmd": {"steps": 10}}}, "did you mean 'cpdm'?"),
        ({"protocols": {"cd": {"epochs": 1}}}, "'cd'"),
        ({"methods": ["cpdm", "heding"]}, "did you mean 'herding'?"),
        ({"datasets": {"cifar10": ["digit"]}}, "did you mean 'digits'?"),
        ({"resources": {"synthesise": {"gpu": 1}}}, "did you mean 'synthesize'?"),
        ({"resources": {"teach": {"threads": 0}}}, "threads"),
        ({"architectures": {"convnet": {"depth": float("nan")}}}, "finite"),
        ({"tables": {"cpdm/table6": {"n_sets": 0}}}, "n_sets"),
    ],
)
def test_a_scale_with_a_name_or_number_that_means_nothing(changes, part, params, monkeypatch):
    monkeypatch.setattr(catalogue, "params_folder", lambda: params)
    path = params / "scales" / "quick.yaml"
    original = path.read_text()
    path.write_text(yaml.safe_dump(yaml.safe_load(original) | changes))
    with pytest.raises(UserError) as caught:
        catalogue.scale.__wrapped__("quick")
    path.write_text(original)
    assert str(path) in str(caught.value) and part in str(caught.value)
