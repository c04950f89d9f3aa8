"""What `Run` does for an engine that gives no more than its loss, and what it refuses to let an engine
forget."""

import pytest
import torch
from matching_helpers import ARCH, CPU, NOWHERE, recipe

from condense import models, specs
from condense.config import UserError
from condense.engines.moving import MovingImages
from condense.engines.run import Run, run_steps
from condense.kernels.precision import Types

PLATEAU = specs.Plateau(factor=0.5, patience=1)


class Brighter(Run):
    """Pulls every value of the images towards `aim`, in two turns; the second comes after the images
    moved."""

    aim, level, asks = 5.0, 1.0, ("real", "synthetic")

    def step(self, shared):
        for side in self.asks:
            self.types.of(side)
        for turn in ("first", "second"):
            loss = self.level * (self.moving.shown() - self.aim).square().mean()
            yield loss, {turn: loss}


def brighter(train, kind=Brighter, *, types=True, **changes):
    value = recipe(
        "dm", **({"steps": 6, "couples": ["classes"], "optimizer": {"lr": 40.0, "momentum": 0.0}} | changes)
    )
    images = MovingImages(value, train, train.classes, ipc=1, seed=0, device=CPU)
    with torch.random.fork_rng(devices=[]):
        network = models.build(
            ARCH["arch"], channels=train.channels, size=train.size, classes=10, **ARCH["options"]
        )
    given = Types(value.precision, network, CPU) if types else None
    return kind(value, images, ["first", "second"], NOWHERE, len(train.counts), given)


def test_images_move_in_every_turn_and_both_stand_in_the_history(train):
    outcome = run_steps([brighter(train)], "digits", lambda step: None)[0]
    for row in outcome.history:
        assert row["second"] < row["first"], "the images moved between the turns"
        assert row["loss"] == pytest.approx(row["first"] + row["second"])
    assert len(outcome.history) == 6 and outcome.precision == {"real": "float32", "synthetic": "float32"}


def test_a_loss_without_the_images_ends_the_run_at_its_first_step(train):
    class Blind(Brighter):
        def step(self, shared):
            for loss, told in super().step(shared):
                yield loss.detach(), told

    with pytest.raises(UserError, match="nothing in its loss depends on the images at step 1"):
        brighter(train, Blind).advance(None)


def test_pixels_are_brought_back_before_every_step(train):
    plain, clipped = brighter(train), brighter(train, clip=True)
    for run in (plain, clipped):
        for _ in range(6):
            run.advance(None)
    assert plain.window == [] and plain.images.max() > 2 * clipped.moving._units.high.max()
    clipped.moving.clip()
    within = clipped.images
    rows = [row["first"] for row in clipped.outcome.history]
    assert rows[-1] == pytest.approx((within - Brighter.aim).square().mean().item(), rel=1e-3), (
        "the last step saw images within bounds"
    )
    assert [row["first"] for row in plain.outcome.history] != rows


def test_a_plateau_lowers_the_rate_where_the_loss_stalls(train):
    class Stalling(Brighter):
        level = 0.0

    run = brighter(train, Stalling, optimizer={"lr": 1.0, "plateau": {"factor": 0.5, "patience": 1}})
    rates = []
    for _ in range(6):
        run.advance(None)
        rates.append(float(run.optimizer.lr))
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_a_precision_that_an_engine_does_not_use_is_told(train):
    class Forgetful(Brighter):
        asks = ("synthetic",)

    with pytest.raises(
        ValueError,
        match="engine 'matching': 'precision' is not used: a step asks `types` for no type of: real",
    ):
        brighter(train, Forgetful, precision="mixed").advance(None)
    brighter(train, Forgetful, precision="fp32").advance(None)
    with pytest.raises(
        ValueError, match="engine 'matching': its recipes have a 'precision', of which Run gets no `types`"
    ):
        brighter(train, types=False)


def test_a_loss_that_tells_of_no_known_part_is_told(train):
    class Misnamed(Brighter):
        def step(self, shared):
            for loss, parts in super().step(shared):
                yield loss, {f"the {name}": part for name, part in parts.items()}

    with pytest.raises(
        ValueError, match=r"engine 'matching': a step tells of \['the first'\], which are none of its columns"
    ):
        brighter(train, Misnamed).advance(None)


def test_no_recipe_with_a_plateau_is_split(train):
    """Whatever else its engine says: the rate follows the loss of all classes."""

    class Apart(specs.ImageRecipe):
        classes_apart = True

    names = {"name": "apart", "title": "Apart", "source": specs.Source("ours"), "engine": "apart"}
    assert Apart(**names).splits_by(False) == "classes" and Apart(**names).splits_by(True) is None
    assert Apart(**names, optimizer=specs.Optimizer(lr=1.0, plateau=PLATEAU)).splits_by(False) is None
