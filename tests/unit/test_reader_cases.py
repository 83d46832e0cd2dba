"""Files of users: one rule for each kind of mistake, in every reader; all ends in a line."""

from __future__ import annotations

import copy
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.boxes import BoxesError
from pipeline.cli import score as score_tool
from pipeline.cli.options import parse_cfg_options
from pipeline.config import CONFIG_FOLDER, ConfigError, load_config
from pipeline.datasets.annotations import AnnotationError, check_annotations, load_annotations
from pipeline.evaluation.coco import score, score_files
from pipeline.io.annotations import load_boxes, load_image_ids
from pipeline.io.coco_checks import as_flag, as_id, as_side, read_json
from pipeline.io.inputs import InputError, find_images
from pipeline.io.records import people_to_record, read_record
from pipeline.io.results import info_path, read_info
from pipeline.masks import find_rle_error
from pipeline.structures import Detections
from tests.commands import exit_code
from tests.run_fakes import make_people
from tests.toy_people import input_images, json_file, toy_annotations, toy_results, write

DEEP = '[' * 100_000
NAN, HUGE = float('nan'), 10**400


def with_categories(*categories: dict[str, Any], person: Any = 1) -> dict[str, Any]:
    content = toy_annotations() | {'categories': list(categories)}
    for row in content['annotations']:
        row['category_id'] = person
    return content


def changed(**changes: Any) -> dict[str, Any]:
    """Toy annotations, changed in the first annotation."""
    content = toy_annotations()
    content['annotations'][0] |= changes
    return content


# Which category is a person

PERSONS: dict[str, tuple[list[dict[str, Any]], Any, str | None]] = {
    'another case': ([{'id': 1, 'name': 'Person'}, {'id': 2, 'name': 'dog'}], 1, None),
    'spaces': ([{'id': 1, 'name': ' PERSON '}], 1, None),
    'from 0': ([{'id': 0, 'name': 'person'}, {'id': 1, 'name': 'bicycle'}], 0, None),
    'text id': ([{'id': '1', 'name': 'person'}], '1', None),
    'float id': ([{'id': 1.0, 'name': 'person'}], 1, None),
    'pedestrian': ([{'id': 3, 'name': 'car'}, {'id': 7, 'name': 'Pedestrian'}], 7, None),
    'human': ([{'id': 7, 'name': 'human'}], 7, None),
    'person before people': ([{'id': 1, 'name': 'people'}, {'id': 2, 'name': 'person'}], 2, None),
    'chosen by name': ([{'id': 1, 'name': 'rider'}, {'id': 2, 'name': 'Runner'}], 2, 'runner'),
    'chosen by id': ([{'id': 1, 'name': 'rider'}, {'id': 2, 'name': 'person'}], 1, '1'),
    'not listed': ([], 1, None),
}


@pytest.mark.parametrize('name', PERSONS)
def test_people_are_found_by_name(name: str, tmp_path: Path) -> None:
    categories, person, chosen = PERSONS[name]
    content = with_categories(*categories, person=person)
    path = json_file(tmp_path, content)
    loaded = load_annotations(path, person_category=chosen)
    assert [row['category_id'] for row in loaded.content['annotations']] == [1] * 6
    boxes = load_boxes(path, input_images('7.jpg'), person_category=chosen)
    assert len(boxes.by_image['7.jpg']) == 2  # without the crowd region
    for row in (rows := toy_results(tmp_path)):
        row['category_id'] = person
    results = write(tmp_path / 'results.json', rows)
    metrics = score_files(results, path, ['bbox'], person_category=chosen)
    assert metrics.num_results == len(rows)


