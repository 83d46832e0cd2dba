"""Inputs: images, their names and their order; boxes and image ids."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline.boxes import check_boxes
from pipeline.datasets.convert import drop_broken_images
from pipeline.evaluation.image_names import join_by_name
from pipeline.io.annotations import load_boxes, load_image_ids
from pipeline.io.inputs import (
    find_images,
    locate_image,
    shorten_path,
)
from pipeline.io.progress import Reporter
from tests.toy_people import input_images, json_file

FILES = (
    'a/1.jpg', 'a/2.PNG', 'a/deep/3.webp', 'a/.hidden.jpg', 'a/.cache/4.jpg', 'a/notes.txt',
    'a/film.mp4', 'b/1.jpg', 'b/1.png', 'c[1]/5.jpg', 'x/a/1.jpg', 'empty/readme.md', 'ä ö/ü.jpg',
)  # fmt: skip

ALL_OF_A = {'1.jpg': 'a/1.jpg', '2.PNG': 'a/2.PNG', 'deep/3.webp': 'a/deep/3.webp'}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('x')
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES: dict[str, tuple[list[str], dict[str, str]]] = {
    'directory, recursive, hidden ones left out': (['a'], ALL_OF_A),
    'slash at the end': (['a/'], ALL_OF_A),
    'file': (['a/1.jpg'], {'1.jpg': 'a/1.jpg'}),
    'any file that is named': (['empty/readme.md'], {'readme.md': 'empty/readme.md'}),
    'missing file': (['none.jpg'], {'none.jpg': 'none.jpg'}),
    'glob': (['a/*.jpg'], {'1.jpg': 'a/1.jpg'}),
    'glob of folders': (['*/1.jpg'], {'a/1.jpg': 'a/1.jpg', 'b/1.jpg': 'b/1.jpg'}),
    'recursive glob': (['a/**/*.webp'], {'deep/3.webp': 'a/deep/3.webp'}),
    'glob that matches directories': (
        ['[ab]'], {f: f for f in ('a/1.jpg', 'a/2.PNG', 'a/deep/3.webp', 'b/1.jpg', 'b/1.png')},
    ),
    'directory that looks like a glob': (['c[1]'], {'5.jpg': 'c[1]/5.jpg'}),
    'file that looks like a glob': (['c[1]/5.jpg'], {'5.jpg': 'c[1]/5.jpg'}),
    'blanks and umlauts': (['ä ö'], {'ü.jpg': 'ä ö/ü.jpg'}),
    'named three times, run once': (['a/1.jpg', './a/../a/1.jpg', 'a'], ALL_OF_A),
    'same file name: folder in front': (
        ['a/1.jpg', 'b/1.jpg'], {'a/1.jpg': 'a/1.jpg', 'b/1.jpg': 'b/1.jpg'},
    ),
    'same stem': (['b'], {'1.jpg': 'b/1.jpg', '1.png': 'b/1.png'}),
    'two roots: only what collides is prefixed': (
        ['a', 'b'],
        {'a/1.jpg': 'a/1.jpg', '2.PNG': 'a/2.PNG', 'deep/3.webp': 'a/deep/3.webp',
         'b/1.jpg': 'b/1.jpg', '1.png': 'b/1.png'},
    ),
    'same folder name as well: counter': (
        ['a/1.jpg', 'b/1.jpg', 'x/a/1.jpg'],
        {'a/1.jpg': 'a/1.jpg', 'b/1.jpg': 'b/1.jpg', 'a_2/1.jpg': 'x/a/1.jpg'},
    ),
    'a prefixed name never takes the name of another image': (
        ['x', 'a/1.jpg', 'x/../b/1.jpg'],
        {'a/1.jpg': 'x/a/1.jpg', 'a_2/1.jpg': 'a/1.jpg', 'b/1.jpg': 'b/1.jpg'},
    ),
}  # fmt: skip


@pytest.mark.parametrize(('inputs', 'expected'), NAMES.values(), ids=NAMES)
def test_names(folder: Path, inputs: list[str], expected: dict[str, str]) -> None:
    found = find_images(inputs)
    assert found.failures == ()
    assert {p.name: os.path.normpath(p.path) for p in found.images} == expected
    assert [p.name for p in found.images] == sorted(expected)


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('empty', 'no image in this directory'),
        ('a/*.heic', 'no file matches this pattern'),
        ('a/f*.mp4', 'a video; pass it to the command'),
        ('@none.txt', 'no such file'),
        ('none.lst', 'no such file'),
        ('@a/film.mp4.jpg', 'no such file'),
        ('https://a.b/c.jpg', 'download it'),
    ],
)
def test_inputs_without_images(folder: Path, name: str, reason: str) -> None:
    found = find_images([name, 'b/1.png'])
    assert [p.name for p in found.images] == ['1.png']
    (failure,) = found.failures
    assert failure.input == name
    assert reason in failure.message


def lists(folder: Path, text: str | bytes, name: str = 'lists/my.txt') -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


@pytest.mark.parametrize('name', ['my.txt', 'my.LST', '@my.list', '@my.txt'])
def test_list_file(folder: Path, name: str) -> None:
    lists(folder, '\ufeff# mine\r\n\r\na/1.jpg\r\n  b/*.png  \r\nempty\n', name.lstrip('@'))
    found = find_images([name])
    assert {p.name: str(p.path) for p in found.images} == {n: n for n in ('a/1.jpg', 'b/1.png')}
    assert [f.error for f in found.failures] == ['InputError']  # `empty` has none


def test_list_is_relative_to_itself(folder: Path) -> None:
    name = lists(folder, '../a/1.jpg\n' + str(folder / 'b/1.png'))
    found = find_images([name])
    assert [p.name for p in found.images if p.path.exists()] == ['1.jpg', '1.png']


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        (b'# only this\n', 'list is empty'),
        (b'', 'list is empty'),
        (b'other.txt\n', 'is another list'),
        (b'\xff\xfe\x00', 'not UTF-8'),
    ],
)
def test_bad_lists(folder: Path, text: bytes, reason: str) -> None:
    found = find_images([lists(folder, text)])
    assert not found.images
    assert reason in found.failures[0].message


def test_links_end(folder: Path) -> None:
    (folder / 'a/loop').symlink_to(folder / 'a')
    (folder / 'b/again.jpg').symlink_to(folder / 'b/1.jpg')
    assert len(find_images(['a']).images) == 3
    assert [p.name for p in find_images(['b']).images] == ['1.jpg', '1.png']


def test_results_are_no_inputs(folder: Path) -> None:
    assert [p.name for p in find_images(['a'], exclude=Path('a/deep')).images] == ['1.jpg', '2.PNG']
    assert [p.name for p in find_images(['a/*/*'], exclude=Path('b')).images] == ['deep/3.webp']
    assert [p.name for p in find_images(['a/deep'], exclude=Path('a')).images] == ['3.webp']
    assert len(find_images(['a/**'], exclude=Path('a/deep')).images) == 2


PASSED = {
    'nothing': ((), ()),
    'photos of a phone': (('1.heic', '2.HEIC', '3.heif'), ('2 .heic', '1 .heif')),
    'videos': (('a.mp4', 'b.MOV'), ('1 .mp4', '1 .mov')),
    'no suffix': (('IMG_0001',), ('1 without a suffix',)),
    'raw and text': (('a.cr2', 'a.txt', 'sub/b.txt'), ('2 .txt', '1 .cr2')),
    'a pipe': (('pipe.png|',), ('1 pipes, devices or sockets',)),
}


@pytest.mark.parametrize('name', PASSED)
@pytest.mark.parametrize('source', ['in', 'in/**', '@list'])
def test_folders_tell_what_they_pass_over(name: str, source: str, folder: Path) -> None:
    names, expected = PASSED[name]
    (folder / 'list').write_text('in\n')
    for file in (*names, 'img.jpg', '.hidden'):
        path = folder / 'in' / file
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(str(path)[:-1]) if file.endswith('|') else path.write_text('x')
    found = find_images([source])
    assert [i.path.name for i in found.images] == ['img.jpg'] and not found.failures
    assert len(found.remarks) == bool(names)
    for text in expected:
        assert text in found.remarks[0]


def test_folders_without_an_image_tell_what_they_hold(folder: Path) -> None:
    (failure,) = find_images(['empty']).failures
    assert 'passed over 1 file: 1 .md' in failure.message


def test_unreadable_folders_are_failures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name in ('deep', 'empty'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    found = find_images(['a', 'empty'])
    assert [i.name for i in found.images] == ['1.jpg', '2.PNG']
    assert [f.input for f in found.failures] == ['a/deep', 'empty']
    assert all('cannot be read (Permission denied)' in f.message for f in found.failures)


def finish_run(folder: Path) -> None:
    for name in ('config.py', 'predictions/1.json', 'visualizations/1.jpg', 'masks/x/1.png',
                 'inputs/2.jpg'):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('x')


@pytest.mark.parametrize(
    ('run', 'exclude'),
    [('a', 'a'), ('.', '.'), ('a/out', 'a/out'), ('a/deep/earlier', 'out'), ('a', 'out'),
     ('a/deep', 'a'), ('a', 'a/deep/new')],
)  # fmt: skip
@pytest.mark.parametrize('source', ['a', 'a/**'])
def test_results_are_never_images(source: str, run: str, exclude: str, folder: Path) -> None:
    finish_run(folder / run)
    found = find_images([source], exclude=Path(exclude))
    assert {i.name: i.path.as_posix() for i in found.images} == ALL_OF_A


def test_results_that_are_named_are_images(folder: Path) -> None:
    finish_run(folder / 'a')
    assert len(find_images(['a/visualizations', 'a/masks/**']).images) == 2
    (folder / 'b/masks').mkdir()
    (folder / 'b/masks/1.png').write_text('x')  # no run is here
    assert len(find_images(['b']).images) == 3


def test_names_of_outputs_fit_the_file_system() -> None:
    long, other = 'a/' + 'é' * 125 + '1.jpeg', 'a/' + 'é' * 125 + '2.jpeg'
    assert shorten_path('a/' + 'x' * 250) == 'a/' + 'x' * 250
    short = shorten_path(long)
    assert short.startswith('a/ééé') and len(os.fsencode(short.split('/')[1])) <= 250
    assert shorten_path(short) == short != shorten_path(other)


LOCATED = {
    'as it is': ('a%20b.jpg', 'a%20b.jpg'),
    'backslashes': ('sub\\c.jpg', 'sub/c.jpg'),
    'percent': ('sub/d%20e.jpg', 'sub/d e.jpg'),
    'NFD': ('u\u0308.jpg', 'ü.jpg'),
    'NFC': ('ö.jpg', 'o\u0308.jpg'),
    'all of them': ('sub\\%C3%A4%20.jpg', 'sub/a\u0308 .jpg'),
    'never outside': ('..%2Fout.jpg', '..%2Fout.jpg'),
    'never absolute': ('%2Fetc%2Fpasswd', '%2Fetc%2Fpasswd'),
    'too long': ('x' * 5000, 'x' * 5000),
    'NUL': ('x\0', 'x\0'),
}


@pytest.mark.parametrize('case', LOCATED)
def test_names_in_files_are_found(case: str, tmp_path: Path) -> None:
    name, file = LOCATED[case]
    (tmp_path / 'in' / 'sub').mkdir(parents=True)
    (tmp_path / 'out.jpg').write_text('x')
    if len(file) < 20 and not case.startswith(('never', 'NUL')):
        (tmp_path / 'in' / file).write_text('x')
    assert locate_image(tmp_path / 'in', name) == tmp_path / 'in' / file


SIZES = {
    'as annotated': (1, (40, 60), None),
    'turned by the viewer': (6, (40, 60), 'EXIF orientation'),
    'turned the other way': (8, (40, 60), 'EXIF orientation'),
    'mirrored': (2, (40, 60), None),
    'upright annotations': (6, (60, 40), None),
    'another size': (1, (41, 60), 'annotations expect 60 x 41 px$'),
}


@pytest.mark.parametrize('case', SIZES)
@pytest.mark.parametrize('name', ['x y.jpg', 'x%20y.jpg', '.\\x y.jpg'])
def test_sizes_in_annotations(case: str, name: str, tmp_path: Path) -> None:
    orientation, (height, width), reason = SIZES[case]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new('RGB', (60, 40)).save(tmp_path / 'x y.jpg', exif=exif)
    row = {'id': 1, 'file_name': name, 'height': height, 'width': width}
    content = {'images': [row], 'annotations': []}
    problems = drop_broken_images(content, tmp_path, Reporter()).problems
    assert len(problems) == bool(reason)
    if reason:
        assert re.search(reason, problems[0].reason)


@pytest.mark.parametrize('name', ['a b.jpg', 'a%20b.jpg', 'x\\a b.jpg', 'x\\a%20b.jpg'])
def test_results_join_by_any_form_of_a_name(name: str, tmp_path: Path) -> None:
    images = {'images': [{'id': 1, 'file_name': 'a b.jpg'}]}
    (tmp_path / 'coco_images.json').write_text(json.dumps(images))
    rows = [{'image_id': 1, 'score': 0.5}]
    annotations = {'images': [{'id': 70, 'file_name': name}]}
    joined, _ = join_by_name(rows, tmp_path / 'coco_results.json', annotations, None)
    assert [row['image_id'] for row in joined] == [70]


def test_order_of_inputs_does_not_matter(folder: Path) -> None:
    names = [p.name for p in find_images(['a', 'b']).images]
    assert names == [p.name for p in find_images(['b', 'a']).images] == sorted(names)


# User boxes and image ids


COCO = {
    'images': [{'id': 7, 'file_name': 'val/007.jpg'}, {'id': 8, 'file_name': '008.jpg'}],
    'categories': [{'id': 1, 'name': 'person'}, {'id': 2, 'name': 'car'}],
    'annotations': [
        {'image_id': 7, 'category_id': 1, 'bbox': [10, 20, 5, 6]},
        {'image_id': 7, 'category_id': 2, 'bbox': [1, 1, 1, 1]},
        {'image_id': 7, 'category_id': 1, 'bbox': [0, 0, 9, 9], 'iscrowd': 1},
    ],
}
RESULTS = [
    {'image_id': 7, 'category_id': 1, 'bbox': [10, 20, 5, 6], 'score': 0.1},
    {'image_id': 7, 'category_id': 3, 'bbox': [1, 1, 1, 1], 'score': 0.9},
    {'image_id': 99, 'bbox': [1, 1, 1, 1]},
]
BOX = [[10, 20, 15, 26]]


BOXES_FILES: dict[str, tuple[Any, list[str], Any, tuple[str, ...]]] = {
    'simple, by path and by file name': (
        {'a/1.jpg': BOX, '2.jpg': []}, ['a/1.jpg', 'b/2.jpg'], {'a/1.jpg': BOX, 'b/2.jpg': []}, (),
    ),
    'simple, with a missing image': (
        {'a/1.jpg': BOX, 'none.jpg': BOX}, ['a/1.jpg', 'b/1.jpg'], {'a/1.jpg': BOX}, ('none.jpg',),
    ),
    'COCO annotations': (COCO, ['007.jpg', '008.jpg'], {'007.jpg': BOX, '008.jpg': []}, ()),
    'COCO results by number': (
        RESULTS, ['x/000007.jpg', '8.jpg'], {'x/000007.jpg': BOX}, ('image_id 99',),
    ),
    'COCO results by file name': (
        [{'file_name': 'q.jpg', 'bbox': [10, 20, 5, 6]}], ['q.jpg'], {'q.jpg': BOX}, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', BOXES_FILES)
def test_boxes_files(name: str, tmp_path: Path) -> None:
    content, names, expected, unknown = BOXES_FILES[name]
    boxes = load_boxes(json_file(tmp_path, content), input_images(*names))
    assert (boxes.by_image, boxes.unknown) == (expected, unknown)


def test_boxes_by_given_ids(tmp_path: Path) -> None:
    boxes = load_boxes(json_file(tmp_path, RESULTS), input_images('q.jpg'), image_ids={'q.jpg': 7})
    assert boxes.by_image == {'q.jpg': BOX}


def test_check_boxes() -> None:
    boxes = check_boxes([[-5, 0, 30, 10.5]], (40, 60))
    assert boxes.dtype == np.float32 and boxes.tolist() == [[-5, 0, 30, 10.5]]
    assert check_boxes([], (40, 60)).shape == (0, 4)


def test_image_ids(tmp_path: Path) -> None:
    ids = load_image_ids(json_file(tmp_path, COCO), input_images('007.jpg', 'x.jpg'))
    assert ids.by_image == {'007.jpg': 7}
    assert ids.unknown == ('x.jpg',)
