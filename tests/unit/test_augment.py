import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, stats

from condense.augment import siamese
from condense.augment.siamese import Draw, apply, apply_each_class, draw, draw_each
from condense.config import UserError
from condense.machine import seeds

STRATEGY = "color_crop_cutout_flip_scale_rotate"
every_operation = pytest.mark.parametrize("operation", siamese.OPERATIONS)


def batch(n=5, channels=3, size=12, seed=0):
    return torch.randn(
        n, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fixed(operation, **values):
    return Draw(operation, {name: torch.as_tensor([value]) for name, value in values.items()})


@every_operation
@pytest.mark.parametrize("channels, size", [(3, 12), (1, 28), (3, 7)])
def test_a_siamese_draw_commutes_with_concatenation(operation, channels, size):
    real, synthetic = batch(5, channels, size), batch(2, channels, size, seed=1)
    for seed in range(3):
        drawn = draw(operation, size, generator(seed))
        together = apply(torch.cat([real, synthetic]), drawn)
        torch.testing.assert_close(
            together, torch.cat([apply(real, drawn), apply(synthetic, drawn)]), rtol=0, atol=1e-14
        )


@every_operation
def test_draws_of_one_an_image_are_the_siamese_ones_side_by_side(operation):
    images = batch(6, size=13)
    drawn = draw_each(operation, 13, 6, generator())
    alone = [
        apply(
            images[i : i + 1], Draw(operation, {name: u[i : i + 1] for name, u in drawn.parameters.items()})
        )
        for i in range(6)
    ]
    torch.testing.assert_close(apply(images, drawn), torch.cat(alone), rtol=0, atol=1e-14)
    assert any(len(set(u.tolist())) > 1 for u in drawn.parameters.values())


@every_operation
def test_gradient_is_that_of_finite_differences(operation):
    images = batch(2, size=5).requires_grad_()
    for drawn in (draw(operation, 5, generator(1)), draw_each(operation, 5, 2, generator(1))):
        assert torch.autograd.gradcheck(lambda images, drawn=drawn: apply(images, drawn), images)


@every_operation
def test_shape_and_dtype_are_kept(operation):
    images = batch(4).float()
    for drawn in (draw(operation, 12, generator()), draw_each(operation, 12, 4, generator())):
        augmented = apply(images, drawn)
        assert (augmented.shape, augmented.dtype) == (images.shape, torch.float32)


@pytest.mark.parametrize(
    "drawn",
    [
        Draw("none"),
        draw("none", 12, generator()),
        draw("", 12, generator()),
        fixed("color", brightness=0.5, saturation=0.5, contrast=0.5),
        fixed("crop", shift_rows=0, shift_cols=0),
        fixed("flip", flip=0.5),
        fixed("scale", scale_x=(1 - 1 / 1.2) / (1.2 - 1 / 1.2), scale_y=(1 - 1 / 1.2) / (1.2 - 1 / 1.2)),
        fixed("rotate", angle=0.5),
    ],
    ids=lambda drawn: drawn.operation,
)
def test_neutral_parameters_are_the_identity(drawn):
    torch.testing.assert_close(apply(batch(), drawn), batch(), rtol=0, atol=1e-6)


def test_color_is_brightness_then_saturation_then_contrast():
    image = batch(1, size=4).numpy()[0]
    expected = image + (0.9 - 0.5)
    expected = (expected - expected.mean(0)) * (2 * 0.3) + expected.mean(0)
    expected = (expected - expected.mean()) * (0.8 + 0.5) + expected.mean()
    drawn = fixed("color", brightness=0.9, saturation=0.3, contrast=0.8)
    np.testing.assert_allclose(apply(batch(1, size=4), drawn).numpy()[0], expected, atol=1e-6)


def test_saturation_leaves_grey_images_alone():
    drawn = fixed("color", brightness=0.5, saturation=0.0, contrast=0.5)
    torch.testing.assert_close(apply(batch(channels=1), drawn), batch(channels=1))


@pytest.mark.parametrize("rows, cols", [(2, -1), (-2, 2), (0, 1)])
def test_crop_moves_the_window_and_fills_with_zeros(rows, cols):
    images = batch()
    expected = ndimage.shift(images.numpy(), (0, 0, -rows, -cols), order=0)
    np.testing.assert_array_equal(
        apply(images, fixed("crop", shift_rows=rows, shift_cols=cols)).numpy(), expected
    )


@pytest.mark.parametrize(
    "size, row, col, rows, cols",
    [
        (8, 4, 1, (2, 6), (0, 3)),
        (8, 8, 0, (6, 8), (0, 2)),
        (7, 3, 6, (1, 5), (4, 7)),
        (9, 0, 8, (0, 3), (6, 9)),
    ],
)
def test_cutout_erases_a_clipped_square(size, row, col, rows, cols):
    expected = torch.ones(1, 1, size, size)
    expected[..., slice(*rows), slice(*cols)] = 0
    assert torch.equal(
        apply(torch.ones(1, 1, size, size), fixed("cutout", offset_rows=row, offset_cols=col)), expected
    )


def test_flip_mirrors_columns_below_one_half():
    images = batch(3)
    augmented = apply(images, Draw("flip", {"flip": torch.tensor([0.49, 0.5, 0.0])}))
    assert torch.equal(augmented, torch.stack([images[0].flip(-1), images[1], images[2].flip(-1)]))


def test_scale_above_one_shrinks_the_content():
    widths = []
    for u in (0.0, 1.0):
        image = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
        image[..., 12:21] = 1
        widths.append(apply(image, fixed("scale", scale_x=u, scale_y=0.5))[0, 0, 16].sum().item())
    assert widths == pytest.approx([9 * 1.2, 9 / 1.2], rel=0.02)  # up to the share of a pixel


@pytest.mark.parametrize(
    "name, values", [("scale", {"scale_x": 0.9, "scale_y": 0.2}), ("rotate", {"angle": 0.85})]
)
def test_resampling_agrees_with_the_affine_grid_of_the_library(name, values):
    images = batch(4, size=14)
    if name == "scale":
        x, y = (u * (1.2 - 1 / 1.2) + 1 / 1.2 for u in (0.9, 0.2))
        theta = [[x, 0, 0], [0, y, 0]]
    else:
        angle = math.radians((0.85 - 0.5) * 2 * 15)
        theta = [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]
    grid = F.affine_grid(torch.tensor([theta] * 4, dtype=torch.float64), [4, 3, 14, 14], align_corners=False)
    expected = F.grid_sample(images, grid, align_corners=False)
    values = {key: torch.tensor([value], dtype=torch.float64) for key, value in values.items()}
    torch.testing.assert_close(apply(images, Draw(name, values)), expected, rtol=0, atol=1e-12)


def test_a_draw_takes_each_operation_of_the_strategy_equally_often():
    stream = generator()
    counts = {name: 0 for name in siamese.OPERATIONS}
    for _ in range(1200):
        counts[draw(STRATEGY, 8, stream).operation] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    assert {draw("crop_flip", 8, stream).operation for _ in range(30)} == {"crop", "flip"}


@pytest.mark.parametrize(
    "size, reach, last", [(32, 4, 32), (28, 4, 28), (12, 2, 12), (14, 2, 13), (20, 3, 20)]
)
def test_integer_draws_cover_their_whole_range(size, reach, last):
    crop, cutout = (draw_each(name, size, 2000, generator()).parameters for name in ("crop", "cutout"))
    for shifts in crop.values():
        # An eighth of the side, halves rounded up
        assert set(shifts.tolist()) == set(range(-reach, reach + 1))
    for centres in cutout.values():
        assert set(centres.tolist()) == set(range(last + 1))  # the side itself only if the square is even


def test_draws_are_repeatable_and_classes_have_their_own():
    images = batch(6).view(3, 2, 3, 12, 12)
    draws = [draw(STRATEGY, 12, generator(seed)) for seed in range(3)]
    again = [draw(STRATEGY, 12, generator(seed)) for seed in range(3)]
    augmented = apply_each_class(images, draws)
    assert torch.equal(augmented, apply_each_class(images, again))
    assert torch.equal(augmented[1], apply(images[1], draws[1]))
    with pytest.raises(ValueError):
        apply_each_class(images, draws[:2])


def test_wrong_names_and_counts_are_refused():
    with pytest.raises(UserError, match="strategy 'color_crp'.*'crp'; did you mean 'crop'"):
        draw("color_crp", 8, generator())
    with pytest.raises(UserError, match="unknown augmentation 'blur'"):
        apply(batch(), Draw("blur"))
    with pytest.raises(ValueError, match="5 images"):
        apply(batch(5), draw_each("flip", 12, 3, generator()))


def test_all_operations_are_those_of_idc_in_their_order():
    met = set()
    for seed in range(40):
        drawn = siamese.draw("color_crop_cutout_flip_scale_rotate", 8, seeds.generator(seed, "t"), "all")
        chain = [
            drawn.operation,
            drawn.then.operation,
            drawn.then.then.operation,
            drawn.then.then.then.operation,
        ]
        assert chain[:2] == ["flip", "color"] and chain[3] == "cutout" and drawn.then.then.then.then is None
        met.add(chain[2])
    assert met == {"crop", "scale", "rotate"}
    assert siamese.draw("none", 8, seeds.generator(0, "t"), "all").operation == "none"
    with pytest.raises(UserError, match="unknown mode of augmentation 'al'"):
        siamese.draw("color", 8, seeds.generator(0, "t"), "al")


def test_one_operation_after_the_other_is_their_composition():
    images = torch.randn(3, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    draws = [siamese.draw("color_crop_cutout", 8, seeds.generator(seed, "t"), "all") for seed in range(3)]
    wanted = []
    for batch, drawn in zip(images, draws, strict=True):
        while drawn is not None:
            batch = siamese.apply(batch, siamese.Draw(drawn.operation, drawn.parameters))
            drawn = drawn.then
        wanted.append(batch)
    assert torch.equal(siamese.apply_each_class(images, draws), torch.stack(wanted))
