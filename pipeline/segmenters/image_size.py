"""The side of the square that a SAM 2 model sees; checked without loading PyTorch."""

from __future__ import annotations


def check_image_size(image_size: int, name: str = 'image_size') -> None:
    """Checks the side of a model's square in px.

    Args:
        image_size: The side.
        name: What it is called where it was set, for the message.

    Raises:
        ValueError: Not a positive multiple of 32.
    """
    if image_size <= 0 or image_size % 32:
        raise ValueError(f'{name} must be a positive multiple of 32, got {image_size}')
