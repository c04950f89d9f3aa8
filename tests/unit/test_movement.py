"""Every recipe moves its images by a plausible amount: a rate that is thousands of times too small or too
large is seen from its first steps."""

import pytest
from movement_helpers import Banks, as_colour, enlarged, measurable, reach

from condense import plan
from condense.data.dataset import load
from condense.specs import catalogue

METHODS = [name for name in catalogue.names_in("methods") if measurable(name)]
# In standard deviations of pixels: below the first a set ends as it began; the second is several times the
# longest. DM has some 100 at its own settings, the energy distance 1.4, whose gradient does not shrink.
BOUNDS = {"paper": (0.5, 2000.0), "laptop": (0.1, 300.0), "cifar10": (0.1, 2000.0), "quick": (0.1, 300.0)}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def handwritten(digits):
    return load(digits / "train.safetensors")


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    return Banks(tmp_path_factory.mktemp("banks"))


def moved(scale, method, handwritten, banks, **changes):
    maker = plan.Maker(catalogue.scale(scale))
    small = scale == "quick"
    recipe = maker.recipe(method, plan.data_cell("digits16" if small else "cifar10"), 10, changes)
    options = dict(maker.scale.architectures["convnet"]) if small else {}
    return reach(recipe, enlarged(handwritten, 2) if small else as_colour(handwritten), options, banks)


@pytest.mark.parametrize("scale", BOUNDS)
@pytest.mark.parametrize("method", METHODS)
def test_the_images_move_and_do_not_fly_away(method, scale, handwritten, banks):
    least, most = BOUNDS[scale]
    found = moved(scale, method, handwritten, banks)
    assert least < found < most, (
        f"{method} at the scale '{scale}' moves a pixel by {found:.2g} in all its steps"
    )


def test_the_rate_of_idc_leaves_m3d_where_it_starts(handwritten, banks):
    """0.005 for 10 images a class is what it had; the measure grows with the rate."""
    at = {lr: moved("paper", "m3d", handwritten, banks, optimizer={"lr": lr}) for lr in (0.005, 0.01)}
    assert at[0.005] < BOUNDS["paper"][0]
    assert at[0.01] == pytest.approx(2 * at[0.005], rel=0.05)
    assert moved("paper", "dm", handwritten, banks, optimizer={"lr": 1e4}) > BOUNDS["paper"][1]
