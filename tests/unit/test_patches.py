"""The engine `patches`: its crops against torchvision's, its choice against a plain loop over images and
crops, and what it refuses."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import functional

from condense.config import UserError
from condense.engines.orders import Site
from condense.engines.patches import easiest_patches, stitch
from condense.machine import seeds
from condense.select import patches
from condense.specs import Patches, catalogue

pytestmark = pytest.mark.usefixtures("double", "one_thread")
HERE = torch.device("cpu")


def rded(**patches):
    return replace(catalogue.recipe("rded"), patches=Patches(**patches))


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def boxes_of(count, size, least_area=0.08, seed=0):
    return patches.square_boxes(count, size, least_area, torch.Generator().manual_seed(seed))


def test_boxes_lie_in_the_image_and_their_areas_and_places_are_uniform():
    top, left, side = boxes_of(20_000, 200).T
    assert min(top.min(), left.min()) == 0 and side.min() == round(200 * 0.08**0.5) and side.max() == 200
    assert (top + side).max() == 200 and (left + side).max() == 200
    area = (side / 200) ** 2
    assert np.quantile(area.numpy(), [0.25, 0.5, 0.75]) == pytest.approx([0.31, 0.54, 0.77], abs=0.015)
    for place in (top, left):
        share = (place / (200 - side))[side < 150].numpy()  # of the room that there is
        assert np.quantile(share, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.015)
    assert boxes_of(3, 32, least_area=1.0).tolist() == [[0, 0, 32]] * 3
    assert boxes_of(50, 2, least_area=0.001)[:, 2].min() == 1


@pytest.mark.parametrize("side", [4, 8, 16])
def test_crops_are_those_of_torchvision(side):
    images, boxes = values(30, 3, 16, 16), boxes_of(30, 16)
    ours = patches.cropped(images, boxes, side)
    for image, (top, left, length), crop in zip(images, boxes.tolist(), ours, strict=True):
        theirs = functional.resized_crop(image, top, left, length, length, [side, side], antialias=True)
        torch.testing.assert_close(crop, theirs)


def test_a_patch_is_laid_into_the_middle():
    ours = patches.padded(torch.ones(1, 1, 2, 2), 5)[0, 0]
    assert ours.tolist() == [[0] * 5, [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0] * 5, [0] * 5]


def test_the_easiest_of_each_image_and_then_of_all_the_first_of_equals():
    crops = torch.arange(6.0).view(3, 2, 1, 1, 1)
    best, losses = patches.easiest(crops, torch.tensor([[2.0, 1.0], [1.0, 1.0], [3.0, 0.5]]))
    assert best.flatten().tolist() == [1, 2, 5] and losses.tolist() == [1, 1, 0.5]
    assert patches.lowest(losses, 3).tolist() == [2, 0, 1] and patches.lowest(losses, 1).tolist() == [2]


def test_cells_are_laid_row_by_row_one_of_each_image_after_the_other():
    made, n = patches.stitched(values(27, 2, 4, 4), 3), 3
    for cell in range(9):
        top, left = cell // 3 * 4, cell % 3 * 4
        for image in range(n):
            expected = values(27, 2, 4, 4)[cell * n + image]
            assert torch.equal(made[image, :, top : top + 4, left : left + 4], expected)


def made_by_loops(recipe, train, network, ipc, seed):
    """The images of class 3, crop by crop and cell by cell, from the same draws."""
    images, label = train.of_class(3), torch.tensor([3])
    order = torch.randperm(len(images), generator=seeds.generator(seed, "candidates", 3)).tolist()
    how = recipe.patches
    looked_at = order[: how.candidates]
    boxes = patches.square_boxes(
        len(looked_at) * how.crops, train.size, how.least_area, seeds.generator(seed, "crops", 3)
    ).tolist()
    side = train.size // how.factor
    before = (train.size - side) // 2
    scored = []
    for number, index in enumerate(looked_at):
        of_image = []
        for top, left, length in boxes[number * how.crops : (number + 1) * how.crops]:
            crop = functional.resized_crop(images[index], top, left, length, length, [side, side])
            shown = torch.zeros(1, *images[index].shape)
            shown[0, :, before : before + side, before : before + side] = crop
            with torch.no_grad():
                of_image.append((F.cross_entropy(network(shown), label).item(), number, crop))
        scored.append(min(of_image, key=lambda entry: entry[:2]))
    easiest = [crop for *_, crop in sorted(scored, key=lambda entry: entry[:2])]
    made = torch.zeros(ipc, *images.shape[1:])
    for place in range(how.factor**2):
        row, col = divmod(place, how.factor)
        for image in range(ipc):
            made[image, :, row * side : (row + 1) * side, col * side : (col + 1) * side] = easiest[
                place * ipc + image
            ]
    return made


@pytest.mark.parametrize("change", [{"candidates": 20, "factor": 2, "crops": 3}, {"candidates": 300}])
def test_a_set_is_what_plain_loops_make(change, train, critic):
    """With fewer candidates than the class has, and with more; in several batches of the classifier."""
    recipe = rded(**change)
    site = Site(train, (3, 5), "none", {}, 7, HERE)
    ours = stitch(recipe, site, ipc=4, network=critic).images
    torch.testing.assert_close(ours[0], made_by_loops(recipe, train, critic, 4, 7))
    # A class alone is what it is among others
    alone = stitch(recipe, replace(site, classes=(5,)), ipc=4, network=critic).images
    torch.testing.assert_close(ours[1:], alone)


def test_whole_images_are_the_real_ones_that_the_classifier_finds_easiest(train, critic):
    """And 8 bits have all of their levels, while those of crops lie between the levels."""
    recipe = rded(least_area=1.0, crops=1, candidates=10**6)
    site = Site(train, (0,), "none", {}, 0, HERE)
    images = train.of_class(0)
    losses = F.cross_entropy(critic(images), torch.zeros(len(images), dtype=torch.int64), reduction="none")
    expected = images[losses.argsort()[:5]]
    torch.testing.assert_close(stitch(recipe, site, ipc=5, network=critic).images[0], expected)
    rounded = stitch(replace(recipe, eight_bit=True), site, ipc=5, network=critic).images[0]
    torch.testing.assert_close(rounded, expected)
    cropping = rded(candidates=10)
    for eight_bit in (False, True):
        made = stitch(replace(cropping, eight_bit=eight_bit), site, ipc=5, network=critic).images[0]
        levels = train.denormalise(made) * 255
        assert torch.allclose(levels, levels.round(), atol=1e-9) == eight_bit
        assert levels.min() >= -1e-9 and levels.max() <= 255 + 1e-9


def test_more_crops_of_more_images_are_easier(train, critic):
    losses = []
    for change in (
        {"candidates": 5, "crops": 1},
        {"candidates": 50, "crops": 1},
        {"candidates": 50, "crops": 5},
    ):
        _, found = easiest_patches(Patches(**change), train, 2, critic, seed=0, device=HERE)
        losses.append(found.sort().values[:5].mean())
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize(
    ("change", "ipc", "said"),
    [
        ({"factor": 3}, 1, "factor: 3 patches do not divide the 8 pixels of digits; give a number that does"),
        (
            {"factor": 2, "candidates": 7},
            2,
            "candidates: at ipc 2 .* from 8 images, and only 7 .*; give at least 8",
        ),
        ({"factor": 4}, 10, "ipc 10 asked for, which is made from 160 real images a class, but class 0 has"),
    ],
)
def test_what_cannot_be_made_is_refused(change, ipc, said, train, critic):
    with pytest.raises(UserError, match=said):
        stitch(rded(**change), Site(train, (0,), "none", {}, 0, HERE), ipc=ipc, network=critic)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"least_area": 0.0}, r"least_area: must lie in \(0, 1\], found 0"),
        ({"least_area": 1.5}, r"least_area: must lie in \(0, 1\], found 1.5"),
        ({"least_area": 1.0}, "crops: with `least_area: 1` all crops of an image are the same; give 1"),
        ({"crops": 0}, "crops: must be at least 1"),
        ({"factor": 0}, "factor: must be at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, said):
    with pytest.raises(UserError, match=said):
        Patches(**change)


def test_large_images_hold_four_patches_and_small_ones_one():
    recipe = catalogue.recipe("rded")
    factors = {
        dataset: catalogue.resolve(recipe, dataset, "none", 10, []).patches.factor
        for dataset in ("cifar10", "tinyimagenet", "imagenet10", "imagenette", "digits")
    }
    assert factors == {"cifar10": 1, "tinyimagenet": 1, "imagenet10": 2, "imagenette": 2, "digits": 1}
    assert not rded(factor=2).suits(10, 10**6, 9) and recipe.suits(300, 300, 32)
    assert not recipe.suits(301, 10**6, 32) and recipe.arch_with(
        "convnet", {"teacher": SimpleNamespace(arch="resnet18_bn")}
    ) == ("resnet18_bn")
