"""The page and the schemas of settings are those of the classes, and the project's own files fit them."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from condense.command import documented

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {
    Path(folder).name: documented.schema_of(kind) for folder, kind in documented.kinds_of_files().items()
}
FILES = sorted(path for folder in SCHEMAS for path in (ROOT / "params" / folder).glob("*.yaml"))


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_what_is_written_is_what_the_classes_say():
    for path, content in documented.documents().items():
        written = (ROOT / path).read_text(encoding="utf-8")
        assert written == content, f"{path}: run `python -m condense.command.documented`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_of_settings_fits_its_schema(path):
    jsonschema.validate(read(path), SCHEMAS[path.parent.name])


@pytest.mark.parametrize(
    "change",
    [
        {"terms": [{"name": "men"}]},
        {"engin": "matching"},
        {"steps": "many"},
        {"optimizer": {"lr": 1.0, "momentun": 0.5}},
    ],
)
def test_a_misspelt_setting_does_not(change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read(ROOT / "params" / "methods" / "dm.yaml") | change, SCHEMAS["methods"])


def test_a_source_that_no_file_may_have_is_in_no_schema():
    own = read(ROOT / "params" / "datasets" / "digits.yaml")
    jsonschema.validate(own, SCHEMAS["datasets"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            own | {"source": {"kind": "arrays", "fingerprint": "0" * 64}}, SCHEMAS["datasets"]
        )
    assert "arrays" not in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_a_comment_beside_a_field_is_its_meaning():
    from condense.specs import MatchingRecipe

    told = {setting.name: setting for setting in documented.settings_of(MatchingRecipe)}
    assert (
        told["clip"].meaning == "pixels are brought back into [0, 1] at the start of every step"
        and told["clip"].default == "false"
    )
    assert told["terms"].default == "" and told["optimizer"].default == '{"lr": 1.0}'


def test_what_is_written_is_said_and_the_rest_left_alone(tmp_path):
    old, new = tmp_path / "old.md", tmp_path / "new" / "new.json"
    old.write_text("as it was", encoding="utf-8")
    before = old.stat().st_mtime_ns
    assert documented.write({old: "as it was", new: "{}"}) == f"written: {new}"
    assert new.read_text(encoding="utf-8") == "{}" and old.stat().st_mtime_ns == before
    assert documented.write({old: "as it was"}) == "nothing to write: all is as the classes say"
