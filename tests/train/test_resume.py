"""Resume: finished images are skipped, outdated ones are computed again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from pipeline.io import runner as runner_module
from pipeline.io.images import read_file
from pipeline.io.run_options import RunOptions
from pipeline.structures import People
from tests.run_fakes import (
    IMAGES,
    FakePipeline,
    contents,
    done_records,
    run,
    save_image,
    start_program,
    wait_for,
)

pytestmark = pytest.mark.usefixtures('plain_drawing')

# Resume


def test_done_images_are_skipped(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    run(image_folder, out)
    before = contents(out)
    os.utime(image_folder / '1.png', (0, 0))  # changed time stamps do not matter
    report, pipeline = run(image_folder, out)
    assert (report.computed, report.resumed, report.people) == (0, 4, 12)
    assert pipeline.calls == []
    assert contents(out) == before
    report, pipeline = run(image_folder, out, resume=False)
    assert (report.computed, len(pipeline.calls)) == (4, 4)
    assert contents(out) == before


def damage_record(image_folder: Path) -> None:
    (image_folder.parent / 'out' / 'predictions' / '1.png.json').write_text('{"half')


@pytest.mark.parametrize(
    ('change', 'pipeline', 'computed', 'message'),
    [
        pytest.param(
            lambda folder: save_image(folder / '1.png', 99), FakePipeline(), 1, 'image changed',
            id='image',
        ),
        pytest.param(
            damage_record, FakePipeline(), 1, 'content of the prediction changed', id='record'
        ),
        pytest.param(lambda _: None, FakePipeline('a = 2\n'), 4, 'config changed', id='config'),
    ],
)  # fmt: skip
def test_outdated_images_are_computed_again(
    change: Callable[[Path], None],
    pipeline: FakePipeline,
    computed: int,
    message: str,
    image_folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / 'out'
    run(image_folder, out)
    change(image_folder)
    report, _ = run(image_folder, out, pipeline, save=['json'])
    assert (report.computed, report.redone, report.resumed) == (computed, computed, 4 - computed)
    assert caplog.text.count(message) == 1
    # The outdated drawing is removed.
    assert not (out / 'visualizations' / '1.png.jpg').exists()
    assert (out / 'visualizations' / '1.jpg.jpg').exists() == (computed == 1)


@pytest.mark.parametrize('setting', ['weights', 'precision', 'version'])
def test_other_settings_are_noticed(
    setting: str, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(image_folder, tmp_path / 'out')
    pipeline = FakePipeline()
    if setting == 'weights':
        pipeline.weights = {'net': 'abd'}
    elif setting == 'precision':
        pipeline.precision = 'bf16'
    else:
        monkeypatch.setattr(runner_module, '__version__', '99')
    assert run(image_folder, tmp_path / 'out', pipeline)[0].computed == 4


def test_missing_files_are_made_from_the_records(image_folder: Path, tmp_path: Path) -> None:
    run(image_folder, tmp_path / 'all')
    out = tmp_path / 'out'
    run(image_folder, out, save=['json'])
    report, pipeline = run(image_folder, out)
    assert (report.resumed, pipeline.calls) == (4, [])
    assert contents(out) == contents(tmp_path / 'all')


def test_ctrl_c(image_folder: Path, tmp_path: Path) -> None:
    class Interrupted(FakePipeline):
        def __call__(self, image: np.ndarray, *args: Any) -> People:  # type: ignore[override]
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(image, *args)

    out = tmp_path / 'out'
    report, _ = run(image_folder, out, Interrupted())
    assert (report.interrupted, report.exit_code, report.computed) == (True, 130, 2)
    images = json.loads((out / 'coco_images.json').read_text())['images']
    assert [i['file_name'] for i in images] == ['1.jpg', '1.png']
    assert json.loads((out / 'run.json').read_text())['interrupted'] is True
    assert run(image_folder, out)[0].resumed == 2
    run(image_folder, tmp_path / 'whole')
    assert contents(out) == contents(tmp_path / 'whole')


FAKE_RUN = """
import sys
from pathlib import Path
from pipeline.io.inputs import find_images
from pipeline.io.run import run_images
from pipeline.io.run_options import OUTPUTS, RunOptions
from pipeline.structures import People
from tests.run_fakes import FakePipeline
People.draw = lambda self, image, style: image
images = find_images([sys.argv[1]]).images
options = RunOptions(Path(sys.argv[2]), frozenset(OUTPUTS))
report = run_images(FakePipeline(seconds=float(sys.argv[3])), images, options)
print(report.computed, report.resumed)
"""


def test_killed_and_resumed(tmp_path: Path) -> None:
    """After two SIGKILLs, every file equals that of an uninterrupted run."""
    folder, out = tmp_path / 'in', tmp_path / 'out'
    for i in range(12):
        save_image(folder / f'{i % 3}' / f'{i}.png', 20 + i)
    for done in (3, 6):
        process = start_program(FAKE_RUN, folder, out, 0.1)
        wait_for(lambda: done_records(out) >= done, process, 60)  # noqa: B023 - called at once
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert done <= done_records(out) < 12
    assert not (out / 'coco_results.json').exists()
    before = done_records(out)
    (out / 'predictions' / '2').mkdir(exist_ok=True)
    (out / 'predictions' / '2' / '.8.json.part').write_text('half')  # killed while writing
    process = start_program(FAKE_RUN, folder, out, 0)
    assert process.communicate()[0].split() == [str(12 - before), str(before)]
    run(folder, tmp_path / 'whole')
    assert contents(out) == contents(tmp_path / 'whole')


# Threads


def test_the_next_image_is_read_and_the_last_one_written_meanwhile(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step waits for a step of another thread."""
    names = sorted(IMAGES)
    was_read = {name: Event() for name in names}
    may_write = Event()

    def read(path: Path) -> bytes:
        was_read[path.relative_to(image_folder).as_posix()].set()
        return read_file(path)

    def draw(self: People, image: np.ndarray, style: Any) -> np.ndarray:
        assert may_write.wait(60)
        return image

    class Watching(FakePipeline):
        def __call__(self, image: np.ndarray, *args: Any) -> People:  # type: ignore[override]
            number = len(self.calls)
            if number + 1 < len(names):
                assert was_read[names[number + 1]].wait(60)
            if number + 2 < len(names):
                assert not was_read[names[number + 2]].is_set()  # reads one image ahead
            if number == 1:  # the first one waits to be written
                assert not (tmp_path / 'out' / 'predictions' / f'{names[0]}.json').exists()
                may_write.set()
            return super().__call__(image, *args)

    monkeypatch.setattr(runner_module, 'read_file', read)
    monkeypatch.setattr(People, 'draw', draw)
    report, _ = run(image_folder, tmp_path / 'out', Watching())
    assert (report.computed, report.failures) == (4, [])