@pytest.mark.parametrize(
    ('categories', 'chosen', 'message'),
    [
        ([{'id': 1, 'name': 'dog'}], None, r"no category is called \"person\", only 1 \('dog'\)"),
        ([{'id': 1, 'name': 'person'}, {'id': 2, 'name': 'Person'}], None, '2 categories are'),
        ([{'id': 1, 'name': 'pedestrian'}, {'id': 2, 'name': 'people'}], None, '2 categories are'),
        ([{'id': 1, 'name': 'person'}], 'people', r"'people', only 1 .*--person-category"),
        ([{'id': [1], 'name': 'person'}], None, r'unique number or text, got \[1\]'),
        ([{'id': 1, 'name': 'a'}, {'id': 1.0, 'name': 'person'}], None, 'number 1: the id must'),
        (None, None, 'no list of objects "categories"'),
        ('person', None, 'no list of objects "categories"'),
        ([3], None, 'entry 0 .* is 3'),
    ],
)
def test_wrong_categories_are_refused(
    categories: Any, chosen: Any, message: str, tmp_path: Path
) -> None:
    content = toy_annotations() | {'categories': categories}
    with pytest.raises(AnnotationError, match=message):
        load_annotations(json_file(tmp_path, content), person_category=chosen)
    with pytest.raises(AnnotationError, match=message):
        load_boxes(json_file(tmp_path, content), input_images('7.jpg'), person_category=chosen)


def test_results_of_other_categories_are_no_people(tmp_path: Path) -> None:
    content = with_categories({'id': 0, 'name': 'person'}, {'id': 1, 'name': 'bicycle'}, person=0)
    keys = ('image_id', 'score', 'bbox')
    ones = [{k: row[k] for k in keys} | {'category_id': 1} for row in toy_results(tmp_path)]
    zeros = [row | {'category_id': 0} for row in ones]
    assert score(zeros + ones, content, ['bbox']).num_results == len(zeros)
    with pytest.raises(ValueError, match='write people as category 0'):
        score(ones, content, ['bbox'])
    ours = [row | {'detector_bbox': [1, 1, 2, 2]} for row in ones]  # of this project
    assert score(ours, content, ['bbox']).num_results == len(ones)
    with pytest.raises(ValueError, match=r'category_id 0 is none of \[1\]; are they counted from'):
        score(zeros, toy_annotations(), ['bbox'])


def test_boxes_of_other_categories_are_counted(tmp_path: Path) -> None:
    rows = [{'image_id': 7, 'category_id': c, 'bbox': [1, 1, 5, 5]} for c in (0, 0, 3)]
    with pytest.raises(InputError, match='all rows are left out: 2 of category 0, 1 of category 3'):
        load_boxes(json_file(tmp_path, rows), input_images('7.jpg'))
    found = load_boxes(json_file(tmp_path, rows), input_images('7.jpg'), person_category='0')
    assert len(found.by_image['7.jpg']) == 2 and found.left_out.startswith('1 of category 3')


# Ids, names, sizes and flags


def test_values_have_one_meaning() -> None:
    wrong: list[Any] = [None, True, [1], {'a': 1}, 1.5, NAN, 1e300, HUGE, -HUGE, '']
    assert [as_id(v) for v in wrong] == [None] * len(wrong)
    assert [as_id(v) for v in (1, 1.0, -3, '01')] == [1, 1, -3, '01']
    assert [as_side(v) for v in (400, 400.0, 0, -1, '400', 10**9, NAN)] == [400, 400, *[None] * 5]
    assert [as_flag(v) for v in (0, 1, True, False, 1.0)] == [False, True, True, False, True]
    assert [as_flag(v) for v in ('0', 'false', 2, None, [], NAN, HUGE)] == [None] * 7


IMAGES: dict[str, tuple[list[dict[str, Any]], str]] = {
    'null': ([{'id': None, 'file_name': '7.jpg'}], 'image number 0: the id must be .* got None'),
    'a list': ([{'id': [1], 'file_name': '7.jpg'}], r'image number 0: the id must be .* \[1\]'),
    'a truth': ([{'id': True, 'file_name': '7.jpg'}], 'image number 0: the id must be'),
    'half': ([{'id': 0.5, 'file_name': '7.jpg'}], 'image number 0: the id must be'),
    '400 digits': ([{'id': HUGE, 'file_name': '7.jpg'}], 'image number 0: the id must be'),
    'twice': (
        [{'id': 1, 'file_name': '7.jpg'}, {'id': 1.0, 'file_name': '8.jpg'}],
        'image 1: there are two images of this id',
    ),
    'one name': (
        [{'id': 1, 'file_name': '7.jpg'}, {'id': 2, 'file_name': '7.jpg'}],
        "image 2: another image has the file_name '7.jpg'",
    ),
    'no name': ([{'id': 1}], 'image 1: there is no file_name'),
    'a number as name': ([{'id': 1, 'file_name': 7}], 'image 1: there is no file_name .* got 7'),
    'NUL': ([{'id': 1, 'file_name': '7.jpg\0'}], 'image 1: there is no file_name'),
    'no Unicode': ([{'id': 1, 'file_name': '\ud800.jpg'}], 'image 1: there is no file_name'),
}


