"""Reading of image files of any format as upright RGB uint8.

Rules for every format:

- the EXIF orientation is applied; a broken EXIF block is ignored;
- grey, palette and CMYK are converted to RGB; colour profiles are not applied;
- 16-bit values keep their high byte (0..65535 becomes 0..255);
- transparent pixels are blended with white;
- of several frames or pages, the first is read;
- a truncated file raises an error, also a JPEG whose data ends before its end marker;
- the limits below hold.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..arrays import Image
from .jpeg import JpegScans, find_scans

ChannelOrder = Literal['rgb', 'bgr']

# Limits of a file; the memory for reading one stays below 2 GiB.
MAX_PIXELS = 200_000_000  # covers the largest cameras; 0.6 GB as RGB
MAX_WHOLE = MAX_PIXELS // 2  # of formats whose decoder holds several copies of the image
MAX_SIDE = 1_000_000  # px
MAX_SCAN_PIXELS = 1_000_000_000  # pixels x scans of a JPEG, for its time
MAX_FILE_BYTES = 512 * 2**20
_WHOLE = ('WEBP', 'AVIF', 'JPEG2000')
_STRIP_PIXELS = 2**22  # converted at once
# Formats that run another program are excluded (EPS runs Ghostscript). JPEG includes MPO.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM', 'JPEG2000', 'AVIF')
# Suffixes of images in a directory, in lower case.
SUFFIXES = frozenset(
    '.jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .jp2 .avif'.split()
)
STREAMS = ('rtsp://', 'rtmp://', 'udp://', '/dev/video')  # live videos, which are no images
_ORIENTATION_TAG = 0x0112
# EXIF orientation -> view of an upright array as the file stores it.
_STORED: dict[int, Callable[[Image], Image]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
_pillow_settings = threading.Lock()


class InputError(ValueError):
    """An input of a run cannot be used; the message has the next step."""


class WrongInputError(InputError):
    """There is no such file, nothing matches a pattern, or this kind of input is not supported."""


class ImageReadError(ValueError):
    """An image file cannot be used; the message has its path, the reason and the next step."""

    def __init__(self, path: str | Path, reason: str, next_step: str) -> None:
        super().__init__(f'{path}: {reason}; {next_step}')
        self.path = str(path)
        self.reason = reason
        self.next_step = next_step


def as_image(image: Any, channel_order: ChannelOrder = 'rgb') -> Image:
    """Convert an image of any common kind to RGB uint8 (H, W, 3).

    | image | rule |
    |---|---|
    | path, `bytes`, binary file, PIL image | by the rules at the top of this module |
    | uint8 array (H, W, 3) | as it is, its channels in the order ``channel_order`` |
    | uint8 array (H, W, 4) | the fourth channel is alpha; transparent pixels become white |
    | uint8 array (H, W) or (H, W, 1) | grey |
    | PyTorch tensor, uint8 | as an array; also (C, H, W) |
    | float, 16-bit and bool arrays, batches | refused: their range is unknown |

    Raises:
        ImageReadError: A file is missing, damaged or not an image.
        ValueError: The image is of another kind, or ``channel_order`` is unknown.
    """
    if channel_order not in ('rgb', 'bgr'):
        raise ValueError(f"channel_order must be 'rgb' or 'bgr', got {channel_order!r}")
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    if isinstance(image, (bytes, bytearray)) or hasattr(image, 'read'):
        name = getattr(image, 'name', 'image')
        data = _read(image, name) if hasattr(image, 'read') else bytes(image)
        if not isinstance(data, bytes):
            raise ValueError(f"{type(image).__name__}.read() gives no bytes; open files as 'rb'")
        return decode_image(data, name)
    if isinstance(image, PIL.Image.Image):
        return image_from_pil(image)
    if hasattr(image, 'detach'):  # a tensor; PyTorch need not be imported for this
        image = image.detach().cpu().numpy()
        if image.ndim == 3 and image.shape[2] not in (1, 3, 4):
            image = image.transpose(1, 2, 0)
    return _image_from_array(image, channel_order)


def _image_from_array(image: Any, channel_order: ChannelOrder) -> Image:
    if not isinstance(image, np.ndarray):
        hint = '; cv2.imread returns None if it cannot read a file' if image is None else ''
        raise ValueError(
            'an image is a path, an array, a PyTorch tensor, a PIL image, bytes or a binary file, '
            f'got {type(image).__name__}{hint}'
        )
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            'an image array must be uint8 of shape (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), got '
            f'{image.dtype} {image.shape}; {_array_hint(image)}'
        )
    if image.size == 0:
        raise ValueError(f'an image array must have pixels, got the shape {image.shape}')
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if channel_order == 'bgr':
        image = image[..., [2, 1, 0, 3][:channels]]
    image = np.ascontiguousarray(image)
    return image_from_pil(PIL.Image.fromarray(image)) if channels == 4 else image


def _array_hint(image: npt.NDArray[Any]) -> str:
    """Return how to convert an array that is not an image."""
    if image.ndim == 4:
        return 'pass a batch to predict_batch'
    hints = {'u1': 'move the channels to the end: image.transpose(1, 2, 0)', 'u2': 'image >> 8'}
    scale = 'image * 255 if its range is [0, 1]' if image.dtype.kind == 'f' else 'values 0..255'
    return hints.get(image.dtype.str[1:], f'convert it to uint8: {scale}')


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image (H, W, 3), RGB uint8, by the rules at the top of this module.

    Raises:
        ImageReadError: The file is missing, empty, damaged, too large or not an image.
    """
    return decode_image(read_file(path), path, max_pixels=max_pixels)