def test_failures_keep_the_order_of_the_images(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer fails on the second image after the pipeline failed on the third."""
    third_has_failed = Event()

    class Failing(FakePipeline):
        def __call__(self, image: np.ndarray, *args: Any) -> People:  # type: ignore[override]
            if image[0, 0, 0] == IMAGES['a/1.jpg']:
                third_has_failed.set()
                raise RuntimeError('no model')
            return super().__call__(image, *args)

    def draw(self: People, image: np.ndarray, style: Any) -> np.ndarray:
        if image[0, 0, 0] == IMAGES['1.png']:
            assert third_has_failed.wait(60)
            raise ValueError('no paint')
        return image

    monkeypatch.setattr(People, 'draw', draw)
    report, _ = run(image_folder, tmp_path / 'out', Failing())
    assert [f.message for f in report.failures] == ['no paint', 'no model']
    images = json.loads((tmp_path / 'out' / 'coco_images.json').read_text())['images']
    assert [i['file_name'] for i in images] == ['1.jpg', 'b/1.jpg']


def test_outputs_of_an_unreadable_image_are_removed(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    run(image_folder, out)
    (image_folder / '1.png').write_bytes(b'no image')
    report, _ = run(image_folder, out)
    assert [f.error for f in report.failures] == ['ImageReadError']
    assert not [path for path in contents(out) if path.split('/', 1)[-1].startswith('1.png')]
    assert (report.computed, report.resumed) == (0, 3)


# Batches


@pytest.mark.parametrize(('size', 'batches'), [(2, [2, 2]), (3, [3, 1]), (9, [4])])
def test_several_images_at_once_give_the_same_files(
    size: int, batches: list[int], image_folder: Path, tmp_path: Path
) -> None:
    boxes = {'1.png': [[1, 2, 30, 20]], 'a/1.jpg': []}
    run(image_folder, tmp_path / 'one', boxes=boxes)
    pipeline = FakePipeline()
    report, _ = run(image_folder, tmp_path / 'many', pipeline, boxes=boxes, batch_images=size)
    assert pipeline.batches == batches
    assert contents(tmp_path / 'many') == contents(tmp_path / 'one')
    assert report.computed == 4
    again, _ = run(image_folder, tmp_path / 'many', boxes=boxes, batch_images=1)
    assert again.resumed == 4


def test_a_failed_batch_is_retried_one_by_one(image_folder: Path, tmp_path: Path) -> None:
    save_image(image_folder / 'a' / '0.png', 13)
    (image_folder / 'a' / '2.png').write_bytes(b'')
    save_image(image_folder / 'done.png', 40)
    run(image_folder / 'done.png', tmp_path / 'out')
    pipeline = FakePipeline()
    report, _ = run(image_folder, tmp_path / 'out', pipeline, batch_images=10)
    assert pipeline.batches[0] == 5  # without the empty file and the finished image
    assert report.failures[0].message == 'no luck'
    assert [f.error for f in report.failures] == ['RuntimeError', 'ImageReadError']
    assert (report.computed, report.resumed) == (4, 1)
    assert run(image_folder, tmp_path / 'out')[0].resumed == 5


def test_batch_size_is_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='batch_images must be >= 1, got 0'):
        RunOptions(tmp_path, batch_images=0)
