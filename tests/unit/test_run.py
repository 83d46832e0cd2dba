"""The runner: outputs, failures and progress."""

from __future__ import annotations

import csv
import json
import logging
import os
from dataclasses import replace
from errno import ENOSPC
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from rich.console import Console
from rich.text import Text

from pipeline.cli.summary import summary_lines
from pipeline.io import runner as runner_module
from pipeline.io.atomic import write_json
from pipeline.io.images import read_image
from pipeline.io.inputs import Failure, find_images
from pipeline.io.progress import Reporter, format_time
from pipeline.io.progress_bar import TerminalReporter
from pipeline.io.records import people_from_record
from pipeline.io.run import OutputError, run_images
from pipeline.io.run_options import RunOptions, RunReport
from pipeline.keypoints import COCO_NAMES, KeypointSet
from pipeline.structures import People
from pipeline.visualization.style import DrawingStyle
from tests.run_fakes import (
    IMAGES,
    OUTPUT_NAMES,
    FakePipeline,
    contents,
    done_records,
    make_people,
    run,
    save_image,
)

pytestmark = pytest.mark.usefixtures('plain_drawing')


# Outputs


def test_all_outputs(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    report, pipeline = run(image_folder, out)
    assert (report.computed, report.resumed, report.people, report.exit_code) == (4, 0, 12, 0)
    per_image = {
        f'{folder}/{name}{suffix}'
        for name in OUTPUT_NAMES.values()
        for folder, suffix in (
            ('predictions', '.json'), ('visualizations', '.jpg'), ('masks', '.png'),
            ('mmpose', '.json'), ('rounds', '.json'),
        )
    }  # fmt: skip
    merged = {'coco_results.json', 'coco_images.json', 'coco_annotations.json', 'people.csv'}
    merged |= {'images.csv', 'failures.json', 'config.py'}
    assert set(contents(out)) == per_image | merged
    assert (out / 'config.py').read_text() == pipeline.config_text
    assert json.loads((out / 'failures.json').read_text()) == []
    images = json.loads((out / 'coco_images.json').read_text())['images']
    assert [(i['id'], i['file_name']) for i in images] == list(enumerate(sorted(IMAGES), 1))
    rows = json.loads((out / 'coco_results.json').read_text())
    assert [r['image_id'] for r in rows] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert read_image(out / 'visualizations/1.png.jpg').shape == (40, 60, 3)


@pytest.mark.parametrize('save', [(), ('json',), ('csv',), ('masks',), ('coco', 'mmpose')])
def test_only_selected_outputs(save: tuple[str, ...], image_folder: Path, tmp_path: Path) -> None:
    run(image_folder, tmp_path / 'out', save=save)
    top = set(os.listdir(tmp_path / 'out')) - {'.lock'}
    expected = {
        'csv': {'people.csv', 'images.csv'},
        'masks': {'masks'},
        'coco': {'coco_results.json', 'coco_images.json'},
        'mmpose': {'mmpose'},
    }
    always = {'predictions', 'config.py', 'run.json', 'failures.json'}
    assert top == always.union(*(expected.get(s, set()) for s in save))


def test_unknown_output(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown \['pdf'\]; choose from json"):
        RunOptions(tmp_path, frozenset({'pdf'}))


def test_run_json(image_folder: Path, tmp_path: Path) -> None:
    run(image_folder, tmp_path / 'out', config='mine', command=('run_bmp.py', 'x'))
    info = json.loads((tmp_path / 'out' / 'run.json').read_text())
    assert info['command'] == ['run_bmp.py', 'x']
    assert (info['config'], info['device'], info['precision']) == ('mine', 'cpu', 'fp32')
    assert info['weights_sha256'] == {'net': 'abc'}
    assert info['versions']['numpy'] == np.__version__
    assert {'python', 'torch', 'mmcv', 'mmdet', 'mmpose', 'sam2', 'opencv'} <= set(info['versions'])
    assert info['started'] <= info['ended']
    assert {'read', 'detect', 'write', 'merge files', 'total'} <= set(info['seconds'])
    counts = {k: info[k] for k in ('photos', 'computed', 'resumed', 'redone', 'failed', 'people')}
    assert counts == {
        'photos': 4, 'computed': 4, 'resumed': 0, 'redone': 0, 'failed': 0, 'people': 12,
    }  # fmt: skip
    assert 'commit' in info and info['interrupted'] is False


def test_given_image_ids(image_folder: Path, tmp_path: Path) -> None:
    run(image_folder, tmp_path / 'out', image_ids={'a/1.jpg': 700, 'b/1.jpg': 20})
    rows = json.loads((tmp_path / 'out' / 'coco_results.json').read_text())
    assert [r['image_id'] for r in rows] == [700] * 3 + [20] * 3
    assert (tmp_path / 'out' / 'predictions' / '1.jpg.json').exists()


def test_user_boxes(image_folder: Path, tmp_path: Path) -> None:
    boxes = {'a/1.jpg': [[1, 2, 30, 20]], '1.png': [], 'b/1.jpg': [[9, 9, 5, 5]]}
    report, pipeline = run(image_folder, tmp_path / 'out', boxes=boxes)
    (failure,) = report.failures
    assert failure.input.endswith('b/1.jpg') and failure.error == 'BoxesError'
    no_boxes, none, one = pipeline.boxes  # 1.jpg, 1.png, a/1.jpg
    assert no_boxes is None
    assert none is not None and none.boxes.shape == (0, 4)
    assert one is not None and one.boxes.tolist() == [[1, 2, 30, 20]]
    report, pipeline = run(
        image_folder, tmp_path / 'out', boxes={**boxes, 'a/1.jpg': [[1, 2, 31, 20]]}
    )
    assert (report.computed, report.resumed) == (1, 2)


# One run, one threshold, one number per person


def scored_pipeline(min_score: float | None) -> FakePipeline:
    pipeline = FakePipeline()
    pipeline.min_score = min_score
    return pipeline


def test_another_minimum_score_computes_nothing_and_rewrites_every_file(
    image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    report, _ = run(image_folder, out, scored_pipeline(0.5))
    assert 0 < report.people < 12 and report.people + report.dropped == 12
    for min_score in (None, 0.8, 0.5):
        report, pipeline = run(image_folder, out, scored_pipeline(min_score))
        assert (pipeline.calls, report.resumed, report.people + report.dropped) == ([], 4, 12)
        fresh = tmp_path / f'fresh{min_score}'
        run(image_folder, fresh, scored_pipeline(min_score))
        assert contents(out) == contents(fresh)
        record = json.loads((out / 'predictions' / 'a' / '1.json').read_text())
        kept = [p['score'] >= (min_score or 0) for p in record['people']]
        assert all(kept) and len(kept) + len(record['dropped']) == 3


def test_files_of_earlier_runs_follow_the_threshold(
    image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / 'out'
    run(image_folder, out, scored_pipeline(0.5), save=['json', 'csv', 'masks'])
    run(image_folder / 'a', out, scored_pipeline(0.2), save=['json'])
    assert 'also has 4 images of earlier runs' in caplog.text
    rows = list(csv.DictReader((out / 'images.csv').open()))
    assert [row['file_name'] for row in rows] == ['1.jpg']  # of the last command
    for path in (out / 'predictions').rglob('*.json'):
        record = json.loads(path.read_text())
        assert record['written_with']['min_score'] == 0.2
        assert all(p['score'] >= 0.2 for p in record['people'])
        assert all(p['score'] < 0.2 for p in record['dropped'])
    assert not [path for path in contents(out) if path.startswith('masks')]


def test_another_style_draws_again(image_folder: Path, tmp_path: Path) -> None:
    run(image_folder, tmp_path / 'out', save=['overlay', 'masks'])
    (drawn := tmp_path / 'out' / 'visualizations' / '1.jpg.jpg').write_text('old')
    report, _ = run(image_folder, tmp_path / 'out', style=DrawingStyle(('masks',), 'id'))
    assert (report.resumed, drawn.read_bytes()[:2]) == (4, b'\xff\xd8')


def test_a_person_has_one_number_in_every_file(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    run(image_folder, out)
    numbers = list(range(1, 4))
    for number, (name, output) in enumerate(sorted(OUTPUT_NAMES.items()), 1):
        record = json.loads((out / 'predictions' / f'{output}.json').read_text())
        scores = [person['score'] for person in record['people']]
        assert scores == sorted(scores, reverse=True)
        assert [person['person_id'] for person in record['people']] == numbers
        ids = np.asarray(PIL.Image.open(out / 'masks' / f'{output}.png'))
        people = people_from_record(record)
        assert all(((ids == i) == people.masks.dense(i - 1)).all() for i in numbers)
        tables: list[list[Any]] = [
            [r for r in json.loads((out / 'coco_results.json').read_text())
             if r['image_id'] == number],
            [r for r in json.loads((out / 'coco_annotations.json').read_text())['annotations']
             if r['image_id'] == number],
            [r for r in csv.DictReader((out / 'people.csv').open()) if r['file_name'] == name],
            json.loads((out / 'mmpose' / f'{output}.json').read_text())['instance_info'],
        ]  # fmt: skip
        for rows in tables:
            assert [int(r['person_id']) for r in rows] == numbers
            assert [float(r['score']) for r in rows] == pytest.approx(scores, abs=1e-5)


WHOLE_BODY = KeypointSet(
    'whole body', (*COCO_NAMES, *(f'point_{i}' for i in range(116))), np.full(133, 0.05)
)


class WholeBodyPipeline(FakePipeline):
    """Predicts people with 133 keypoints."""

    def __call__(self, *args: Any) -> People:
        people = super().__call__(*args)
        names = ('keypoints', 'keypoint_scores', 'presence', 'visibility', 'prompts')
        columns = {name: getattr(people, name).repeat(8, axis=1)[:, :133] for name in names}
        return replace(people, **columns, keypoint_set=WHOLE_BODY)


def test_every_file_keeps_133_keypoints(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    for min_score in (None, 0.1):
        pipeline = WholeBodyPipeline()
        pipeline.min_score = min_score
        run(image_folder, out, pipeline)
        assert bool(pipeline.calls) == (min_score is None)  # the second run only writes
        people = People.load(out / 'predictions' / '1.jpg.json')
        assert people.keypoint_set.names == WHOLE_BODY.names and people.num_keypoints == 133
        annotations = json.loads((out / 'coco_annotations.json').read_text())
        rows = json.loads((out / 'coco_results.json').read_text()) + annotations['annotations']
        assert {(len(r['keypoints']), len(r['extra_keypoints'])) for r in rows} == {(51, 348)}
        header = (out / 'people.csv').read_text().split('\n')[0].split(',')
        assert sum(column.endswith('_presence') for column in header) == 133
        mmpose = json.loads((out / 'mmpose' / '1.jpg.json').read_text())['instance_info']
        assert {len(person['keypoints']) for person in mmpose} == {133}


def test_images_without_people_are_counted(image_folder: Path, tmp_path: Path) -> None:
    run(image_folder, tmp_path / 'out', boxes={'1.png': []}, save=['csv'])
    rows = list(csv.DictReader((tmp_path / 'out' / 'images.csv').open()))
    found = [(row['file_name'], row['people'], row['width'], row['height']) for row in rows]
    numbers = {'1.png': '0'}
    assert found == [(name, numbers.get(name, '3'), '60', '40') for name in sorted(IMAGES)]
    assert all(float(row['seconds']) > 0 for row in rows)


def test_two_commands_with_images_of_one_name(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    first = save_image(tmp_path / 'a' / 'img.jpg', 50)
    second = save_image(tmp_path / 'b' / 'img.jpg', 60)
    names = {'img', 'img.jpg'}
    for source in (first, second, first, second):
        report, _ = run(source, out)
        assert report.failures == []
    assert {p.stem for p in (out / 'predictions').iterdir()} == names
    assert (report.computed, report.resumed) == (0, 1)
    sources = [json.loads((out / f'predictions/{n}.json').read_text())['source'] for n in names]
    assert sorted(sources) == [str(first), str(second)]
    (tmp_path / 'a').rename(tmp_path / 'moved')  # the same content in another folder
    assert run(tmp_path / 'moved' / 'img.jpg', out)[0].resumed == 1
    third = save_image(tmp_path / 'c' / 'img.jpg', 70)
    assert run(third, out)[0].computed == 1
    assert (out / 'predictions' / 'c' / 'img.jpg.json').is_file()


def test_records_of_the_earlier_format_are_computed_again(
    image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / 'out'
    for name in IMAGES:
        write_json(
            out / 'predictions' / f'{name}.json', {'format': 'bbox-mask-pose/1', 'input': name}
        )
    report, _ = run(image_folder, out)
    assert (report.computed, report.redone) == (4, 4)
    assert [m for m in caplog.messages if 'format of the prediction changed' in m] == [
        '1.jpg: format of the prediction changed, computing it again (reported once for all images '
        'with this change)'
    ]
    assert done_records(out) == 4


# Failures


@pytest.mark.parametrize('length', [247, 251, 255])
@pytest.mark.parametrize('letter', ['x', '\N{LATIN SMALL LETTER E WITH ACUTE}'])
@pytest.mark.parametrize('full_names', [False, True])
def test_long_names(length: int, letter: str, full_names: bool, tmp_path: Path) -> None:
    size = len(letter.encode())
    names = [
        letter * ((length - 5) // size) + 'ab'[: (length - 5) % size] + f'{i}.jpg' for i in '12'
    ]
    for name in names:
        assert len(name.encode()) == length
        save_image(tmp_path / 'in' / name)
    for computed in (2, 0):
        report, _ = run(tmp_path / 'in', tmp_path / 'out', full_names=full_names)
        assert (report.failures, report.computed) == ([], computed)
    assert len(list((tmp_path / 'out' / 'masks').iterdir())) == 2
    images = json.loads((tmp_path / 'out' / 'coco_images.json').read_text())['images']
    assert [i['file_name'] for i in images] == names


@pytest.mark.parametrize('size', [(65_536, 2), (70_000, 40), (3, 66_000)])
def test_an_image_without_a_possible_jpeg_keeps_its_prediction(
    size: tuple[int, int], tmp_path: Path
) -> None:
    save_image(tmp_path / 'in' / 'a.png', size=size)
    report, _ = run(tmp_path / 'in', tmp_path / 'out', save=('overlay',))
    assert (report.failures, report.computed) == ([], 1)
    with PIL.Image.open(tmp_path / 'out/visualizations/a.jpg') as overlay:
        assert max(overlay.size) == 65_500


def test_failures_do_not_stop_the_rest(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / '0.jpg').write_bytes(b'')
    (image_folder / 'a' / 'text.jpg').write_text('hello')
    save_image(image_folder / 'bad.png', 13)
    (tmp_path / 'empty').mkdir()
    out = tmp_path / 'out'
    found = find_images([str(image_folder), str(tmp_path / 'none.jpg'), str(tmp_path / 'empty')])
    report = run_images(FakePipeline(), found.images, RunOptions(out), failures=found.failures)
    assert (report.exit_code, report.computed, report.images) == (1, 4, 8)
    failures = json.loads((out / 'failures.json').read_text())
    names = ['empty', '0.jpg', 'text.jpg', 'bad.png', 'none.jpg']
    assert [Path(f['input']).name for f in failures] == names
    unread = 'ImageReadError'
    errors = ['InputError', unread, unread, 'RuntimeError', unread]
    assert [f['error'] for f in failures] == errors
    assert failures[3]['message'] == 'no luck'
    # Ids do not depend on failures.
    images = json.loads((out / 'coco_images.json').read_text())['images']
    ids = {2: '1.jpg', 3: '1.png', 4: 'a/1.jpg', 6: 'b/1.jpg'}
    assert [(i['id'], i['file_name']) for i in images] == [*ids.items()]
    assert json.loads((out / 'run.json').read_text())['failed'] == 5


def test_a_repaired_image_is_done_next_time(image_folder: Path, tmp_path: Path) -> None:
    save_image(image_folder / 'bad.png', 13)
    assert run(image_folder, tmp_path / 'out')[0].exit_code == 1
    save_image(image_folder / 'bad.png', 14)
    report, _ = run(image_folder, tmp_path / 'out')
    assert (report.exit_code, report.computed, report.resumed) == (0, 1, 4)
    assert json.loads((tmp_path / 'out' / 'failures.json').read_text()) == []


def test_a_failing_writer_is_a_failure_of_the_image(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(self: People, image: np.ndarray, style: Any) -> np.ndarray:
        if image[0, 0, 0] == 60:
            raise ValueError('no paint')
        return image

    monkeypatch.setattr(People, 'draw', draw)
    report, _ = run(image_folder, tmp_path / 'out')
    assert [f.message for f in report.failures] == ['no paint']
    assert not (tmp_path / 'out' / 'predictions' / '1.png.json').exists()


def test_nan_is_a_failure(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = make_people(1, 40, 60)
    people.scores[0] = np.nan
    monkeypatch.setattr(FakePipeline, '__call__', lambda *_: people)
    report, _ = run(image_folder, tmp_path / 'out')
    assert len(report.failures) == 4
    assert 'people.scores has NaN' in report.failures[0].message


def test_names_without_unicode(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A worker process of pytest-xdist cannot report log lines with such names.
    caplog.set_level(logging.CRITICAL, logger='pipeline')
    name = os.fsdecode(b'caf\xe9.png')
    save_image(tmp_path / 'in' / 'x.png').rename(tmp_path / 'in' / name)
    (tmp_path / 'in' / os.fsdecode(b'bad\xe9.png')).write_bytes(b'')
    report, _ = run(tmp_path / 'in', tmp_path / 'out')
    assert (report.computed, len(report.failures)) == (1, 1)
    assert run(tmp_path / 'in', tmp_path / 'out')[0].resumed == 1


def test_full_disk_ends_the_run(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: Any) -> None:
        raise OSError(ENOSPC, 'No space left on device')

    monkeypatch.setattr(runner_module, 'write_json', full)
    with pytest.raises(OutputError, match='No space left on device'):
        run(image_folder, tmp_path / 'out')


def test_two_runs_do_not_share_a_folder(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'

    class Nested(FakePipeline):
        def __call__(self, image: np.ndarray, *args: Any) -> People:  # type: ignore[override]
            with pytest.raises(OutputError, match='another run is writing'):
                run(image_folder, out)
            return super().__call__(image, *args)

    assert run(image_folder, out, Nested())[0].computed == 4
    (tmp_path / 'file').write_text('x')
    for path in (tmp_path / 'file', tmp_path / 'file' / 'out'):
        with pytest.raises(OutputError, match='choose another --out-dir'):
            run(image_folder, path)


# Progress


def test_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    reporter = Reporter()
    reporter.start(2)
    for name in 'ab':
        reporter.update(name, '1 person')
    reporter.stop()
    lines = ['2 images', '[1/2] a: 1 person, ETA 0:00:00', '[2/2] b: 1 person']
    assert caplog.messages == lines
    assert format_time(3725.2) == '1:02:05'


@pytest.mark.parametrize('width', [60, 80])
def test_a_narrow_bar_shortens_the_name_first(width: int) -> None:
    stream = StringIO()
    console = Console(file=stream, force_terminal=True, width=width, legacy_windows=False)
    reporter = TerminalReporter(console)
    reporter.start(1200)
    reporter.update(f'{"folder/" * 9}000000000139.jpg', '12 people, 10.25 s')
    reporter.stop()
    lines = [Text.from_ansi(line).plain.rstrip() for line in stream.getvalue().splitlines()]
    last = [line for line in lines if 'ETA' in line][-1]
    assert '1/1200' in last and last.endswith('g: 12 people, 10.25 s')
    assert '\N{HORIZONTAL ELLIPSIS}' in last and len(last) <= width


@pytest.mark.parametrize(
    ('report', 'lines'),
    [
        (RunReport(1, people=1, computed=1), ['1 image: 1 person']),
        (RunReport(3, people=2, empty=1), ['3 images: 2 people; 1 image without people']),
        (RunReport(2, people=2, resumed=1, computed=1),
         ['2 images: 2 people; 1 computed, 1 done before']),
        (RunReport(1, dropped=1, min_score=0.41, computed=1),
         ['1 image: 0 people; 1 candidate below the minimum score 0.41 dropped']),
        (RunReport(2, [Failure('x', 'E', 'm')], interrupted=True),
         ['2 images: 0 people', f'1 input failed: {Path("out/failures.json")}',
          'interrupted: 0 of 2 images done; run the same command again to continue']),
    ],
)  # fmt: skip
def test_summary(report: RunReport, lines: list[str]) -> None:
    assert summary_lines(report, Path('out')) == [*lines, 'results: out']


def test_terminal_bar() -> None:
    stream = StringIO()
    reporter = TerminalReporter(Console(file=stream, force_terminal=True, width=100))
    reporter.start(2)
    reporter.update('[b]1.jpg', '3 people')
    reporter.message('failed: [x]')
    reporter.update('2.jpg', 'none')
    reporter.stop()
    assert '2/2' in stream.getvalue() and 'failed: [x]' in stream.getvalue()