def read_file(path: str | Path) -> bytes:
    """Read the bytes of an image file; pipes, devices and sockets are not opened.

    Raises:
        ImageReadError: The file is missing, empty, no file, too large or not readable.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ImageReadError(path, 'is a pipe, device or socket', 'pass - to read stdin')
        with open(path, 'rb') as stream:
            data = _read(stream, path)
    except FileNotFoundError:
        raise ImageReadError(path, 'no such file or directory', 'check the path') from None
    except IsADirectoryError:
        raise ImageReadError(path, 'is a directory', 'name an image in it') from None
    except OSError as error:
        reason = f'cannot be read ({error.strerror or error})'
        raise ImageReadError(path, reason, 'check its permissions and the disk') from error
    if not data:
        raise ImageReadError(path, 'is empty (0 bytes)', 'copy or download it again')
    return data


def _read(stream: IO[bytes], path: str | Path) -> bytes:
    """Read a stream up to the limit; a file may grow meanwhile."""
    data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        reason = f'has more than {MAX_FILE_BYTES >> 20} MiB'
        raise ImageReadError(path, reason, 'save it as PNG or JPEG')
    return data


def decode_image(data: bytes, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the bytes of a file to an image (H, W, 3), RGB uint8; ``path`` is for messages only.

    Raises:
        ImageReadError: The content is damaged, too large or not an image.
    """
    try:
        image = _decode(data, path, max_pixels)
        if image is None:
            raise ImageReadError(path, 'is damaged: its data ends early', 'copy it again')
        return image
    except ImageReadError:
        raise
    except PIL.UnidentifiedImageError:
        reason = 'is not an image in a known format'
        step = f'use one of {", ".join(FORMATS)}'
        raise ImageReadError(path, reason, step) from None
    except Exception as error:  # decoders raise any exception on damaged files
        reason = f'is damaged or of an unusual kind ({type(error).__name__}: {error})'
        raise ImageReadError(path, reason, 'copy it again or save it as 8-bit PNG') from error


def _decode(data: bytes, path: str | Path, max_pixels: int) -> Image | None:
    """Decode an image; None: its data ends early."""
    with _open(data) as pil_image:
        scans = find_scans(data) if pil_image.format in ('JPEG', 'MPO') else JpegScans()
        several = len(scans.places) if len(scans.places) > 1 else 0
        if reason := _find_excess(pil_image, several, max_pixels):
            raise ImageReadError(path, reason, 'shrink it or split it into parts')
        if not scans.complete:
            return None
        pil_image.load()
        image = image_from_pil(pil_image)
        corner = pil_image.getpixel((pil_image.width - 1, pil_image.height - 1))
        last = np.array(corner, np.float64)
    del pil_image  # its pixels
    # What a single scan lacks is grey, down to the last pixel.
    suspected = scans.places and (several or ((last == 127) | (last == 128)).all())
    return None if suspected and not _is_same(scans.add_noise(data), image) else image


