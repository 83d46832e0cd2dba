"""What users do with a result: select, convert, save, plot, show."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline import DrawingStyle
from pipeline.conversions import columns_from_supervision, table_columns
from pipeline.io.records import people_to_record
from pipeline.keypoints import KeypointSet
from pipeline.structures import ImageSource, People
from pipeline.visualization.draw import draw_people
from tests.run_fakes import make_people
from tests.toy_people import people_in

SHAPE = (200, 300)
BOXES = [(10, 20, 60, 180), (40, 15, 100, 190), (150, 30, 220, 190)]


def people_of(image: Any, order: Any = 'rgb') -> People:
    return replace(people_in(BOXES, SHAPE), source=ImageSource.of(image, order))


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)


def assert_equal(people: People, others: People) -> None:
    assert people_to_record(people) == people_to_record(others)  # without loss


@pytest.mark.parametrize(('number', 'noun'), [(0, 'people'), (1, 'person'), (2, 'people')])
def test_repr_is_one_line(number: int, noun: str) -> None:
    people = people_in(BOXES[:number], SHAPE)
    assert repr(people) == f'People({number} {noun}, image 200x300)'


INDICES = {
    'number': (1, [1]),
    'from the end': (-1, [2]),
    'slice': (slice(1, None), [1, 2]),
    'mask': (np.array([True, False, True]), [0, 2]),
    'list': ([2, 0], [2, 0]),
    'nothing': ([], []),
}


@pytest.mark.parametrize(('index', 'rows'), INDICES.values(), ids=INDICES)
def test_rows_are_selected(index: Any, rows: list[int]) -> None:
    people = people_of('a.jpg')
    assert_equal(people[index], people.select(np.array(rows, int)))
    assert people[index].path == 'a.jpg'


def test_iteration_and_joining() -> None:
    people = people_of('a.jpg')
    rows = list(people)
    assert [len(row) for row in rows] == [1, 1, 1]
    joined = rows[0].concat(rows[1]).concat(rows[2])
    assert_equal(joined, people)
    assert joined.path == 'a.jpg'
    for wrong in (3, [True]):
        with pytest.raises(IndexError):
            people[wrong]


def test_dense_masks() -> None:
    masks = people_in(BOXES, SHAPE).masks
    np.testing.assert_array_equal(masks.to_dense(), [masks.dense(i) for i in range(3)])
    assert People.empty(*SHAPE).masks.to_dense().shape == (0, *SHAPE)


def test_coco_annotations() -> None:
    people = people_in(BOXES, SHAPE)
    people.visibility[0, 3], people.presence[0, 4], people.keypoint_scores[0, 5] = 0.4, 0.2, 0.1
    rows = people.to_coco_annotations(7, first_id=5)
    json.dumps(rows)
    assert [(r['id'], r['image_id'], r['iscrowd']) for r in rows] == [(i, 7, 0) for i in (5, 6, 7)]
    flags = np.array([r['keypoints'] for r in rows]).reshape(3, 17, 3)
    assert flags[0, :6, 2].tolist() == [2, 2, 2, 1, 0, 0]
    assert (flags[0, 4:6] == 0).all() and (flags[1:, :, 2] == 2).all()
    assert [r['num_keypoints'] for r in rows] == [15, 17, 17]
    assert [r['segmentation'] for r in rows] == people.masks.to_rle()


def test_table() -> None:
    people = people_in(BOXES, SHAPE)
    table = table_columns(people)
    assert all(len(column) == 3 for column in table.values())
    np.testing.assert_array_equal(table['nose_y'], people.keypoints[:, 0, 1])
    np.testing.assert_array_equal(table['x2'], people.boxes[:, 2])
    pandas = pytest.importorskip('pandas')
    frames = [people.to_dataframe(), People.empty(*SHAPE).to_dataframe()]
    frame = pandas.concat(frames, ignore_index=True)
    assert list(frame) == ['path', *table] and len(frame) == 3


HANDS = replace(
    people_in(BOXES, SHAPE, points=4), keypoint_set=KeypointSet('hand', tuple('abcd'), np.ones(4))
)


@pytest.mark.parametrize('people', [make_people(4), People.empty(40, 60), HANDS], ids=len)
def test_supervision_and_back(people: People) -> None:
    supervision = pytest.importorskip('supervision')
    found = people.to_supervision()
    assert isinstance(found, supervision.Detections)
    assert_equal(People.from_supervision(found), people)
    keep = people.scores > 0.5
    assert_equal(People.from_supervision(found[keep]), people[keep])
    found.mask = None
    with pytest.raises(ValueError, match='mask missing; to use detections of another model'):
        People.from_supervision(found)
    with pytest.raises(ValueError, match='box_scores, keypoints'):
        columns_from_supervision(supervision.Detections.empty())


@pytest.mark.parametrize('method', ['to_dataframe', 'to_supervision'])
def test_missing_libraries_are_named(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = {'to_dataframe': 'pandas', 'to_supervision': 'supervision'}[method]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f'pip install {library}'):
        getattr(make_people(1), method)()


def test_files(tmp_path: Path) -> None:
    people = replace(make_people(3), source=ImageSource('a.jpg'))
    people.save(tmp_path / 'new' / 'people.json')
    again = People.load(str(tmp_path / 'new' / 'people.json'))
    assert_equal(again, people)
    assert again.path == 'a.jpg'
    (tmp_path / 'other.json').write_text('{}')
    with pytest.raises(ValueError, match=r'other\.json: not people'):
        People.load(tmp_path / 'other.json')
    with pytest.raises(FileNotFoundError, match=r'absent\.json'):
        People.load(tmp_path / 'absent.json')


def saved(folder: Path) -> str:
    PIL.Image.fromarray(noise()).save(folder / 'a.png')
    return str(folder / 'a.png')


SOURCES: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    'path': lambda folder: (saved(folder), 'rgb'),
    'array': lambda folder: (noise(), 'rgb'),
    'BGR array': lambda folder: (np.ascontiguousarray(noise()[..., ::-1]), 'bgr'),
    'PIL image': lambda folder: (PIL.Image.fromarray(noise()), 'rgb'),
}


@pytest.mark.parametrize('make', SOURCES.values(), ids=SOURCES)
def test_plot_finds_the_image(make: Callable[[Path], tuple[Any, Any]], tmp_path: Path) -> None:
    image, order = make(tmp_path)
    people = people_of(image, order)
    expected = draw_people(noise(), people)
    np.testing.assert_array_equal(people.plot(), expected)
    np.testing.assert_array_equal(people[:2].concat(people[2:]).plot(), expected)
    np.testing.assert_array_equal(people_in(BOXES, SHAPE).plot(image, None, order), expected)
    style = DrawingStyle(('boxes',), 'none')
    np.testing.assert_array_equal(people.plot(style=style), draw_people(noise(), people, style))


def test_pixels_are_not_kept() -> None:
    image = noise()
    people = people_of(image)
    assert people._repr_png_() is not None
    for copied in (pickle.loads(pickle.dumps(people)), copy.deepcopy(people)):
        assert_equal(copied, people)
    del image
    assert people._repr_png_() is None
    for unknown in (people, people_of(b'bytes'), people_in(BOXES, SHAPE)):
        with pytest.raises(ValueError, match=r'people\.plot\(image\)'):
            unknown.plot()


def test_the_picture_of_a_notebook_is_small() -> None:
    image = np.zeros((1000, 3000, 3), np.uint8)
    people = replace(people_in(BOXES, (1000, 3000)), source=ImageSource.of(image, 'rgb'))
    png = people._repr_png_()
    assert png is not None
    assert PIL.Image.open(BytesIO(png)).size == (1024, 341)
