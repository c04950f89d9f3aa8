"""Views of single images: against torchvision and plain loops, drawn from a generator of ours alone."""

import typing
from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms import RandAugment
from torchvision.transforms.v2 import functional as V

from condense import specs
from condense.config import UserError, convert
from condense.training import views

SCALING = views.Scaling((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
CROP, POLICY, PATCHES = {"name": "resized_crop"}, {"name": "randaugment"}, {"name": "shuffled_patches"}


def asked(*settings):
    return tuple(convert(specs.AnyView, dict(one), "views") for one in settings)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=6, size=16):
    return torch.rand(count, 3, size, size, generator=generator(3))


def test_every_view_that_a_protocol_may_name_is_registered():
    named = {name for kind in specs.AnyView.__args__ for name in _names(kind)}
    assert named == views.VIEWS.keys()


def _names(kind):
    return typing.get_args(typing.get_type_hints(kind)["name"])


def test_a_crop_is_that_of_torchvision_for_the_boxes_that_were_drawn():
    images = pictures()
    drawn = views.draw(asked(CROP), len(images), 16, generator())
    boxes = drawn.draws[0]
    assert len(set(zip(*(values.tolist() for values in boxes.values()), strict=True))) == len(images)
    wanted = [
        V.resized_crop(
            image, *(int(boxes[name][at]) for name in ("top", "left", "height", "width")), [16, 16]
        )
        for at, image in enumerate(images)
    ]
    torch.testing.assert_close(drawn.apply(images, None), torch.stack(wanted))


def test_boxes_lie_in_the_image_and_have_the_areas_and_forms_that_were_asked_for():
    boxes = views.draw(asked(CROP | {"area": 0.25}), 4000, 224, generator()).draws[0]
    height, width = boxes["height"].double(), boxes["width"].double()
    assert all((boxes[first] >= 0).all() for first in ("top", "left"))
    assert (boxes["top"] + boxes["height"] <= 224).all() and (boxes["left"] + boxes["width"] <= 224).all()
    area, ratio = height * width / 224**2, (width / height).log()
    assert 0.24 < area.min() and area.max() > 0.9 and abs(ratio).max() < 0.30
    # Uniform in [1/4, 1] but for large and lengthy boxes, which do not fit and are drawn anew
    assert 0.55 < area.mean() < 0.63 and abs(ratio.mean()) < 0.02
    spare = 224 - boxes["height"][boxes["height"] < 180]
    assert 0.45 < (boxes["top"][boxes["height"] < 180] / spare).mean() < 0.55


def test_where_no_box_fits_the_whole_image_is_seen():
    images = pictures(size=2)
    drawn = views.draw(asked(CROP | {"area": 0.999}), 500, 2, generator())
    assert (drawn.draws[0]["height"] == 2).all() and (drawn.draws[0]["top"] == 0).all()
    few = views.draw(asked(CROP | {"area": 0.999}), len(images), 2, generator())
    torch.testing.assert_close(few.apply(images, None), images)


def test_randaugment_is_torchvisions_on_pixels_of_8_bits_and_leaves_the_generator_alone():
    mean, std = (torch.tensor(values)[:, None, None] for values in (SCALING.mean, SCALING.std))
    pixels = (pictures() * 255).to(torch.uint8)
    images = (pixels / 255 - mean) / std
    images[0, 0, 0, 0] = 99.0  # beyond what a pixel can be
    view = asked(POLICY | {"operations": 3, "magnitude": 12})
    drawn = views.draw(view, len(images), 16, generator())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = drawn.apply(images, SCALING)
    assert torch.equal(torch.get_rng_state(), before)
    pixels[0, 0, 0, 0] = 255
    wanted = []
    for image, seed in zip(pixels, drawn.draws[0]["seed"].tolist(), strict=True):
        torch.manual_seed(seed)
        wanted.append((RandAugment(3, 12)(image) / 255 - mean) / std)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-5, atol=1e-5)
    assert not torch.equal(found[1], images[1])
    with pytest.raises(ValueError, match="not known how the images were normalised"):
        drawn.apply(images, None)


@pytest.mark.parametrize("size", [8, 9])
def test_patches_change_places_by_rows_and_by_columns(size):
    images = pictures(size=size)
    drawn = views.draw(asked(PATCHES | {"factor": 3}), len(images), size, generator())
    step, found = size // 3, drawn.apply(images, None)
    edges = [range(0, step), range(step, 2 * step), range(2 * step, size)]
    for at, image in enumerate(images):
        rows = [row for part in drawn.draws[0]["rows"][at].tolist() for row in edges[part]]
        cols = [col for part in drawn.draws[0]["cols"][at].tolist() for col in edges[part]]
        assert torch.equal(found[at], image[:, rows][:, :, cols])
    assert len({tuple(order) for order in drawn.draws[0]["rows"].tolist()}) > 1


def test_views_come_one_after_the_other_and_nothing_is_drawn_without_any():
    images, source = pictures(), generator()
    before = source.get_state()
    assert views.draw((), 6, 16, source).apply(images, None) is images
    assert torch.equal(source.get_state(), before)
    both = views.draw(asked(PATCHES, CROP), 6, 16, generator())
    first = views.Drawn(both.views[:1], both.draws[:1]).apply(images, None)
    second = views.Drawn(both.views[1:], both.draws[1:]).apply(first, None)
    assert torch.equal(both.apply(images, None), second)
    with pytest.raises(UserError, match="unknown view 'crop'"):
        views.draw([SimpleNamespace(name="crop")], 6, 16, source)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (CROP | {"area": 1.0}, "area: must lie between 0 and 1, found 1; leave the view out"),
        (CROP | {"area": 0.0}, "area: must lie between 0 and 1, found 0"),
        (POLICY | {"magnitude": 31}, "magnitude: must be at most 30, found 31"),
        (POLICY | {"operations": 0}, "operations: must be at least 1, found 0"),
        (PATCHES | {"factor": 1}, "factor: must be at least 2, found 1"),
    ],
)
def test_views_that_could_not_be_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        asked(settings)
