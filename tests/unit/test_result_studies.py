"""Analyses of a results file, compared with the scorer or calculated by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import analyze_results
from pipeline.evaluation.calibration import measure_calibration
from pipeline.evaluation.charts import chart_style, draw_calibration, draw_parts, draw_visibility
from pipeline.evaluation.coco import score
from pipeline.evaluation.matching import match, score_part
from pipeline.evaluation.overlaps import compute_overlaps
from pipeline.evaluation.parts import PartTable, measure_crowding, measure_sizes
from pipeline.evaluation.scored import ScoredResults, score_results
from pipeline.evaluation.visibility import measure_visibility
from pipeline.io.coco import TASKS, Task
from tests.commands import exit_code
from tests.synthetic_results import make_results
from tests.toy_people import coco, person, toy_annotations, toy_results, write
from tests.unit.test_scoring import NOISE, Noise, annotations_of, labelled, results_of

Results = list[dict[str, Any]]
UNLABELLED = {'keypoints': [0] * 51, 'num_keypoints': 0}


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('noise', NOISE)
def test_all_people_and_sizes_equal_coco(samples: Path, task: Task, noise: Noise) -> None:
    results = noise(results_of(samples, 'dev'))
    scored = score_results(results, annotations_of(samples, 'dev'), [task])
    coco = scored.metrics.tasks[task]
    images = compute_overlaps(scored, task)
    whole = score_part(images, [image.ignored for image in images])
    assert (whole.ap, whole.ap50, whole.ar) == pytest.approx((coco.ap, coco.ap50, coco.ar), 1e-9)
    assert whole.ap_equal_size == whole.ap
    for size, row in zip(('small', 'medium', 'large'), measure_sizes(scored).rows, strict=True):
        if task != 'keypoints' or size != 'small':
            expected = getattr(coco, f'ap_{size}'), getattr(coco, f'ar_{size}')
            assert (row.ap, row.ar) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(('name', 'flag'), [('visible', 2), ('hidden', 1)])
def test_ap_of_a_visibility_equals_annotations_with_these_keypoints(
    samples: Path, name: str, flag: int
) -> None:
    results, annotations = NOISE[0](results_of(samples, 'dev')), annotations_of(samples, 'dev')
    table = measure_visibility(score_results(results, annotations))
    for row in annotations['annotations']:
        points = np.array(row['keypoints']).reshape(-1, 3)
        points[points[:, 2] != flag] = 0
        row['keypoints'] = points.ravel().tolist()
        row['num_keypoints'] = int((points > 0)[:, 2].sum())
    expected = score(results, annotations, ['keypoints']).tasks['keypoints'].ap
    (candidate,) = [r.ap for r in table.rows if (r.keypoint, r.visibility) == ('all', name)]
    assert candidate == (expected if expected is None else pytest.approx(expected, abs=1e-9))


def test_ground_truth_is_perfect_in_every_part(samples: Path) -> None:
    people, annotations = results_of(samples, 'dev'), annotations_of(samples, 'dev')
    scored = score_results(labelled(people), annotations, ['keypoints'])
    all_people = score_results(people, annotations, ['bbox', 'segm'])
    for results in (scored, all_people):
        for table in (measure_crowding(results), measure_sizes(results)):
            figures = [(r.ap, r.ap_equal_size, r.ap50, r.ar) for r in table.rows if r.num_people]
            assert np.array(figures) == pytest.approx(1)
        bins = measure_calibration(results).rows
        assert {r.precision for r in bins if r.num_results} == {1.0}
    parts = [(r.near, r.similarity) for r in measure_visibility(scored).rows if r.num_keypoints]
    assert np.array(parts) == pytest.approx(1, abs=1e-5)


def hand_made() -> tuple[Results, dict[str, Any]]:
    """A and B overlap by an IoU of 0.5, C stands alone; A and C are found, and one false result."""
    boxes: list[list[float]] = [[0, 0, 60, 90], [20, 0, 60, 90], [150, 0, 40, 90]]
    people = [person(number, 7, box) for number, box in enumerate(boxes, 1)]
    image = {'id': 7, 'file_name': '7.jpg', 'height': 200, 'width': 300}
    found = [(boxes[0], 0.95), (boxes[2], 0.15), ([250, 100, 40, 90], 0.95)]
    rows = [{'image_id': 7, 'category_id': 1, 'bbox': box, 'score': s} for box, s in found]
    return rows, coco([image], people)


def test_crowding_by_hand() -> None:
    alone, crowded = measure_crowding(score_results(*hand_made(), ['bbox']), [0.3]).rows
    # C ranks behind the false result: precision 1/2 everywhere; it is one of three people, so at
    # equal size the false result weighs 1/3.
    assert (alone.num_people, crowded.num_people) == (1, 2)
    assert (alone.ap, alone.ap_equal_size, alone.ar) == pytest.approx((1 / 2, 3 / 4, 1))
    # A is found first, B is missed: precision 1 at the 51 recalls up to 0.5.
    assert (crowded.ap, crowded.ar) == pytest.approx((51 / 101, 1 / 2))
    assert crowded.ap_equal_size == crowded.ap


def test_people_outside_of_a_part_are_ignored() -> None:
    rows, annotations = hand_made()
    all_people = score_results(rows, annotations, ['bbox'])
    alone = measure_crowding(all_people, [0.3]).rows[0]
    annotations['annotations'] = annotations['annotations'][2:]
    # Removed, A would be a second false result.
    assert score(rows, annotations, ['bbox']).tasks['bbox'].ap == pytest.approx(1 / 3)
    assert alone.ap == pytest.approx(1 / 2)


def test_ap_at_equal_size_is_comparable() -> None:
    """Synthetic results have equal quality everywhere; only the sizes of the parts differ."""
    annotations, rows = make_results(300)
    parts = measure_crowding(score_results(rows, annotations, ['bbox']), [0.3]).rows
    assert parts[0].num_people > 8 * parts[1].num_people > 0
    plain, equal = ([getattr(r, key) for r in parts] for key in ('ap', 'ap_equal_size'))
    assert plain[0] - plain[1] > 0.1 > 2 * abs(equal[0] - equal[1])


def test_calibration_by_hand() -> None:
    table = measure_calibration(score_results(*hand_made(), ['bbox']))
    filled = {round(r.low, 1): r for r in table.rows if r.num_results}
    assert set(filled) == {0.1, 0.9} and len(table.rows) == 10
    high, low = filled[0.9], filled[0.1]
    assert (high.num_results, high.mean_score, high.precision) == (2, 0.95, 0.5)
    assert (low.num_results, low.precision) == (1, 1.0)
    assert table.error('bbox') == pytest.approx((2 * 0.45 + 1 * 0.85) / 3)
    assert table.bias('bbox') == pytest.approx((2 * 0.45 - 1 * 0.85) / 3)
    assert 'ECE 0.583, on average 0.017 too high' in table.text


def test_last_bin_includes_one_and_invalid_scores_are_named() -> None:
    rows, annotations = hand_made()
    rows[0]['score'] = 1
    assert measure_calibration(score_results(rows, annotations, ['bbox'])).rows[-1].num_results == 2
    rows[0]['score'] = 7.5
    with pytest.raises(ValueError, match=r'scores in \[0, 1\], got 7.5'):
        measure_calibration(score_results(rows, annotations, ['bbox']))


def test_visibility_by_hand() -> None:
    rows, annotations = hand_made()
    for row, ground_truth in zip(rows, annotations['annotations'], strict=True):
        row['keypoints'] = list(ground_truth['keypoints'])
    del rows[1:]  # A is found, B and C are not
    rows[0]['keypoints'][3] += 500  # left eye, hidden in these annotations
    table = measure_visibility(score_results(rows, annotations, ['keypoints']))
    one = {(r.keypoint, r.visibility): r for r in table.rows}
    assert (one['left_eye', 'hidden'].num_keypoints, one['left_eye', 'hidden'].near) == (3, 0)
    assert one['nose', 'visible'].near == pytest.approx(1 / 3)
    assert one['nose', 'visible'].near_if_found == one['nose', 'visible'].similarity * 3 == 1
    assert one['nose', 'hidden'].near is None
    assert one['all', 'all'].num_keypoints == 3 * 16
    assert one['all', 'all'].near == pytest.approx(15 / 48)
    assert one['all', 'visible'].ap == pytest.approx(34 / 101)  # recall 1/3 with precision 1


def test_matching_prefers_counted_people_and_crowd_regions_match_many() -> None:
    rows, annotations = hand_made()
    annotations['annotations'][0] |= {'iscrowd': 1, **UNLABELLED}
    rows = [rows[0] | {'bbox': box} for box in ([20, 0, 60, 90], [0, 0, 30, 90], [0, 0, 30, 80])]
    (image,) = compute_overlaps(score_results(rows, annotations, ['bbox']), 'bbox')
    # The first also lies in the crowd region, by 2/3; the others in nothing else.
    assert match(image, 0.5).tolist() == [1, 0, 0]


def test_null_values_do_not_count(tmp_path: Path) -> None:
    rows, annotations = toy_results(tmp_path), toy_annotations()
    rows[0]['segmentation'] = None
    scored = score_results(rows, annotations, ['segm'])
    images = compute_overlaps(scored, 'segm')
    assert sum(len(p.results) for p in images) == len(rows) - 1
    whole = score_part(images, [image.ignored for image in images])
    assert whole.ap == pytest.approx(scored.metrics.tasks['segm'].ap, abs=1e-9)


@pytest.mark.parametrize(
    ('study', 'edges', 'named'),
    [
        (measure_crowding, [0.5, 0.3], r'\(0, 1\)'),
        (measure_crowding, [0.0], r'\(0, 1\)'),
        (measure_sizes, [-3], 'inf'),
    ],
)
def test_invalid_edges_are_named(
    study: Callable[..., PartTable], edges: list[float], named: str
) -> None:
    with pytest.raises(ValueError, match=f'edges must increase inside .*{named}'):
        study(score_results(*hand_made(), ['bbox']), edges)


def test_chart_of_parts_equals_its_table(scored: ScoredResults) -> None:
    parts = measure_crowding(scored)
    with chart_style():
        drawn = draw_parts(parts)
    for axes, task in zip(drawn.axes, TASKS, strict=True):
        rows = [r for r in parts.rows if r.task == task]
        expected = [getattr(r, key) or 0 for key in ('ap', 'ap_equal_size', 'ar') for r in rows]
        assert [p.get_height() / 100 for p in axes.patches] == pytest.approx(expected)
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels == [f'{r.part}\nn={r.num_people}' for r in rows]


def test_chart_of_calibration_equals_its_table(scored: ScoredResults) -> None:
    bins = measure_calibration(scored)
    with chart_style():
        drawn = draw_calibration(bins)
    assert [a.lines[1].get_xydata().tolist() for a in drawn.axes if a.lines] == [
        [[r.mean_score, r.precision] for r in bins.rows if r.task == task and r.num_results]
        for task in TASKS
    ]


def test_chart_of_visibility_equals_its_table(scored: ScoredResults) -> None:
    points = measure_visibility(scored)
    with chart_style():
        left, right = draw_visibility(points).axes
    whole = [r for r in points.rows if r.keypoint == 'all']
    expected = [getattr(r, key) or 0 for key in ('ap', 'near', 'near_if_found') for r in whole]
    assert [p.get_height() / 100 for p in left.patches] == pytest.approx(expected)
    single = [r for r in points.rows if r.keypoint != 'all']
    expected = [r.near or 0 for v in ('visible', 'hidden') for r in single if r.visibility == v]
    assert [p.get_width() / 100 for p in right.patches] == pytest.approx(expected)


@pytest.fixture
def scored(tmp_path: Path) -> ScoredResults:
    return score_results(NOISE[0](toy_results(tmp_path)), toy_annotations())


def files_of_tool(tmp_path: Path, out: str, *options: str) -> Path:
    results = write(tmp_path / 'results.json', toy_results(tmp_path))
    ground_truth = write(tmp_path / 'truth.json', toy_annotations())
    arguments = [results, ground_truth, '--out', tmp_path / out, *options]
    assert exit_code(analyze_results.main, *arguments) == 0
    return tmp_path / out


def test_command_writes_tables_and_charts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = files_of_tool(tmp_path, 'one'), files_of_tool(tmp_path, 'two')
    names = {p.name for p in first.iterdir()}
    studies = analyze_results.STUDIES
    assert names == {f'{s}.{kind}' for s in studies for kind in ('csv', 'png')} | {'analysis.json'}
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    printed = capsys.readouterr().out
    report = json.loads((first / 'analysis.json').read_text())['studies']
    for study in studies:
        assert f'{study}: {report[study]["text"]}' in printed
        table = list(csv.DictReader((first / f'{study}.csv').read_text().splitlines()))
        expected = [
            {k: '' if v is None else str(v) for k, v in r.items()} for r in report[study]['rows']
        ]
        assert [{k: '' if v == 'inf' else v for k, v in r.items()} for r in table] == expected


def test_command_runs_selected_studies(tmp_path: Path) -> None:
    options = ('--study', 'sizes', '--tasks', 'segm', '--size-edges', '50')
    folder = files_of_tool(tmp_path, 'o', *options)
    assert {p.name for p in folder.iterdir()} == {'sizes.csv', 'sizes.png', 'analysis.json'}
    rows = list(csv.DictReader((folder / 'sizes.csv').read_text().splitlines()))
    parts = [(r['task'], r['part'], r['num_people']) for r in rows]
    assert parts == [('segm', '0 to 50', '1'), ('segm', '50 and more', '4')]


WRONG = [
    ('absent results', ['absent.json', 'truth.json'], 'absent.json'),
    ('absent annotations', ['results.json', 'absent.json'], 'neither an existing annotation file'),
    ('unknown image', ['strange.json', 'truth.json'], 'not in the annotations: 99'),
    ('edges', ['results.json', 'truth.json', '--crowding-edges', '2'], r'edges must increase'),
    ('bins', ['results.json', 'truth.json', '--score-bins', '0'], 'bins must be >= 1'),
    ('no keypoints', ['boxes.json', 'truth.json', '--study', 'visibility'], 'needs keypoints'),
]


@pytest.mark.parametrize(('args', 'reason'), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_command_reports_invalid_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], reason: str
) -> None:
    rows = toy_results(tmp_path)
    write(tmp_path / 'results.json', rows)
    write(tmp_path / 'strange.json', [rows[0] | {'image_id': 99}])
    write(tmp_path / 'boxes.json', [r | {'segmentation': None, 'keypoints': None} for r in rows])
    write(tmp_path / 'truth.json', toy_annotations())
    files = [str(tmp_path / a) if a.endswith('.json') else a for a in args]
    assert exit_code(analyze_results.main, *files, '--out', tmp_path / 'out') == 2
    error = capsys.readouterr().err
    assert error.startswith('analyze_results.py: ') and reason in error
