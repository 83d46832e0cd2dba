"""Image files of every format are read by the same rules, or raise an error."""

from __future__ import annotations

import os
import socket
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline.io import images as images_module
from pipeline.io.images import (
    FORMATS,
    ImageReadError,
    as_image,
    decode_image,
    image_from_pil,
    read_file,
    read_image,
)
from pipeline.io.jpeg import find_scans

RED, GREEN, BLUE, YELLOW = (250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)


def corners(width: int = 48, height: int = 32) -> np.ndarray:
    """Red, green / blue, yellow."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, YELLOW
    return image


def same(image: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> None:
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert image.flags['C_CONTIGUOUS'] and image.flags['WRITEABLE']
    # Lossy formats smear the borders between the fields.
    away = np.ones(image.shape[:2], bool)
    if tolerance:
        height, width = away.shape
        away[height // 2 - 8 : height // 2 + 8] = away[:, width // 2 - 8 : width // 2 + 8] = False
    assert np.abs(image.astype(int) - expected)[away].max() <= tolerance


PLAIN = {
    'png': {},
    'bmp': {},
    'tif': {},
    'tif deflate': {'compression': 'tiff_deflate'},
    'ppm': {},
    'webp': {'lossless': True},
    'webp lossy': {'quality': 95},
    'jpg': {'quality': 95},
    'jpg progressive': {'quality': 95, 'progressive': True},
    'jp2': {'irreversible': False},
    'JPG': {'quality': 95},
    'gif': {},
}
LOSSY = ('webp lossy', 'jpg', 'jpg progressive', 'JPG')


@pytest.mark.parametrize('kind', PLAIN)
def test_formats(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f'photo.{kind.split()[0]}'
    PIL.Image.fromarray(corners()).save(path, **PLAIN[kind])
    same(read_image(path), corners(), 14 if kind in LOSSY else 0)


STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'tif', 'tif deflate'])
@pytest.mark.parametrize('orientation', STORED)
def test_exif_orientation(kind: str, orientation: int, tmp_path: Path) -> None:
    """All eight orientations of the same scene give the same image."""
    stored = PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation](corners())))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f'photo.{kind.split()[0]}'
    stored.save(path, exif=exif, **PLAIN[kind])
    same(read_image(path), corners(), 14 if kind == 'jpg' else 0)


def test_broken_exif_costs_only_the_orientation(tmp_path: Path) -> None:
    path = tmp_path / 'photo.png'
    PIL.Image.fromarray(corners()).save(path, exif=b'Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\0')
    same(read_image(path), corners())


@pytest.mark.parametrize('name', ['grey.png', 'grey.tif', 'grey.pgm', 'rgb.png'])
def test_16_bit_is_scaled(name: str, tmp_path: Path) -> None:
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    path = tmp_path / name
    if name == 'rgb.png':
        import cv2

        assert cv2.imwrite(str(path), np.stack([values] * 3, axis=2))
    elif name == 'grey.pgm':
        path.write_bytes(b'P5 3 2 65535\n' + values.astype('>u2').tobytes())
    else:
        PIL.Image.fromarray(values).save(path)
    expected = np.array([[0, 0, 1], [128, 255, 255]], np.uint8)[:, :, None].repeat(3, 2)
    same(read_image(path), expected)


MODES: dict[str, tuple[str, object, str, tuple[int, ...]]] = {
    'grey': ('L', 77, 'png', (77, 77, 77)),
    'grey jpeg': ('L', 77, 'jpg', (77, 77, 77)),
    'one bit': ('1', 1, 'png', (255, 255, 255)),
    'grey, opaque': ('LA', (77, 255), 'png', (77, 77, 77)),
    'grey, transparent': ('LA', (77, 0), 'png', (255, 255, 255)),
    'opaque': ('RGBA', (200, 100, 0, 255), 'png', (200, 100, 0)),
    'transparent': ('RGBA', (200, 100, 0, 0), 'png', (255, 255, 255)),
    'a fifth of it': ('RGBA', (200, 100, 0, 51), 'png', (244, 224, 204)),
    'transparent webp': ('RGBA', (200, 100, 0, 0), 'webp', (255, 255, 255)),
    'cmyk': ('CMYK', (0, 255, 255, 0), 'tif', (255, 0, 0)),
    'cmyk jpeg': ('CMYK', (0, 255, 255, 0), 'jpg', (254, 0, 0)),
    'YCbCr': ('YCbCr', (76, 85, 255), 'jpg', (254, 0, 0)),
}


@pytest.mark.parametrize('name', MODES)
def test_modes(name: str, tmp_path: Path) -> None:
    mode, value, kind, expected = MODES[name]
    path = tmp_path / f'photo.{kind}'
    options = {'lossless': True} if kind == 'webp' else {}
    PIL.Image.new(mode, (8, 4), value).save(path, **options)  # type: ignore[arg-type]
    image = read_image(path)
    assert image.shape == (4, 8, 3)
    assert np.abs(image.astype(int) - expected).max() <= 1


def test_palettes(tmp_path: Path) -> None:
    pil_image = PIL.Image.fromarray(corners()).quantize(4)
    pil_image.save(tmp_path / 'plain.png')
    same(read_image(tmp_path / 'plain.png'), corners())
    # Per-entry transparency, as in small web graphics.
    pil_image.save(tmp_path / 'clear.png', transparency=bytes(4))
    assert (read_image(tmp_path / 'clear.png') == 255).all()


def test_colour_key(tmp_path: Path) -> None:
    PIL.Image.fromarray(corners()).save(tmp_path / 'key.png', transparency=RED)
    image = read_image(tmp_path / 'key.png')
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, -1].tolist() == list(GREEN)


@pytest.mark.parametrize('kind', ['gif', 'webp', 'png', 'tif', 'mpo'])
def test_first_frame(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f'film.{kind}'
    frames = [PIL.Image.fromarray(corners()), PIL.Image.new('RGB', (48, 32), BLUE)]
    options = {'lossless': True} if kind == 'webp' else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    same(read_image(path), corners(), 14 if kind == 'mpo' else 0)


def test_pillow_images_follow_the_same_rules() -> None:
    same(image_from_pil(PIL.Image.fromarray(corners())), corners())
    premultiplied = PIL.Image.new('RGBA', (3, 2), (9, 9, 9, 0)).convert('RGBa')
    assert (image_from_pil(premultiplied) == 255).all()
    assert (image_from_pil(PIL.Image.new('La', (3, 2))) == 255).all()
    with pytest.raises(ValueError, match='float'):
        image_from_pil(PIL.Image.new('F', (3, 2)))


def truncated(kind: str, fraction: float = 0.5) -> Callable[[Path], Path]:
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    buffer = BytesIO()
    PIL.Image.fromarray(noise).save(buffer, kind)
    data = buffer.getvalue()
    return bytes_file(f'truncated.{kind}', data[: int(len(data) * fraction)])


def bytes_file(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def saved(mode: str, color: float, suffix: str) -> Callable[[Path], Path]:
    buffer = BytesIO()
    PIL.Image.new(mode, (4, 4), color).save(buffer, suffix)
    return bytes_file(f'x.{suffix}', buffer.getvalue())


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    'half a jpeg': (truncated('jpeg'), 'damaged'),
    'most of a jpeg': (truncated('jpeg', 0.95), 'damaged'),
    'half a png': (truncated('png'), 'damaged'),
    'half a webp': (truncated('webp'), 'damaged'),
    'half a gif': (truncated('gif'), 'damaged'),
    'half a bmp': (truncated('bmp'), 'damaged'),
    'half a tiff': (truncated('tiff'), 'damaged|not an image'),
    'zero bytes': (bytes_file('x.jpg', b''), r'empty \(0 bytes\)'),
    'text': (bytes_file('x.jpg', b'hello\n' * 99), 'not an image'),
    'head only': (bytes_file('x.png', b'\x89PNG\r\n\x1a\n'), 'damaged|not an im'),
    'missing': (lambda folder: folder / 'none.jpg', 'no such file'),
    'directory': (lambda folder: folder, 'is a directory'),
    'float': (saved('F', 0.5, 'tiff'), 'float pixels'),
    '32 bit': (saved('I', 1 << 20, 'tiff'), 'do not fit 16 bits'),
    'eps': (saved('RGB', 0, 'eps'), 'not an image in a known format'),
}


@pytest.mark.parametrize(('make', 'reason'), REFUSED.values(), ids=REFUSED)
def test_refused(make: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(path)
    assert caught.value.path == str(path)
    assert caught.value.reason and caught.value.next_step
    assert str(caught.value).startswith(f'{path}: ')


def test_size_limit(tmp_path: Path) -> None:
    path = tmp_path / 'big.png'
    header = b'IHDR' + struct.pack('>IIBBBBB', 15_000, 14_000, 8, 2, 0, 0, 0)
    chunk = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk + struct.pack('>I', 9) + b'IDAT' + bytes(9))
    with pytest.raises(ImageReadError, match=r'15000 x 14000 pixels, more than 200,000,000'):
        read_image(path)
    small = tmp_path / 'small.png'
    PIL.Image.new('L', (10, 11)).save(small)
    assert read_image(small, max_pixels=110).shape == (11, 10, 3)
    with pytest.raises(ImageReadError, match='more than 109'):
        read_image(small, max_pixels=109)


def scene(mode: str = 'RGB') -> PIL.Image.Image:
    """A noisy picture that is grey (128) at its end, where missing data also is."""
    values = np.random.default_rng(0).integers(0, 255, (90, 150, 3), np.uint8)
    values[-40:, -40:] = 128
    return PIL.Image.fromarray(values).convert(mode)


JPEGS: dict[str, tuple[str, dict[str, Any]]] = {
    'baseline': ('RGB', {}),
    'no subsampling': ('RGB', {'subsampling': 0}),
    'grey': ('L', {'quality': 30}),
    'CMYK': ('CMYK', {}),
    'restarts': ('RGB', {'restart_marker_blocks': 3}),
    'restarts of rows': ('L', {'restart_marker_rows': 1, 'optimize': True}),
    'progressive': ('RGB', {'progressive': True}),
    'progressive grey': ('L', {'progressive': True, 'quality': 95}),
    'progressive with restarts': ('RGB', {'progressive': True, 'restart_marker_rows': 2}),
}


def jpeg(mode: str, options: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    scene(mode).save(buffer, 'JPEG', **options)
    return buffer.getvalue()


@pytest.mark.parametrize('kind', JPEGS)
def test_jpeg_data_that_ends_early(kind: str) -> None:
    """The end marker does not help; at most the last block of a single scan may lack bits."""
    data = jpeg(*JPEGS[kind])
    with PIL.Image.open(BytesIO(data)) as pil_image:
        whole = np.array(pil_image.convert('RGB'))
    same(decode_image(data, 'a.jpg'), whole)
    same(decode_image(data + b'\xff\xd8 more', 'a.jpg'), whole)
    scans = find_scans(data).places
    cuts = [start + int((stop - start) * f) for start, stop in scans for f in (0.1, 0.5, 0.9)]
    cuts += [stop for _, stop in scans[:-1]]
    for cut in cuts:
        end = cut - (data[cut - 1] == 0xFF)  # not within a marker
        with pytest.raises(ImageReadError, match=r'data ends early|damaged'):
            decode_image(data[:end] + b'\xff\xd9', 'a.jpg')


def test_cuts_between_restarts() -> None:
    data = jpeg('RGB', {'restart_marker_blocks': 5})
    ends = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    assert len(ends) > 8
    for end in ends:
        with pytest.raises(ImageReadError, match='data ends early'):
            decode_image(data[:end] + b'\xff\xd9', 'a.jpg')


@pytest.mark.parametrize('data', [b'\xff\xd8', b'\xff' * 9999, b'\xff\xd8' + b'\xff\x01' * 200_000])
def test_scans_of_no_jpeg(data: bytes) -> None:
    with (
        pytest.raises(ValueError, match='more than 100,000 segments')
        if len(data) > 9999
        else (nullcontext())
    ):
        assert find_scans(data).places == ()


def png_header(width: int, height: int) -> bytes:
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    return b'\x89PNG\r\n\x1a\n' + chunk + struct.pack('>I', 9) + b'IDAT' + bytes(9)


def large_jpeg(scans: int, width: int, height: int) -> bytes:
    """Header of a JPEG, with the last scans of a small one repeated."""
    data = bytearray(jpeg('L', {'progressive': True}))
    frame = data.index(b'\xff\xc2')
    data[frame + 5 : frame + 9] = struct.pack('>HH', height, width)
    scan = bytes(data[data.rindex(b'\xff\xda') : -2])
    return bytes(data[:-2]) + scan * (scans - 6) + b'\xff\xd9'


EXCESS = {
    'a column of pixels': (png_header(1, 200_000_000), 'a side of more than 1,000,000'),
    'a row of pixels': (png_header(1_000_001, 1), 'a side of more than 1,000,000'),
    'a square': (png_header(14_143, 14_143), 'more than 200,000,000'),
    'zero bytes of a BMP': (
        b'BM' + struct.pack('<IIIIiiHHIIiiII', 70, 0, 54, 40, 50_000, 50_000, 1, 24, *[0] * 6),
        'more than 200,000,000',
    ),
    'progressive': (large_jpeg(6, 12_000, 9_000), 'more than 100,000,000 in a progressive'),
    'scans': (large_jpeg(80, 4_000, 4_000), 'in 80 scans, more than 1,000,000,000'),
    'scans of a larger one': (large_jpeg(30, 8_000, 8_000), 'in 30 scans'),
}


@pytest.mark.parametrize('name', EXCESS)
def test_limits(name: str) -> None:
    data, message = EXCESS[name]
    with pytest.raises(ImageReadError, match=message):
        decode_image(data, name)


@pytest.mark.parametrize('kind', ['webp', 'jpeg2000', 'avif'])
def test_limit_of_formats_that_decode_as_a_whole(kind: str) -> None:
    buffer = BytesIO()
    scene().save(buffer, kind)
    assert decode_image(buffer.getvalue(), 'x', max_pixels=150 * 90).shape == (90, 150, 3)
    assert images_module.MAX_WHOLE == 100_000_000


def special_files(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / 'pipe.jpg')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / 's.jpg'))
    return {'pipe': folder / 'pipe.jpg', 'socket': folder / 's.jpg', 'device': Path('/dev/zero')}


def test_pipes_devices_and_sockets_are_not_opened(tmp_path: Path) -> None:
    for path in special_files(tmp_path).values():
        with pytest.raises(ImageReadError, match='is a pipe, device or socket'):
            read_image(path)


def test_a_file_that_grows_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, 'MAX_FILE_BYTES', 1000)
    (tmp_path / 'a.png').write_bytes(bytes(1000))
    assert len(read_file(tmp_path / 'a.png')) == 1000
    (tmp_path / 'a.png').write_bytes(bytes(1001))
    for source in (tmp_path / 'a.png', BytesIO(bytes(10**6))):
        with pytest.raises(ImageReadError, match='has more than 0 MiB'):
            as_image(source)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'LA', 'RGBA', 'P', '1', 'CMYK', 'YCbCr', 'I;16'])
@pytest.mark.parametrize('orientation', [1, 6, 7])
def test_strips_change_nothing(
    mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pil_image = scene('RGB' if mode == 'I;16' else mode)
    if mode == 'I;16':
        pil_image = PIL.Image.fromarray(np.array(scene('L')).astype(np.uint16) * 257)
    pil_image.getexif()[0x0112] = orientation
    whole = image_from_pil(pil_image)
    monkeypatch.setattr(images_module, '_STRIP_PIXELS', 1000)
    same(image_from_pil(pil_image), whole)
    assert whole.shape == ((150, 90, 3) if orientation > 4 else (90, 150, 3))


def test_images_above_the_limit_of_pillow_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 50)
    PIL.Image.fromarray(corners()).save(tmp_path / 'x.png')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        same(read_image(tmp_path / 'x.png'), corners())
    assert PIL.Image.MAX_IMAGE_PIXELS == 50


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / 'x.png'
    PIL.Image.fromarray(corners()).save(path)
    before = PIL.Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(read_image, [path] * 80))
    assert len(images) == 80 and PIL.Image.MAX_IMAGE_PIXELS == before


def test_known_formats() -> None:
    PIL.Image.init()
    assert [f for f in FORMATS if f not in PIL.Image.OPEN] in ([], ['AVIF'])


def png(image: np.ndarray) -> bytes:
    buffer = BytesIO()
    PIL.Image.fromarray(image).save(buffer, 'PNG')
    return buffer.getvalue()


RGBA = np.dstack([corners(), np.full((32, 48), 255, np.uint8)])
RGBA[:, :24, 3] = 0  # the left half becomes white
OVER_WHITE = np.where(RGBA[..., 3:] == 0, 255, RGBA[..., :3])
GREY = np.arange(32 * 48, dtype=np.uint8).reshape(32, 48)
KINDS = {
    'array': (corners(), 'rgb', corners()),
    'BGR array': (corners()[..., ::-1], 'bgr', corners()),
    'PIL image': (PIL.Image.fromarray(corners()), 'rgb', corners()),
    'PIL image has its own order': (PIL.Image.fromarray(corners()), 'bgr', corners()),
    'bytes': (png(corners()), 'bgr', corners()),
    'file object': (BytesIO(png(corners())), 'rgb', corners()),
    'RGBA': (RGBA, 'rgb', OVER_WHITE),
    'BGRA': (RGBA[..., [2, 1, 0, 3]], 'bgr', OVER_WHITE),
    'grey': (GREY, 'rgb', np.dstack([GREY] * 3)),
    'grey with an axis': (GREY[..., None], 'bgr', np.dstack([GREY] * 3)),
}


@pytest.mark.parametrize(('image', 'order', 'expected'), KINDS.values(), ids=KINDS)
def test_kinds_of_images(image: Any, order: Any, expected: np.ndarray) -> None:
    same(as_image(image, order), expected)


def test_paths_and_arrays_are_not_copied_needlessly(tmp_path: Path) -> None:
    path, image = tmp_path / 'a.png', corners()
    path.write_bytes(png(image))
    same(as_image(str(path), 'bgr'), image)
    assert as_image(image) is image


REFUSED = {
    'float in [0, 1]': (np.zeros((4, 5, 3)), r'image \* 255 if its range'),
    '16 bit': (np.zeros((4, 5), np.uint16), 'image >> 8'),
    'bool': (np.zeros((4, 5), bool), '0..255'),
    'batch': (np.zeros((2, 4, 5, 3), np.uint8), 'predict_batch'),
    'channels first': (np.zeros((3, 4, 5), np.uint8), 'transpose'),
    'no pixels': (np.zeros((0, 5, 3), np.uint8), 'must have pixels'),
    'no columns': (np.zeros((5, 0), np.uint8), 'must have pixels'),
    'no pixels in an alpha image': (np.zeros((0, 0, 4), np.uint8), 'must have pixels'),
    'PIL image without pixels': (PIL.Image.new('RGB', (0, 5)), 'must have pixels'),
    'None': (None, 'cv2.imread returns None'),
    'list': ([1], 'got list'),
    'text file': (StringIO('x'), "'rb'"),
    'damaged bytes': (b'x', 'not an image in a known format'),
}


@pytest.mark.parametrize(('image', 'message'), REFUSED.values(), ids=REFUSED)
def test_kinds_that_are_refused(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_image(image)


def test_unknown_channel_order() -> None:
    with pytest.raises(ValueError, match="'rgb' or 'bgr', got 'BGR'"):
        as_image(corners(), 'BGR')  # type: ignore[arg-type]
