"""What the tests of the workflow share."""

import os
import subprocess

import pytest
from slurm_helpers import SCRIPTS, run

from hang_helpers import HUNG

MISSING = 69  # how slurm-up ends where there is no SLURM


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The environment in which the commands of a freshly started SLURM work."""
    folder = tmp_path_factory.mktemp("slurm")
    command = [SCRIPTS / "slurm-up", folder]
    started = subprocess.run(
        command, capture_output=True, text=True, timeout=HUNG, env=os.environ | {"GPUS": "2", "CPUS": "4"}
    )
    if started.returncode == MISSING:
        pytest.skip(started.stderr.strip())
    try:
        assert started.returncode == 0, started.stderr
        yield {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    finally:
        run(SCRIPTS / "slurm-down", folder)
    assert not folder.exists()
