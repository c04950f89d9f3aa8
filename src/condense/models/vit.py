"""The vision transformer for small images of the DC-Bench transfer table (DCB: networks/vit.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense.config import UserError
from condense.models.base import Builder, Network, Options


@dataclass(frozen=True, kw_only=True)
class ViTOptions(Options):
    """`patch` in pixels; `depth` layers of `heads` heads with `head_dim` features each; `mlp` is the
    feed-forward width."""

    patch: int = 4
    dim: int = 512
    depth: int = 6
    heads: int = 8
    head_dim: int = 64
    mlp: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout: a number from 0 to below 1 is needed, found {self.dropout}")


class Tokens(nn.Module):
    """Puts the class token before the patches and adds learnt positions: (n, t, dim) -> (n, t + 1, dim)."""

    def __init__(self, patches: int, dim: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(1, patches + 1, dim))
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.positions)
        nn.init.normal_(self.class_token)

    def forward(self, patches: Tensor) -> Tensor:
        return torch.cat([self.class_token.expand(len(patches), -1, -1), patches], 1) + self.positions


class Attention(nn.Module):
    """Multi-head self-attention; written out, because fused kernels have no second derivative, which gradient
    matching needs."""

    def __init__(self, options: ViTOptions) -> None:
        super().__init__()
        inner = options.heads * options.head_dim
        self.heads = options.heads
        self.queries_keys_values = nn.Linear(options.dim, 3 * inner, bias=False)
        self.leave = nn.Sequential(nn.Linear(inner, options.dim), nn.Dropout(options.dropout))

    def forward(self, x: Tensor) -> Tensor:
        # (n, t, 3 * heads * d) -> 3 of (n, heads, t, d)
        query, key, value = (
            self.queries_keys_values(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        return self.leave((weights @ value).transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """Layer norm, then `inner`, added to what came in."""

    def __init__(self, dim: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(self.norm(x))


class VisionTransformer(Network):
    """Pre-norm transformer over square patches; the embedding is the class token behind the last layer
    norm."""

    def __init__(self, options: ViTOptions, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.patch = options.patch
        self.tokens = Tokens((size // options.patch) ** 2, options.dim)
        self.patches = nn.Linear(channels * options.patch**2, options.dim)
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.Sequential(*[layer for _ in range(options.depth) for layer in _layer(options)])
        self.norm = nn.LayerNorm(options.dim)
        self.classifier = nn.Linear(options.dim, classes)

    def _embed(self, x: Tensor) -> Tensor:
        # (n, c, h * p, w * p) -> (n, h * w, p * p * c): inside a patch the channel runs fastest
        x = (
            x.unflatten(3, (-1, self.patch))
            .unflatten(2, (-1, self.patch))
            .permute(0, 2, 4, 3, 5, 1)
            .flatten(3)
            .flatten(1, 2)
        )
        x = self.layers(self.dropout(self.tokens(self.patches(x))))
        return self.norm(x[:, 0])


def _layer(options: ViTOptions) -> list[nn.Module]:
    attention = Residual(options.dim, Attention(options))
    dropout = options.dropout
    widen, narrow = nn.Linear(options.dim, options.mlp), nn.Linear(options.mlp, options.dim)
    return [
        attention,
        Residual(
            options.dim, nn.Sequential(widen, nn.GELU(), nn.Dropout(dropout), narrow, nn.Dropout(dropout))
        ),
    ]


def vit() -> Builder:
    """Patches of 4 pixels, 6 layers of 512 features, 8 heads of 64."""
    return Builder(ViTOptions(), lambda options, channels, size: size % options.patch == 0, VisionTransformer)
