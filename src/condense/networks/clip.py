"""Zero-shot CLIP in the place of the pretrained classifier."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from condense.config import UserError, unknown
from condense.data.dataset import Images, denormalise, normalise
from condense.files.artifacts import read_json
from condense.specs.terms.critics import CLIP_MODEL as MODEL
from condense.specs.terms.critics import CLIP_WEIGHTS

DEFAULT_MODEL = "ViT-B-32"
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images
STD = (0.26862954, 0.26130258, 0.27577711)
_TOKENS = 49408  # of CLIP's tokenizer
_OBTAIN = (
    "download 'open_clip_model.safetensors' from the publisher's model page "
    f"'laion/CLIP-ViT-B-32-laion2B-s34B-b79K' and set {CLIP_WEIGHTS} to the path of that file"
)
# All that the configuration of a plain CLIP says
_PLAIN = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")


class Visual(Protocol):
    """CLIP's network for images."""

    image_size: int | tuple[int, int]

    def __call__(self, images: Tensor) -> Tensor:
        """Images normalised for CLIP (n, 3, height, width) -> embeddings (n, d)."""


class Clip(Protocol):
    """Of open_clip's model what is used here."""

    visual: Visual
    logit_scale: Tensor
    context_length: int

    def encode_text(self, text: Tensor) -> Tensor:
        """Tokens (n, context_length) -> embeddings (n, d)."""


class ClipCritic(nn.Module):
    """Logits of images under prompts: scaled cosines of CLIP's embeddings.

    `visual` maps images normalised for CLIP to embeddings (n, d), `text` (classes, d) holds the normalised
    embeddings of the prompts, already scaled; `mean` and `std` are the constants by which the images it will
    be shown are normalised.
    """

    text: Tensor

    def __init__(self, visual: Visual, text: Tensor, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.visual, self.mean, self.std = visual, mean, std
        self.register_buffer("text", text)

    def prepared(self, images: Tensor) -> Tensor:
        """Normalised images (n, C, H, W) of the dataset as CLIP wants them: three channels, its size
        (bicubic), its constants.

        Pixels outside [0, 1] are not clamped: there the clamp would cut the gradient that brings them back.
        """
        pixels = denormalise(images, self.mean, self.std).expand(-1, 3, -1, -1)
        # With antialiasing torch uses the cubic kernel of Pillow, with which CLIP was trained; it changes
        # nothing else here.
        pixels = F.interpolate(
            pixels, size=self.visual.image_size, mode="bicubic", antialias=True, align_corners=False
        )
        return normalise(pixels, MEAN, STD)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (n, C, H, W) of the dataset -> logits (n, classes)."""
        return F.normalize(self.visual(self.prepared(images)), dim=-1) @ self.text.T


def clip_critic(images: Images, device: torch.device) -> nn.Module:
    """CLIP as a frozen classifier, in eval mode, of normalised images (n, C, H, W) of the dataset of
    `images`; logits (n, classes).

    The columns follow `images.class_names`, so `images` must hold all classes. The environment variable
    CONDENSE_CLIP names the weights, a safetensors file; CONDENSE_CLIP_MODEL the open_clip model they belong
    to (default ViT-B-32) or its JSON file.
    Raises UserError if open_clip or the weights are absent, or if the weights are damaged or of another
    model.
    Source: Radford et al. 2021 (CLIP); cpdm, section 4.2 and table 4.
    """
    path = _weights_path()
    try:
        import open_clip
    except ImportError:
        raise UserError(
            "the CLIP critic needs the package open_clip_torch: install condense with its extra 'clip'"
        ) from None
    model = _model(open_clip, path)
    prompts = open_clip.SimpleTokenizer(context_length=model.context_length)(
        [prompt(name) for name in images.class_names]
    )
    with torch.no_grad():
        text = F.normalize(model.encode_text(prompts), dim=-1) * model.logit_scale.exp()
    return ClipCritic(model.visual, text, images.mean, images.std).to(device).eval().requires_grad_(False)


def prompt(name: str) -> str:
    """The sentence for a class: 'maple_tree' -> 'a photo of a maple tree.'; of WordNet's synsets the first
    word is spoken."""
    synset = re.fullmatch(r"n\d{8} ([^,]+).*", name)
    return f"a photo of a {(synset[1] if synset else name).replace('_', ' ')}."


def _weights_path() -> Path:
    text = os.environ.get(CLIP_WEIGHTS)
    if not text:
        raise UserError(
            f"environment variable {CLIP_WEIGHTS}: not set, but the CLIP critic needs weights: {_OBTAIN}"
        )
    path = Path(text)
    if not path.is_file():
        raise UserError(f"{path} ({CLIP_WEIGHTS}): no such file: {_OBTAIN}")
    return path


def _configuration(open_clip: Any) -> tuple[str, dict[str, Any]]:
    """The model's name and configuration. Only plain CLIP: other towers and tokenizers would be fetched over
    the network."""
    name = os.environ.get(MODEL) or DEFAULT_MODEL
    if name.endswith(".json"):
        values = read_json(Path(name))
    elif name in open_clip.list_models():
        values = open_clip.get_model_config(name)
    else:
        raise unknown("CLIP model", name, open_clip.list_models(), f"environment variable {MODEL}")
    given = (
        [values.get(section) for section in ("vision_cfg", "text_cfg")] if isinstance(values, dict) else []
    )
    towers = [tower for tower in given if isinstance(tower, dict)]
    if len(towers) < 2:
        raise UserError(
            f"{name} ({MODEL}): not a configuration of open_clip: 'embed_dim', 'vision_cfg' and 'text_cfg' "
            "are needed"
        )
    foreign = [key for key in values if key not in _PLAIN]
    foreign += [key for tower in towers for key in tower if key.startswith(("timm_", "hf_", "tokenizer_"))]
    if foreign:
        raise UserError(
            f"{name} ({MODEL}): '{foreign[0]}': only models with CLIP's own towers and tokenizer work, such "
            f"as {DEFAULT_MODEL}"
        )
    if values["text_cfg"].get("vocab_size", _TOKENS) != _TOKENS:
        raise UserError(
            f"{name} ({MODEL}): vocab_size: CLIP's tokenizer has {_TOKENS} tokens, found "
            f"{values['text_cfg']['vocab_size']}"
        )
    return name, values


def _model(open_clip: Any, path: Path) -> Clip:
    """The whole model on the CPU, in float32, with the weights in `path`."""
    name, values = _configuration(open_clip)
    try:
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced by the weights
            model = open_clip.CLIP(**values)
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"{name} ({MODEL}): not a configuration of open_clip: {' '.join(str(error).split())[:200]}"
        ) from None
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} ({CLIP_WEIGHTS}): damaged or not a safetensors file ({error}): {_OBTAIN}"
        ) from None
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    loaded = {key: tuple(value.shape) for key, value in weights.items()}
    differing = sorted(key for key in wanted | loaded if wanted.get(key) != loaded.get(key))
    if differing:
        shapes = f"{loaded.get(differing[0], 'absent')} instead of {wanted.get(differing[0], 'absent')}"
        raise UserError(
            f"{path}: not the weights of {name} ({differing[0]}: {shapes}): set {MODEL} to the model they "
            "belong to"
        )
    model.load_state_dict(weights)
    return model.eval()
