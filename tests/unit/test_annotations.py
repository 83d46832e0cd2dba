from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.datasets.annotations import (
    AnnotationError,
    check_annotations,
    load_annotations,
)
from pipeline.io.coco import TASKS, Task
from pipeline.io.inputs import InputError
from pipeline.keypoints import COCO_NAMES
from pipeline.masks import decode_counts
from tests.toy_people import person, toy_annotations, write

Content = dict[str, Any]
NAN, INF, HUGE = float('nan'), float('inf'), 10**400
RLE = {'size': [200, 300], 'counts': [30000, 10000, 20000]}


def with_person(**changes: Any) -> Content:
    """Toy annotations with person 55 in image 7; ``...`` removes a key."""
    extra = person(55, 7, [1, 1, 20, 20]) | changes
    content = toy_annotations()
    content['annotations'].append({k: v for k, v in extra.items() if v is not ...})
    return content


def with_image(**changes: Any) -> Content:
    image = {'id': 12, 'file_name': '12.jpg', 'height': 200, 'width': 300} | changes
    content = toy_annotations()
    content['images'].append({k: v for k, v in image.items() if v is not ...})
    return content


def compressed(rle: dict[str, Any]) -> dict[str, Any]:
    packed = coco_mask.frPyObjects(rle, *rle['size'])
    return {'size': rle['size'], 'counts': packed['counts'].decode()}


FATAL: list[tuple[str, Callable[[], Any], str]] = [
    ('a list', lambda: [], 'not a COCO annotation file: it has no list of objects "images"'),
    ('no annotations', lambda: {'images': []}, 'no list of objects "annotations"'),
    ('rows of text', lambda: {'images': ['a.jpg'], 'annotations': []}, 'objects "images"'),
    ('category', lambda: with_person(category_id=18), r'annotation 55 .*category_id 18 is none of'),
    ('image id', lambda: with_person(image_id=1234), 'annotation 55 .*image_id 1234 is not among'),
    ('no image id', lambda: with_person(image_id=...), 'image_id None is not among'),
    ('id twice', lambda: with_person(id=0), r'annotation 0 \(image 7\): there are two of this id'),
    ('no size', lambda: with_image(width=...), 'image 12: height and width must be px'),
    ('size', lambda: with_image(height=0), 'must be px, got 0 and 300'),
    ('no box', lambda: with_person(bbox=..., segmentation=...), 'there is no bbox'),
    ('box of text', lambda: with_person(bbox='1 2 3 4'), r'bbox must be a list, got .* \(str\)'),
    ('short box', lambda: with_person(bbox=[1, 2, 3]), 'bbox must hold 4 numbers, got 3'),
    ('NaN box', lambda: with_person(bbox=[1, NAN, 3, 4]), 'bbox .*not finite'),
    ('negative box', lambda: with_person(bbox=[1, 2, -3, 4]), 'width and height must be >= 0'),
    ('NaN keypoint', lambda: with_person(keypoints=[NAN] * 51), 'keypoints .*not finite'),
    ('inf keypoint', lambda: with_person(keypoints=[INF] * 51), 'keypoints .*not finite'),
    ('keypoints', lambda: with_person(keypoints=[1] * 50), 'keypoints must hold 51 .* 50'),
    ('flags', lambda: with_person(keypoints=[5] * 51), r'flags must be 0, 1 or 2, got \[5\]'),
    ('area', lambda: with_person(area=-1), 'area must be a number >= 0, got -1'),
    ('mask file', lambda: with_person(segmentation='mask.png'), 'polygons or RLE, got str'),
    ('odd polygon', lambda: with_person(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), 'x, y pairs'),
    ('NaN polygon', lambda: with_person(segmentation=[[1, 2, 3, 4, 5, NAN]]), 'not finite'),
    ('RLE size', lambda: with_person(segmentation={'size': [5, 5], 'counts': [25]}),
     r'RLE of size \[5, 5\] for an image of \[200, 300\]'),
    ('no counts', lambda: with_person(segmentation={'size': [200, 300]}), 'needs size and counts'),
    ('short RLE', lambda: with_person(segmentation=RLE | {'counts': [10, 20]}), '30 of 60000 px'),
    ('half RLE', lambda: with_person(segmentation=RLE | {'counts': compressed(RLE)['counts'][:-1]}),
     'its end is cut'),
    ('crowd of text', lambda: with_person(iscrowd='0'), "iscrowd must be 0 or 1, got '0'"),
    ('crowd of a word', lambda: with_person(iscrowd='false'), 'iscrowd must be 0 or 1'),
    ('crowd of 2', lambda: with_person(iscrowd=2), 'iscrowd must be 0 or 1, got 2'),
    ('id of a list', lambda: with_person(id=[1]), 'the id must be a number or text'),
    ('huge area', lambda: with_person(area=HUGE), 'area must be a number'),
    ('huge box', lambda: with_person(bbox=[1, 2, HUGE, 4]), 'not finite numbers'),
    ('wide box', lambda: with_person(bbox=[1, 2, 1e300, 4]), 'beyond 1000000 px'),
    ('far keypoints', lambda: with_person(keypoints=[1e9] * 51), 'beyond 1000000 px'),
    ('far polygon', lambda: with_person(segmentation=[[0, 0, 5e5, 0, 5, 5]]), 'far out of the ima'),
    ('far to the left', lambda: with_person(segmentation=[[0, 0, -400, 0, 5, 5]]), 'far out of'),
    ('category of a dict', lambda: with_person(category_id={'a': 1}), 'is none of'),
]  # fmt: skip


@pytest.mark.parametrize(('content', 'reason'), [w[1:] for w in FATAL], ids=[w[0] for w in FATAL])
def test_errors_are_one_line(content: Callable[[], Any], reason: str) -> None:
    with pytest.raises(AnnotationError, match=reason) as caught:
        check_annotations(content())
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 300


LACKING: list[tuple[str, Content, Task, str]] = [
    ('no mask', {'segmentation': ...}, 'segm', 'no segmentation'),
    ('empty mask', {'segmentation': []}, 'segm', 'no segmentation'),
    ('thin polygon', {'segmentation': [[1, 2, 3, 4]]}, 'segm', 'the mask is empty'),
    ('empty RLE', {'segmentation': RLE | {'counts': [60000]}}, 'segm', 'the mask is empty'),
    ('no keypoints', {'keypoints': ...}, 'keypoints', 'no keypoints'),
]


@pytest.mark.parametrize(
    ('changes', 'task', 'reason'), [w[1:] for w in LACKING], ids=[w[0] for w in LACKING]
)
def test_missing_input_of_a_selected_task_is_an_error(
    changes: Content, task: Task, reason: str
) -> None:
    content = with_person(**changes)
    others = tuple(t for t in TASKS if t != task)
    assert check_annotations(content, tasks=others).tasks == others
    with pytest.raises(AnnotationError, match=f"annotation 55 .*{reason}; task '{task}' needs it"):
        check_annotations(content, tasks=TASKS)
    loaded = check_annotations(content)
    assert loaded.tasks == others
    assert any(f'{task} is left out: annotation 55' in line for line in loaded.warnings)


ODD: list[tuple[str, Content, str]] = [
    ('flat box', {'bbox': [1, 1, 0, 5]}, 'the box has no area'),
    ('no area', {'area': ...}, 'no area; using the area of the mask'),
    ('area 0', {'area': 0}, 'the area is 0'),
    ('one thin polygon', {'segmentation': [[1, 2, 3, 4], [1, 1, 9, 1, 9, 9]]}, 'fewer than 3'),
    ('ignored', {'num_keypoints': 0}, 'num_keypoints is 0 and 16 are labelled; .* is ignored'),
]


@pytest.mark.parametrize(('changes', 'reason'), [w[1:] for w in ODD], ids=[w[0] for w in ODD])
def test_minor_problems_are_warnings(changes: Content, reason: str) -> None:
    loaded = check_annotations(with_person(**changes), tasks=TASKS)
    (warning,) = loaded.warnings
    assert re.match(rf'annotation 55 \(image 7\): .*{reason}', warning)


def test_each_kind_is_reported_once_with_its_count() -> None:
    content = with_person(bbox=[1, 2, -3, 4])
    content['annotations'].append(person(56, 7, [1, 2, 3, -4], area=12))
    content['annotations'].append(person(57, 7, [1, 1, 9, 9], keypoints=[1]))
    with pytest.raises(AnnotationError) as caught:
        check_annotations(content)
    first, second = str(caught.value).splitlines()
    assert first.startswith('annotation 55') and first.endswith('(2 in all: wrong box)')
    assert second.startswith('annotation 57') and 'in all' not in second


def test_people_are_completed_in_a_copy() -> None:
    content = with_person(area=..., segmentation=RLE, num_keypoints=..., iscrowd=...)
    content['categories'] = [{'id': 1, 'name': 'person'}, {'id': 3, 'name': 'car'}]
    content['annotations'].append(person(90, 9, [0, 0, 5, 5], category_id=3))
    before = copy.deepcopy(content)
    loaded = check_annotations(content)
    assert content == before
    assert [a['id'] for a in loaded.content['annotations']] == [0, 1, 2, 3, 4, 5, 55]
    last = loaded.content['annotations'][-1]
    assert (last['area'], last['num_keypoints'], last['iscrowd']) == (10000, 16, 0)
    assert loaded.content['categories'] == [{'id': 1, 'name': 'person'}]
    assert loaded.content['images'] == content['images']


def test_crowd_regions_need_neither_mask_nor_keypoints() -> None:
    content = with_person(iscrowd=1, segmentation=..., keypoints=..., num_keypoints=...)
    loaded = check_annotations(content)
    assert loaded.tasks == TASKS
    region = loaded.content['annotations'][-1]
    assert region['segmentation'] == [[1, 1, 21, 1, 21, 21, 1, 21]]
    assert (region['keypoints'], region['num_keypoints']) == ([0] * 51, 0)


def crowdpose(**changes: Any) -> Content:
    points = [v for i in range(14) for v in (10 + i, 20 + i, 2)]
    extra = {'keypoints': points, 'num_keypoints': 12, 'area': ..., 'segmentation': ...} | changes
    content = with_person(**extra)
    content['annotations'] = content['annotations'][-1:]
    content['images'] = [i | {'crowdIndex': 0.3} for i in content['images']]
    return content


def test_crowdpose_has_14_keypoints() -> None:
    loaded = check_annotations(crowdpose(), tasks=('bbox', 'keypoints'))
    assert (loaded.convention, loaded.warnings) == ('crowdpose14', ())
    (row,) = loaded.content['annotations']
    assert row['area'] == pytest.approx(0.53 * 20 * 20)
    assert row['num_keypoints'] == 12  # CrowdPose does not count head and neck
    with pytest.raises(AnnotationError, match='must hold 42 numbers, got 51'):
        check_annotations(crowdpose(keypoints=[1] * 51), convention='crowdpose14')
    named = crowdpose()
    named['categories'][0]['keypoints'] = list(COCO_NAMES)
    with pytest.raises(AnnotationError, match='are those of coco17, not of crowdpose14'):
        check_annotations(named, convention='crowdpose14')


def test_images_without_a_crowd_index_are_counted() -> None:
    content = crowdpose()
    for image in content['images'][:2]:
        del image['crowdIndex']
    warnings = check_annotations(content, tasks=('bbox',)).warnings
    assert warnings == (
        'image 7: no crowdIndex; it counts for none of easy, medium, hard '
        '(2 in all: no crowdIndex)',
    )


@pytest.mark.parametrize(
    ('name', 'reason'),
    [('broken', 'not a JSON file'), ('absent', 'cannot be read'), ('wrong', 'annotation 55')],
)
def test_files_are_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / 'broken.json').write_text('{"images": [')
    write(tmp_path / 'wrong.json', with_person(bbox=[1, 2, 3]))
    with pytest.raises(InputError, match=rf'{name}\.json: {reason}'):
        load_annotations(tmp_path / f'{name}.json')


@pytest.mark.parametrize('density', [0.001, 0.1, 0.5, 0.999])
def test_runs_of_compressed_masks_equal_pycocotools(density: float) -> None:
    mask = np.asfortranarray(np.random.default_rng(0).random((97, 61)) < density).astype(np.uint8)
    runs = decode_counts(coco_mask.encode(mask)['counts'])
    assert (runs[1:] > 0).all() and decode_counts('').tolist() == []
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.ravel(order='F'))


@pytest.mark.parametrize('name', ['person_keypoints.json', 'crowd_masks.json'])
def test_files_of_coco_pass(name: str, samples: Path) -> None:
    path = samples / 'dev' / name
    content = json.loads(path.read_text())
    loaded = load_annotations(path)
    assert set(loaded.tasks) >= {'bbox', 'segm'}
    for row, expected in zip(loaded.content['annotations'], content['annotations'], strict=True):
        assert row == expected | {'category_id': 1}


SAMPLES: list[tuple[str, tuple[Task, ...], str]] = [
    ('ochuman/test_ochuman.json', TASKS, 'coco17'),
    ('crowdpose/test_crowdpose.json', ('bbox', 'keypoints'), 'crowdpose14'),
    ('exlpose/test_exlpose.json', ('bbox', 'keypoints'), 'crowdpose14'),
    ('humanart/test_humanart.json', ('bbox', 'keypoints'), 'coco17'),
    ('aic/test_aic.json', ('bbox',), 'coco17'),  # 14 keypoints in another order
    ('posetrack18/annotations/test_posetrack18_val.json', ('bbox',), 'coco17'),  # 17, no eyes
]


@pytest.mark.parametrize(('name', 'tasks', 'convention'), SAMPLES, ids=[s[0] for s in SAMPLES])
def test_samples_of_other_data_sets(
    name: str, tasks: tuple[Task, ...], convention: str, samples: Path
) -> None:
    loaded = load_annotations(samples / 'test_samples' / name)
    assert (loaded.tasks, loaded.convention) == (tasks, convention)


BAD_VALUES: list[Any] = [
    None, 'x', '', -1, 0, 1.5, NAN, True, [], {}, [[]], [None] * 4, ['x'] * 51, {'size': None},
    {'size': [200, 300], 'counts': None}, {'size': [200, 300], 'counts': ['x']},
    {'size': [200, 300], 'counts': 'é' * 30}, {'size': 5, 'counts': []}, [[None] * 6], [5],
]  # fmt: skip


@pytest.mark.parametrize('section', ['annotations', 'images', 'categories'])
def test_values_of_any_type_pass_or_raise_annotation_error(section: str) -> None:
    named = [{'id': 1, 'name': 'person', 'keypoints': list(COCO_NAMES)}]
    for value in BAD_VALUES:
        for key in (with_person() | {'categories': named})[section][-1]:
            content = with_person() | {'categories': copy.deepcopy(named)}
            content[section][-1][key] = value
            with contextlib.suppress(AnnotationError):
                check_annotations(content)
        with pytest.raises(AnnotationError):
            check_annotations(with_person() | {section: [value]})