@pytest.mark.parametrize('name', IMAGES)
def test_wrong_images_are_refused_by_all_readers(name: str, tmp_path: Path) -> None:
    rows, message = IMAGES[name]
    rows = [row | {'height': 200.0, 'width': 300} for row in rows]
    path = json_file(tmp_path, toy_annotations() | {'images': rows, 'annotations': []})
    readers: list[Callable[[], Any]] = [
        lambda: load_annotations(path),
        lambda: load_boxes(path, input_images('7.jpg')),
        lambda: load_image_ids(path, input_images('7.jpg')),
    ]
    for read in readers:
        with pytest.raises(InputError, match=rf'file\.json: {message}'):
            read()


@pytest.mark.parametrize(
    ('given', 'there', 'message'),
    [
        ('7', 7, "image_id '7' is not .*: it is text here and a number there"),
        (7, '7', 'image_id 7 is not .*: it is a number here and text there'),
        ([7], 7, r'image_id \[7\] is not among'),
        (None, 7, 'image_id None is not among'),
    ],
)
def test_ids_of_another_kind_are_named(
    given: Any, there: Any, message: str, tmp_path: Path
) -> None:
    content = changed(image_id=given)
    content['images'] = [{'id': there, 'file_name': '7.jpg', 'height': 200, 'width': 300}]
    content['annotations'] = content['annotations'][:1]
    with pytest.raises(AnnotationError, match=message):
        check_annotations(content)
    with pytest.raises(AnnotationError, match=message):
        load_boxes(json_file(tmp_path, content), input_images('7.jpg'))


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    content = copy.deepcopy(toy_annotations())
    for image in content['images']:
        image |= {'id': float(image['id']), 'height': 200.0, 'width': 300.0}
    for row in content['annotations']:
        row |= {'image_id': float(row['image_id']), 'id': float(row['id']), 'iscrowd': float(
            row['iscrowd'])}  # fmt: skip
    loaded, plain = check_annotations(content), check_annotations(toy_annotations())
    assert repr(loaded.content) == repr(plain.content)
    path = json_file(tmp_path, content)
    assert list(load_image_ids(path, input_images('7.jpg')).by_image.values()) == [7]


@pytest.mark.parametrize('empty', [None, []])
def test_null_and_empty_are_not_annotated(empty: Any) -> None:
    keys = ('segmentation', 'keypoints', 'area', 'iscrowd', 'num_keypoints')
    without = toy_annotations()
    for key in keys:
        del without['annotations'][3][key]
    nulls = toy_annotations()
    nulls['annotations'][3] |= dict.fromkeys(keys, empty)
    assert check_annotations(nulls).content == check_annotations(without).content
    assert check_annotations(nulls).tasks == ('bbox',)


# Names of images

NAMES: dict[str, tuple[str, list[str], str]] = {
    'backslashes': ('..\\..\\upload\\4\\a.jpg', ['a.jpg', 'b.jpg'], 'a.jpg'),
    'backslashes in a folder': ('x\\a.jpg', ['x/a.jpg', 'y/a.jpg'], 'x/a.jpg'),
    'percent': ('x/a%20b%C3%A4.jpg', ['a bä.jpg'], 'a bä.jpg'),
    'decomposed': (unicodedata.normalize('NFD', 'ü.jpg'), ['ü.jpg'], 'ü.jpg'),
    'decomposed on disk': ('ü.jpg', [unicodedata.normalize('NFD', 'ü.jpg')],
                           unicodedata.normalize('NFD', 'ü.jpg')),
    'a percent sign on disk': ('a%20b.jpg', ['a%20b.jpg', 'a b.jpg'], 'a%20b.jpg'),
}  # fmt: skip


@pytest.mark.parametrize('case', NAMES)
def test_names_are_matched(case: str, tmp_path: Path) -> None:
    name, there, expected = NAMES[case]
    boxes = load_boxes(json_file(tmp_path, {name: [[1, 1, 5, 5]]}), input_images(*there))
    assert list(boxes.by_image) == [expected]
    ids = load_image_ids(
        json_file(tmp_path, {'images': [{'id': 'x', 'file_name': name}]}), input_images(*there)
    )
    assert ids.by_image == {expected: 'x'}


RESULT = {'image_id': 1, 'bbox': [1, 1, 5, 5]}


@pytest.mark.parametrize(
    ('content', 'there', 'message'),
    [
        (3, ['a.jpg'], 'is a int'),
        ([3], ['a.jpg'], 'row 0 must be an object with image_id and bbox, got 3'),
        ({'1.jpg': []}, ['a/1.jpg', 'b/1.jpg'], "'1.jpg' can mean a/1.jpg or b/1.jpg"),
        ({'q/2.jpg': [], '2.jpg': []}, ['c/2.jpg'], 'both match c/2.jpg'),
        ({'annotations': []}, ['a.jpg'], 'it has no list'),
        ({'z.jpg': []}, ['a.jpg'], 'boxes for none of the 1 images, e.g. a.jpg; it has'),
        ({}, ['a.jpg'], 'boxes for none'),
        ([], ['a.jpg'], 'boxes for none'),
        ([RESULT], ['2.jpg'], 'boxes for none'),
        ([RESULT], ['1.jpg', '001.jpg'], 'row 0: image_id 1 can mean 1.jpg or 001.jpg'),
        ([RESULT], ['1.jpg', '1.png'], 'row 0: image_id 1 can mean'),
        ([RESULT], ['a/1.jpg', 'b/1.jpg'], 'row 0: image_id 1 can mean'),
        ([RESULT | {'image_id': [1]}], ['1.jpg'], 'row 0: needs image_id or file_name'),
        ([RESULT | {'image_id': '1'}], ['1.jpg'], 'row 0: .*: it is text here and a number there'),
        ([RESULT | {'file_name': 3}], ['1.jpg'], 'row 0: needs image_id or file_name'),
        ([RESULT | {'bbox': ['1', '1', '5', '5']}], ['1.jpg'], 'row 0: bbox .* not finite'),
        ([RESULT | {'bbox': [1, 2]}], ['1.jpg'], 'row 0: bbox must hold 4 numbers'),
        ([RESULT | {'bbox': [1, 1, -5, 5]}], ['1.jpg'], 'row 0: .*width and height must be >= 0'),
        ([RESULT | {'bbox': None}], ['1.jpg'], 'row 0: bbox must be a list'),
    ],
)
def test_boxes_files_that_do_not_fit(
    content: Any, there: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_boxes(json_file(tmp_path, content), input_images(*there))


# Boxes, from Python and from files

WRONG_BOXES: dict[str, tuple[Any, str]] = {
    'one box': ([10, 10, 50, 50], r'got shape \(4,\).*one box is \[\['),
    'eight numbers': (np.arange(8.0), r'got shape \(8,\)'),
    'a stack': (np.ones((1, 2, 4)), r'got shape \(1, 2, 4\)'),
    'columns': (np.ones((4, 3)), r'got shape \(4, 3\)'),
    'scores': ([[1, 1, 5, 5, 0.9]], 'are the last ones scores'),
    'text': ([['1', '1', '5', '5']], 'other values than numbers'),
    'null': ([[1, 1, 5, None]], 'other values than numbers'),
    'a word': ('abc', 'other values than numbers'),
    'a number': (3, r'got shape \(\)'),
    'at the edge': ([[-9, 0, 0, 20]], 'is outside the image'),
    'truths': (np.ones((2, 4), bool), 'other values than numbers'),
    'ragged': ([[1, 1, 5, 5], [1, 1]], r'must be \(N, 4\)'),
    '400 digits': ([[1, 1, HUGE, 5]], 'other values than numbers'),
    'NaN': ([[1, 1, NAN, 5]], 'is not finite'),
    'xywh': ([[50, 50, 20, 20]], 'is it x, y, width, height'),
    'flat': ([[5, 5, 5, 9]], 'needs x2 > x1'),
    'outside': ([[5000, 4, 5100, 20]], 'is outside the image'),
    'far': ([[-9000, 4, 20, 20]], 'reaches far out of the image'),
    'relative': ([[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]], 'are they fractions of the image'),
    'another name': ({'bboxes': [[1, 1, 5, 5]]}, 'have the keys boxes and scores'),
    'too many scores': ({'boxes': [[1, 1, 5, 5]], 'scores': [0.5, 0.5]}, 'scores of 1 boxes'),
    'high scores': ({'boxes': [[1, 1, 5, 5]], 'scores': [50]}, 'scores of 1 boxes'),
}


@pytest.mark.parametrize('name', WRONG_BOXES)
def test_wrong_boxes_are_refused(name: str) -> None:
    rows, message = WRONG_BOXES[name]
    with pytest.raises(BoxesError, match=message) as caught:
        Detections.from_boxes(rows, (40, 60))
    assert '\n' not in str(caught.value)


def test_boxes_with_named_scores() -> None:
    found = Detections.from_boxes({'boxes': [[1, 1, 5, 5]], 'scores': [0.25]}, (40, 60))
    assert found.box_scores.tolist() == [0.25]
    assert Detections.from_boxes([], (40, 60)).box_scores.tolist() == []


def test_a_nan_of_a_model_is_no_mistake_of_the_user() -> None:
    good = Detections.from_boxes([[1, 1, 5, 5]], (40, 60))
    with pytest.raises(ValueError, match='a model returned the box') as caught:
        Detections(good.boxes * np.float32(NAN), good.box_scores, good.detector_masks)
    assert 'xywh' not in str(caught.value)


def test_coco_rows_of_a_numpy_id_can_be_dumped() -> None:
    rows = make_people(2).to_coco(np.int64(7))  # type: ignore[arg-type]
    assert json.loads(json.dumps(rows))[0]['image_id'] == 7


# Masks

RLES: dict[str, tuple[Any, str]] = {
    'empty': ('', r'runs in \[0, 12\]'),
    'cut': ('52', 'cover'),
    'cut in a number': ('o', 'its end is cut'),
    'other characters': ('1 2', 'has other characters'),
    'other letters': ('äö', 'has other characters'),
    'printed bytes': ("b'54'", 'is printed Python bytes'),
    'a long number': ('PPPPPPPPPPPPP0', 'a run longer than any image'),
    'negative': ('J>', r'runs in \[0, 12\]'),
    'too long': ([5, 8], 'cover 13 of 12 px'),
    'halves': ([5.5, 6.5], 'must be whole numbers'),
    'nested': ([[5, 7]], 'must be whole numbers'),
    'of text': (['5', '7'], 'must be whole numbers'),
    '400 digits': ([HUGE], 'must be whole numbers'),
    'a number': (12, 'must be whole numbers or text, got int'),
    'null': (None, 'must be whole numbers or text, got NoneType'),
}


@pytest.mark.parametrize('name', RLES)
def test_damaged_rle_is_named(name: str, tmp_path: Path) -> None:
    counts, message = RLES[name]
    found = find_rle_error({'size': [3, 4], 'counts': counts}, 3, 4)
    assert found is not None and re.search(message, found) and len(found) < 200
    mask = {'size': [200, 300], 'counts': counts}
    with pytest.raises(AnnotationError, match='annotation 0'):
        check_annotations(changed(segmentation=mask))
    rows = toy_results(tmp_path)
    rows[1]['segmentation'] = mask
    with pytest.raises(ValueError, match=r'result 1 \(image 7\)'):
        score(rows, toy_annotations(), ['segm'])


# Files


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (DEEP.encode(), 'nested too deeply'),
        (b'1' * 5000, 'not a JSON file'),
        (b'\xff\xfe\x00', 'not a JSON file'),
        (b'[1] [2]', 'not a JSON file'),
        (b'', 'not a JSON file'),
    ],
)
def test_files_that_are_no_json(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / 'x.json'
    path.write_bytes(text)
    with pytest.raises(InputError, match=rf'x\.json: .*{message}'):
        read_json(path)
    with pytest.raises(InputError, match='not a JSON file'):
        read_json(f'{path}\0')
    with pytest.raises(InputError, match='cannot be read'):
        read_json(tmp_path)
    assert exit_code(score_tool.main, path, path) == 2


INFO = {
    'format': 'bbox-mask-pose-results/1', 'protocol': 'oracle', 'protocol_text': 'x',
    'from_truth': True, 'tasks': ['bbox'], 'data_set': 'd', 'annotations': 'a.json',
    'annotations_sha256': '0', 'config': 'c', 'config_text': 't', 'weights': {'a': 'b'},
    'precision': 'fp32', 'version': '1', 'image_ids': [1, 'x'], 'failed': [], 'notes': [],
}  # fmt: skip


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('protocol', 'none'), ('protocol', ['oracle']), ('tasks', ['pose']), ('tasks', 'bbox'),
        ('from_truth', 1), ('weights', []), ('weights', {'a': None}), ('image_ids', 3),
        ('image_ids', [[1]]), ('failed', 1), ('notes', [{}]), ('config_text', None), ('new', 1),
    ],
)  # fmt: skip
def test_wrong_side_files_are_named(key: str, value: Any, tmp_path: Path) -> None:
    results = tmp_path / 'r.json'
    write(info_path(results), INFO)
    assert read_info(results) is not None
    write(info_path(results), INFO | {key: value})
    with pytest.raises(InputError, match=rf'r\.info\.json does not fit this version: {key} is'):
        read_info(results)


