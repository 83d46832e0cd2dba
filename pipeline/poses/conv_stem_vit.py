"""A small vision transformer with a convolutional stem, for training from scratch.

A plain ViT needs large-scale pre-training to localise keypoints. Strided convolutions in place of
the patch embedding learn local features fast; the transformer layers relate the parts of the body.

Legend: B crops, D channels, h x w = input size / 16, N = h * w tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 16


def _conv_bn_relu(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: (B, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(x + self.bn2(self.conv2(out)))


class TransformerLayer(nn.Module):
    """Pre-norm attention and MLP: (B, N, D) to the same shape."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.ln2 = nn.LayerNorm(channels)
        self.ffn = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels),
            nn.GELU(),
            nn.Linear(mlp_ratio * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        x = x + self.proj(self._attention(self.ln1(x)))
        out: Tensor = x + self.ffn(self.ln2(x))
        return out

    def _attention(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        head_dim = d // self.num_heads
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, head_dim).permute(2, 0, 3, 1, 4)
        # Not torch's fused attention: with about 100 tokens on a CPU it took 38 % of a training
        # step.
        weights = (q * head_dim**-0.5 @ k.transpose(-2, -1)).softmax(dim=-1).to(v.dtype)
        out: Tensor = (weights @ v).transpose(1, 2).reshape(b, n, d)
        return out


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class ConvStemViT(BaseModule):  # type: ignore[misc,unused-ignore]
    """Convolutional stem and transformer layers.

    Args:
        img_size: (height, width) of the input in px, multiples of 16.
        stem_channels: channels at 1/2, 1/4 and 1/8 of the input size.
        stem_blocks: residual blocks at 1/4, 1/8 and 1/16 of the input size.
        embed_dims: channels D of the transformer and of the output.
        depth: transformer layers.
        num_heads: attention heads; divides `embed_dims`.

    Raises:
        ValueError: A size is not divisible as required.
    """

    def __init__(
        self,
        *,
        img_size: tuple[int, int] = (192, 144),
        stem_channels: tuple[int, int, int] = (16, 32, 64),
        stem_blocks: Sequence[int] = (1, 2, 2),
        embed_dims: int = 128,
        depth: int = 4,
        num_heads: int = 4,
    ) -> None:
        super().__init__(init_cfg=None)
        if any(side % STRIDE for side in img_size):
            raise ValueError(f'img_size = {img_size}; both sides must be multiples of {STRIDE}')
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims = {embed_dims} must be a multiple of {num_heads} heads')
        self.stem = self._make_stem((*stem_channels, embed_dims), stem_blocks)
        tokens = (img_size[0] // STRIDE) * (img_size[1] // STRIDE)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dims))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.layers = nn.ModuleList(
            TransformerLayer(embed_dims, num_heads, mlp_ratio=2) for _ in range(depth)
        )
        self.ln1 = nn.LayerNorm(embed_dims)

    @staticmethod
    def _make_stem(channels: tuple[int, ...], blocks: Sequence[int]) -> nn.Sequential:
        stages: list[nn.Module] = []
        in_channels = 3
        for out_channels, num_blocks in zip(channels, (0, *blocks), strict=True):
            stages.append(_conv_bn_relu(in_channels, out_channels, stride=2))
            stages.extend(ResidualBlock(out_channels) for _ in range(num_blocks))
            in_channels = out_channels
        return nn.Sequential(*stages)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Extract features.

        Args:
            x: float, shape (B, 3, H, W), normalized crops.

        Returns:
            One feature map, float, shape (B, D, H / 16, W / 16).
        """
        # channels_last: convolutions in bfloat16 are about 10 % faster on a CPU.
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        b, d, h, w = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(b, h * w, d) + self.pos_embed
        for layer in self.layers:
            tokens = layer(tokens)
        return (self.ln1(tokens).view(b, h, w, d).permute(0, 3, 1, 2),)
