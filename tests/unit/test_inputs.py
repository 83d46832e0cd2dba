"""Inputs: images, their names and their order; boxes and image ids."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.boxes import BoxesError, check_boxes
from pipeline.io.annotations import load_boxes, load_image_ids
from pipeline.io.inputs import InputError, InputImage, find_images

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


def test_order_of_inputs_does_not_matter(folder: Path) -> None:
    names = [p.name for p in find_images(['a', 'b']).images]
    assert names == [p.name for p in find_images(['b', 'a']).images] == sorted(names)


# User boxes and image ids


def input_images(*names: str) -> list[InputImage]:
    return [InputImage(Path('in', name), name, Path('in')) for name in names]


def json_file(folder: Path, content: Any) -> Path:
    path = folder / 'file.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


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


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ({'1.jpg': BOX}, "'1.jpg' can mean a/1.jpg or b/1.jpg"),
        ({'a/1.jpg': BOX, 'q/2.jpg': BOX, '2.jpg': BOX}, 'both match'),
        ('{', 'not a JSON file'),
        ('3', 'is a int'),
        ([3], 'row 0 must be an object with image_id and bbox, got 3'),
        ([{'file_name': 'a', 'bbox': [1, 2]}], 'row 0: bbox must hold 4 numbers'),
        ({'annotations': []}, 'it has no list'),
        (
            {'annotations': [{'image_id': 3, 'bbox': [1] * 4}], 'images': []},
            'annotation number 0 .*image_id 3 is not',
        ),
    ],
)
def test_bad_boxes_files(content: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        load_boxes(json_file(tmp_path, content), input_images('a/1.jpg', 'b/1.jpg', 'c/2.jpg'))
    with pytest.raises(InputError, match=r'none.json: cannot be read'):
        load_boxes(tmp_path / 'none.json', [])


def test_check_boxes() -> None:
    boxes = check_boxes([[-5, 0, 30, 10.5]], (40, 60))
    assert boxes.dtype == np.float32 and boxes.tolist() == [[-5, 0, 30, 10.5]]
    assert check_boxes([], (40, 60)).shape == (0, 4)


@pytest.mark.parametrize(
    'rows',
    [
        [[1, 2, 3]], [1, 2, 3, 4], [[1, 2, 3, None]], [[1, 2, 3, 'x']], 'abc',
        [[1, 2], [3, 4, 5, 6]],
        [[1, 2, float('nan'), 4]], [[10, 10, 5, 20]], [[10, 10, 10, 20]], [[60, 0, 80, 20]],
        [[-9, 0, 0, 20]], {'x': 1}, 3,
    ],
)  # fmt: skip
def test_wrong_boxes(rows: Any) -> None:
    with pytest.raises(BoxesError, match='box'):
        check_boxes(rows, (40, 60))


def test_image_ids(tmp_path: Path) -> None:
    ids = load_image_ids(json_file(tmp_path, COCO), input_images('007.jpg', 'x.jpg'))
    assert ids.by_image == {'007.jpg': 7}
    assert ids.unknown == ('x.jpg',)


@pytest.mark.parametrize(
    ('content', 'names', 'reason'),
    [
        ({'images': []}, ['x.jpg'], 'has none of the 1 images'),
        ([], ['x.jpg'], 'not a COCO annotation file'),
        ({'images': [{'id': 3}]}, ['x.jpg'], 'there is no file_name'),
        (COCO, ['a/007.jpg', 'b/007.jpg'], 'can mean'),
    ],
)
def test_bad_image_ids(content: Any, names: Sequence[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        load_image_ids(json_file(tmp_path, content), input_images(*names))
