"""One way to read a picture, whatever its format: upright RGB uint8.

The rules, the same for every format:

- turned as its EXIF orientation says; a broken EXIF block counts as none;
- grey, palette and CMYK become RGB; colour profiles are not applied;
- 16-bit values keep their high byte (0..65535 becomes 0..255);
- transparency is laid over white;
- of several frames or pages the first;
- a file that breaks off is refused, never filled up with grey.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
from PIL.Image import Transpose

from ..structures import Image

# Enough for the largest cameras; a picture of that size takes 0.6 GB as RGB.
MAX_PIXELS = 200_000_000
# No format that starts another program (EPS runs Ghostscript). MPO comes with JPEG.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM', 'JPEG2000', 'AVIF')
# What a directory is searched for, in lower case.
SUFFIXES = frozenset(
    '.jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .jp2 .avif'.split()
)
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_pillow_settings = threading.Lock()


class ImageReadError(ValueError):
    """A picture that cannot be used: which one, why, and what to do."""

    def __init__(self, path: str | Path, reason: str, next_step: str) -> None:
        super().__init__(f'{path}: {reason}; {next_step}')
        self.path = str(path)
        self.reason = reason
        self.next_step = next_step


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Picture (H, W, 3) RGB uint8 from a file, by the rules at the top of this module.

    Raises:
        ImageReadError: the file is missing, empty, damaged, too large or no picture.
    """
    return decode_image(read_file(path), path, max_pixels=max_pixels)


def read_file(path: str | Path) -> bytes:
    """Content of a picture file.

    Raises:
        ImageReadError: the file is missing, empty or may not be read.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageReadError(path, 'no such file or directory', 'check the path') from None
    except IsADirectoryError:
        raise ImageReadError(path, 'is a directory', 'name a picture in it') from None
    except OSError as error:
        reason = f'cannot be read ({error.strerror or error})'
        raise ImageReadError(path, reason, 'check its permissions and the disk') from error
    if not data:
        raise ImageReadError(path, 'is empty (0 bytes)', 'copy or download it again')
    return data


def decode_image(data: bytes, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Picture (H, W, 3) RGB uint8 from the content of a file; ``path`` is for messages only.

    Raises:
        ImageReadError: the content is damaged, too large or no picture.
    """
    try:
        with _open(data) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                reason = f'has {width} x {height} pixels, more than {max_pixels:,}'
                raise ImageReadError(path, reason, 'shrink it or cut it into parts')
            picture.load()
            return image_from_pil(picture)
    except ImageReadError:
        raise
    except PIL.UnidentifiedImageError:
        reason = 'is not a picture in a known format'
        step = f'give one of {", ".join(FORMATS)}'
        raise ImageReadError(path, reason, step) from None
    except Exception as error:  # decoders raise anything on damaged files
        reason = f'is damaged or of an unusual kind ({type(error).__name__}: {error})'
        raise ImageReadError(path, reason, 'copy it again or save it as 8-bit PNG') from error


def image_from_pil(picture: PIL.Image.Image) -> Image:
    """Picture (H, W, 3) RGB uint8 from a Pillow image, by the rules at the top of this module.

    Raises:
        ValueError: pixels of 32 bits, whose range is not known.
    """
    turn = _UPRIGHT.get(_orientation(picture))
    upright = picture if turn is None else picture.transpose(turn)
    if upright.mode == 'F':
        raise ValueError('32-bit float pixels have no known range; save it as 8 or 16 bit')
    if upright.mode.startswith('I'):
        return _rgb_from_grey16(upright)
    if upright.mode.lower().endswith('a') or 'transparency' in upright.info:
        paper = PIL.Image.new('RGBA', upright.size, 'white')
        # La has no direct way to RGBA.
        layer = upright.convert('LA') if upright.mode == 'La' else upright
        upright = PIL.Image.alpha_composite(paper, layer.convert('RGBA'))
    return np.array(upright.convert('RGB'))


def _rgb_from_grey16(picture: PIL.Image.Image) -> Image:
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise ValueError(f'integer pixels from {low} to {high} do not fit 16 bits')
    # Pillow keeps the high byte of 16-bit RGB as well, so grey and colour agree.
    grey = (values.astype(np.uint16) >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _orientation(picture: PIL.Image.Image) -> int:
    try:
        with _lenient_pillow():
            return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a broken EXIF block must not cost the picture
        return 1


def _open(data: bytes) -> PIL.Image.Image:
    with _lenient_pillow():
        PIL.Image.init()
        return PIL.Image.open(BytesIO(data), formats=[f for f in FORMATS if f in PIL.Image.OPEN])


@contextmanager
def _lenient_pillow() -> Iterator[None]:
    """No pixel limit of Pillow's (ours is checked before decoding) and none of its warnings."""
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit
