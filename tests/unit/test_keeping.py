"""What is there already is left as it is only where it is whole: all of it is read before a job says so."""

import shutil

import pytest
from bad_input_helpers import refused, run

from condense.files.artifacts import read_header, read_json, write_json
from condense.jobs import is_made, is_prepared, keeps_data, keeps_file


def spoil(path):
    """Another last byte: the header and the length stay right."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["teacher", "synthetic", "metrics"])
def test_a_file_is_kept_when_it_is_whole_and_refused_when_a_byte_of_its_content_changed(
    kind, made, tmp_path, capsys
):
    path = tmp_path / getattr(made, kind).name
    shutil.copy(getattr(made, kind), path)
    key = read_json(path)["key"] if kind == "metrics" else read_header(path)["key"]
    assert keeps_file(path, kind, key) and f"kept: {path} (it is whole" in capsys.readouterr().err
    if kind == "metrics":
        write_json(path, read_json(path) | {"mean": 99.5})
    else:
        spoil(path)
    with pytest.raises(Exception, match="damaged"):
        keeps_file(path, kind, key)
    assert "kept" not in capsys.readouterr().err


def test_a_set_that_is_damaged_is_not_taken_to_be_made(made, tmp_path):
    path = tmp_path / "synthetic.safetensors"
    shutil.copy(made.synthetic, path)
    assert is_made(path, read_header(path)["key"]) and not is_made(path, "another")
    spoil(path)
    with pytest.raises(Exception, match="damaged"):
        is_made(path, "another")


def test_data_of_which_a_file_was_deleted_are_made_anew_and_damaged_ones_refused(made, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(made.digits, folder)
    whole = (folder / "test.safetensors").read_bytes()
    assert keeps_data(folder)
    spoil(folder / "test.safetensors")
    assert "test.safetensors: damaged" in refused("data", "--dataset", "digits", "--out", folder, "--keep")
    (folder / "test.safetensors").unlink()  # as the message says
    assert not is_prepared(folder)
    status, told = run("data", "--dataset", "digits", "--out", folder, "--keep")
    assert status == 0 and (folder / "test.safetensors").read_bytes() == whole, told