def _find_excess(pil_image: PIL.Image.Image, scans: int, max_pixels: int) -> str | None:
    """Describe which limit an image exceeds; ``scans`` is 0 if one pass decodes it."""
    width, height = pil_image.size
    pixels, size = width * height, f'has {width} x {height} pixels'
    if pixels > max_pixels:
        return f'{size}, more than {max_pixels:,}'
    if max(width, height) > MAX_SIDE:
        return f'{size}, a side of more than {MAX_SIDE:,}'
    if pixels > MAX_WHOLE and (scans or pil_image.format in _WHOLE):
        return f'{size}, more than {MAX_WHOLE:,} in a progressive JPEG, WebP, AVIF or JPEG 2000'
    if pixels * scans > MAX_SCAN_PIXELS:
        return f'{size} in {scans} scans, more than {MAX_SCAN_PIXELS:,} in all'
    return None


def _is_same(data: bytes, image: Image) -> bool:
    with _open(data) as pil_image:
        stored = _as_stored(image, pil_image)
        return all((stored[rows] == strip).all() for rows, strip in _rgb_strips(pil_image))


def describe_exchanged_sides(size: tuple[int, ...], annotated: tuple[int, ...]) -> str:
    """Return a remark if height and width of an image are those of its annotations exchanged."""
    if size != annotated[::-1]:
        return ''
    return ' (height and width exchanged: the annotations ignore the EXIF orientation)'


def image_from_pil(pil_image: PIL.Image.Image) -> Image:
    """Convert a Pillow image to (H, W, 3), RGB uint8, by the rules at the top of this module.

    Raises:
        ValueError: There are no pixels, or they have 32 bits, so their range is unknown.
    """
    width, height = pil_image.size
    if not width or not height:
        raise ValueError(f'an image must have pixels, got {width} x {height}')
    turned = _orientation(pil_image) >= 5
    image = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    stored = _as_stored(image, pil_image)
    for rows, strip in _rgb_strips(pil_image):
        stored[rows] = strip
    return image


def _as_stored(image: Image, pil_image: PIL.Image.Image) -> Image:
    """Return a view of an upright image as the file stores it."""
    turn = _STORED.get(_orientation(pil_image))
    return image if turn is None else turn(image)


def _rgb_strips(pil_image: PIL.Image.Image) -> Iterator[tuple[slice, Image]]:
    """Convert an image in strips of rows; a copy of the whole would take another 0.8 GB."""
    width, height = pil_image.size
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        part = pil_image if step >= height else pil_image.crop((0, top, width, rows.stop))
        yield rows, _rgb_from_pil(part)


def _rgb_from_pil(stored: PIL.Image.Image) -> Image:
    if stored.mode == 'F':
        raise ValueError('32-bit float pixels have no known range; save it as 8 or 16 bit')
    if stored.mode.startswith('I'):
        return _rgb_from_grey16(stored)
    if stored.mode.lower().endswith('a') or 'transparency' in stored.info:
        background = PIL.Image.new('RGBA', stored.size, 'white')
        # Pillow cannot convert La to RGBA directly.
        layer = stored.convert('LA') if stored.mode == 'La' else stored
        stored = PIL.Image.alpha_composite(background, layer.convert('RGBA'))
    return np.asarray(stored if stored.mode == 'RGB' else stored.convert('RGB'))


def _rgb_from_grey16(pil_image: PIL.Image.Image) -> Image:
    values = np.asarray(pil_image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise ValueError(f'integer pixels from {low} to {high} do not fit 16 bits')
    # Like Pillow for 16-bit RGB.
    grey = (values.astype(np.uint16) >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _orientation(pil_image: PIL.Image.Image) -> int:
    try:
        with _lenient_pillow():
            return int(pil_image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - the image is usable without its EXIF block
        return 1


def _open(data: bytes) -> PIL.Image.Image:
    with _lenient_pillow():
        PIL.Image.init()
        return PIL.Image.open(BytesIO(data), formats=[f for f in FORMATS if f in PIL.Image.OPEN])


@contextmanager
def _lenient_pillow() -> Iterator[None]:
    """Turn off Pillow's warnings and its pixel limit; `decode_image` checks ``max_pixels``."""
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit
