"""Formations: what decoding and laying together do, on numbers one can follow."""

import pytest
import torch

from condense.augment import formations
from condense.specs import Decode


def cell_numbers(factor, size):
    """One image whose cells hold the numbers 0, 1, 2, ... by rows."""
    side = size // factor
    return (
        torch.arange(factor**2.0)
        .view(factor, factor)
        .repeat_interleave(side, 0)
        .repeat_interleave(side, 1)[None, None]
    )


@pytest.mark.parametrize(("order", "wanted"), [("rows", [0, 1, 2, 3]), ("columns", [0, 2, 1, 3])])
def test_cells_come_in_their_order(order, wanted):
    decoded = formations.decode(cell_numbers(2, 8), Decode(2, order))
    assert decoded.shape == (4, 1, 8, 8)
    assert [image.unique().tolist() for image in decoded] == [[number] for number in wanted]


def test_leading_axes_are_decoded_one_by_one():
    images = torch.randn(3, 2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    together = formations.decode(images, Decode(3))
    assert together.shape == (3, 18, 1, 6, 6)
    for own, alone in zip(together, images, strict=True):
        assert torch.equal(own, formations.decode(alone, Decode(3)))
    assert torch.equal(together[0, :2], formations.decode(images[0], Decode(3))[:2]), (
        "the images of one cell lie together"
    )


def test_a_side_that_does_not_divide_is_filled_up():
    decoded = formations.decode(torch.zeros(1, 2, 5, 5), Decode(2), fill=(1.0, 2.0))
    last = decoded[3]  # right and below: 3 x 3 pixels, of which the outer row and column are fill
    assert last[0, 0, 0] == 0 and last[0, -1, -1] == 1 and last[1, -1, -1] == 2


def test_a_mosaic_decodes_to_its_small_images_made_large():
    real = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for mode in ("bilinear", "nearest"):
        how = Decode(2, "columns")
        small = torch.nn.functional.interpolate(real, size=(4, 4), mode=mode)
        large = torch.nn.functional.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)
        torch.testing.assert_close(formations.decode(formations.mosaic(real, how, mode), how), large)


def test_none_and_one_cell_change_nothing():
    images = torch.randn(2, 1, 4, 4)
    assert formations.decode(images, None) is images and formations.decode(images, Decode(1)) is images


def test_the_gradient_goes_through():
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: formations.decode(given, Decode(2)), images)


def test_a_bound_is_kept_by_decoding_later_images_less():
    images, labels = torch.rand(4, 1, 6, 6), torch.arange(4)
    decoded, found = formations.decode_within(images, labels, 2, bound=12)
    # 2 images by 4, 2 as they are
    assert len(decoded) == 10 and found.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 2, 3]
    assert len(formations.decode_within(images, labels, 2, bound=3)[0]) == 4
