from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.cli import convert_dataset
from pipeline.datasets.annotations import load_annotations
from pipeline.datasets.convert import assign_image_ids
from pipeline.datasets.convert_ochuman import OCHUMAN_NAMES, convert_ochuman
from pipeline.io.progress import Reporter
from pipeline.keypoints import COCO_NAMES
from tests.commands import exit_code
from tests.toy_people import toy_annotations, write

FORMATS = ('ochuman', 'crowdpose', 'cocopersons', 'coco')


def convert(tmp_path: Path, *args: Any) -> tuple[int, dict[str, Any]]:
    """Exit code and file of the tool; FORMAT and SOURCE first."""
    out = tmp_path / 'out.json'
    code = exit_code(convert_dataset.main, args[0], args[1], out, *args[2:])
    return code, json.loads(out.read_text()) if out.exists() else {}


def save_image(path: Path, width: int = 60, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (width, height), 'grey').save(path)
    return path


# OCHuman


def native_person(**changes: Any) -> dict[str, Any]:
    """Box (10, 5) to (30, 35) with an outline that fills it and a hole in the middle."""
    points = [v for i, _ in enumerate(OCHUMAN_NAMES) for v in (10 + i, 5 + i, i % 4)]
    return {
        'bbox': [10, 5, 30, 35],
        'keypoints': points,
        'segms': {
            'outer': [[10, 5, 30, 5, 30, 35, 10, 35]],
            'inner': [[18, 15, 22, 15, 22, 25, 18, 25]],
        },
        'max_iou': 0.8,
    } | changes


def native(**people: list[dict[str, Any]]) -> dict[str, Any]:
    images = [
        {'file_name': f'{name[1:]}.jpg', 'width': 60, 'height': 40, 'annotations': rows}
        for name, rows in people.items()
    ]
    return {'images': images}


def test_ochuman_to_coco(tmp_path: Path) -> None:
    source = write(tmp_path / 'ochuman.json', native(_000817=[native_person()]))
    code, content = convert(tmp_path, 'ochuman', source)
    assert code == 0
    assert content['images'] == [{'id': 817, 'file_name': '000817.jpg', 'height': 40, 'width': 60}]
    (person,) = content['annotations']
    assert person['bbox'] == [10, 5, 20, 30]
    assert person['area'] == 600  # of the box, as in the official files
    mask = coco_mask.decode(person['segmentation'])
    assert mask.sum() == 600 - 40
    assert (mask[5:35, 10:30].sum(), mask[15:25, 18:22].sum()) == (560, 0)
    names = dict(zip(COCO_NAMES, np.reshape(person['keypoints'], (17, 3)).tolist(), strict=True))
    assert names['nose'] == [0, 0, 0]  # 16 % 4 = 0: missing
    assert names['right_eye'] == [27, 22, 2]  # 1: seen
    assert names['left_eye'] == [28, 23, 1]  # 2: hidden by himself
    assert names['left_shoulder'] == [13, 8, 1]  # 3: hidden by others
    assert person['num_keypoints'] == 13
    assert load_annotations(tmp_path / 'out.json').tasks == ('bbox', 'segm', 'keypoints')


def test_keypoint_names_and_flags_of_the_file_are_used(tmp_path: Path) -> None:
    content = native(_000001=[native_person()])
    content['keypoint_names'] = [*COCO_NAMES, 'head', 'neck']
    content['keypoint_visible'] = dict(missing=3, vis=0, self_occluded=1, others_occluded=2)
    _, coco = convert(tmp_path, 'ochuman', write(tmp_path / 'a.json', content))
    points = np.reshape(coco['annotations'][0]['keypoints'], (17, 3)).tolist()
    assert points[:4] == [[10, 5, 2], [11, 6, 1], [12, 7, 1], [0, 0, 0]]
    content['keypoint_names'][0] = 'beak'
    code, _ = convert(tmp_path, 'ochuman', write(tmp_path / 'a.json', content), '--overwrite')
    assert code == 2


