"""Comparison of two results files: metrics by hand, and the rendered page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline.cli import compare_results
from pipeline.evaluation.comparison import Comparison, compare
from pipeline.evaluation.scored import score_results
from pipeline.io.coco_people import people_from_coco
from pipeline.io.results import PROTOCOLS, ResultsInfo
from tests.commands import exit_code
from tests.report_files import read_index
from tests.toy_people import coco, people_in, person, toy_annotations, toy_results, write

Rows = list[dict[str, Any]]
UNLABELLED = {'keypoints': [0] * 51, 'num_keypoints': 0}


def box_row(image_id: int, box_xywh: list[float], score: float = 0.9) -> dict[str, Any]:
    return {'image_id': image_id, 'category_id': 1, 'bbox': box_xywh, 'score': score}


def annotations() -> dict[str, Any]:
    """Image 1: two people and a crowd region; 2: one person; 3: no people."""
    crowd = person(3, 1, [200, 100, 90, 90], iscrowd=1, **UNLABELLED)
    crowd['segmentation'] = {'size': [200, 300], 'counts': [30000, 10000, 20000]}
    images = [
        {'id': i, 'file_name': f'{name}.jpg', 'height': 200, 'width': 300}
        for i, name in ((1, 'two <b>'), (2, 'one'), (3, 'empty'))
    ]
    people = [person(1, 1, [0, 0, 40, 90]), person(2, 1, [100, 0, 40, 90]), crowd]
    return coco(images, [*people, person(4, 2, [50, 50, 40, 100])])


def compared(a: Rows, b: Rows) -> Comparison:
    scored = [score_results(rows, annotations(), ['bbox']) for rows in (a, b)]
    return compare(*scored, 'bbox')


EXACT, THREE_QUARTERS = [0, 0, 40, 90], [0, 0, 30, 90]
QUALITY = [
    ('all exact', [(1, EXACT), (1, [100, 0, 40, 90])], 1.0),
    ('one missed', [(1, EXACT)], 2 * 1 / (2 + 1)),
    ('one missed, the other inexact', [(1, THREE_QUARTERS)], 2 * 0.75 / (2 + 1)),
    ('found twice', [(1, EXACT), (1, EXACT), (1, [100, 0, 40, 90])], 2 * 2 / (2 + 3)),
    ('one false', [(1, EXACT), (1, [0, 110, 40, 90])], 2 * 1 / (2 + 2)),
    ('below half an overlap', [(1, [0, 0, 19, 90])], 0.0),
    ('in the crowd region', [(1, EXACT), (1, [210, 110, 20, 20])], 2 * 1 / (2 + 1)),
    ('nothing', [], 0.0),
    ('a result without people', [(3, EXACT)], 0.0),
]


@pytest.mark.parametrize(('rows', 'quality'), [q[1:] for q in QUALITY], ids=[q[0] for q in QUALITY])
def test_quality_by_hand(rows: list[tuple[int, list[float]]], quality: float) -> None:
    image_id = rows[0][0] if rows else 1
    images = {p.image_id: p for p in compared([], [box_row(*r) for r in rows]).images}
    assert images[image_id].b.quality == pytest.approx(quality)
    empty = images[3]  # no people and, without results, a quality of 1
    assert empty.a.quality == 1 and empty.gain == empty.b.quality - 1


def test_images_are_ranked_and_counted() -> None:
    a = [box_row(1, EXACT), box_row(2, [50, 50, 40, 100])]
    b = [box_row(1, EXACT), box_row(1, [100, 0, 40, 90]), box_row(2, [50, 50, 40, 60])]
    result = compared(a, b)
    assert [p.image_id for p in result.gained] == [1]
    assert [p.image_id for p in result.lost] == [2]
    assert result.gained[0].gain == pytest.approx(1 - 2 / 3)
    assert result.gained[0].a.missed == (1,)  # the second annotation of the photo
    report = result.to_json({'a': 'x', 'b': 'y'})
    assert report['photos'] == {'better': 1, 'worse': 1, 'equal': 1}
    assert report['summary']['found'] == {'a': 2, 'b': 3}
    assert report['summary']['ap']['a'] == pytest.approx(67 / 101)  # recall 2/3, precision 1
    assert result.mean_quality == pytest.approx(((2 / 3 + 1 + 1) / 3, (1 + 0.6 + 1) / 3))


def test_exchanged_files_negate_the_gains(tmp_path: Path) -> None:
    rows, annotations = toy_results(tmp_path), toy_annotations()
    for task in ('bbox', 'segm', 'keypoints'):
        a, b = score_results(rows, annotations), score_results(rows[::2], annotations)
        there, back = compare(a, b, task), compare(b, a, task)
        assert [p.gain for p in there.images] == [-p.gain for p in back.images]
        assert there.lost and not there.gained


def test_people_from_results() -> None:
    people = people_in([(5, 5, 60, 90), (100, 20, 150, 180)], (200, 300))
    again = people_from_coco(people.to_coco(1), 200, 300)
    for name in ('keypoints', 'keypoint_scores', 'scores', 'visibility', 'boxes'):
        np.testing.assert_allclose(getattr(again, name), getattr(people, name), atol=6e-3)
    assert again.masks.to_rle() == people.masks.to_rle()
    assert len(people_from_coco([], 200, 300)) == 0


MASK = people_in([(5, 5, 60, 90)], (200, 300)).masks.to_rle()[0]
BARE = [
    ('box', {'bbox': [10, 20, 30, 40]}, [10, 20, 40, 60]),
    ('mask', {'segmentation': MASK}, [6, 6, 59, 89]),
    ('points', {'keypoints': [8, 9, 1] * 8 + [20, 30, 1] * 9}, [8, 9, 20, 30]),
]  # fmt: skip


@pytest.mark.parametrize(('row', 'box'), [b[1:] for b in BARE], ids=[b[0] for b in BARE])
def test_people_from_results_of_one_task(row: dict[str, Any], box: list[int]) -> None:
    nulls = {'bbox': None, 'segmentation': None, 'keypoints': None, 'score': 0.5}
    people = people_from_coco([nulls | row], 200, 300)
    assert people.boxes.tolist() == [box]
    assert (people.masks.areas[0] > 0) == ('segmentation' in row)
    assert (people.keypoint_scores > 0).all() == ('keypoints' in row)


def test_results_of_different_people_are_rejected(tmp_path: Path) -> None:
    annotations, rows = toy_annotations(), toy_results(tmp_path)
    rows = [r | {'annotation_id': i} for r, i in zip(rows, (0, 1, 3, 4), strict=False)]
    a = score_results(rows, annotations)
    b = score_results(rows, annotations, info=info_of('gt_keypoints'))
    two_images = score_results(rows[:2], annotations, info=info_of('loop', (7, 9)))
    assert compare(a, b, 'keypoints').images
    with pytest.raises(ValueError, match=r'A \(\) is scored on 6 people, B \(.*gt_keyp.*\) on 4'):
        compare(a, b, 'segm')
    with pytest.raises(ValueError, match='A has 3 images, B has 2, and they differ'):
        compare(a, two_images, 'segm')


def info_of(protocol: Any, image_ids: tuple[int, ...] = (3, 7, 9)) -> ResultsInfo:
    facts = PROTOCOLS[protocol]
    return ResultsInfo(
        protocol, facts.text, facts.from_ground_truth, facts.tasks, 'toys', 'toy.json', '',
        'mine', '', {}, 'fp32', '1', image_ids,
    )  # fmt: skip


# --- the page -------------------------------------------------------------------------------------


def files(tmp_path: Path, a: Rows, b: Rows) -> list[str]:
    """Write results A and B and the annotations."""
    contents = {'a': a, 'b': b, 'truth': toy_annotations()}
    return [str(write(tmp_path / f'{name}.json', rows)) for name, rows in contents.items()]


def make_page(tmp_path: Path, *options: str, out: str = 'out') -> Path:
    """Page of the toy images: B misses two people and has one false box."""
    rows = toy_results(tmp_path)
    other = [*rows[1:4], rows[4] | {'bbox': [0, 0, 10, 10], 'score': 0.2}]
    folder = tmp_path / 'photos'
    folder.mkdir(exist_ok=True)
    for name in (3, 7):
        PIL.Image.new('RGB', (300, 200), (90, 120, 150)).save(folder / f'{name}.jpg')
    args = [*files(tmp_path, rows, other), '--images', str(folder), '--out', str(tmp_path / out)]
    assert compare_results.main([*args, *options]) == 0
    return tmp_path / out


def test_files_have_equal_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = make_page(tmp_path, '--task', 'bbox')
    report = json.loads((out / 'comparison.json').read_text())
    table = list(csv.DictReader((out / 'photos.csv').read_text().splitlines()))
    assert [float(r['gain']) for r in table] == [p['gain'] for p in report['by_photo']]
    assert [r['file_name'] for r in table] == ['3.jpg', '7.jpg', '9.jpg']
    printed = capsys.readouterr().out
    assert '0 images better in B, 2 worse, 1 equal' in printed
    assert f'{100 * report["summary"]["ap"]["b"]:.1f}' in printed
    assert str(out / 'index.html') in printed.replace('\n', '')


def test_equal_input_gives_equal_files(tmp_path: Path) -> None:
    first, second = make_page(tmp_path), make_page(tmp_path, out='again')
    assert [p.read_bytes() for p in sorted(first.rglob('*.*'))] == [
        p.read_bytes() for p in sorted(second.rglob('*.*'))
    ]


def test_missing_or_wrong_images_are_reported_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / '7.jpg').write_bytes(b'no picture')
    PIL.Image.new('RGB', (30, 20)).save(tmp_path / 'photos' / '9.jpg')
    rows = toy_results(tmp_path)
    rows.append(rows[0] | {'image_id': 9})
    args = [*files(tmp_path, rows, []), '--images', str(tmp_path / 'photos')]
    assert compare_results.main([*args, '--out', str(tmp_path / 'out')]) == 0
    printed = capsys.readouterr().out.replace('\n', ' ')
    assert 'warning: 3.jpg: no image 3.jpg in' in printed
    assert 'warning: 7.jpg: the image cannot be read' in printed
    problems = [row['problem'] for row in read_index(tmp_path / 'out')['images']]
    assert any('no image 3.jpg' in problem for problem in problems)
    assert 'the image is 30 x 20, the results say 300 x 200' in problems


@pytest.mark.parametrize('kind', ['absolute', 'parent', 'link', 'parent of a link'])
def test_images_outside_of_the_folder_are_not_opened(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / 'secret.png'
    PIL.Image.new('RGB', (300, 200)).save(secret)
    folder = tmp_path / 'photos'
    (folder / 'inside').mkdir(parents=True)
    (folder / 'link.png').symlink_to(secret)
    (folder / 'up').symlink_to(tmp_path)
    name = {'absolute': str(secret), 'parent': 'inside/../../secret.png', 'link': 'link.png',
            'parent of a link': 'up/secret.png'}[kind]  # fmt: skip
    rows, truth = toy_results(tmp_path), toy_annotations()
    truth['images'][0]['file_name'] = name
    args = [*files(tmp_path, rows, []), '--images', str(folder)]
    write(tmp_path / 'truth.json', truth)
    assert compare_results.main([*args, '--out', str(tmp_path / 'out')]) == 0
    printed = ''.join(capsys.readouterr().out.split())
    assert f'warning:{name}:{name}isoutsideoftheimagefolder,andisnotopened' in printed


def test_a_link_to_the_image_folder_is_followed(tmp_path: Path) -> None:
    make_page(tmp_path)
    (tmp_path / 'link').symlink_to(tmp_path / 'photos')
    args = [str(tmp_path / f'{name}.json') for name in ('a', 'b', 'truth')]
    args += ['--images', str(tmp_path / 'link'), '--out', str(tmp_path / 'again')]
    assert compare_results.main(args) == 0
    page, again = (sorted((tmp_path / n / 'images').iterdir()) for n in ('out', 'again'))
    assert [file.read_bytes() for file in page] == [file.read_bytes() for file in again]
    assert len(page) == 2


def test_min_score(tmp_path: Path) -> None:
    index = read_index(make_page(tmp_path, '--min-score', '0.5'))
    assert 'Results scored below 0.5 are left out.' in index['metrics']['text']
    assert [row['name'] for row in index['images']] == ['7.jpg', '3.jpg', '9.jpg']


WRONG = [
    ('absent', {'a': 'absent.json'}, 'absent.json'),
    ('no JSON', {'b': 'broken.json'}, 'broken.json: not a JSON file'),
    ('unknown image', {'b': 'strange.json'}, 'strange.json against'),
    ('other images', {'a': 'three.json', 'b': 'seven.json'}, 'results of the same images'),
    ('no data set', {'annotations': 'coco_val'}, "did you mean 'coco_val2017'"),
    ('no folder', {'images': 'absent'}, 'is not a folder'),
]  # fmt: skip


@pytest.mark.parametrize(('changes', 'reason'), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_command_reports_invalid_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], reason: str
) -> None:
    rows = toy_results(tmp_path)
    a, b, annotations = files(tmp_path, rows, rows)
    write(tmp_path / 'strange.json', [rows[0] | {'image_id': 99}])
    for name, image_id in (('three', 3), ('seven', 7)):
        write(tmp_path / f'{name}.json', [r for r in rows if r['image_id'] == image_id])
    (tmp_path / 'broken.json').write_text('[')
    paths = {'a': a, 'b': b, 'annotations': annotations, 'images': str(tmp_path)}
    paths |= {k: v if v == 'coco_val' else str(tmp_path / v) for k, v in changes.items()}
    args = [paths['a'], paths['b'], paths['annotations'], '--images', paths['images']]
    assert exit_code(compare_results.main, *args, '--out', tmp_path / 'out') == 2
    error = capsys.readouterr().err
    assert error.startswith('bmp compare: ') and reason in error
    assert not (tmp_path / 'out').exists()
