"""What the tests of bad input share: calls of the command in this process, and small settings for it."""

import contextlib
import io
import re

from hypothesis import HealthCheck, settings

from condense.command.cli import main
from condense.files.artifacts import canonical

fixed = settings(
    derandomize=True, deadline=None, database=None, max_examples=50, suppress_health_check=list(HealthCheck)
)
NET = ("--arch", "convnet", "--options", '{"depth": 1, "width": 4}', "--device", "cpu", "--threads", "1")
BRIEF = canonical(
    {
        "name": "brief",
        "title": "One epoch",
        "source": {"paper": "none"},
        "epochs": 1,
        "batch": 256,
        "optimizer": {"lr": 0.01},
        "schedule": {"kind": "constant"},
    }
)


def recipe(**changes):
    terms = [{"name": "mean"}]
    base = {
        "name": "dm",
        "title": "DM",
        "source": {"paper": "dm"},
        "engine": "matching",
        "terms": terms,
        "steps": 2,
        "batch_real": 8,
    }
    return canonical(base | {"augment": {"siamese": "none"}} | changes)


def run(*argv):
    """Exit status and stderr of one call of the command, in this process."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main([str(entry) for entry in argv])
        except SystemExit as exit:
            status = exit.code
    return status, told.getvalue()


def refused(*argv):
    """The one message of a call that must be refused: the last line, of which there may be only one; argparse
    puts the verb's name in."""
    status, told = run(*argv)
    assert status == 2, told
    messages = [line for line in told.splitlines() if re.match(r"condense( [a-z]+: error)?: ", line)]
    assert "Traceback" not in told and len(messages) == 1 and messages[0] == told.splitlines()[-1], told
    assert len(messages[0]) < 1500
    return messages[0]


def synthesis(digits, out, *more):
    given = {"--recipe": recipe(), "--ipc": 1, "--data": digits / "train.safetensors", "--out": out}
    given |= dict(zip(NET[::2], NET[1::2], strict=True)) | dict(zip(more[::2], more[1::2], strict=True))
    return ("synthesize", *[part for pair in given.items() for part in pair])


def evaluation(synthetic, digits, out, *more):
    named = ("evaluate", "--synthetic", synthetic, "--data", digits, "--protocol", BRIEF, "--networks", 1)
    return (*named, *NET, "--out", out, *more)
