"""`condense run` on images that cannot be used, and with wishes that cannot be met."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from bad_input_helpers import refused, run
from data_helpers import png, random_pixels

from condense.command.requests import Request, plan_request
from condense.config import UserError
from condense.plan import data_cell

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--scale", "quick", "--device", "cpu", "--threads", 1)


@pytest.fixture
def no_estimate(monkeypatch):
    """Without the seconds that measuring this machine takes."""
    monkeypatch.setattr(
        "condense.estimate.estimate_cells",
        lambda *cells, **more: SimpleNamespace(text=lambda: "", seconds=1.0),
    )


def pictures(folder, **classes):
    """A folder of class folders with random 8-pixel images, so many of each class."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for place in range(count):
            (folder / name / f"{place}.png").write_bytes(png(random_pixels(8, 8, seed=place)))
    return folder


def spoil(tmp_path, kind):
    """Images of which something is wrong, and what must be named."""
    images = pictures(tmp_path / "images", cat=6, dog=6)
    if kind == "unreadable":
        (images / "dog" / "3.png").write_bytes(png(random_pixels(8, 8))[:30])
        return images / "dog" / "3.png"
    if kind == "cut short":  # its header is whole, so that this is seen only when the images are decoded
        whole = png(random_pixels(8, 8, 3))
        (images / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
        return images / "dog" / "3.png"
    if kind == "text":
        (images / "cat" / "note.png").write_text("not an image")
        return images / "cat" / "note.png"
    shutil.rmtree(images / "dog")
    if kind == "nothing":
        shutil.rmtree(images)
    elif kind == "empty":
        shutil.rmtree(images / "cat")
    elif kind == "empty class":
        (images / "dog").mkdir()
    elif kind == "nested":
        pictures(images / "dog", big=3)
    elif kind == "parquet":
        shutil.rmtree(images)
        images.write_bytes(b"PAR1 but no more")
    elif kind == "few":
        pictures(images, dog=1)
        return "'dog' has 1 image"
    return images  # "one class"


@pytest.mark.parametrize(
    "kind",
    [
        "unreadable",
        "cut short",
        "text",
        "nothing",
        "empty",
        "one class",
        "empty class",
        "nested",
        "parquet",
        "few",
    ],
)
def test_run_on_images_that_cannot_be_used(kind, tmp_path, no_estimate):
    named = spoil(tmp_path, kind)
    assert str(named) in refused("run", tmp_path / "images", "--out", tmp_path / "out", "--ipc", 1, *QUICK)
    assert not list((tmp_path / "out").glob("**/*.safetensors"))


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--method", "cpmd"), ["did you mean 'cpdm'?"]),
        (("--method", "whole"), ["whole"]),
        (("--method", "dm_clip"), ["CONDENSE_CLIP", "open_clip_model.safetensors"]),
        (("--scale", "labtop"), ["did you mean 'laptop'?"]),
        (("--arch", "convnett"), ["did you mean 'convnet'?"]),
        (("--arch", "convnetd5"), ["convnetd5", "8 x 8"]),
        (("--ipc", "0"), ["--ipc"]),
        (("--ipc", "6"), ["--ipc 6", "5"]),
        (("--steps", "0"), ["--steps"]),
        (("--resize", "-1"), ["--resize"]),
        (("--seed", "-1"), ["--seed"]),
        (("--test", "nowhere"), ["nowhere"]),
        (("--test", "OTHER"), ["OTHER", "'cow'"]),
        (("--out", "OTHER"), ["OTHER", "not empty"]),
        (("--out", "FILE"), ["FILE"]),
        (("--out", "FILE/below"), ["FILE/below"]),
        (("--device", "tpu"), ["--device", "'tpu'"]),
        (("--threads", "0"), ["--threads"]),
        (("--epochs", "0"), ["--epochs", "at least 1"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_run_with_senseless_wishes(more, parts, tmp_path, monkeypatch, no_estimate):
    monkeypatch.delenv("CONDENSE_CLIP", raising=False)
    images = pictures(tmp_path / "images", cat=6, dog=6)
    known = {"OTHER": str(pictures(tmp_path / "other", cat=2, cow=2)), "FILE": str(tmp_path / "file")}
    (tmp_path / "file").write_text("")
    filled = [re.sub("OTHER|FILE", lambda found: known[found[0]], text) for text in (*more, *parts)]
    given = {
        "--out": tmp_path / "out",
        "--scale": "quick",
        "--ipc": 1,
        "--method": "dm",
        "--device": "cpu",
        "--threads": 1,
    }
    given |= {filled[0]: filled[1]}
    message = refused("run", images, *[part for pair in given.items() for part in pair])
    for part in filled[2:]:
        assert part in message, message
    assert not list(tmp_path.glob("**/synthetic.safetensors"))


def test_run_does_not_mix_two_requests_in_a_folder(tmp_path, monkeypatch, no_estimate):
    images = pictures(tmp_path / "images", cat=6, dog=6)
    argv = ("run", images, "--out", tmp_path / "out", "--method", "random", *QUICK)
    monkeypatch.setattr("condense.command.pipeline._prepare", lambda out, work: pytest.fail("came this far"))
    with pytest.raises(pytest.fail.Exception):
        run(*argv, "--ipc", 1)
    assert "holds another run" in refused(*argv, "--ipc", 2)
    (tmp_path / "out" / "request.json").write_text("[")
    assert str(tmp_path / "out" / "request.json") in refused(*argv, "--ipc", 1)


def test_a_dataset_is_run_by_its_name_and_keeps_what_it_says_of_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    request = {"images": Path("digits"), "out": tmp_path, "method": "dm", "ipc": 1}
    work = plan_request(Request(**request))
    assert work.data == data_cell("digits") and {cell.protocol.epochs for cell in work.metrics} == {200}
    short = plan_request(Request(**request, epochs=3, steps=2))
    assert {cell.protocol.epochs for cell in short.metrics} == {3} and short.sets[0].recipe.steps == 2
    for option, value in (("resize", 16), ("test", tmp_path)):
        with pytest.raises(UserError, match=f"--{option}: is for images of your own"):
            plan_request(Request(**request, **{option: value}))
    with pytest.raises(UserError, match=r"digitz: no such file or folder; .*; did you mean 'digits'\?"):
        plan_request(Request(**request | {"images": Path("digitz")}))
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "digits", cat=6, dog=6)
    with pytest.raises(UserError, match="lies here too"):
        plan_request(Request(**request))
    own = request | {"images": tmp_path / "digits", "out": tmp_path / "out"}
    assert plan_request(Request(**own)).data.spec.classes == 2
