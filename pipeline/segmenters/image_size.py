"""Check of SAM 2's image size, without PyTorch."""

from __future__ import annotations


def check_image_size(image_size: int, name: str = 'image_size') -> None:
    """Raise ValueError unless the image size is a positive multiple of 32.

    Args:
        image_size: Side of the square input, px.
        name: Name of the setting, for the message.
    """
    if image_size <= 0 or image_size % 32:
        raise ValueError(f'{name} must be a positive multiple of 32, got {image_size}')
