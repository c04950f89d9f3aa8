"""The matching engine against a plain loop, and what it promises of shards, resumption, small classes and
divergence."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from matching_helpers import ARCH, CPU, NOWHERE, engine, equals_the_plain_loop, recipe, reference

from condense.config import UserError
from condense.engines.matching import Matching, run_together
from condense.engines.starts import initial_images
from condense.engines.streams import RealBatches, RealStream
from condense.files.checkpoints import Checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"), [("dm", 5, 1e-4), ("ed", 5, 1e-4), ("cpdm", 3, 1e-4), ("cpdm", 5, 2e-3)]
)
def test_engine_equals_a_plain_loop_over_classes(name, steps, tolerance, train, critic):
    """In float64, five steps of all to nine digits: test_regression.py. Here a ReLU that rounding turns over
    would be carried on."""
    equals_the_plain_loop(recipe(name, steps=steps), train, critic, tolerance)


@pytest.mark.parametrize("name", ["dm", "ed", "cpdm"])
def test_a_class_is_the_same_alone_in_a_shard_and_with_all(name, train, critic):
    value = recipe(name, steps=20, batch_real=32)
    together = engine(value, train, critic=critic).run().images
    for classes in [(4,), (3, 4, 5), tuple(range(5))]:
        found = engine(value, train, classes, critic=critic).run().images
        wanted = together[list(classes)]
        assert (found - wanted).norm() <= 1e-4 * wanted.norm()


@pytest.fixture
def in_bfloat16(monkeypatch):
    """Computes in bfloat16 what may be, also on a processor that float32 is faster on."""
    monkeypatch.setattr("condense.kernels.precision.processor_has_bfloat16", lambda: True)


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
def test_less_precision_on_the_real_side_hardly_changes_the_gradient(train, precision, in_bfloat16):
    """One step without momentum is the gradient."""
    settings = {"steps": 1, "batch_real": 64, "optimizer": {"lr": 1.0, "momentum": 0.0}}
    start = initial_images(train, train.classes, 3, "real", 0)
    moved = {
        name: engine(recipe("dm", precision=name, **settings), train, ipc=3).run().images - start
        for name in ("fp32", precision)
    }
    exact, found = (moved[name].double().flatten() for name in ("fp32", precision))
    if torch.equal(exact, found):
        assert engine(recipe("dm", precision=precision), train).stream.real_type == torch.float32, (
            "bfloat16 was to make a difference"
        )
    cosine = torch.dot(exact, found) / exact.norm() / found.norm()
    assert (found - exact).norm() / exact.norm() < {"mixed": 0.01, "bf16": 0.15}[precision]
    assert cosine > {"mixed": 0.9999, "bf16": 0.99}[precision]


@pytest.mark.parametrize("name", ["dm", "cpdm"])
def test_with_less_precision_too_a_class_is_the_same_in_any_shard(name, train, critic, in_bfloat16):
    value = recipe(name, steps=20, batch_real=32, precision="mixed")
    together = engine(value, train, critic=critic).run().images
    for classes in [(4,), (3, 4, 5)]:
        found, wanted = engine(value, train, classes, critic=critic).run().images, together[list(classes)]
        assert (found - wanted).norm() <= 1e-4 * wanted.norm()


def test_sets_that_share_the_real_side_end_as_they_would_alone(train, critic, in_bfloat16):
    """Other methods, ipc, steps and learning rates; the real side is computed once a step."""
    asked = [
        ("dm", 1, {}),
        ("dm", 3, {}),
        ("ed", 2, {"steps": 6}),
        ("cpdm", 2, {"steps": 3, "optimizer": {"lr": 2.0}, "snapshots": 1}),
    ]
    values = [recipe(name, precision="mixed", **changes) for name, _, changes in asked]
    stream = RealStream(values[0], train, train.classes, **ARCH, seed=4, device=CPU)
    sets = [
        Matching(value, stream, ipc=ipc, critic=critic, checkpoint=NOWHERE)
        for value, (_, ipc, _) in zip(values, asked, strict=True)
    ]
    together = run_together(sets)
    for value, (_, ipc, _), found in zip(values, asked, together, strict=True):
        alone = engine(value, train, ipc=ipc, seed=4, critic=critic).run()
        torch.testing.assert_close(found.images, alone.images, rtol=1e-5, atol=1e-6)
        assert [row["step"] for row in found.history] == [row["step"] for row in alone.history]
        assert found.snapshots.keys() == alone.snapshots.keys()


def test_only_sets_with_the_same_stream_share_it(train):
    stream = RealStream(recipe("dm"), train, (0, 1), **ARCH, seed=0, device=CPU)
    with pytest.raises(ValueError, match="not those of the stream"):
        Matching(recipe("ed", batch_real=17), stream, ipc=1, critic=None, checkpoint=NOWHERE)
    others = engine(recipe("dm"), train, (0, 1), ipc=1), engine(recipe("ed"), train, (0, 1), ipc=1)
    with pytest.raises(ValueError, match="share one stream"):
        run_together(others)


def test_a_class_keeps_its_draws_whatever_shard_it_is_in(train):
    alone, shard = RealBatches(train, (6,), 9, 3, CPU), RealBatches(train, (2, 6), 9, 3, CPU)
    for step in (0, 5):
        assert torch.equal(alone.taken(alone.chosen(step))[0], shard.taken(shard.chosen(step))[1])
    assert not torch.equal(alone.chosen(0), alone.chosen(1))
    assert torch.equal(
        initial_images(train, (6,), 4, "noise", 1)[0], initial_images(train, (0, 6), 4, "noise", 1)[1]
    )


def test_a_real_start_consists_of_distinct_images_of_the_class(train):
    start = initial_images(train, (0, 9), 20, "real", 0)
    for images, label in zip(start, (0, 9), strict=True):
        own = {image.numpy().tobytes() for image in train.of_class(label)}
        chosen = [image.numpy().tobytes() for image in images]
        assert set(chosen) <= own and len(set(chosen)) == 20


def small_first_class(train, keep):
    """The digits with only `keep` images of class 0."""
    kept = torch.cat([torch.arange(keep), torch.arange(train.counts[0], len(train))])
    counts = (keep, *train.counts[1:])
    return replace(train, images=train.images[kept], labels=train.labels[kept], counts=counts)


@pytest.mark.parametrize("name", ["dm", "ed", "cpdm"])
def test_a_class_smaller_than_the_batch_gives_each_image_once(name, train, critic):
    value, data = recipe(name, steps=5), small_first_class(train, 6)
    found = engine(value, data, (0, 1, 2), critic=critic).run().images
    for place in (0, 1):
        wanted = reference(value, data, place, ipc=2, seed=0, critic=critic)
        torch.testing.assert_close(found[place], wanted, rtol=1e-4, atol=1e-4)
    batches = RealBatches(data, (0, 1), 16, 0, CPU)
    assert batches.mask.sum(1).tolist() == [6, 16]
    shown = {image.numpy().tobytes() for image in batches.taken(batches.chosen(3))[0][:6]}
    assert shown == {image.numpy().tobytes() for image in data.images[data.class_slice(0)]}


def test_more_images_than_the_smallest_class_has_are_refused(train):
    with pytest.raises(UserError, match="ipc 7 asked for, but a class has only 6"):
        engine(recipe("dm"), small_first_class(train, 6), ipc=7)
    engine(recipe("dm"), small_first_class(train, 6), (1, 2), ipc=7)
    for ipc in (0, -1):
        with pytest.raises(UserError, match=f"ipc {ipc}"):
            engine(recipe("dm"), train, ipc=ipc)
    with pytest.raises(UserError, match="class 12"):
        engine(recipe("dm"), train, (8, 12))


def test_the_critics_weight_decays_linearly_to_one_part_of_the_steps(train, critic):
    """With the critic alone and the real images' gradient left out, step t moves the images by lr * (T - t) /
    T * gradient."""
    terms = [
        {"name": "classifier_critic", "sees": "plain", "weight": {"schedule": "linear_decay", "start": 2.0}}
    ]
    value = recipe("cpdm", terms=terms, steps=3, optimizer={"lr": 0.5, "momentum": 0.0})
    images = initial_images(train, (3,), 2, "real", 0)[0].requires_grad_(True)
    for step in range(3):
        (gradient,) = torch.autograd.grad(F.cross_entropy(critic(images), torch.tensor([3, 3])), images)
        images = (images - 0.5 * 2.0 * (3 - step) / 3 * gradient).detach().requires_grad_(True)
    found = engine(value, train, (3,), critic=critic).run().images[0]
    torch.testing.assert_close(found, images.detach(), rtol=1e-5, atol=1e-6)


def test_weight_zero_is_the_method_without_the_term(train, critic):
    without = engine(recipe("ed"), train, (0, 1)).run()
    silent = engine(
        recipe("cpdm", terms={"classifier_critic": {"weight": 0.0}}), train, (0, 1), critic=critic
    ).run()
    assert torch.equal(without.images, silent.images)
    assert [row["classifier_critic"] for row in silent.history] == [0.0] * 4


def test_history_holds_the_terms_and_their_weighted_sum(train, critic):
    value = recipe("cpdm", steps=4, terms={"classifier_critic": {"weight": 0.25}})
    history = engine(value, train, critic=critic).run().history
    assert [row["step"] for row in history] == [1, 2, 3, 4]
    for row in history:
        assert row["loss"] == pytest.approx(
            row["energy_distance"] + 0.25 * row["classifier_critic"], rel=1e-5
        )
    short = (
        engine(recipe("cpdm", steps=2, terms={"classifier_critic": {"weight": 0.25}}), train, critic=critic)
        .run()
        .history
    )
    assert short == history[:2]


def test_a_long_history_has_rows_of_means(train, monkeypatch):
    monkeypatch.setattr("condense.engines.run._ROWS", 2)
    value = recipe("dm", steps=7)
    coarse = engine(value, train, (0,)).run().history
    monkeypatch.setattr("condense.engines.run._ROWS", 200)
    fine = engine(value, train, (0,)).run().history
    assert [row["step"] for row in coarse] == [3, 6, 7]
    assert coarse[0]["loss"] == pytest.approx(sum(row["loss"] for row in fine[:3]) / 3)
    assert coarse[2]["loss"] == pytest.approx(fine[6]["loss"])


@pytest.mark.parametrize("averaging", [None, 3])
def test_snapshots_are_the_sets_of_shorter_runs(train, averaging):
    """Nothing in DM depends on the number of steps, so a snapshot is the result of a run that stops there."""
    found = engine(recipe("dm", steps=5, snapshots=2, averaging=averaging), train, (0, 1)).run()
    assert sorted(found.snapshots) == [2, 4]
    for step, images in found.snapshots.items():
        assert torch.equal(
            images, engine(recipe("dm", steps=step, averaging=averaging), train, (0, 1)).run().images
        )


# Binomials of step and eta
@pytest.mark.parametrize(("eta", "shares"), [(0, [1, 1, 1, 1]), (1, [1, 2, 3, 4]), (2, [1, 3, 6, 10])])
def test_an_averaged_set_is_the_mean_of_all_steps_with_the_last_weighing_most(train, eta, shares):
    each = engine(recipe("dm", snapshots=1), train, (0, 1)).run().snapshots
    found = engine(recipe("dm", averaging=eta), train, (0, 1)).run().images
    wanted = sum(share * each[step] for step, share in enumerate(shares, 1)) / sum(shares)
    assert torch.allclose(found, wanted, atol=1e-5) and not torch.allclose(found, each[4], atol=1e-3)


def test_averaging_is_the_same_work_and_a_setting_of_its_own_key():
    with pytest.raises(UserError, match="averaging: must be at least 0"):
        recipe("dm", averaging=-1)
    plain, averaged = recipe("dm"), recipe("dm", averaging=8)
    assert averaged.stream == plain.stream and "averaging" not in plain.computed_part()
    assert averaged.computed_part() == plain.computed_part() | {"averaging": 8}


def test_divergence_stops_with_step_term_and_hint(train, critic):
    with pytest.raises(UserError, match=r"cpdm: .* at step \d+.*learning rate"):
        engine(recipe("cpdm", steps=400, optimizer={"lr": 1e6}), train, critic=critic).run()
    broken = replace(train, mean=(float("nan"),))
    with pytest.raises(UserError, match="dm: 'mean' is nan at step 1; it is so before any image has moved"):
        engine(recipe("dm"), broken).run()


def test_images_that_leave_all_bounds_are_an_error_even_where_the_loss_stays_finite(train):
    """Instance normalisation hides how large images have become from the loss."""
    with pytest.raises(
        UserError, match=r"dm: the images diverge at step \d+: a normalised pixel is .*learning rate"
    ):
        engine(recipe("dm", steps=20, optimizer={"lr": 1e7}), train).run()


@pytest.mark.parametrize("averaging", [None, 8])
def test_a_run_resumed_anywhere_ends_with_the_same_images(train, critic, tmp_path, monkeypatch, averaging):
    monkeypatch.setattr("condense.engines.run._ROWS", 4)
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    value = recipe("cpdm", steps=9, snapshots=3, averaging=averaging)
    whole = engine(value, train, (0, 1), critic=critic).run()
    saves = []

    class Stopping(Checkpoint):
        def write(self, tensors, state):
            super().write(tensors, state)
            saves.append(state["done"])
            raise KeyboardInterrupt

    runs = 0
    while True:
        runs += 1
        try:
            found = engine(
                value, train, (0, 1), critic=critic, checkpoint=Stopping(tmp_path / "x.resume", "k")
            ).run()
            break
        except KeyboardInterrupt:
            continue
    assert saves == list(range(1, 9)) and runs == 9
    assert torch.equal(found.images, whole.images) and found.history == whole.history
    assert found.snapshots.keys() == whole.snapshots.keys() == {3, 6, 9}
    assert all(torch.equal(found.snapshots[step], whole.snapshots[step]) for step in whole.snapshots)
