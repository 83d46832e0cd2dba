"""Colour changes of a whole batch, as one matrix per image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

# Of red, green, blue: luma and two axes of colour (YIQ, NTSC 1953).
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class ColourJitter:
    """Random brightness, contrast, saturation and hue; 0 leaves a property as it is.

    Attributes:
        brightness: factors are uniform in 1 ± this, in [0, 1].
        contrast: the same, about the mean luma of the image.
        saturation: the same, about the luma of the pixel.
        hue: turns are uniform in ± this fraction of the colour circle, in [0, 0.5].

    Raises:
        ValueError: a value is out of range.
    """

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.5
    hue: float = 0.03

    def __post_init__(self) -> None:
        for name, most in (('brightness', 1), ('contrast', 1), ('saturation', 1), ('hue', 0.5)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ValueError(f'{name} = {value!r} must be in [0, {most}]')

    def __call__(self, pixels: Tensor, generator: Generator) -> Tensor:
        """Changes a batch.

        Args:
            pixels: float32 (B, 3, H, W), BGR in [0, 255].
            generator: on the same device.

        Returns:
            The same shape and range.
        """
        if not any((self.brightness, self.contrast, self.saturation, self.hue)):
            return pixels
        numbers = torch.rand((4, len(pixels)), generator=generator, device=pixels.device) * 2 - 1
        bright, contrast, saturation = (
            1 + spread * number
            for spread, number in zip(
                (self.brightness, self.contrast, self.saturation), numbers[:3], strict=True
            )
        )
        # Columns and rows of red, green, blue become those of blue, green, red.
        to_yiq = torch.tensor(_YIQ, device=pixels.device).flip(1)
        turn = _turns(2 * math.pi * self.hue * numbers[3], saturation)
        matrix = bright[:, None, None] * (torch.linalg.inv(to_yiq) @ turn @ to_yiq)
        mean = pixels.mean((2, 3)) @ to_yiq[0] * bright
        shift = (1 - contrast) * mean
        matrix = contrast[:, None, None] * matrix
        changed = torch.baddbmm(shift[:, None, None], matrix, pixels.flatten(2))
        return changed.clamp_(0, 255).view_as(pixels)


def _turns(angles: Tensor, factors: Tensor) -> Tensor:
    """Matrices (B, 3, 3) in YIQ that turn the hue by angles (B,) in rad and scale the colour."""
    cos, sin = angles.cos() * factors, angles.sin() * factors
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = [
        torch.stack(row, -1) for row in ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))
    ]
    return torch.stack(rows, 1)