@pytest.mark.parametrize(('others', 'crowds'), [('drop', []), ('ignore', [0, 1])])
def test_people_without_mask_are_dropped_or_ignored(
    tmp_path: Path, others: str, crowds: list[int]
) -> None:
    bare = native_person(keypoints=None, segms=None, bbox=[40, 10, 50, 30])
    source = write(tmp_path / 'a.json', native(_1=[native_person(), bare], _2=[bare]))
    _, content = convert(tmp_path, 'ochuman', source, '--others', others)
    assert [image['id'] for image in content['images']] == [1]  # no person to score in 2
    assert [a['iscrowd'] for a in content['annotations']] == (crowds or [0])
    if crowds:
        assert coco_mask.area(content['annotations'][1]['segmentation']) == 200
    load_annotations(tmp_path / 'out.json', tasks=('bbox', 'segm', 'keypoints'))


INVALID = {
    '2': ([native_person(), native_person(keypoints=[1, 2, 3])],
          'cannot be converted (person 2: keypoints must hold 57 finite numbers'),
    '3': ([native_person(bbox=[10, 5, 10, 35])],
          'cannot be converted (person 1: the box has no area'),
    '4': ([native_person(segms={'outer': []})],
          'cannot be converted (person 1: segms has no outer polygon'),
    '5': ([native_person()], 'no such file'),
    '6': ([native_person()], 'is not an image in a known format'),
    '7': ([native_person()], 'is 61 x 40 px, the annotations expect 60 x 40 px'),
}  # fmt: skip


def test_invalid_ochuman_images_are_reported_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = {f'_{name}': rows for name, (rows, _) in INVALID.items()}
    source = write(tmp_path / 'a.json', native(_1=[native_person()], **people))
    for number in (1, 2, 3, 4, 7):
        save_image(tmp_path / 'images' / f'{number}.jpg', width=61 if number == 7 else 60)
    (tmp_path / 'images' / '6.jpg').write_bytes(b'not an image')
    code, content = convert(tmp_path, 'ochuman', source, '--images', tmp_path / 'images')
    assert code == 1
    assert [image['file_name'] for image in content['images']] == ['1.jpg']
    assert {a['image_id'] for a in content['annotations']} == {1}
    output = capsys.readouterr().err
    for name, (_, message) in INVALID.items():
        assert f'left out: {name}.jpg: {message}' in output


@pytest.mark.parametrize('name', ['val.json', 'val.txt'])
def test_only_images_of_a_split(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / 'a.json', native(_1=[native_person()], _2=[native_person()]))
    split, as_text = tmp_path / name, name.endswith('txt')
    split.write_text('2.jpg\n\n' if as_text else '{"images": [{"id": 2, "file_name": "2.jpg"}]}')
    code, content = convert(tmp_path, 'ochuman', source, '--only', split)
    assert (code, [image['id'] for image in content['images']]) == (0, [2])
    split.write_text('9.jpg' if as_text else '{"images": [{"id": 9, "file_name": "9.jpg"}]}')
    result = convert_ochuman(source, None, Reporter(), only=split)
    assert [problem.name for problem in result.problems] == ['9.jpg']


def test_wrong_box_format_is_detected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far = {'outer': [[40, 30, 50, 30, 50, 38, 40, 38]]}
    person = native_person(bbox=[40, 30, 10, 8], segms=far)
    source = write(tmp_path / 'a.json', native(_1=[person]))
    code, _ = convert(tmp_path, 'ochuman', source)
    assert code == 2 and 'try --boxes xywh' in capsys.readouterr().err
    code, content = convert(tmp_path, 'ochuman', source, '--boxes', 'xywh')
    assert (code, content['annotations'][0]['bbox']) == (0, [40, 30, 10, 8])


def as_native(coco: dict[str, Any]) -> dict[str, Any]:
    """Real people of OCHuman from its COCO file, written as `ochuman.json` would have them."""
    flags = {0: 0, 2: 1, 1: 3}
    keys = ('file_name', 'width', 'height')
    images = {i['id']: {k: i[k] for k in keys} | {'annotations': []} for i in coco['images']}
    for row in coco['annotations']:
        points = np.reshape(row['keypoints'], (17, 3)).tolist()
        by_name = dict(zip(COCO_NAMES, points, strict=True))
        native_points = [by_name.get(name, [0, 0, 0]) for name in OCHUMAN_NAMES]
        x, y, w, h = row['bbox']
        images[row['image_id']]['annotations'].append({
            'bbox': [x, y, x + w, y + h],
            'keypoints': [v for a, b, f in native_points for v in (a, b, flags[int(f)])],
            'segms': {'outer': [[x, y, x + w, y, x + w, y + h, x, y + h]], 'inner': []},
        })  # fmt: skip
    return {'images': [*images.values()]}