RECORDS: dict[str, Callable[[Any], Any]] = {
    'a list': lambda r: [r],
    'no people': lambda r: r | {'people': None},
    'people are a number': lambda r: r | {'people': 3},
    'no size': lambda r: r | {'image': {}},
    'another size': lambda r: r | {'image': {'height': 4, 'width': 4}},
    'made with text': lambda r: r | {'made_with': 'x'},
    'short box': lambda r: r['people'][0]['box'].pop() and r,
    'NaN': lambda r: r['people'][0].update(score=NAN) or r,
    'text': lambda r: r['people'][0].update(score='high') or r,
    'too large': lambda r: r['people'][0].update(score=1e300) or r,
    '400 digits': lambda r: r['people'][0].update(round=HUGE) or r,
    '64 bits': lambda r: r['people'][0].update(score=2**63) or r,
    'probability': lambda r: r['people'][0]['keypoint_presence'].__setitem__(3, 1.5) or r,
    'another source': lambda r: r['people'][0].update(mask_source=3) or r,
    'too many prompts': lambda r: r['people'][0].update(prompts=[0] * 99) or r,
    'prompt in part': lambda r: r['people'][0].update(prompts=[0.5]) or r,
    'prompt beyond': lambda r: r['people'][0].update(prompts=[99]) or r,
    'round in part': lambda r: r['people'][0].update(round=1.5) or r,
    'round of 33 bits': lambda r: r['people'][0].update(round=2**32) or r,
    'size in part': lambda r: r | {'image': {k: v + 0.5 for k, v in r['image'].items()}},
    'points in part': lambda r: r | {'num_keypoints': 17.5},
    'cut mask': lambda r: r['people'][0]['mask'].update(counts='o') or r,
    'number as text': lambda r: r['people'][0].update(score='0.5') or r,
    'round as text': lambda r: r['people'][0].update(round='1') or r,
    'another number': lambda r: r['people'][1].update(person_id=7) or r,
    'no truth': lambda r: r | {'mask_boxes': []},
    'no mask': lambda r: r['people'][0].update(mask=None) or r,
}


