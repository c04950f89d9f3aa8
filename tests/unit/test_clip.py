"""The CLIP critic, with tiny models of random weights."""

import json
import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from condense.config import UserError
from condense.data.dataset import Images, load
from condense.engines.matching import Matching
from condense.engines.starts import initial_images
from condense.engines.streams import RealStream
from condense.files.checkpoints import Checkpoint
from condense.networks import clip
from condense.specs import catalogue
from condense.specs.catalogue import resolve

open_clip = pytest.importorskip("open_clip")

CPU = torch.device("cpu")
TINY = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny CLIP, its configuration file and its weights file."""
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**TINY).eval()
    (folder / "tiny.json").write_text(json.dumps(TINY))
    save_file(model.state_dict(), folder / "weights.safetensors")
    return model, folder / "tiny.json", folder / "weights.safetensors"


@pytest.fixture
def chosen(tiny, monkeypatch):
    monkeypatch.setenv("CONDENSE_CLIP", str(tiny[2]))
    monkeypatch.setenv("CONDENSE_CLIP_MODEL", str(tiny[1]))
    return tiny[0]


def toy(channels=3, size=32, names=("cat", "maple_tree", "n01443537 goldfish, Carassius auratus")):
    """One class after the other, two images each."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(
        60, 200, (2 * len(names), channels, size, size), generator=generator, dtype=torch.uint8
    )
    labels = torch.arange(len(names)).repeat_interleave(2)
    constants = {"mean": (0.4, 0.5, 0.3)[:channels], "std": (0.2, 0.3, 0.25)[:channels]}
    several = {"classes": tuple(range(len(names))), "class_names": names, "counts": (2,) * len(names)}
    several |= {"channels": channels, "size": size, "data_sha256": ""}
    return Images(dataset="toy", split="train", images=pixels, labels=labels, **several, **constants)


def test_prompts():
    assert clip.prompt("cat") == "a photo of a cat."
    assert clip.prompt("maple_tree") == "a photo of a maple tree."
    assert clip.prompt("n01443537 goldfish, Carassius auratus") == "a photo of a goldfish."
    assert clip.prompt("n02124075 Egyptian cat") == "a photo of a Egyptian cat."


def test_logits_by_hand(chosen):
    data = toy()  # of the model's own size, so that nothing is resized
    critic = clip.clip_critic(data, CPU)
    pixels = data.images.double() / 255
    mean, std = (torch.tensor(values).double()[:, None, None] for values in (clip.MEAN, clip.STD))
    words = open_clip.SimpleTokenizer(context_length=16)(
        [f"a photo of a {name}." for name in ("cat", "maple tree", "goldfish")]
    )
    with torch.no_grad():
        seen = chosen.double().encode_image((pixels - mean) / std)
        said = chosen.encode_text(words)
        chosen.float()
    expected = torch.empty(6, 3, dtype=torch.float64)
    for i in range(6):
        for k in range(3):
            expected[i, k] = (seen[i] @ said[k]) / (seen[i].norm() * said[k].norm()) / 0.07
    found = critic(data.normalise(data.images))
    assert found.shape == (6, 3) and chosen.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_frozen_and_seeds_untouched(chosen):
    state = torch.random.get_rng_state()
    critic = clip.clip_critic(toy(), CPU)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not critic.training and not any(module.training for module in critic.modules())
    assert (
        not any(parameter.requires_grad for parameter in critic.parameters())
        and not critic.text.requires_grad
    )


def test_preparation_is_that_of_clip(chosen):
    """Enlarged by bicubic interpolation as Pillow does it, to rounding to 8 bits (half a level, a little more
    for two passes)."""
    data = toy(size=8)
    transform = open_clip.image_transform(32, is_train=False, mean=clip.MEAN, std=clip.STD)
    pictures = [
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())) for image in data.images
    ]
    expected = torch.stack([transform(picture) for picture in pictures])
    found = clip.clip_critic(data, CPU).prepared(data.normalise(data.images))
    assert found.shape == expected.shape == (6, 3, 32, 32)
    assert (found - expected).abs().max() < 1.1 / 255 / min(clip.STD)


def test_grey_images_are_shown_in_three_equal_channels(chosen):
    grey, colour = toy(channels=1), toy(channels=3)
    thrice = grey.images.expand(-1, 3, -1, -1)
    expected = clip.clip_critic(colour, CPU)(colour.normalise(thrice))
    torch.testing.assert_close(
        clip.clip_critic(grey, CPU)(grey.normalise(grey.images)), expected, rtol=1e-4, atol=1e-4
    )