def test_ochuman_equals_the_official_coco_file(tmp_path: Path, samples: Path) -> None:
    path = samples / 'test_samples/ochuman/test_ochuman.json'
    official = json.loads(path.read_text())
    source = write(tmp_path / 'ochuman.json', as_native(official))
    code, converted = convert(tmp_path, 'ochuman', source, '--images', path.parent)
    assert code == 0
    ids = {image['id']: image['file_name'] for image in official['images']}
    expected = sorted(official['annotations'], key=lambda row: (ids[row['image_id']], row['id']))
    for result, row in zip(converted['annotations'], expected, strict=True):
        for key in ('bbox', 'area', 'num_keypoints', 'keypoints', 'iscrowd', 'category_id'):
            assert result[key] == row[key], key


# CIHP


@pytest.fixture
def cihp(tmp_path: Path) -> Path:
    """Two valid images, and one of each kind of invalid one."""
    root = tmp_path / 'Validation'
    for number in (1, 2, 3, 4, 5, 6):
        save_image(root / 'Images' / f'000000{number}.jpg')
    people = np.zeros((40, 60), np.uint8)
    people[5:30, 10:20] = 1
    people[10:35, 18:40] = 2
    valid = Image.fromarray(people)
    maps = {
        1: valid, 2: Image.fromarray(people * 0, 'L').convert('P'), 3: valid,
        4: valid.convert('RGB'), 5: Image.fromarray(people[:, :30]), 7: valid,
    }  # fmt: skip
    (root / 'Human_ids').mkdir()
    for number, image in maps.items():
        image.save(root / 'Human_ids' / f'000000{number}.png')
    damaged = root / 'Human_ids' / '0000003.png'
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    return root


def test_cihp_to_coco_reports_invalid_images(
    tmp_path: Path, cihp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, content = convert(tmp_path, 'cihp', cihp)
    assert code == 1
    assert [(i['id'], i['file_name']) for i in content['images']] == [
        (1, '0000001.jpg'), (2, '0000002.jpg'),
    ]  # fmt: skip
    first, second = content['annotations']
    assert (first['bbox'], first['area']) == ([10, 5, 10, 25], 25 * 10 - 20 * 2)
    assert (second['bbox'], second['area']) == ([18, 10, 22, 25], 25 * 22)
    both = coco_mask.decode([first['segmentation'], second['segmentation']])
    assert both.sum(2).max() == 1
    output = capsys.readouterr().err
    for line in (
        '0000003.jpg: its map in Human_ids is damaged',
        '0000004.jpg: its map is a colour image (RGB)',
        '0000005.jpg: the image has (40, 60) (H, W) px, its map in Human_ids (40, 30)',
        '0000006.jpg: there is no map of this name in Human_ids',
        '0000007.jpg: there is no image of this name in Images',
    ):
        assert f'left out: {line}' in output
    assert load_annotations(tmp_path / 'out.json').tasks == ('bbox', 'segm')


# CrowdPose, COCOPersons, any COCO file


def test_crowdpose_gets_areas(tmp_path: Path, samples: Path) -> None:
    source = samples / 'test_samples/crowdpose/test_crowdpose.json'
    code, content = convert(tmp_path, 'crowdpose', source, '--images', source.parent)
    original = json.loads(source.read_text())
    assert code == 0
    assert content['images'] == original['images']  # with crowdIndex
    for row, before in zip(content['annotations'], original['annotations'], strict=True):
        assert row == before | {'area': pytest.approx(0.53 * before['bbox'][2] * before['bbox'][3])}


def test_no_output_without_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / 'toy.json', toy_annotations())
    code, content = convert(tmp_path, 'coco', source, '--images', tmp_path)
    assert (code, content) == (2, {})
    output = capsys.readouterr().err
    assert output.count('left out: ') == 3 and 'no images left' in output


