"""What the tests of several rooms share, and how their files are dealt out to workers (`pytest -n`, of
pytest-xdist)."""

from pathlib import Path

import pytest

SLURM = "test_slurm"  # how the files begin whose tests share one SLURM
# The files that take longest, longest first. Workers begin with them: one that is left for the end is waited
# for by all others.
LONGEST = """
    test_slurm_faults test_slurm_silence test_slurm test_snakemake test_faults test_commands
    test_tracking_server test_tracking test_kill test_tracking_follower test_remotes test_scale_page
    test_regression test_kernels_kept test_report_pictures test_dvc test_kernels test_interrupted_run
    test_paths test_asked test_estimate test_benchmark
""".split()


def pytest_collection_modifyitems(config, items):
    """Puts the files that take longest first where tests run side by side; elsewhere their order stays."""
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One more than cores: the tests of SLURM mostly wait."""
    from condense.machine.runtime import cores

    return cores() + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whatever `--dist` says, a file goes to one worker, which makes its fixtures once; all files of SLURM to
    the same one."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = Path(super()._split_scope(nodeid))
            return SLURM if file.name.startswith(SLURM) else str(file)

    # The order of the collection holds, not that by the number of tests
    config.option.loadscopereorder = False
    return Files(config, log)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The folder of the prepared digits: train.safetensors and test.safetensors. Made once; to be read
    only."""
    from condense.data.prepare import prepare
    from condense.plan import data_cell

    folder = tmp_path_factory.mktemp("digits")
    prepare(data_cell("digits").spec, folder)
    return folder