def test_gradient(chosen):
    """Directional derivative against a central difference, in float64, also where pixels lie outside [0,
    1]."""
    data = toy(size=8)
    critic = clip.clip_critic(data, CPU).double()
    images = data.normalise(data.images.double() / 255)[:2]
    images[0, :, :4] += 10  # far above 1 in pixel space
    images[1, :, 4:] -= 10
    images.requires_grad_(True)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(F.cross_entropy(critic(images), torch.tensor([0, 1])), images)
    assert (gradient.abs().amax((1, 3)) > 0).all()  # every row of pixels of every image

    def loss(step):
        return F.cross_entropy(critic(images.detach() + step * direction), torch.tensor([0, 1]))

    slope = (loss(1e-4) - loss(-1e-4)) / 2e-4
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-5)


def test_matching_with_clip(chosen, digits):
    """The engine takes it as the critic, and the synthetic images come to say more clearly what they are."""
    data = load(digits / "train.safetensors")
    critic = clip.clip_critic(data, CPU)
    change = {
        "steps": 6,
        "batch_real": 16,
        "optimizer": {"lr": 100.0},
        "terms": {"mean": {"weight": 0.0}, "clip_critic": {"weight": 1.0}},
    }
    recipe = resolve(
        catalogue.recipe("dm_clip"), "digits", "color_crop_cutout_scale_rotate", 2, [("test", change)]
    )
    assert recipe.requires == "clip"
    stream = RealStream(
        recipe, data, (0, 7), arch="convnet", options={"depth": 2, "width": 8}, seed=0, device=CPU
    )
    outcome = Matching(recipe, stream, ipc=2, critic=critic, checkpoint=Checkpoint(None, "")).run()
    losses = [row["clip_critic"] for row in outcome.history]
    assert outcome.images.shape == (2, 2, 1, 8, 8) and len(losses) == 6
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 1e-3
    start = critic(initial_images(data, (0, 7), 2, "real", 0).flatten(0, 1))
    by_class = [
        F.cross_entropy(start[:2], torch.tensor([0, 0])),
        F.cross_entropy(start[2:], torch.tensor([7, 7])),
    ]
    assert losses[0] == pytest.approx(sum(by_class).item(), rel=1e-5)


def refusal(data=None):
    with pytest.raises(UserError) as caught:
        clip.clip_critic(data or toy(), CPU)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_absent_weights(chosen, tmp_path, monkeypatch):
    monkeypatch.delenv("CONDENSE_CLIP")
    unset = refusal()
    monkeypatch.setenv("CONDENSE_CLIP", str(tmp_path / "none.safetensors"))
    absent = refusal()
    for part in ("CONDENSE_CLIP", "open_clip_model.safetensors", "laion/CLIP-ViT-B-32"):
        assert part in unset and part in absent
    assert str(tmp_path / "none.safetensors") in absent


def test_absent_open_clip(chosen, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert "open_clip_torch" in refusal()


def test_wrong_weights(chosen, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    monkeypatch.setenv("CONDENSE_CLIP", str(path))
    path.write_bytes(b"\x80\x04\x95 a pickle, which is never loaded")
    assert str(path) in refusal() and "safetensors" in refusal()
    save_file({**chosen.state_dict(), "visual.proj": torch.zeros(16, 13)}, path)
    assert str(path) in refusal() and "visual.proj" in refusal() and "CONDENSE_CLIP_MODEL" in refusal()
    save_file({name: value for name, value in chosen.state_dict().items() if name != "ln_final.bias"}, path)
    assert "ln_final.bias" in refusal() and "absent" in refusal()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[]", "not a configuration"),
        ("{", "damaged"),
        (json.dumps({**TINY, "vision_cfg": {**TINY["vision_cfg"], "width": "wide"}}), "not a configuration"),
        (json.dumps({**TINY, "vision_cfg": {**TINY["vision_cfg"], "hue": 3}}), "hue"),
        (json.dumps({**TINY, "text_cfg": {"hf_model_name": "roberta-base"}}), "hf_model_name"),
        (json.dumps({**TINY, "custom_text": True}), "custom_text"),
        (json.dumps({**TINY, "text_cfg": {**TINY["text_cfg"], "vocab_size": 100}}), "vocab_size"),
    ],
)
def test_wrong_configuration(chosen, tmp_path, monkeypatch, text, part):
    path = tmp_path / "model.json"
    path.write_text(text)
    monkeypatch.setenv("CONDENSE_CLIP_MODEL", str(path))
    assert str(path) in refusal() and part in refusal()


def test_unknown_model(chosen, monkeypatch):
    monkeypatch.setenv("CONDENSE_CLIP_MODEL", "ViT-B-23")
    assert "'ViT-B-32'" in refusal() and "CONDENSE_CLIP_MODEL" in refusal()
    monkeypatch.setenv("CONDENSE_CLIP_MODEL", "hf-hub:someone/something")
    assert "unknown CLIP model" in refusal()
