"""`condense run` killed while it writes a file or right after it: the same command goes on, with the same
bytes, and leaves nothing."""

import multiprocessing
import os

import pytest
from bad_input_helpers import recipe, refused, run, synthesis
from interruption_helpers import stopped_after

from condense import kernels
from condense.command.show import digest_of

# The children of a server that has imported everything, but started no thread of torch's.
SERVER = multiprocessing.get_context("forkserver")
IMPORTED = [
    "condense.command.cli",
    "condense.command.pipeline",
    "condense.engines.matching",
    "condense.evaluate.protocols",
]
IMPORTED += ["condense.report.grids", "torch._dynamo", "sklearn.datasets"]
COMMAND = (
    "run",
    "digits",
    "--scale",
    "quick",
    "--method",
    "dm",
    "--ipc",
    1,
    "--steps",
    2,
    "--epochs",
    1,
    "--device",
    "cpu",
    "--threads",
    1,
)


def command(out, dying_at=None, whole=False):
    """In a process of its own: the command, killed where the file `dying_at` would be put in its place, or
    (`whole`) has been."""
    put = os.replace

    def dying(source, target):
        here = str(target) == str(out / (dying_at or ""))
        if whole or not here:
            put(source, target)
        if here:
            os._exit(9)

    os.replace = dying
    status, told = run(*COMMAND, "--out", out)
    if status:
        print(told)
    os._exit(status)


@pytest.fixture(scope="module")
def begin():
    SERVER.set_forkserver_preload(IMPORTED)

    def call(*arguments):
        process = SERVER.Process(target=command, args=arguments)
        process.start()
        process.join(120)
        return process.exitcode

    return call


def files(out):
    """What lies in a folder, by name: digests of what is compared, None of what says how long something
    took."""
    found = {}
    for path in (path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out).as_posix()
        ours = path.suffix == ".safetensors" or path.name == "metrics.json"
        found[name] = digest_of(path) if ours else None if path.name == "run.json" else path.read_bytes()
    return found


MOMENTS = [
    *[
        ("request.json", False),
        ("data/train.safetensors", False),
        ("data/test.safetensors", True),
        ("data/dataset.json", False),
    ],
    *[
        ("shard/all.run.json", False),
        ("shard/all.run.json", True),
        ("shard/all.safetensors", True),
        ("run.json", False),
    ],
    *[
        ("grid.png", True),
        ("synthetic.safetensors", True),
        ("random/shard/all.safetensors", False),
        ("metrics.json", False),
    ],
    ("random/metrics.json", True),
]


def test_killed_again_and_again(begin, tmp_path):
    assert begin(tmp_path / "unbroken") == 0
    for name, whole in MOMENTS:
        assert begin(tmp_path / "broken", name, whole) == 9, (
            f"{name} was not written, or what came before it could not be gone on with"
        )
        left = [path for path in (tmp_path / "broken").rglob("*") if path.name.endswith(".part")]
        assert len(left) <= (2 if name.startswith("data") else 1) and bool(left) == (
            not whole or name.startswith("data/test")
        ), left
    assert begin(tmp_path / "broken") == 0
    assert files(tmp_path / "broken") == files(tmp_path / "unbroken")
    refuses_what_was_changed(tmp_path / "broken")
    # As the messages say, the same command makes it anew; the data too, of which a file went.
    for name in ("synthetic.safetensors", "metrics.json", "data/test.safetensors"):
        (tmp_path / "broken" / name).unlink()
    assert begin(tmp_path / "broken") == 0
    assert files(tmp_path / "broken") == files(tmp_path / "unbroken")


def refuses_what_was_changed(out):
    """A finished run is read before its results are named once more: a byte less, no metrics, or the set of
    another run."""
    changed = out / "metrics.json", out / "synthetic.safetensors"
    before = [path.read_bytes() for path in changed]
    for contents, wrong in [
        ((b"{}", before[1]), 0),
        ((before[0], before[1][:-1] + b"\0"), 1),
        ((before[0], before[1][:-100]), 1),
    ]:
        for path, content in zip(changed, contents, strict=True):
            path.write_bytes(content)
        assert f"{changed[wrong]}: damaged" in refused(*COMMAND, "--out", out)
    changed[1].write_bytes((out / "random" / "synthetic.safetensors").read_bytes())
    assert "belongs to the key" in refused(*COMMAND, "--out", out)


def test_a_shard_of_which_nobody_knows_the_cost_is_made_again(begin, tmp_path):
    assert begin(tmp_path / "out", "shard/all.safetensors", True) == 9
    (tmp_path / "out" / "shard" / "all.run.json").unlink()
    assert begin(tmp_path / "out") == 0 and (tmp_path / "out" / "run.json").is_file()


def test_what_is_left_beside_finished_files_goes_at_the_end(begin, tmp_path):
    assert begin(tmp_path / "out", "metrics.json", True) == 9
    for name in (
        "synthetic.safetensors.resume",
        "data/.test.safetensors.0123456789abcdef0123456789abcdef.part",
        "shard/all.safetensors",
    ):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("left")
    (tmp_path / "out" / ".of the user").write_text("stays")
    assert begin(tmp_path / "out") == 0
    names = set(files(tmp_path / "out"))
    assert ".of the user" in names and not [
        name for name in names if "left" in name or ".part" in name or "shard" in name or ".resume" in name
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", "\0" * 100])
def test_a_damaged_request_is_told_with_a_way_out(text, tmp_path):
    (tmp_path / "request.json").write_text(text)
    message = refused(*COMMAND, "--out", tmp_path)
    assert str(tmp_path / "request.json") in message and "name a new folder with --out" in message


@pytest.mark.skipif(kernels.state() != "compiled", reason=f"kernels: {kernels.state()}")
def test_kernels_that_come_or_go_half_way_begin_the_job_again(digits, tmp_path, monkeypatch, caplog):
    """As if the first process had been told to do without, or its compiler had been killed."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")

    def job(name):
        return run(*synthesis(digits, tmp_path / f"{name}.safetensors", "--recipe", recipe(steps=6)))

    assert job("compiled")[0] == 0
    with monkeypatch.context() as patch, kernels.plain():
        patch.setattr(kernels, "used_on", lambda device: "torch's operations")
        assert job("plain")[0] == 0
        stopped_after(patch, 2)
        assert job("changed")[0] == 130
    assert job("changed")[0] == 0
    assert (
        "was computed by torch's operations, and this process computes by compiled kernels; beginning anew"
        in caplog.text
    )
    compiled, plain, changed = (
        digest_of(tmp_path / f"{name}.safetensors") for name in ("compiled", "plain", "changed")
    )
    assert changed == compiled != plain