@pytest.mark.parametrize(
    ('others', 'kept', 'crowds'),
    [('drop', [0, 1, 2, 3, 4], [2]), ('ignore', [0, 1, 2, 3, 4, 5], [2, 5])],
)
def test_cocopersons_have_keypoints(
    tmp_path: Path, others: str, kept: list[int], crowds: list[int]
) -> None:
    source = write(tmp_path / 'toy.json', toy_annotations())
    code, content = convert(tmp_path, 'cocopersons', source, '--others', others)
    assert (code, [image['id'] for image in content['images']]) == (0, [7, 3])
    assert [a['id'] for a in content['annotations']] == kept
    assert [a['id'] for a in content['annotations'] if a['iscrowd']] == crowds


def test_coco_file_is_validated_and_completed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = toy_annotations() | {'categories': [{'id': 4, 'name': 'person'}]}
    for row in content['annotations']:
        row['category_id'] = 4
        del row['area']
    source = write(tmp_path / 'toy.json', content)
    save_image(tmp_path / '3.jpg', 300, 200)
    save_image(tmp_path / '7.jpg', 300, 200)
    code, clean = convert(tmp_path, 'coco', source, '--images', tmp_path)
    output = capsys.readouterr()
    assert code == 1 and 'left out: 9.jpg: no such file' in output.err
    assert '(6 in all: no area)' in output.out and '2 images, 5 people, 1 ignored' in output.out
    assert {a['category_id'] for a in clean['annotations']} == {1}


def test_output_is_deterministic_and_not_overwritten(
    tmp_path: Path, cihp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(tmp_path, 'cihp', cihp)
    first = (tmp_path / 'out.json').read_bytes()
    assert convert(tmp_path, 'cihp', cihp)[0] == 2
    assert '--overwrite' in capsys.readouterr().err
    convert(tmp_path, 'cihp', cihp, '--overwrite')
    assert (tmp_path / 'out.json').read_bytes() == first
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []


WRONG = [
    *((name, 'broken', 'broken.json: not a JSON file') for name in FORMATS),
    *((name, 'absent', 'absent.json: cannot be read') for name in FORMATS),
    ('ochuman', 'toy', 'it is a COCO file: use "coco"'),
    ('crowdpose', 'toy', 'keypoints must hold 42 numbers, got 51'),
    ('crowdpose', 'test_samples/aic/test_aic', "the 14 keypoints ['Right Shoulder'"),
    ('cihp', '', 'Images is missing or empty; a folder of CIHP has'),
]


@pytest.mark.parametrize(('name', 'source', 'message'), WRONG)
def test_invalid_sources_are_named(
    tmp_path: Path,
    samples: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    source: str,
    message: str,
) -> None:
    (tmp_path / 'broken.json').write_text('{')
    write(tmp_path / 'toy.json', toy_annotations())
    root = samples if '/' in source else tmp_path
    assert convert(tmp_path, name, root / (source and f'{source}.json')) == (2, {})
    assert message in capsys.readouterr().err


def test_invalid_image_folder_or_split_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / 'toy.json', toy_annotations())
    assert convert(tmp_path, 'coco', source, '--images', tmp_path / 'nowhere')[0] == 2
    assert 'nowhere does not exist' in capsys.readouterr().err
    source = write(tmp_path / 'a.json', native(_1=[native_person()]))
    split = write(tmp_path / 'val.json', {})
    assert convert(tmp_path, 'ochuman', source, '--only', split)[0] == 2
    assert 'val.json: not a COCO annotation file' in capsys.readouterr().err


def test_image_ids_from_names_or_positions() -> None:
    assert assign_image_ids(['0000007.jpg', '0000012.jpg']) == {'0000007.jpg': 7, '0000012.jpg': 12}
    assert assign_image_ids(['a.jpg', '7.jpg']) == {'a.jpg': 1, '7.jpg': 2}
    assert assign_image_ids(['7.jpg', '07.jpg']) == {'7.jpg': 1, '07.jpg': 2}
