"""What the tests of several rooms share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The folder of the prepared digits: train.safetensors and test.safetensors. Made once; to be read only."""
    from condense.data.prepare import prepare
    from condense.plan import data_cell

    folder = tmp_path_factory.mktemp("digits")
    prepare(data_cell("digits").spec, folder)
    return folder
