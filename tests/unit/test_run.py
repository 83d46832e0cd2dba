"""The runner: outputs, failures and progress."""

from __future__ import annotations

import json
import logging
import os
from errno import ENOSPC
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pipeline.io import runner as runner_module
from pipeline.io.images import read_image
from pipeline.io.inputs import find_images
from pipeline.io.progress import Reporter, format_time
from pipeline.io.progress_bar import TerminalReporter
from pipeline.io.run import OutputError, run_images
from pipeline.io.run_options import RunOptions
from pipeline.structures import People
from tests.run_fakes import IMAGES, FakePipeline, contents, make_people, run, save_image

pytestmark = pytest.mark.usefixtures('plain_drawing')


# Outputs


def test_all_outputs(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    report, pipeline = run(image_folder, out)
    assert (report.computed, report.resumed, report.people, report.exit_code) == (4, 0, 12, 0)
    per_image = {
        f'{folder}/{name}{suffix}'
        for name in IMAGES
        for folder, suffix in (
            ('predictions', '.json'), ('visualizations', '.jpg'), ('masks', '.png'),
            ('mmpose', '.json'),
        )
    }  # fmt: skip
    merged = {'coco_results.json', 'coco_images.json', 'people.csv', 'failures.json', 'config.py'}
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
        'csv': {'people.csv'},
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


# Failures


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
    def draw(self: People, image: np.ndarray) -> np.ndarray:
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
    reporter = Reporter(interval_s=1000)
    reporter.start(3)
    for number, name in enumerate('abc', 1):
        reporter.update(name, f'{number} people')
    reporter.stop()
    assert (caplog.messages[0], caplog.messages[-1]) == (
        '3 images',
        '[3/3] ETA 0:00:00 c: 3 people',
    )
    assert len(caplog.messages) <= 3
    assert format_time(3725.2) == '1:02:05'


def test_terminal_bar() -> None:
    stream = StringIO()
    reporter = TerminalReporter(Console(file=stream, force_terminal=True, width=100))
    reporter.start(2)
    reporter.update('[b]1.jpg', '3 people')
    reporter.message('failed: [x]')
    reporter.update('2.jpg', 'none')
    reporter.stop()
    assert '2/2' in stream.getvalue() and 'failed: [x]' in stream.getvalue()