@pytest.mark.parametrize('name', RECORDS)
def test_a_damaged_record_is_no_record(name: str, tmp_path: Path) -> None:
    record = people_to_record(make_people(2))
    path = write(tmp_path / 'a.json', record)
    assert read_record(path) == json.loads(json.dumps(record))
    assert read_record(write(path, RECORDS[name](record))) is None
    path.write_text(DEEP)
    assert read_record(path) is None and read_record(tmp_path) is None


@pytest.mark.parametrize('source', ['', 'a\0b', '@', '~no-such-user/x', '@~no-such-user/x.txt'])
def test_arguments_that_are_no_path(source: str) -> None:
    (failure,) = find_images([source]).failures
    assert failure.error == 'WrongInputError' and 'no ' in failure.message


@pytest.mark.parametrize(
    'url', ['https://1:2:3/x.jpg', 'http://[/x.jpg', 'http://a b/x.jpg', 'http://\x80.../x.jpg']
)
def test_urls_that_are_none(url: str) -> None:
    (failure,) = find_images([url]).failures
    assert failure.error == 'ImageReadError' and 'cannot be downloaded' in failure.message


@pytest.mark.parametrize('content', [b'\xff\xfe', b'a\0b.jpg\n', b'~no-such-user/a.jpg\n'])
def test_wrong_list_files_are_failures(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_bytes(content)
    assert len(find_images([str(tmp_path / 'list.txt')]).failures) == 1


# Settings


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('detector = dict(', ":2: SyntaxError: '.' was never closed"),
        ('x = "', ':2: SyntaxError: unterminated'),
        ('x = 02', ':2: SyntaxError'),
        ('x = nothing', ":2: NameError: name 'nothing'"),
        ('import json\njson.loads("[")', ':3: JSONDecodeError'),
        ('def f():\n    return 1 / 0\nx = f()', ':3: ZeroDivisionError'),
        ('exit()', ':2: SystemExit'),
        ("custom_imports = dict(imports=['nope'])", ': ImportError: Failed to import nope'),
        ("_base_ = 'absent.py'", ': .*absent.py: FileNotFoundError'),
        ("_base_ = '" + 'x.' * 999 + "py'", ': .*x.x.x.'),
        ('x = "\xff"'.encode('latin-1'), ': UnicodeDecodeError'),
        ('detector = 3', ': detector must be a dict|: TypeError'),
        ('loop = dict(min_score=float("nan"))', ': loop.min_score must be a finite number'),
        ('loop = dict(round_cap=10**400)', ': loop.round_cap must be a finite number'),
        ('detector = dict(checkpoint="a\\0")', ': detector.checkpoint has a NUL character'),
        (
            'detector = dict(slices=dict(grid="2x2" * 999))',
            ': detector.slices.grid has .* over 1000',
        ),
        ('x = ' + '[' * 3000, ':.* nested too deeply|:2: SyntaxError'),
        ('detector = {3: 4}', ": unknown setting 'detector.3'"),
    ],
)
def test_broken_configs_name_file_and_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / 'mine.py'
    added = text if isinstance(text, bytes) else text.encode()
    base = '' if added.startswith(b'_base_') else f"_base_ = '{CONFIG_FOLDER / 'bmp_compact.py'}'"
    path.write_bytes(base.encode() + b'\n' + added)
    with pytest.raises(ConfigError, match=rf'mine\.py({message})') as caught:
        load_config(path)
    assert '\n' not in str(caught.value) and '/tmp/tmp' not in str(caught.value)
    assert len(str(caught.value)) < 1600


def test_the_line_of_a_base_is_named(tmp_path: Path) -> None:
    (tmp_path / 'base.py').write_text('\n\nx = nothing')
    (tmp_path / 'mine.py').write_text("_base_ = 'base.py'")
    with pytest.raises(ConfigError, match=r'mine\.py: .*base\.py:3: NameError'):
        load_config(tmp_path / 'mine.py')


@pytest.mark.parametrize(
    ('pairs', 'message'),
    [
        (['a=(1,2'], 'Imbalanced brackets'),
        (['loop.min_score.x=1'], 'loop.min_score.x=1 does not fit'),
        (['loop.min_score=nan'], 'must be a finite number'),
        (['loop.min_score=inf'], 'must be a finite number'),
        ([f'loop.round_cap={HUGE}'], 'must be a finite number'),
        (['loop=[1]'], 'loop must be a dict|does not fit'),
        (['.=1'], 'unknown setting'),
        (['a=' + '[' * 3000 + ']' * 3000], 'recursion'),
    ],
)
def test_wrong_overrides_are_named(pairs: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_config('bmp_compact', parse_cfg_options(pairs))
    assert len(str(caught.value)) < 500
